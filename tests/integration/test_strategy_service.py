"""The strategy service on a real NATS server: quoting, edits while it runs, faults of plugins, kill and restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pace import Pace
from strategy_world import NatsServer, World, free_port

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, Side
from tickmesh.domain.errors import ConfigError
from tickmesh.domain.messages import Control, Trade, encode
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.services import strategy
from tickmesh.services.service import Service
from tickmesh.settings import load

ROOT = Path(__file__).resolve().parents[2]

QUOTER = """
apiVersion: tickmesh.io/v1alpha1
kind: Strategy
metadata: {name: quoter}
spec:
  plugin: {entryPoint: market-making}
  symbols: [BTCUSDT]
  parameters: {orderNotional: 300, halfSpreadBps: 1}
  limits: {coolDownMs: 20, maxOrdersPerSecond: 100}
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    server = NatsServer(tmp_path)
    bus = await NatsBus.connect(server.url, name="test")
    world = World(bus)
    world.server, world.folder = server, tmp_path
    await world.start()
    yield world
    await bus.close()
    server.kill()


class Running:
    """The service in this process."""

    def __init__(self, world: World, resources: Path, more: dict[str, str] | None = None, **keys: str) -> None:
        environ = {
            "TICKMESH_STRATEGY__RESOURCES": str(resources),
            "TICKMESH_STRATEGY__DRAIN_TIMEOUT_S": "3",
            "TICKMESH_LOCAL__DATA_DIR": str(world.folder / "state"),
        }
        environ |= more or {}
        environ |= {f"TICKMESH_STRATEGY__{k.upper()}": v for k, v in keys.items()}
        self.settings = load(environ)
        self.world = world
        self.metrics, self.health = Metrics("strategy"), Health()

    async def __aenter__(self) -> Running:
        self.bus = await NatsBus.connect(self.world.server.url, name="strategy")
        admin = AdminServer("127.0.0.1", 0, self.metrics, self.health)
        self.service = Service("strategy", self.settings, self.bus, SystemClock(), self.metrics, self.health, admin)
        self.shell = strategy.StrategyShell(self.service)
        self.task = asyncio.create_task(self._run())
        async with asyncio.timeout(20):
            while not self.health.ready:
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.service.stopping.set()
        await asyncio.wait_for(self.task, 15)
        await self.bus.close()

    async def _run(self) -> None:
        await strategy.run(self.service, self.shell)

    def counter(self, name: str) -> int:
        return sum(v for k, v in self.metrics.stats()["counters"].items() if k.split("{")[0] == name)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


async def test_books_become_two_quotes_with_stamps_and_the_end_cancels_them(world: World, tmp_path: Path) -> None:
    async with Running(world, write(tmp_path / "s.yaml", QUOTER)) as running:
        await world.until(lambda: len(world.open_orders()) == 2)
        bid, ask = sorted(world.open_orders(), key=lambda o: o.price_ticks)
        assert (bid.side, ask.side) == (Side.BUY, Side.SELL)
        assert bid.price_ticks < 618_000 < 618_001 < ask.price_ticks
        stamps = world.places()[0].stamps
        assert 0 < stamps.tick_receive_mono_ns <= stamps.feed_publish_mono_ns
        assert stamps.feed_publish_mono_ns <= stamps.strategy_receive_mono_ns <= stamps.intent_publish_mono_ns
        stats = running.metrics.stats()["latency_us"]
        assert stats["strategy_decision_latency_us"]["n"] >= 2
        assert stats["transport_latency_us"]["n"] >= 1
        assert len({i.intent_id for i in world.intents}) == len(world.intents)
        info = await world.bus.jetstream.stream_info("INTENTS")
        assert info.state.messages == len(world.intents)
    assert world.open_orders() == []
    assert any(i.action is IntentAction.CANCEL_ALL for i in world.intents)


def desk_of(running: Running, name: str = "quoter"):  # type: ignore[no-untyped-def]
    """The desk of a strategy, as GET /strategies reads it."""
    return running.shell.floor.desks[name]


