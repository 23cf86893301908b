"""A desk without a process: instruments, books, a clock that we turn, and an obedient account writer."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, Mode, OrderState, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, FillEvent, OrderEvent, OrderIntent, Trade, encode
from tickmesh.strategy.desk import Desk, DeskPolicy
from tickmesh.strategy.drafts import Moment
from tickmesh.strategy.first_steps import initialize
from tickmesh.strategy.floor import Floor
from tickmesh.strategy.guard import Guard, GuardPolicy, NoWatch
from tickmesh.strategy.interface import Signal, Strategy
from tickmesh.strategy.resource import Limits, Metadata, PluginRef, StrategyResource, StrategySpec

MS = 1_000_000
S = 1_000_000_000
BTC = Instrument(
    venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001"),
    min_qty=Decimal("0.001"), min_notional=Decimal(50),
)  # fmt: skip
ETH = Instrument(
    venue="binance", symbol="ETHUSDT", base="ETH", quote="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"),
    min_qty=Decimal("0.001"), min_notional=Decimal(20),
)  # fmt: skip
INSTRUMENTS = {"BTCUSDT": BTC, "ETHUSDT": ETH}


class StillClock:
    """A clock that only we move."""

    def __init__(self) -> None:
        self.now_ns = S

    def wall_ns(self) -> int:
        return self.now_ns

    def mono_ns(self) -> int:
        return self.now_ns


class Scripted(Strategy):
    """A plugin that says what it was told to say, and remembers what it heard."""

    def __init__(self, says: Iterable[list[Signal]] = ()) -> None:
        self.says = list(says)
        self.heard: list[Any] = []
        self.always: list[Signal] = []

    def on_market_data(self, data: Any) -> list[Signal]:
        return self.says.pop(0) if self.says else self.always

    def on_order_fill(self, fill: FillEvent) -> None:
        self.heard.append(fill)

    def on_position_update(self, position: Any) -> None:
        self.heard.append(position)

    def on_order_event(self, event: OrderEvent) -> None:
        self.heard.append(event)


def book(
    bid: int = 618_000, ask: int = 618_001, symbol: str = "BTCUSDT", *, at_ns: int = S, stale: bool = False,
    imbalance: float = 0.0, lots: int = 500,
) -> BookUpdate:  # fmt: skip
    return BookUpdate(
        venue="binance", symbol=symbol, bids=[(bid, lots)], asks=[(ask, lots)], imbalance=imbalance,
        microprice_ticks=(bid + ask) / 2, stale=stale, exchange_ns=at_ns, receive_mono_ns=at_ns, publish_mono_ns=at_ns,
    )  # fmt: skip


def trade(price: int, lots: int, taker: Side, *, at_ns: int = S, symbol: str = "BTCUSDT") -> Trade:
    return Trade(
        venue="binance", symbol=symbol, trade_id=at_ns, price_ticks=price, qty_lots=lots, taker_side=taker,
        exchange_ns=at_ns, receive_mono_ns=at_ns,
    )  # fmt: skip


class Rig:
    """One desk on a floor, its intents, and the account writer that answers them."""

    def __init__(
        self, plugin: Strategy, *, symbols: tuple[str, ...] = ("BTCUSDT",), limits: Limits | None = None,
        parameters: dict[str, Any] | None = None, mode: Mode = Mode.LIVE, name: str = "s", floor: Floor | None = None,
        **spec: Any,
    ) -> None:  # fmt: skip
        self.clock = StillClock()
        self.plan = StrategyResource(
            metadata=Metadata(name=name),
            spec=StrategySpec(
                plugin=PluginRef(entry_point="x"), parameters=parameters or {}, venue="binance", account="main",
                symbols=symbols, limits=limits or Limits(cool_down_ms=0, max_orders_per_second=1000), mode=mode, **spec,
            ),
        )  # fmt: skip
        guard = Guard(plugin, name, self.clock, GuardPolicy(), NoWatch())
        initialize(guard, self.plan, INSTRUMENTS)
        self.floor = floor or Floor()
        self.desk = Desk(
            self.plan, guard, {s: INSTRUMENTS[s] for s in symbols}, epoch=7, policy=DeskPolicy(),
            crosses=self.floor.crosses,
        )  # fmt: skip
        self.floor.put(self.desk)
        self.intents: list[OrderIntent] = []
        self.other: list[Any] = []
        self.orders: dict[str, OrderEvent] = {}
        self.journal: list[OrderEvent | FillEvent] = []
        self.trade_id = 0

    # Time and market

    def moment(self, tick_ns: int = 0) -> Moment:
        now = self.clock.now_ns
        return Moment(now, now, tick_ns or now, now, now)

    def after(self, ns: int) -> Rig:
        self.clock.now_ns += ns
        return self

    def tick(self, bid: int = 618_000, ask: int = 618_001, symbol: str = "BTCUSDT", **more: Any) -> list[OrderIntent]:
        """One book a millisecond later; the intents it caused."""
        self.after(MS)
        data = book(bid, ask, symbol, at_ns=self.clock.now_ns, **more)
        return self.collect(self.floor.on_market_data(data, self.moment()))

    def show(self, data: BookUpdate | Trade) -> list[OrderIntent]:
        return self.collect(self.floor.on_market_data(data, self.moment()))

    def timer(self) -> list[OrderIntent]:
        return self.collect(self.floor.on_timer(self.moment()))

    def collect(self, outgoing: Iterable[Any]) -> list[OrderIntent]:
        outgoing = list(outgoing)
        new = [o.message for o in outgoing if isinstance(o.message, OrderIntent)]
        self.other += [o.message for o in outgoing if not isinstance(o.message, OrderIntent)]
        self.intents += new
        return new

    # The account writer

    def accept(self, intent: OrderIntent) -> str:
        coid = client_order_id(intent.strategy, intent.intent_id)
        self.orders[coid] = OrderEvent(
            account="main", venue="binance", symbol=intent.symbol, client_order_id=coid, intent_id=intent.intent_id,
            strategy=intent.strategy, side=intent.side, price_ticks=intent.price_ticks, qty_lots=intent.qty_lots,
        )  # fmt: skip
        return coid

    def reject(self, intent: OrderIntent, reason: str) -> None:
        self.move(self.accept(intent), OrderState.REJECTED, reason)

    def answer(self, intents: list[OrderIntent]) -> None:
        """Accept what was placed, cancel what was to be cancelled."""
        for intent in intents:
            if intent.action is IntentAction.PLACE:
                self.move(self.accept(intent), OrderState.SUBMITTED)
            elif intent.action is IntentAction.CANCEL:
                self.move(intent.target_client_order_id, OrderState.CANCELED)
            else:
                for coid, order in self.orders.items():
                    if not order.state.terminal:
                        self.move(coid, OrderState.CANCELED)

    def move(self, coid: str, state: OrderState, reason: str = "") -> None:
        order = self.orders[coid]
        if order.state.terminal:
            return
        order.state, order.reason = state, reason
        self.tell(msgspec.msgpack.decode(encode(order), type=OrderEvent))

    def fill(self, coid: str, lots: int, price_ticks: int = 0) -> None:
        order = self.orders[coid]
        lots = min(lots, order.qty_lots - order.cum_lots)
        if order.state.terminal or not lots:
            return
        self.trade_id += 1
        self.tell(
            FillEvent(
                account="main", venue="binance", symbol=order.symbol, trade_id=self.trade_id, client_order_id=coid,
                venue_order_id=1, strategy=order.strategy, side=order.side,
                price_ticks=price_ticks or order.price_ticks, qty_lots=lots, commission=Decimal("0.01"),
            )
        )  # fmt: skip
        order.cum_lots += lots
        done = order.cum_lots >= order.qty_lots
        self.move(coid, OrderState.FILLED if done else OrderState.PARTIALLY_FILLED)

    def tell(self, event: OrderEvent | FillEvent) -> None:
        self.journal.append(event)
        if isinstance(event, FillEvent):
            self.collect(self.floor.on_fill(event, self.moment()))
        else:
            self.collect(self.floor.on_order_event(event, self.moment()))

    def open(self) -> list[OrderEvent]:
        return [o for o in self.orders.values() if not o.state.terminal]


def quote(side: Side = Side.BUY, price: int = 617_900, lots: int = 2, name: str = "q", **more: Any) -> Signal:
    return Signal(symbol=more.pop("symbol", "BTCUSDT"), side=side, quote=name, price_ticks=price, qty_lots=lots, **more)
