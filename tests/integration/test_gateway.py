"""The gateway on a bus: what is published is what REST, WebSocket and `tickmesh status` show."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from decimal import Decimal

import aiohttp
import pytest

from tickmesh.bus.memory import MemoryBus
from tickmesh.console.status import table
from tickmesh.domain.enums import OrderState
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, Control, OrderEvent, decode, encode
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.services import gateway
from tickmesh.services.instruments import publish_instrument
from tickmesh.services.service import Service
from tickmesh.settings import load

BTC = Instrument(
    venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001")
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def running() -> AsyncIterator[tuple[str, MemoryBus]]:
    settings = load({"TICKMESH_GATEWAY__PORT": str(free_port()), "TICKMESH_VENUE__SYMBOLS": "BTCUSDT"})
    bus, metrics, health = MemoryBus(), Metrics("gateway"), Health()
    event = OrderEvent(
        account="main", venue="binance", symbol="BTCUSDT", client_order_id="before", state=OrderState.FILLED
    )
    bus.publish("order.event.main.before", encode(event))
    await publish_instrument(bus, BTC)
    service = Service("gateway", settings, bus, SystemClock(), metrics, health, AdminServer("x", 0, metrics, health))
    task = asyncio.create_task(gateway.run(service))
    async with asyncio.timeout(10):
        while not health.ready:
            await asyncio.sleep(0.01)
            if task.done():
                task.result()
    await asyncio.sleep(0.05)
    yield f"http://127.0.0.1:{settings.gateway.port}", bus
    service.stopping.set()
    await asyncio.wait_for(task, 10)


async def test_the_journal_from_before_its_start_and_live_prices_are_shown(running: tuple[str, MemoryBus]) -> None:
    url, bus = running
    bus.publish(
        "md.book.binance.BTCUSDT",
        encode(BookUpdate(venue="binance", symbol="BTCUSDT", bids=[(600_000, 5)], asks=[(600_001, 7)])),
    )
    async with aiohttp.ClientSession(url) as session:
        async with session.get("/api/v1/live") as response:
            live = await response.json()
        assert live["prices"]["BTCUSDT"]["bid"] == "60000.00"
        assert live["orders"]["by_state"] == {"FILLED": 1}
        assert "60000.00" in table(live)
        async with session.get("/api/v1/trading/orders/before") as response:
            assert (await response.json())["order"]["state"] == "FILLED"
        async with session.get("/api/v1/trading/orders?limit=0") as response:
            assert response.status == 400
            assert "limit" in (await response.json())["error"]
        async with session.get("/") as response:
            assert "tickmesh" in await response.text()


async def test_a_websocket_client_gets_a_snapshot_and_then_updates(running: tuple[str, MemoryBus]) -> None:
    url, _ = running
    async with aiohttp.ClientSession(url) as session, session.ws_connect("/ws/live?rate=tui") as ws:
        assert json.loads((await ws.receive(5)).data)["type"] == "snapshot"
        assert json.loads((await ws.receive(5)).data)["type"] == "update"


async def test_one_action_stops_and_two_resume(running: tuple[str, MemoryBus]) -> None:
    url, bus = running
    command = {"scope": "all", "actor": "ann", "reason": "test"}
    async with aiohttp.ClientSession(url) as session:
        async with session.post("/api/v1/control/halt", json=command) as response:
            assert response.status == 200
        async with session.post("/api/v1/control/resume", json=command) as response:
            assert response.status == 202
            confirm = (await response.json())["confirm"]
        assert [decode(Control, m.data).verb for m in bus.streams["CTL"]] == ["halt"]
        async with session.post("/api/v1/control/resume", json={**command, "confirm": "guess"}) as response:
            assert response.status == 400
        async with session.post("/api/v1/control/resume", json={**command, "confirm": confirm}) as response:
            assert response.status == 200
    assert [decode(Control, m.data).verb for m in bus.streams["CTL"]] == ["halt", "resume"]
    assert len(bus.streams["AUDIT"]) == 2
