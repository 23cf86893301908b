"""A gateway on a bus in this process, and a small market to look at: what tests of API, page and commands share."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal

from tickmesh.bus.memory import MemoryBus
from tickmesh.domain.enums import OrderState, Severity, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import (
    AccountSnapshot,
    Alert,
    BalanceState,
    BookUpdate,
    FillEvent,
    OrderEvent,
    PositionState,
    SignalMessage,
    Stamps,
    encode,
)
from tickmesh.gateway.openapi import Route
from tickmesh.gateway.record import record_routes
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.services import gateway
from tickmesh.services.instruments import publish_instrument
from tickmesh.services.service import Service
from tickmesh.settings import load
from tickmesh.store.history import History

BTC = Instrument(
    venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001")
)
ETH = Instrument(
    venue="binance", symbol="ETHUSDT", base="ETH", quote="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.001")
)
US = 1_000


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Desk:
    """A running gateway; ``url`` reaches it and ``bus`` feeds it."""

    bus: MemoryBus
    environ: dict[str, str]
    port: int = field(default_factory=free_port)
    metrics: Metrics = field(default_factory=lambda: Metrics("gateway"))
    service: Service | None = None
    task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the gateway; returns when it is ready."""
        settings = load({"TICKMESH_GATEWAY__PORT": str(self.port), **self.environ})
        self.metrics, health = Metrics("gateway"), Health()
        admin = AdminServer("127.0.0.1", 0, self.metrics, health)
        self.service = Service("gateway", settings, self.bus, SystemClock(), self.metrics, health, admin)
        self.task = asyncio.create_task(gateway.run(self.service))
        async with asyncio.timeout(10):
            while not health.ready:
                await asyncio.sleep(0.01)
                if self.task.done():
                    self.task.result()
        await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop it as SIGTERM does."""
        assert self.service is not None
        assert self.task is not None
        self.service.stopping.set()
        await asyncio.wait_for(self.task, 10)


@contextlib.asynccontextmanager
async def desk(**environ: str) -> AsyncIterator[Desk]:
    """A started Desk with two instruments known; stopped at the end if the test has not done so."""
    opened = Desk(MemoryBus(), {f"TICKMESH_{name}": value for name, value in environ.items()})
    for instrument in (BTC, ETH):
        await publish_instrument(opened.bus, instrument)
    await opened.start()
    try:
        yield opened
    finally:
        assert opened.task is not None
        if not opened.task.done():
            await opened.stop()


def book(instrument: Instrument, middle_ticks: int, number: int = 0) -> BookUpdate:
    """Ten levels on each side."""
    now_ns = time.time_ns()
    size = [40 + 90 * level + (number * 37 + level * 53) % 160 for level in range(12)]
    return BookUpdate(
        venue="binance", symbol=instrument.symbol, publish_ns=now_ns, receive_ns=now_ns, imbalance=0.12,
        bids=[(middle_ticks - 1 - i, size[i]) for i in range(12)],
        asks=[(middle_ticks + i, size[-1 - i]) for i in range(12)],
        microprice_ticks=middle_ticks - 0.4,
    )  # fmt: skip


def stamps(number: int) -> Stamps:
    """Stamps of an order that took a few hundred microseconds."""
    start = 1_000_000 * (number + 1)
    steps = [0, 35, 95, 150, 230, 290, 340 + (number * 29) % 210, 1500 + (number * 131) % 900]
    return Stamps(**dict(zip(Stamps.__struct_fields__, (start + s * US for s in steps), strict=True)))


def publish_order(bus: MemoryBus, number: int, state: OrderState, *, cum_lots: int = 0, ticks: int = 600_000) -> str:
    """One event of one BTCUSDT order; returns its client order id."""
    client_order_id = f"tm-{number:04d}"
    event = OrderEvent(
        account="main", venue="binance", symbol="BTCUSDT", client_order_id=client_order_id, strategy="market-making",
        venue_order_id=9_000 + number, side=Side.BUY if number % 2 else Side.SELL, price_ticks=ticks, qty_lots=10,
        cum_lots=cum_lots, state=state, seq=number, publish_ns=time.time_ns(), stamps=stamps(number),
    )  # fmt: skip
    bus.publish(f"order.event.main.{client_order_id}", encode(event))
    return client_order_id


def publish_account(bus: MemoryBus, *, unrealized: Decimal = Decimal("12.50")) -> None:
    """A snapshot with one long position."""
    position = PositionState(
        venue="binance", symbol="BTCUSDT", qty_lots=25, quantity=Decimal("0.025"), entry_price=Decimal("59950.1"),
        mark_price=Decimal("60000"), unrealized_pnl=unrealized, realized_pnl=Decimal("31.07"), leverage=10,
    )  # fmt: skip
    snapshot = AccountSnapshot(
        account="main", venue="binance", publish_ns=time.time_ns(), positions=[position],
        balances=[BalanceState(asset="USDT", wallet=Decimal("10031.07"), available=Decimal("9880"))],
        equity=Decimal("10043.57"), available=Decimal("9880"), realized_pnl=Decimal("31.07"),
        unrealized_pnl=unrealized, commission=Decimal("4.11"), fills=3, maker_fills=2,
    )  # fmt: skip
    bus.publish("account.main.snapshot", encode(snapshot))


def publish_market(bus: MemoryBus, number: int) -> None:
    """Step ``number`` of a market that wanders, with orders and fills of ours now and then."""
    btc = 600_000 + round(180 * math.sin(number / 17) + 60 * math.sin(number / 3.1))
    eth = 310_000 + round(220 * math.cos(number / 23))
    bus.publish("md.book.binance.BTCUSDT", encode(book(BTC, btc, number)))
    bus.publish("md.book.binance.ETHUSDT", encode(book(ETH, eth, number)))
    if number % 5 == 0:
        publish_account(bus, unrealized=Decimal(round(1250 + 900 * math.sin(number / 29))) / 100)
        publish_order(bus, number, OrderState.SUBMITTED, ticks=btc + (-4 if number % 2 else 4))
    if number % 20 == 0:
        publish_order(bus, number, OrderState.FILLED, cum_lots=10, ticks=btc)
        fill = FillEvent(
            account="main", venue="binance", symbol="BTCUSDT", trade_id=number, client_order_id=f"tm-{number:04d}",
            venue_order_id=9_000 + number, strategy="market-making", side=Side.BUY if number % 40 else Side.SELL,
            price_ticks=btc, qty_lots=10, commission=Decimal("0.12"), commission_asset="USDT",
            realized_pnl=Decimal(number % 7 - 3), maker=number % 3 > 0, exchange_ns=time.time_ns(),
            publish_ns=time.time_ns(),
        )  # fmt: skip
        bus.publish("fill.main.BTCUSDT", encode(fill))
    elif number % 5 == 0 and number > 25:
        publish_order(bus, number - 25, OrderState.CANCELED)


def publish_alert(bus: MemoryBus, text: str) -> None:
    """A warning of the risk service."""
    alert = Alert(severity=Severity.WARNING, kind="test", text=text, source="risk", publish_ns=time.time_ns())
    bus.publish("alert.warning.test", encode(alert))


def publish_signal(bus: MemoryBus) -> None:
    """A signal that was acted on."""
    message = SignalMessage(
        strategy="market-making", symbol="BTCUSDT", venue="binance", side=Side.BUY, strength=0.7,
        publish_ns=time.time_ns(), reason="spread is wide",
    )  # fmt: skip
    bus.publish("signal.market-making", encode(message))


def record_routes_without_postgres() -> tuple[Route, ...]:
    """The routes that the service adds to the API's own; nothing connects until one is asked."""
    return record_routes(History("postgresql://nobody@127.0.0.1:1/none"), SystemClock())