async def test_an_edited_parameter_moves_the_quotes_within_a_second_and_keeps_the_position(
    world: World, tmp_path: Path
) -> None:
    path = write(tmp_path / "s.yaml", QUOTER)
    async with Running(world, path) as running:
        await world.until(lambda: len(world.open_orders()) == 2)
        bid = next(o for o in world.open_orders() if o.side is Side.BUY)
        await world.fill(bid, bid.qty_lots)
        await world.until(lambda: len(world.open_orders()) == 2)

        def wide() -> bool:
            prices = [o.price_ticks for o in world.open_orders()]
            return len(prices) == 2 and max(prices) - min(prices) > 2000

        with Pace() as pace:
            write(path, QUOTER.replace("halfSpreadBps: 1}", "halfSpreadBps: 20}"))
            edited = time.monotonic()
            await world.until(wide)
            pace.assert_within(1.0, time.monotonic() - edited)
        assert desk_of(running).live.qty_lots("BTCUSDT") == bid.qty_lots
        assert running.counter("reloads_total") == 1


async def test_a_broken_edit_keeps_the_last_good_one_and_says_so_once(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s.yaml", QUOTER)
    async with Running(world, path) as running:
        await world.until(lambda: len(world.open_orders()) == 2)
        for broken, words in (
            (QUOTER.replace("orderNotional: 300", "orderNotionals: 300"), "spec.parameters.orderNotionals"),
            (QUOTER.replace("coolDownMs: 20", "coolDownMs: -3"), "spec.limits.coolDownMs"),
            (QUOTER + "  mode: [", "s.yaml"),
            (QUOTER.replace("market-making", "markt-making"), "spec.plugin.entryPoint"),
            (QUOTER.replace("[BTCUSDT]", "[DOGEUSDT]"), "spec.symbols"),
        ):
            caplog.clear()
            write(path, broken)
            await world.until(lambda: "the last good state stays" in caplog.text)
            await asyncio.sleep(0.6)
            lines = [r.getMessage() for r in caplog.records if "the last good state stays" in r.getMessage()]
            assert len(lines) == 1, lines
            assert words in lines[0] and str(path) in lines[0] and "\n" not in lines[0]
            assert len(running.shell.floor.desks) == 1
        count = len(world.intents)
        await world.until(lambda: len(world.intents) > count, bid=619_000, ask=619_001)
        write(path, QUOTER.replace("halfSpreadBps: 1}", "halfSpreadBps: 2}"))
        await world.until(lambda: running.counter("reloads_total") == 1)


async def test_observation_sends_no_order_and_simulation_fills_on_paper(world: World, tmp_path: Path) -> None:
    path = write(tmp_path / "s.yaml", QUOTER)
    async with Running(world, path) as running:
        await world.until(lambda: len(world.open_orders()) == 2)
        write(path, QUOTER + "  mode: Observation\n")
        await world.until(lambda: not world.open_orders())
        placed, told = len(world.places()), len(world.signals)
        await world.until(lambda: len(world.signals) >= told + 2, bid=618_500, ask=618_501)
        assert all(not s.accepted and "Observation" in s.reason for s in world.signals[told:])
        write(path, QUOTER + "  mode: Simulation\n")
        desk = desk_of(running)
        await world.until(lambda: len(desk.paper.orders) == 2)
        await world.until(lambda: desk.paper.qty_lots("BTCUSDT") != 0, bid=618_900, ask=618_901)
        assert desk.live.qty_lots("BTCUSDT") == 0
        assert len(world.places()) == placed
        write(path, QUOTER)
        await world.until(lambda: len(world.open_orders()) == 2)


async def test_a_mode_that_was_commanded_survives_a_restart_and_an_edit_overrules_it(
    world: World, tmp_path: Path
) -> None:
    path = write(tmp_path / "s.yaml", QUOTER)
    async with Running(world, path) as running:
        await world.until(lambda: len(world.open_orders()) == 2)
        command = Control(verb="mode", scope="strategy.quoter", arguments={"mode": "Observation"}, actor="a person")
        world.bus.publish("ctl.mode.strategy.quoter", encode(command))
        await world.until(lambda: not world.open_orders())
        assert desk_of(running).mode.value == "Observation"
    placed = len(world.places())
    async with Running(world, path) as running:
        await world.until(lambda: desk_of(running).signals > 10)
        assert len(world.places()) == placed
        write(path, QUOTER + "  mode: Simulation\n")
        await world.until(lambda: desk_of(running).mode.value == "Simulation")
        write(path, QUOTER)
        await world.until(lambda: len(world.open_orders()) == 2)


async def test_trades_come_only_while_somebody_hears_them(world: World, tmp_path: Path) -> None:
    """The plugin says that it does nothing with them; the paper venue's queues live on them."""
    trade = Trade(
        venue="binance", symbol="BTCUSDT", trade_id=1, price_ticks=618_000, qty_lots=1, taker_side=Side.BUY
    )  # fmt: skip

    async def heard(running: Running) -> int:
        before = running.counter("trades_total")
        for _ in range(5):
            world.bus.publish("md.trade.binance.BTCUSDT", encode(trade))
        await world.bus.flush()
        await running.bus.flush()  # the server answers it behind what it had for us before
        return running.counter("trades_total") - before

    async with Running(world, write(tmp_path / "s.yaml", QUOTER)) as running:
        await world.until(lambda: len(world.open_orders()) == 2)
        assert await heard(running) == 0

        async def change(mode: str, subscribed: bool) -> None:
            command = Control(verb="mode", scope="strategy.quoter", arguments={"mode": mode}, actor="a person")
            world.bus.publish("ctl.mode.strategy.quoter", encode(command))
            await world.until(lambda: desk_of(running).mode.value == mode)
            await world.until(lambda: ("md.trade.binance.BTCUSDT" in running.shell._following) is subscribed)
            await running.bus.flush()

        await change("Simulation", True)
        assert await heard(running) == 5
        await change("Observation", False)
        assert await heard(running) == 0


async def test_a_paused_strategy_cancels_and_a_removed_one_is_closed(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    path = write(folder / "a.yaml", QUOTER)
    write(folder / "b.yaml", QUOTER.replace("quoter", "other").replace("BTCUSDT", "ETHUSDT"))
    async with Running(world, folder) as running:
        await world.until(lambda: len(world.open_orders("quoter")) == 2)
        world.tick(268_000, 268_001, "ETHUSDT")
        await world.until(lambda: len(world.open_orders("other")) == 2)
        write(path, QUOTER + "  paused: true\n")
        await world.until(lambda: not world.open_orders("quoter"))
        path.unlink()
        (folder / "b.yaml").unlink()
        await world.until(lambda: not running.shell.floor.desks)
        assert not world.open_orders()
        write(folder / "c.yaml", QUOTER)
        await world.until(lambda: len(world.open_orders("quoter")) == 2)
        assert len({i.intent_id for i in world.intents}) == len(world.intents)


PLUGIN = """
from tickmesh.domain.enums import Side
from tickmesh.strategy.interface import Signal, Strategy

class Mine(Strategy):
    def initialize(self, config):
        self.seen = 0

    def on_market_data(self, data):
        self.seen += 1
        {body}
        return [Signal(symbol=data.symbol, side=Side.BUY, quote="mine", price_ticks=617_000, qty_lots=2)]

    def get_state(self):
        return {{"seen": self.seen}}

    def restore(self, state):
        self.seen = state["seen"]
"""
MINE = QUOTER.replace("quoter", "mine").replace("{entryPoint: market-making}", "{file: mine.py}")
MINE = MINE.replace("  parameters: {orderNotional: 300, halfSpreadBps: 1}\n", "")


async def test_a_plugin_that_raises_is_isolated_and_disabled_and_runs_again_when_its_file_is_mended(
    world: World, tmp_path: Path
) -> None:
    alerts: list[str] = []
    await world.bus.subscribe("alert.>", lambda subject, _: alerts.append(subject))
    folder = tmp_path / "strategies"
    folder.mkdir()
    write(folder / "a.yaml", QUOTER + "---" + MINE)
    write(folder / "mine.py", PLUGIN.format(body="assert self.seen < 4, 'on purpose'"))
    async with Running(world, folder) as running:
        await world.until(lambda: desk_of(running, "mine").guard.disabled)
        assert "raised AssertionError (on purpose) at mine.py:11" in desk_of(running, "mine").guard.last_error
        assert running.counter("plugin_errors_total") == 5
        await world.until(lambda: not world.open_orders("mine"))
        await world.until(lambda: "alert.critical.plugin_disabled" in alerts and "alert.warning.plugin_error" in alerts)
        count = len(world.places("quoter"))
        await world.until(lambda: len(world.places("quoter")) > count, bid=618_400, ask=618_401)
        seen = desk_of(running, "mine").guard.plugin.seen
        write(folder / "mine.py", PLUGIN.format(body="pass"))
        await world.until(lambda: not desk_of(running, "mine").guard.disabled)
        await world.until(lambda: len(world.open_orders("mine")) == 1)
        assert desk_of(running, "mine").guard.plugin.seen > seen
        write(folder / "mine.py", "this is not Python")
        await world.until(lambda: running.counter("reload_errors_total") == 1)
        await world.until(lambda: len(world.open_orders("mine")) == 1)


async def test_a_plugin_that_never_returns_is_reported_and_interrupted_and_its_neighbour_goes_on(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    write(folder / "a.yaml", QUOTER + "---" + MINE)
    write(folder / "mine.py", PLUGIN.format(body="\n        while self.seen > 3: pass"))
    keys = {"plugin_block_ms": "100", "plugin_interrupt_s": "0.3", "plugin_max_errors": "2"}
    async with Running(world, folder, **keys) as running:
        await world.until(lambda: desk_of(running, "mine").guard.disabled, 20)
        assert "the plugin of mine has not returned" in caplog.text
        assert "was interrupted after" in desk_of(running, "mine").guard.last_error
        count = len(world.places("quoter"))
        await world.until(lambda: len(world.places("quoter")) > count, bid=618_400, ask=618_401)


async def test_an_intent_without_an_answer_is_asked_for_again_under_the_same_id_and_never_as_new(
    world: World, tmp_path: Path
) -> None:
    async with Running(world, write(tmp_path / "s.yaml", QUOTER), unanswered_after_s="0.3") as running:
        world.answers = False
        await world.until(lambda: len(world.places()) >= 4)
        first = world.places()[:2]
        again = world.places()[2:4]
        assert {i.intent_id for i in first} == {i.intent_id for i in again}
        assert {i.publish_ns // 10**9 for i in again} <= {i.publish_ns // 10**9 - d for i in first for d in (0, 1)}
        world.answers = True
        await world.until(lambda: len(world.open_orders()) == 2)
        states = [o.state.value for o in world.orders.values()]
        assert states.count("EXPIRED") == 2  # the old ones were too late and are told so
        assert len(desk_of(running).live.orders) == 2


async def test_the_service_goes_on_when_its_nats_server_was_killed_and_is_back(world: World, tmp_path: Path) -> None:
    async with Running(world, write(tmp_path / "s.yaml", QUOTER)):
        await world.until(lambda: len(world.open_orders()) == 2)
        world.server.kill()
        await asyncio.sleep(0.5)
        world.server.start()
        async with asyncio.timeout(20):
            while not world.bus.connected:
                await asyncio.sleep(0.05)
        count = len(world.places())
        await world.until(lambda: len(world.places()) > count, 20, bid=618_900, ask=618_901)
        assert len({i.intent_id for i in world.intents}) == len(world.intents)


async def test_market_data_through_the_shared_memory_ring_leads_to_the_same_quotes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tickmesh.bus.ring import RingWriter

    writer = RingWriter(tmp_path / "data")
    order_events = NatsBus.publish

    def split(subject: str, payload: bytes, **more: object) -> None:
        if subject.startswith("md."):
            writer.publish(subject, payload)
        else:
            order_events(world.bus, subject, payload)

    monkeypatch.setattr(world.bus, "publish", split)
    environ = {"TICKMESH_LOCAL__TRANSPORT": "shm", "TICKMESH_LOCAL__DATA_DIR": str(tmp_path / "data")}
    try:
        async with Running(world, write(tmp_path / "s.yaml", QUOTER), environ):
            await world.until(lambda: len(world.open_orders()) == 2)
        assert not world.open_orders()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (QUOTER.replace("spec:", "specs:"), "specs: unknown field"),
        (QUOTER.replace("entryPoint: market-making", "file: no.py"), "spec.plugin.file: cannot read"),
        (QUOTER.replace("halfSpreadBps: 1", "halfSpreadBps: wide"), "spec.parameters.halfSpreadBps: expected a number"),
        ("a: b\n", "apiVersion: must be tickmesh.io/v1alpha1"),
        ("", "there is no Strategy resource"),
    ],
)
async def test_a_bad_file_ends_the_start_with_one_sentence_that_names_file_and_key(
    world: World, tmp_path: Path, text: str, words: str
) -> None:
    path = write(tmp_path / "s.yaml", text)
    with pytest.raises(ConfigError) as caught:
        async with Running(world, path):
            pass
    assert words in str(caught.value)
    assert "s.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


class Process:
    """The service as a process that can be killed."""

    def __init__(self, world: World, resources: Path, data_dir: str = "") -> None:
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "pkg"),
            "TICKMESH_NATS__URL": world.server.url,
            "TICKMESH_STRATEGY__RESOURCES": str(resources),
            "TICKMESH_STRATEGY__ADMIN_PORT": str(free_port()),
            "TICKMESH_LOCAL__DATA_DIR": str(world.folder / (data_dir or "state")),
            "TICKMESH_STRATEGY__CHECKPOINT_INTERVAL_S": "0.2",
        }
        self.process = subprocess.Popen([sys.executable, str(ROOT / "cmd" / "strategy")], env=environ)

    def stop(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        return self.process.wait(20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


async def test_after_a_kill_position_and_orders_are_taken_over_and_nothing_is_doubled(
    world: World, tmp_path: Path
) -> None:
    path = write(tmp_path / "s.yaml", QUOTER)
    process = Process(world, path)
    try:
        await world.until(lambda: len(world.open_orders()) == 2, 30)
        bid = next(o for o in world.open_orders() if o.side is Side.BUY)
        await world.fill(bid, 3)
        await world.until(lambda: len(world.open_orders()) == 2)
        await asyncio.sleep(0.5)
        process.kill()
        standing = {o.client_order_id for o in world.open_orders()}
        ask = next(o for o in world.open_orders() if o.side is Side.SELL)
        await world.fill(ask, 1)  # nobody hears it live
        before = len(world.intents)
        process = Process(world, path)
        await world.until(lambda: len(world.intents) > before, 30, bid=619_500, ask=619_501)
        most = 0

        def settled() -> bool:
            nonlocal most
            most = max(most, len(world.open_orders()))
            return not standing & {o.client_order_id for o in world.open_orders()} and len(world.open_orders()) == 2

        await world.until(settled, bid=619_500, ask=619_501)
        assert most <= 2, "an adopted order and its replacement were open at once"
        ids = [i.intent_id for i in world.intents]
        assert len(set(ids)) == len(ids)
        assert len({client_order_id("quoter", i) for i in ids}) == len(ids)
        assert await asyncio.to_thread(process.stop) == 0
        assert not world.open_orders()
        bucket = await world.bus.kv("checkpoints")
        entry = await bucket.get("strategy.quoter")
        assert entry is not None and entry.value is not None
        assert f'"qty_lots":{world.position["BTCUSDT"]}'.encode() in entry.value
    finally:
        process.kill()


async def test_orders_of_a_strategy_that_is_gone_after_a_kill_are_cancelled(world: World, tmp_path: Path) -> None:
    path = write(tmp_path / "s.yaml", QUOTER)
    process = Process(world, path)
    try:
        await world.until(lambda: len(world.open_orders()) == 2, 30)
        await asyncio.sleep(0.5)
        process.kill()
        write(path, QUOTER.replace("quoter", "other"))
        process = Process(world, path)
        await world.until(lambda: not world.open_orders("quoter"), 30)
        await world.until(lambda: len(world.open_orders("other")) == 2)
        assert await asyncio.to_thread(process.stop) == 0
    finally:
        process.kill()


async def test_a_second_process_elsewhere_stands_by_and_takes_over_position_and_orders(
    world: World, tmp_path: Path
) -> None:
    path = write(tmp_path / "s.yaml", QUOTER)
    first = Process(world, path, "here")
    second = None
    try:
        await world.until(lambda: len(world.open_orders()) == 2, 30)
        second = Process(world, path, "there")
        bid = next(o for o in world.open_orders() if o.side is Side.BUY)
        await world.fill(bid, bid.qty_lots)
        for step in range(100):
            world.tick(618_000 + step * 30, 618_001 + step * 30)
            assert len(world.open_orders()) <= 2
            await asyncio.sleep(0.02)
        epochs = {i.epoch for i in world.intents}
        assert len(epochs) == 1, "the second one has sent something"
        await asyncio.sleep(0.5)
        first.kill()
        await world.until(lambda: {i.epoch for i in world.intents} != epochs, 20, bid=623_000, ask=623_001)
        await world.until(lambda: len(world.open_orders()) == 2, bid=623_000, ask=623_001)
        assert await asyncio.to_thread(second.stop) == 0
        entry = await (await world.bus.kv("checkpoints")).get("strategy.quoter")
        assert entry is not None and f'"qty_lots":{bid.qty_lots}'.encode() in (entry.value or b"")
    finally:
        first.kill()
        if second is not None:
            second.kill()
