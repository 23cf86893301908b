"""Replay: the journal in, the state of the order core after each line out; the same hash as the running service's.

In: lines of ORDERS (order events and fills) with their sequences, and of CTL. Out: what each line changed, a Picture of
everything, its hash. It is the very ledger that execution uses; nothing is sent and nothing is written. Pure.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

import msgspec

from tickmesh.domain.client_order_id import is_ours
from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import Control, FillEvent, OrderEvent, decode
from tickmesh.execution.halt import HaltLatch
from tickmesh.execution.ledger import OrderLedger
from tickmesh.execution.machine import OrderMachine, Step


class OrderPicture(msgspec.Struct, frozen=True, array_like=True):
    """One order as the journal tells it. Prices are text, so that equal is equal."""

    client_order_id: str
    state: OrderState
    symbol: str
    side: int
    qty_lots: int
    cum_lots: int
    filled_lots: int
    average_price: str
    venue_order_id: int
    intent_id: str


class Picture(msgspec.Struct, frozen=True):
    """The state of one account's order core: orders by id, and what their fills add up to by symbol and side."""

    account: str
    orders: list[OrderPicture]
    positions: dict[str, int]
    trades: dict[str, int]
    open: int
    hash: str


class Change(msgspec.Struct, frozen=True):
    """What one line did, for a person who steps through an incident."""

    seq: int
    time_ns: int
    kind: str
    name: str
    text: str


class _NoEffects:
    """Replay changes no risk view."""

    def on_step(self, order: OrderMachine, step: Step) -> None: ...

    def on_fill(self, order: OrderMachine, fill: FillEvent) -> None: ...


def picture_of(ledger: OrderLedger, settled_before: Mapping[str, int] | None = None) -> Picture:
    """What the ledger holds, as far as the journal tells it.

    Args:
        ledger: live or replayed. Orders that it has not said anything of yet are left out: the journal has not, either.
        settled_before: not counted in ``trades``, see ``OrderLedger.known_trades_below``.
    """
    skip = settled_before if settled_before is not None else ledger.known_trades_below
    orders = [
        OrderPicture(
            o.client_order_id, o.state, o.symbol, int(o.side), o.qty_lots, o.cum_lots, o.filled_lots,
            f"{o.average_price.normalize():f}", o.venue_order_id, o.intent_id,
        )
        for o in ledger.orders.values()
        if o.steps
    ]  # fmt: skip
    orders.sort(key=lambda o: o.client_order_id)
    positions: Counter[str] = Counter()
    for order in ledger.orders.values():
        positions[f"{order.symbol} {order.position_side.value}"] += order.side * order.filled_lots
    trades = {s: i for s, i in sorted(ledger.last_trade_id.items()) if i > skip.get(s, 0)}
    held = {name: lots for name, lots in sorted(positions.items()) if lots}
    body = msgspec.msgpack.encode((ledger.account, orders, held, trades))
    open_orders = sum(not order.state.terminal for order in orders)
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    return Picture(ledger.account, orders, held, trades, open_orders, digest)


class Replay:
    """One account's journal, line by line."""

    def __init__(self, account: str, venue: str = "") -> None:
        self.account = account
        self.ledger = OrderLedger(account, venue, _NoEffects())
        self.latch = HaltLatch(account)
        self.lines = 0
        self.last_seq = 0
        self.anomalies = 0
        self._events = f"order.event.{account}."
        self._fills = f"fill.{account}."

    def apply(self, subject: str, payload: bytes, seq: int) -> Change | None:
        """Take one line; None when it is another account's or no part of the state.

        Raises:
            msgspec.DecodeError: the line is damaged; nothing was changed.
        """
        if subject.startswith(self._events):
            return self._on_event(decode(OrderEvent, payload), seq)
        if subject.startswith(self._fills):
            return self._on_fill(decode(FillEvent, payload), seq)
        return None

    def on_control(self, payload: bytes, seq: int) -> Change | None:
        """Take one line of CTL; None when it changes no latch of this account."""
        control = decode(Control, payload)
        if not self.latch.apply(control, seq):
            return None
        return Change(seq, control.publish_ns, "control", control.scope, f"{control.verb} by {control.actor or '?'}: "
                                                                         f"{control.reason}")  # fmt: skip

    def picture(self) -> Picture:
        return picture_of(self.ledger)

    def _on_event(self, event: OrderEvent, seq: int) -> Change:
        before = self.ledger.orders.get(event.client_order_id)
        was = before.state.value if before is not None else "-"
        self._count(seq)
        self.anomalies += event.anomaly
        self.ledger.restore(event)
        order = self.ledger.orders.get(event.client_order_id)
        now = order.state.value if order is not None else was
        what = f"{was} -> {now}" if not event.anomaly else f"ANOMALY in {now}"
        text = f"{what} {event.side.name} {event.cum_lots}/{event.qty_lots} {event.symbol} at {event.price_ticks} ticks"
        if event.reason:
            text += f" ({event.reason}{f', code {event.venue_code}' if event.venue_code else ''})"
        if not is_ours(event.client_order_id):
            text += " [not ours]"
        return Change(seq, event.publish_ns, "order", event.client_order_id, text)

    def _on_fill(self, fill: FillEvent, seq: int) -> Change:
        self._count(seq)
        repeated = self.ledger.knows_trade(fill.symbol, fill.trade_id)
        self.ledger.restore(fill)
        text = f"{fill.side.name} {fill.qty_lots} {fill.symbol} at {fill.price_ticks} ticks, trade {fill.trade_id}"
        return Change(seq, fill.publish_ns, "fill", fill.client_order_id, text + (" REPEATED" if repeated else ""))

    def _count(self, seq: int) -> None:
        self.lines += 1
        self.last_seq = max(self.last_seq, seq)
