"""What one strategy has at the venue: working orders and positions, from order events and fills.

In: our own placements, OrderEvents, FillEvents, each perhaps twice and in any order. Out: open orders, positions,
worst-case exposure. An order that is not known to be finished counts in full until it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tickmesh.domain.enums import OrderState, Side, Urgency
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import FillEvent, OrderEvent
from tickmesh.strategy.interface import Position

_REMEMBERED = 20_000
DIRECTIONAL = "d"
"""Slot of orders that come from signals without a quote name."""


def intent_id(strategy: str, boot: str, number: int, slot: str) -> str:
    """Unique for ever, as ``boot`` is of one life of one process; the slot comes back with every order event."""
    return f"{strategy}.{boot}.{number}.{slot}"


def slot_of(identity: str) -> str:
    """The slot in an intent id of ours."""
    parts = identity.split(".")
    return parts[3] if len(parts) == 4 else DIRECTIONAL


class WorkingOrder(msgspec.Struct, kw_only=True):
    """An order of ours that may still trade. ``acknowledged`` once any event of it has come."""

    client_order_id: str
    intent_id: str
    symbol: str
    side: Side
    price_ticks: int
    qty_lots: int
    slot: str = DIRECTIONAL
    urgency: Urgency = Urgency.PASSIVE
    cum_lots: int = 0
    filled_lots: int = 0
    state: OrderState = OrderState.NEW
    acknowledged: bool = False
    adopted: bool = False
    unwanted: bool = False
    placed_ns: int = 0
    placed_mono_ns: int = 0
    event_mono_ns: int = 0
    rest_until_mono_ns: int = 0
    cancel_sent_mono_ns: int = 0
    asked_mono_ns: int = 0
    correlation_id: str = ""

    @property
    def open_lots(self) -> int:
        """What may still change the position; of a finished order, the fills that have been told but not booked."""
        return max((self.cum_lots if self.state.terminal else self.qty_lots) - self.filled_lots, 0)


class Holding(msgspec.Struct, kw_only=True):
    """A position with its cost; ``cost`` is ticks times lots of what is held, signed."""

    qty_lots: int = 0
    cost: Decimal = Decimal(0)
    realized_pnl: Decimal = Decimal(0)
    commission: Decimal = Decimal(0)
    fills: int = 0


class LedgerState(msgspec.Struct):
    """A ledger at rest. ``fills`` (symbol, trade, order, lots) are those that the journal may tell again."""

    holdings: dict[str, Holding] = {}
    orders: list[WorkingOrder] = []
    fills: list[tuple[str, int, str, int]] = []


class Ledger:
    """Orders and positions of one strategy in one mode (live or paper)."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self.instruments = instruments
        self.orders: dict[str, WorkingOrder] = {}
        self.holdings: dict[str, Holding] = {}
        self._closed: dict[str, None] = {}
        self._fills: dict[tuple[str, int, str], tuple[int, int]] = {}
        self._generation = 0
        self._filled: dict[str, int] = {}

    def place(self, order: WorkingOrder) -> None:
        """Count an order from the moment its intent is about to leave."""
        self.orders[order.client_order_id] = order

    def forget(self, client_order_id: str) -> WorkingOrder | None:
        """Drop an order that certainly never reached the venue, or whose end was told."""
        return self.orders.pop(client_order_id, None)

    def in_slot(self, symbol: str, slot: str) -> list[WorkingOrder]:
        return [o for o in self.orders.values() if o.symbol == symbol and o.slot == slot]

    def open_lots(self, symbol: str, side: Side) -> int:
        """Lots that working orders of one side may still add."""
        return sum(o.open_lots for o in self.orders.values() if o.side is side and o.symbol == symbol)

    def on_event(self, event: OrderEvent, now_mono_ns: int) -> bool:
        """Apply one step of an order; returns whether it is news. An open order that is not known is adopted."""
        coid = event.client_order_id
        order = self.orders.get(coid)
        if order is None:
            if event.state.terminal:
                _remember(self._closed, coid, None)
                return False
            if coid in self._closed or event.qty_lots <= 0:
                return False
            order = self.orders[coid] = WorkingOrder(
                client_order_id=coid,
                intent_id=event.intent_id,
                symbol=event.symbol,
                side=event.side,
                price_ticks=event.price_ticks,
                qty_lots=event.qty_lots,
                slot=slot_of(event.intent_id),
                filled_lots=self._filled.get(coid, 0),
                adopted=True,
                placed_mono_ns=now_mono_ns,
                correlation_id=event.correlation_id,
            )
        before = (order.state, order.cum_lots, order.acknowledged)
        if not order.state.terminal:
            order.state = event.state
        order.cum_lots = max(order.cum_lots, event.cum_lots)
        order.acknowledged = True
        order.event_mono_ns = now_mono_ns
        self._close_if_done(order)
        return before != (order.state, order.cum_lots, True)

    def on_fill(self, fill: FillEvent) -> bool:
        """Book a fill once; returns False for one that was booked before."""
        key = (fill.symbol, fill.trade_id, fill.client_order_id)
        if key in self._fills:
            return False
        _remember(self._fills, key, (self._generation, fill.qty_lots))
        _remember(self._filled, fill.client_order_id, self._filled.get(fill.client_order_id, 0) + fill.qty_lots)
        order = self.orders.get(fill.client_order_id)
        if order is not None:
            order.filled_lots += fill.qty_lots
            order.cum_lots = max(order.cum_lots, order.filled_lots)
            self._close_if_done(order)
        _book(self.holdings.setdefault(fill.symbol, Holding()), fill, self._unit(fill.symbol))
        return True

    def position(self, symbol: str) -> Position:
        """The position as a plugin sees it."""
        held = self.holdings.get(symbol) or Holding()
        return Position(
            symbol=symbol,
            qty_lots=held.qty_lots,
            entry_price_ticks=held.cost / held.qty_lots if held.qty_lots else Decimal(0),
            realized_pnl=held.realized_pnl,
            open_buy_lots=self.open_lots(symbol, Side.BUY),
            open_sell_lots=self.open_lots(symbol, Side.SELL),
        )

    def qty_lots(self, symbol: str) -> int:
        held = self.holdings.get(symbol)
        return held.qty_lots if held else 0

    def unrealized_pnl(self, symbol: str, mid_ticks: float) -> Decimal:
        """What closing at ``mid_ticks`` would add, in quote currency."""
        held = self.holdings.get(symbol)
        if held is None or not held.qty_lots or not mid_ticks:
            return Decimal(0)
        return (held.qty_lots * Decimal(str(mid_ticks)) - held.cost) * self._unit(symbol)

    def turn(self) -> None:
        """Everything up to the place in the journal that is about to be noted has been applied."""
        self._generation += 1

    def save(self) -> LedgerState:
        """Positions, working orders, and the fills since the last ``turn`` but one."""
        since = self._generation - 1
        return LedgerState(
            self.holdings,
            list(self.orders.values()),
            [(*key, lots) for key, (turn, lots) in self._fills.items() if turn >= since],
        )

    def load(self, state: LedgerState, now_mono_ns: int) -> None:
        """Take over what ``save`` gave, perhaps before a reboot: monotonic times start anew."""
        self.holdings = dict(state.holdings)
        self._fills = {(symbol, trade, coid): (self._generation, lots) for symbol, trade, coid, lots in state.fills}
        for _, _, coid, lots in state.fills:
            self._filled[coid] = self._filled.get(coid, 0) + lots
        self.orders = {}
        for order in state.orders:
            order.adopted = True
            order.placed_mono_ns = order.event_mono_ns = now_mono_ns
            order.rest_until_mono_ns = now_mono_ns if order.rest_until_mono_ns else 0
            order.cancel_sent_mono_ns = order.asked_mono_ns = 0
            self.orders[order.client_order_id] = order
            self._filled[order.client_order_id] = order.filled_lots

    def absorb(self, state: LedgerState, now_mono_ns: int) -> None:
        """Add the working orders of a predecessor that we have heard nothing of, so that their fate is asked for."""
        for order in state.orders:
            if order.client_order_id not in self.orders and order.client_order_id not in self._closed:
                order.adopted = True
                order.placed_mono_ns = order.event_mono_ns = now_mono_ns
                order.rest_until_mono_ns = now_mono_ns if order.rest_until_mono_ns else 0
                order.cancel_sent_mono_ns = order.asked_mono_ns = 0
                self.orders[order.client_order_id] = order

    def _close_if_done(self, order: WorkingOrder) -> None:
        finished = order.state.terminal and order.filled_lots >= order.cum_lots
        if finished or order.filled_lots >= order.qty_lots:
            _remember(self._closed, order.client_order_id, None)
            self.orders.pop(order.client_order_id, None)

    def _unit(self, symbol: str) -> Decimal:
        instrument = self.instruments.get(symbol)
        return instrument.tick_size * instrument.lot_size if instrument else Decimal(0)


def _book(held: Holding, fill: FillEvent, unit: Decimal) -> None:
    """Average cost: adding moves the entry price, reducing realises against it, turning does both."""
    sign = int(fill.side)
    held.fills += 1
    held.commission += fill.commission
    closing = min(fill.qty_lots, abs(held.qty_lots)) if held.qty_lots * sign < 0 else 0
    if closing:
        share = held.cost * closing / abs(held.qty_lots)
        held.realized_pnl += (-sign * closing * fill.price_ticks - share) * unit
        held.cost -= share
        held.qty_lots += sign * closing
    opening = fill.qty_lots - closing
    held.qty_lots += sign * opening
    held.cost = held.cost + sign * opening * fill.price_ticks if held.qty_lots else Decimal(0)


def _remember(table: dict[Any, Any], key: Any, value: Any) -> None:
    """Bounded memory, oldest out first."""
    table[key] = value
    if len(table) > _REMEMBERED:
        del table[next(iter(table))]
