"""The JetStream layout and the journals' durability against real nats-servers of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from feed_rig import ROOT, Process, simvenue
from nats.js.api import PersistMode, StorageType

from tickmesh.bus import layout
from tickmesh.bus.durability import Durability, Verdict, judge
from tickmesh.bus.nats import NatsBus
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.runtime.servers import free_ports, program
from tickmesh.services.instruments import publish_instrument
from tickmesh.services.journals import CONDITION, LayoutWatch, wait_until_durable
from tickmesh.services.service import Service
from tickmesh.settings import load
from tickmesh.venues.simvenue.server.listing import instruments_for

SYNCED = "sync_interval: always"


@dataclass
class Server:
    url: str
    monitor: str


@contextlib.asynccontextmanager
async def nats(home: Path, jetstream: str = SYNCED, ports: list[int] | None = None) -> AsyncIterator[Server]:
    """``ports``: client and monitor, of a server that was there before and comes back with its store."""
    client, monitor = ports or free_ports(2)
    config = home / f"nats-{client}.conf"
    store = home / f"js-{client}"
    config.write_text(
        f'host: 127.0.0.1\nport: {client}\nhttp: "127.0.0.1:{monitor}"\n'
        f'jetstream {{ store_dir: "{store}"\nmax_memory_store: 4GB\nmax_file_store: 64GB\n{jetstream} }}\n'
    )
    log = str(home / f"nats-{client}.log")
    process = await asyncio.create_subprocess_exec(program("nats-server"), "-c", str(config), "-l", log)
    try:
        yield Server(f"nats://127.0.0.1:{client}", f"http://127.0.0.1:{monitor}")
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def bus_of(server: Server, *, apply: bool = True) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(server.url, name="test", connect_timeout_s=15, apply_layout=apply)
    try:
        yield bus
    finally:
        await bus.close()


def service_of(server: Server, bus: NatsBus, check: str, monitor: str | None = None) -> Service:
    settings = load({
        "TICKMESH_NATS__URL": server.url,
        "TICKMESH_NATS__MONITOR_URL": server.monitor if monitor is None else monitor,
        "TICKMESH_NATS__SYNC_CHECK": check,
    })  # fmt: skip
    metrics, health = Metrics("test"), Health()
    return Service("risk", settings, bus, SystemClock(), metrics, health, AdminServer("127.0.0.1", 0, metrics, health))


async def verdict(bus: NatsBus, monitor: str, replicas: int = 1) -> Durability:
    return await judge(bus.jetstream, replicas=replicas, monitor_url=monitor)


async def test_a_server_that_syncs_every_write_is_durable(tmp_path: Path) -> None:
    async with nats(tmp_path) as server, bus_of(server) as bus:
        found = await verdict(bus, server.monitor)
        assert found == Durability(Verdict.DURABLE)


async def test_a_server_that_syncs_every_two_minutes_is_not_and_is_named(tmp_path: Path) -> None:
    async with nats(tmp_path, "") as server, bus_of(server) as bus:
        found = await verdict(bus, server.monitor)
        assert found.verdict is Verdict.NOT_DURABLE
        assert "syncs every 120 s; set jetstream.sync_interval: always there" in str(found)


async def test_fewer_copies_than_declared_are_not_durable(tmp_path: Path) -> None:
    async with nats(tmp_path) as server, bus_of(server) as bus:
        found = await verdict(bus, server.monitor, replicas=3)
        assert found.verdict is Verdict.NOT_DURABLE
        assert "stream INTENTS has 1 of 3 copies" in found.because
        assert "stream ORDERS has 1 of 3 copies" in found.because


async def test_a_journal_in_memory_or_acknowledged_early_or_missing_is_not_durable(tmp_path: Path) -> None:
    async with nats(tmp_path) as server, bus_of(server, apply=False) as bus:
        wrong = {spec.name: spec.config(1) for spec in layout.STREAMS}
        wrong["INTENTS"].storage = StorageType.MEMORY
        await bus.jetstream.add_stream(wrong["INTENTS"])
        found = await verdict(bus, server.monitor)
        assert found.because == ("stream INTENTS is kept in memory", "stream ORDERS is not there")
        wrong["ORDERS"].persist_mode = PersistMode.ASYNC
        await bus.jetstream.add_stream(wrong["ORDERS"])
        found = await verdict(bus, server.monitor)
        assert "stream ORDERS is acknowledged before it is written (persist_mode async)" in found.because


@pytest.mark.parametrize("monitor", ["", "http://127.0.0.1:9", "http://no-such-host.invalid:8222"])
async def test_what_cannot_be_asked_is_unknown_and_not_durable(tmp_path: Path, monitor: str) -> None:
    async with nats(tmp_path) as server, bus_of(server) as bus:
        found = await verdict(bus, monitor)
        assert found.verdict is Verdict.UNKNOWN
        assert len(found.because) == 1


async def test_apply_puts_back_what_drifted_and_compare_only_tells(tmp_path: Path) -> None:
    async with nats(tmp_path) as server, bus_of(server) as bus:
        js = bus.jetstream
        assert await layout.compare(js) == []
        assert await layout.apply(js) == [], "safe to apply again"
        alerts = (await js.stream_info("ALERTS")).config
        alerts.max_bytes, alerts.max_age = 1024 * 1024, 600.0
        await js.update_stream(alerts)
        bucket = (await js.stream_info("KV_limits")).config
        bucket.max_msgs_per_subject = 2
        await js.update_stream(bucket)
        await js.delete_stream("COPY")
        assert {d.stream: d.fields for d in await layout.compare(js)} == {
            "ALERTS": ("max_bytes", "max_age"), "COPY": (), "KV_limits": ("max_msgs_per_subject",)
        }  # fmt: skip
        told = await layout.apply(js)
        assert told == [
            "stream ALERTS had drifted in max_bytes, max_age; corrected",
            "stream KV_limits had drifted in max_msgs_per_subject; corrected",
        ]
        assert await layout.compare(js) == []


async def test_what_processes_leave_in_the_budgets_bucket_is_forgotten_there_and_nowhere_else(tmp_path: Path) -> None:
    async with nats(tmp_path) as server, bus_of(server) as bus:
        js = bus.jetstream
        ages_s = {bucket: (await js.stream_info(f"KV_{bucket}")).config.max_age or 0 for bucket in layout.BUCKETS}
        assert ages_s == {bucket: 3600.0 if bucket == "budgets" else 0 for bucket in layout.BUCKETS}
        made_before = (await js.stream_info("KV_budgets")).config
        made_before.max_age = 0.0
        await js.update_stream(made_before)
        assert await layout.apply(js) == ["stream KV_budgets had drifted in max_age; corrected"]
        assert (await js.stream_info("KV_budgets")).config.max_age == 3600.0
        assert await layout.compare(js) == []


async def test_what_cannot_be_corrected_stays_and_is_told(tmp_path: Path) -> None:
    async with nats(tmp_path) as server, bus_of(server, apply=False) as bus:
        wrong = layout.STREAMS[2].config(1)
        wrong.storage = StorageType.MEMORY
        await bus.jetstream.add_stream(wrong)
        told = await layout.apply(bus.jetstream)
        assert len(told) == 1 and told[0].startswith("stream INTENTS differs in storage and cannot be corrected: ")
        assert [d.stream for d in await layout.compare(bus.jetstream)] == ["INTENTS"]


async def test_live_trading_waits_for_durable_journals_and_starts_when_they_are(tmp_path: Path) -> None:
    async with nats(tmp_path) as server, bus_of(server, apply=False) as bus:
        service = service_of(server, bus, "warn")
        waiting = asyncio.create_task(wait_until_durable(service))
        async with asyncio.timeout(10):
            while CONDITION not in service.health.unready_because:
                await asyncio.sleep(0.01)
        assert "no live trading: stream INTENTS is not there" in service.health.unready_because[CONDITION]
        assert not waiting.done()
        await layout.apply(bus.jetstream)
        async with asyncio.timeout(10):
            await waiting
        assert CONDITION not in service.health.unready_because


async def test_the_execution_process_refuses_in_one_sentence_and_starts_when_the_server_syncs(tmp_path: Path) -> None:
    """The whole process, Live at a venue: no order can leave before its journals are durable; nobody restarts it."""
    ports = free_ports(2)
    (admin,) = free_ports(1)
    async with simvenue() as (venue, _), contextlib.AsyncExitStack() as stack:
        env = {
            **os.environ, "PYTHONPATH": str(Path(layout.__file__).parents[2]),
            "TICKMESH_NATS__URL": f"nats://127.0.0.1:{ports[0]}",
            "TICKMESH_NATS__MONITOR_URL": f"http://127.0.0.1:{ports[1]}", "TICKMESH_NATS__SYNC_CHECK": "require",
            "TICKMESH_VENUE__REST_URL": f"http://{venue}", "TICKMESH_VENUE__STREAM_URL": f"ws://{venue}",
            "TICKMESH_VENUE__SYMBOLS": '["BTCUSDT"]', "TICKMESH_EXECUTION__ADMIN_PORT": str(admin),
            "TICKMESH_LOCAL__DATA_DIR": str(tmp_path / "execution"),
        }  # fmt: skip
        process = Process([sys.executable, str(ROOT / "cmd" / "execution")], env)
        stack.callback(process.end)

        async def readyz() -> dict[str, Any]:
            try:
                async with http.get(f"http://127.0.0.1:{admin}/readyz") as answer:
                    found: dict[str, Any] = await answer.json(content_type=None)
                    return found
            except (aiohttp.ClientError, TimeoutError):
                return {"ready": False, "because": {}}

        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)))
        async with nats(tmp_path, "", ports) as server, bus_of(server) as bus:
            await publish_instrument(bus, instruments_for(["BTCUSDT"])["BTCUSDT"])
            process.start()
            async with asyncio.timeout(60):
                while CONDITION not in (told := await readyz())["because"]:
                    await asyncio.sleep(0.1)
            assert not told["ready"]
            said = told["because"][CONDITION]
            assert said.startswith("no live trading: ") and "set jetstream.sync_interval: always there" in said
            assert "\n" not in said
            assert process.popen is not None and process.popen.poll() is None
        async with nats(tmp_path, SYNCED, ports):
            async with asyncio.timeout(90):
                while not (told := await readyz())["ready"]:
                    await asyncio.sleep(0.1)
            assert process.popen.poll() is None, "the same process"


async def test_unknown_is_enough_with_warn_and_not_with_require(tmp_path: Path) -> None:
    async with nats(tmp_path) as server, bus_of(server) as bus:
        async with asyncio.timeout(10):
            await wait_until_durable(service_of(server, bus, "warn", monitor=""))
        strict = service_of(server, bus, "require", monitor="")
        waiting = asyncio.create_task(wait_until_durable(strict))
        async with asyncio.timeout(10):
            while CONDITION not in strict.health.unready_because:
                await asyncio.sleep(0.01)
        assert "nats.monitor_url is empty" in strict.health.unready_because[CONDITION]
        strict.settings.nats.monitor_url = server.monitor
        async with asyncio.timeout(10):
            await waiting


async def test_drift_shows_in_metrics_and_as_an_alert(tmp_path: Path) -> None:
    async with nats(tmp_path, "") as server, bus_of(server) as bus:
        alerts: list[str] = []
        await bus.subscribe("alert.>", lambda subject, _: alerts.append(subject))
        await bus.jetstream.delete_stream("COPY")
        service = service_of(server, bus, "warn")
        watch = LayoutWatch(service)
        running = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(10):
                while len(alerts) < 2:
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
        assert sorted(s.rsplit(".", 1)[1] for s in alerts) == ["journals_not_durable", "layout_drift"]
        text = service.metrics.exposition().decode()
        assert "layout_drift{" in text or "layout_drift 1" in text, text[:2000]
        gauges = service.metrics.stats()["gauges"]
        values = {name.split("{")[0]: value for name, value in gauges.items()}
        assert (values["layout_drift"], values["journals_durable"]) == (1.0, 0.0)


async def test_the_command_compares_applies_and_exits_with_what_it_found(tmp_path: Path) -> None:
    async with nats(tmp_path) as server:
        env = {"TICKMESH_NATS__URL": server.url, "TICKMESH_NATS__MONITOR_URL": server.monitor, "PATH": "/usr/bin:/bin"}
        env["PYTHONPATH"] = str(Path(layout.__file__).parents[2])

        async def run(*arguments: str) -> tuple[int, str]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tickmesh.runtime.cli", "layout", *arguments, env=env,
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, _ = await process.communicate()
            return process.returncode or 0, out.decode()

        code, out = await run()
        assert code == 1
        assert "stream ORDERS: missing not as declared" in out
        code, out = await run("--apply")
        assert code == 0, out
        assert "16 streams and buckets are as declared (1 copies)" in out
        code, out = await run("--json")
        assert (code, json.loads(out)) == (0, {"corrected": [], "drift": [], "journals": "durable", "because": []})
