"""The strategy service on a real NATS server: quoting, edits while it runs, faults of plugins, kill and restart."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from strategy_world import NatsServer, World

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.enums import IntentAction, Side
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
    world.server, world.folder = server, tmp_path  # type: ignore[attr-defined]
    await world.start()
    yield world
    await bus.close()
    server.kill()


class Running:
    """The service in this process."""

    def __init__(self, world: World, resources: Path, **keys: str) -> None:
        environ = {"TICKMESH_STRATEGY__RESOURCES": str(resources), "TICKMESH_STRATEGY__DRAIN_TIMEOUT_S": "3"}
        environ |= {f"TICKMESH_STRATEGY__{k.upper()}": v for k, v in keys.items()}
        self.settings = load(environ)
        self.world = world
        self.metrics, self.health = Metrics("strategy"), Health()

    async def __aenter__(self) -> Running:
        self.bus = await NatsBus.connect(self.world.server.url, name="strategy")  # type: ignore[attr-defined]
        admin = AdminServer("127.0.0.1", 0, self.metrics, self.health)
        self.service = Service("strategy", self.settings, self.bus, SystemClock(), self.metrics, self.health, admin)
        self.task = asyncio.create_task(strategy.run(self.service))
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
