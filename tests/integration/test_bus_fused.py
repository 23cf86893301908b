"""FusedBus against a real nats-server: one process hears itself by a call, everybody else through the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tickmesh.bus.client import MAX_BUFFERED_BYTES
from tickmesh.bus.fused import FusedBus
from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import free_ports, local_servers
from tickmesh.settings import load


@contextlib.asynccontextmanager
async def both(tmp_path: Path) -> AsyncIterator[tuple[FusedBus, NatsBus]]:
    """A fused process and another one, on a server of their own."""
    nats, postgres, redis = free_ports(3)
    env = {
        "TICKMESH_NATS__URL": f"nats://127.0.0.1:{nats}",
        "TICKMESH_POSTGRES__DSN": f"postgresql://a@127.0.0.1:{postgres}/a",
        "TICKMESH_REDIS__URL": f"redis://127.0.0.1:{redis}/0",
    }
    spec = local_servers(load(env), tmp_path)[0]
    child = Child("nats", spec.argv, env=spec.env, log_dir=tmp_path, prepare=spec.prepare, ready=spec.ready)
    await child.start()
    try:
        assert await child.wait_ready(30), child.last_lines(10)
        url = f"nats://127.0.0.1:{nats}"
        fused = await FusedBus.connect(url, name="fused")
        other = await NatsBus.connect(url, name="other", apply_layout=False)
        try:
            yield fused, other
        finally:
            await fused.close()
            await other.close()
    finally:
        await child.stop()


async def settled(bus: NatsBus, other: NatsBus) -> None:
    """Everything that was published has been through the server and back."""
    for each in (bus, other, bus, other):
        await each.flush()
    await asyncio.sleep(0.1)


def test_each_subscriber_hears_a_message_once_here_by_a_call_and_elsewhere_through_the_server(tmp_path: Path) -> None:
    async def run() -> None:
        async with both(tmp_path) as (fused, other):
            here: list[tuple[str, bytes]] = []
            there: list[tuple[str, bytes]] = []
            await fused.subscribe("md.book.>", lambda s, p: here.append((s, p)))
            await fused.subscribe("order.intent.main", lambda s, p: here.append((s, p)))
            await other.subscribe(">", lambda s, p: there.append((s, p)) if s.startswith(("md.", "order.")) else None)
            for number in range(50):
                fused.publish("md.book.v.S", b"%d" % number)
                assert here[-1] == ("md.book.v.S", b"%d" % number), "not in the same call"
                fused.publish("order.intent.main", b"i%d" % number, headers={"Nats-Msg-Id": f"i{number}"})
                assert here[-1] == ("order.intent.main", b"i%d" % number)
            many = [b"m1", b"m2", b"m3"]
            assert fused.publish_many("md.book.v.S", many) == 3
            assert here[-3:] == [("md.book.v.S", payload) for payload in many], "not in the same call"
            other.publish("md.book.v.S", b"from outside")
            await settled(fused, other)
            assert len(here) == 104 and here[-1] == ("md.book.v.S", b"from outside")
            assert [m for m in there if m[1] != b"from outside"] == here[:103]
            assert fused.handed_over == 103

    asyncio.run(run())


def test_streams_get_what_was_handed_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with both(tmp_path) as (fused, _):
            here: list[bytes] = []
            await fused.subscribe("order.event.main.>", lambda _, p: here.append(p))
            await fused.subscribe("order.intent.>", lambda _, p: here.append(p))
            fused.publish("order.intent.main", b"intent", headers={"Nats-Msg-Id": "1"})
            seq = await fused.publish_durable("order.event.main.a", b"event", message_id="e1")
            assert seq == 1
            await fused.flush()
            assert here == [b"intent", b"event"]
            assert await fused.last("INTENTS", "order.intent.main") == b"intent"
            assert await fused.last("ORDERS", "order.event.main.a") == b"event"

    asyncio.run(run())


def test_an_unsubscribed_handler_hears_nothing_more_and_a_failing_one_stops_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        async with both(tmp_path) as (fused, other):
            good: list[bytes] = []

            def bad(_: str, __: bytes) -> None:
                raise ValueError("broken on purpose")

            failing = await fused.subscribe("md.>", bad)
            await fused.subscribe("md.>", lambda _, p: good.append(p))
            fused.publish("md.trade.v.S", b"1")
            assert good == [b"1"] and fused.handler_errors == 1
            await failing.unsubscribe()
            fused.publish("md.trade.v.S", b"2")
            await settled(fused, other)
            assert good == [b"1", b"2"] and fused.handler_errors == 1

    asyncio.run(run())


def test_a_request_is_answered_inside_and_from_outside(tmp_path: Path) -> None:
    async def run() -> None:
        async with both(tmp_path) as (fused, other):

            async def answer(_: str, payload: bytes) -> bytes:
                return payload + b"!"

            await fused.respond("ask.me", answer)
            assert await fused.request("ask.me", b"inside") == b"inside!"
            assert await other.request("ask.me", b"outside") == b"outside!"

    asyncio.run(run())


def test_a_queue_group_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with both(tmp_path) as (fused, _):
            with pytest.raises(ConfigError, match="queue group"):
                await fused.subscribe("ask.me", lambda *_: None, queue="q")

    asyncio.run(run())


def test_of_a_burst_the_intent_leaves_first_and_the_market_at_its_end_in_order(tmp_path: Path) -> None:
    async def run() -> None:
        async with both(tmp_path) as (fused, other):
            here: list[bytes] = []
            there: list[bytes] = []

            def decide(_: str, payload: bytes) -> None:
                here.append(payload)
                fused.publish("order.intent.main", b"for " + payload, headers={"Nats-Msg-Id": payload.decode()})

            await fused.subscribe("md.book.>", decide)
            await other.subscribe(">", lambda s, p: there.append(p) if s.startswith(("md.", "order.")) else None)
            fused.hold()
            fused.publish("md.book.v.S", b"1")
            fused.publish("md.mark.v.S", b"nobody here hears it")
            fused.publish("md.book.v.S", b"2")
            fused.release()
            assert here == [b"1", b"2"]
            await settled(fused, other)
            assert there == [b"for 1", b"nobody here hears it", b"for 2", b"1", b"2"]

    asyncio.run(run())


def test_what_a_burst_let_in_is_sent_even_when_its_orders_fill_the_buffer(tmp_path: Path) -> None:
    """The room of market data that was handed over is not given to what comes after it."""

    async def run() -> None:
        async with both(tmp_path) as (fused, other):
            there: list[tuple[str, int]] = []
            refused: list[str] = []
            await fused.subscribe("md.book.>", lambda _, __: None)
            await other.subscribe(">", lambda s, p: there.append((s, len(p))) if s.startswith(("md.", "x.")) else None)
            half = MAX_BUFFERED_BYTES // 16
            fused.hold()
            for _ in range(8):
                fused.publish("md.book.v.S", bytes(half))
            for _ in range(16):  # nobody hears it here, so that it is collected and counted at once
                try:
                    fused.publish("x.y", bytes(half))
                except DependencyError as error:
                    refused.append(str(error))
            with pytest.raises(DependencyError, match="wait for a NATS server"):
                fused.publish("md.book.v.S", bytes(half))
            fused.release()
            await settled(fused, other)
            assert len(refused) == 9
            assert there == [("x.y", half)] * 7 + [("md.book.v.S", half)] * 8
            fused.publish("x.y", b"and on")
            await settled(fused, other)
            assert there[-1] == ("x.y", 6), "a burst must not leave the bus held"

    asyncio.run(run())
