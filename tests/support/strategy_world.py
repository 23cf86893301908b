"""What surrounds a strategy in these tests: a real NATS server, a market that we move, and an account writer that
answers intents as the execution service does (an order per new intent id, expiry, cancels, fills on request)."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, OrderState
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, FillEvent, OrderEvent, OrderIntent, SignalMessage, decode, encode
from tickmesh.services.instruments import publish_instrument

BTC = Instrument(
    venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001"),
    min_qty=Decimal("0.001"), min_notional=Decimal(50),
)  # fmt: skip
ETH = Instrument(
    venue="binance", symbol="ETHUSDT", base="ETH", quote="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"),
    min_qty=Decimal("0.001"), min_notional=Decimal(20),
)  # fmt: skip
_LIVE = (OrderState.SUBMITTED, OrderState.PARTIALLY_FILLED)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """A nats-server of our own with JetStream under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._argv = [
            str(Path(sys.executable).parent / "nats-server"), "-js", "-sd", str(folder / "js"),
            "-a", "127.0.0.1", "-p", str(self.port),
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class World:
    """Market and account writer on one bus. Orders are by client order id."""

    server: NatsServer
    folder: Path

    def __init__(self, bus: NatsBus) -> None:
        self.bus = bus
        self.intents: list[OrderIntent] = []
        self.signals: list[SignalMessage] = []
        self.orders: dict[str, OrderEvent] = {}
        self.position: dict[str, int] = {}
        self.answers = True
        self._seen: set[str] = set()
        self._trade_id = 0
        self._update_id = 0

    async def start(self) -> None:
        for instrument in (BTC, ETH):
            await publish_instrument(self.bus, instrument)
        await self.bus.subscribe("order.intent.main", self._on_intent)
        await self.bus.subscribe("signal.>", lambda _, payload: self.signals.append(decode(SignalMessage, payload)))

    def tick(self, bid: int = 618_000, ask: int = 618_001, symbol: str = "BTCUSDT", *, stale: bool = False) -> None:
        """Publish a book as the feed does."""
        self._update_id += 1
        now = time.monotonic_ns()
        book = BookUpdate(
            venue="binance", symbol=symbol, update_id=self._update_id, bids=[(bid, 500)], asks=[(ask, 500)],
            microprice_ticks=(bid + ask) / 2, stale=stale, receive_mono_ns=now, publish_mono_ns=now,
            receive_ns=time.time_ns(), exchange_ns=time.time_ns(),
        )  # fmt: skip
        self.bus.publish(f"md.book.binance.{symbol}", encode(book))

    async def until(self, condition, timeout_s: float = 10.0, *, ticking: bool = True, **book: int) -> None:  # type: ignore[no-untyped-def]
        """Keep the market ticking until something is so."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s; intents so far: {self.intents[-5:]}"
            if ticking:
                self.tick(**book)
            await asyncio.sleep(0.02)

    def open_orders(self, strategy: str = "") -> list[OrderEvent]:
        return [o for o in self.orders.values() if o.state in _LIVE and strategy in ("", o.strategy)]

    def places(self, strategy: str = "") -> list[OrderIntent]:
        return [i for i in self.intents if i.action is IntentAction.PLACE and strategy in ("", i.strategy)]

    async def fill(self, order: OrderEvent, lots: int, *, live: bool = True) -> None:
        """Fill an order in part or whole, told as execution tells it: the fill first, then the order's new state."""
        self._trade_id += 1
        fill = FillEvent(
            account="main", venue="binance", symbol=order.symbol, trade_id=self._trade_id,
            client_order_id=order.client_order_id, venue_order_id=1, strategy=order.strategy, side=order.side,
            price_ticks=order.price_ticks, qty_lots=lots, maker=True, publish_ns=time.time_ns(),
        )  # fmt: skip
        self.position[order.symbol] = self.position.get(order.symbol, 0) + int(order.side) * lots
        order.cum_lots += lots
        state = OrderState.FILLED if order.cum_lots >= order.qty_lots else OrderState.PARTIALLY_FILLED
        await self.bus.publish_durable(f"fill.main.{order.symbol}", encode(fill), message_id=f"fill-{self._trade_id}")
        self._move(order, state)

    def _move(self, order: OrderEvent, state: OrderState) -> None:
        order.previous_state, order.state = order.state, state
        order.seq += 1
        self.bus.publish(f"order.event.main.{order.client_order_id}", encode(order))

    def _on_intent(self, subject: str, payload: bytes) -> None:
        intent = decode(OrderIntent, payload)
        self.intents.append(intent)
        if not self.answers or intent.intent_id in self._seen:
            return
        self._seen.add(intent.intent_id)
        if intent.action is IntentAction.CANCEL:
            order = self.orders.get(intent.target_client_order_id)
            if order is not None and order.state in _LIVE:
                self._move(order, OrderState.CANCELED)
        elif intent.action is IntentAction.CANCEL_ALL:
            for order in self.open_orders(intent.strategy):
                self._move(order, OrderState.CANCELED)
        else:
            coid = client_order_id(intent.strategy, intent.intent_id)
            late = time.time_ns() - intent.publish_ns > intent.ttl_ns
            order = self.orders[coid] = OrderEvent(
                account="main", venue="binance", symbol=intent.symbol, client_order_id=coid,
                intent_id=intent.intent_id, strategy=intent.strategy, side=intent.side,
                price_ticks=intent.price_ticks, qty_lots=intent.qty_lots, time_in_force=intent.time_in_force,
            )  # fmt: skip
            self._move(order, OrderState.EXPIRED if late else OrderState.SUBMITTED)
