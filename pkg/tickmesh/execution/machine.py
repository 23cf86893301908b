"""OrderMachine: one order's state, merged from whatever the venue and we ourselves know about it.

In come facts in any order and any number of times: our own steps, REST answers, user-stream reports, queries,
fills. Out comes at most one Step per fact. The state is a function of the joined facts and of nothing else
(a join: status rank, largest cumulative quantity, newest update time), so that permutation, duplication, or
loss followed by a query end in the same state. It refuses nothing silently: a step outside of ``TRANSITIONS``
is taken when the venue says so, and marked as an anomaly. See docs/decisions/0061.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Final

from tickmesh.domain.enums import OrderState, OrderType, PositionSide, Side, TimeInForce
from tickmesh.domain.halt import ALL
from tickmesh.domain.messages import ZERO, OrderEvent, Stamps

S = OrderState

_AT_VENUE = frozenset({S.SUBMITTED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED})

TRANSITIONS: Mapping[OrderState, frozenset[OrderState]] = {
    S.NEW: frozenset({S.VALIDATING, S.REJECTED, S.EXPIRED}),
    S.VALIDATING: frozenset({S.PENDING_SUBMIT, S.REJECTED, S.EXPIRED}),
    S.PENDING_SUBMIT: _AT_VENUE | {S.UNKNOWN},
    S.UNKNOWN: _AT_VENUE,
    S.SUBMITTED: frozenset({S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED}),
    S.PARTIALLY_FILLED: frozenset({S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED}),
    S.CANCELED: frozenset({S.CANCELED, S.FILLED}),  # a fill that was on its way when the cancel won
    S.EXPIRED: frozenset({S.EXPIRED, S.FILLED}),
    S.REJECTED: frozenset(),
    S.FILLED: frozenset(),
}
"""Every step that is in order. A state may follow itself only where more can fill meanwhile."""

_LOCAL_RANK = {S.NEW: 0, S.VALIDATING: 1, S.PENDING_SUBMIT: 2, S.UNKNOWN: 3, S.EXPIRED: 4, S.REJECTED: 5}
_FINAL_RANK = {S.REJECTED: 1, S.EXPIRED: 2, S.CANCELED: 3, S.FILLED: 4}
# Members of enumerations as constants: looking one up through its class costs ten times as much.
_REJECTED: Final = S.REJECTED
_EXPIRED: Final = S.EXPIRED
_FILLED: Final = S.FILLED
_PARTIALLY_FILLED: Final = S.PARTIALLY_FILLED
_SUBMITTED: Final = S.SUBMITTED


class Wrong(Enum):
    """Why a fact did not fit; its name goes into the record."""

    TRANSITION = "the venue took a step that is not in the transition table"
    QUANTITY = "a quantity is negative or beyond the order's"
    IDENTITY = "another venue order carries this client order id"


class Report(tuple[int, OrderState, int, Decimal, int, int]):
    """What the venue says about an order: REST answer, stream event or query."""

    __slots__ = ()

    def __new__(
        cls, venue_order_id: int, state: OrderState, cum_lots: int, average_price: Decimal = ZERO,
        update_ms: int = 0, qty_lots: int = 0,
    ) -> Report:  # fmt: skip
        """``state`` is SUBMITTED, PARTIALLY_FILLED or an end; ``qty_lots`` 0 means "as it was".

        A negative ``venue_order_id`` is that of a conditional order, which gets an order's id when it triggers.
        """
        return super().__new__(cls, (venue_order_id, state, cum_lots, average_price, update_ms, qty_lots))


_TRANSITION: Final = Wrong.TRANSITION


@dataclass(slots=True)
class Step:
    """One visible change: what to journal. ``anomaly`` names what did not fit."""

    previous: OrderState
    state: OrderState
    anomaly: Wrong | None = None


@dataclass(slots=True)
class OrderMachine:
    """One order. Identity fields never change after it was made, but for an amended price; facts only grow."""

    account: str
    venue: str
    symbol: str
    client_order_id: str
    qty_lots: int
    side: Side = Side.BUY
    order_type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTC
    price_ticks: int = 0
    intent_id: str = ""
    strategy: str = ""
    reduce_only: bool = False
    position_side: PositionSide = PositionSide.BOTH
    stop_price_ticks: int = 0
    external: bool = False
    correlation_id: str = ""
    created_ns: int = 0
    stamps: Stamps = field(default_factory=Stamps)
    state: OrderState = OrderState.NEW
    venue_order_id: int = 0
    cum_lots: int = 0
    filled_lots: int = 0
    reason: str = ""
    venue_code: int = 0
    update_ms: int = 0
    steps: int = 0
    journaled: tuple[OrderState, int, Decimal] | None = None
    """What the newest line of the journal says: state, cumulative lots, average price."""
    # The joined facts.
    _local: OrderState = OrderState.NEW
    _final: OrderState | None = None
    _final_ms: int = -1
    _price: Decimal = ZERO
    _price_key: tuple[int, int] = (-1, -1)
    _qty_ms: int = -1
    _reprice_ms: int = -1

    @property
    def open(self) -> bool:
        """Whether more can happen at the venue, as far as we know."""
        return not self.state.terminal

    @property
    def missing_lots(self) -> int:
        """Lots that the venue reports filled and whose fills have not arrived."""
        return max(0, self.cum_lots - self.filled_lots)

    @property
    def average_price(self) -> Decimal:
        """The venue's average price of ``cum_lots``; 0 until it has told it for exactly that quantity."""
        return self._price if self._price_key[0] == self.cum_lots else ZERO

    @property
    def visible(self) -> tuple[OrderState, int, Decimal]:
        """What an event of this order shows."""
        return self.state, self.cum_lots, self.average_price

    @property
    def waits_for_trigger(self) -> bool:
        """A conditional order that only the venue's algo service knows."""
        return self.venue_order_id < 0 and self.open

    @property
    def settled(self) -> bool:
        """At its end, with every fill in hand."""
        return self.state.terminal and self.missing_lots == 0

    def obeys(self, strategy: str) -> bool:
        """Whether what stops ``strategy`` stops this order.

        One of ours that a start adopted has no name until its intent comes again, which may take the stream half a
        minute: until then it may be anybody's, and a cancel too many is the safe mistake.
        """
        return self.strategy == strategy or not (self.strategy or self.external)

    def in_scope(self, scope: str) -> bool:
        """Whether a halt, or a reduce, of ``scope`` ("all", or "KIND.NAME") covers this order."""
        kind, _, name = scope.partition(".")
        return scope == ALL or {"account": self.account == name, "strategy": self.obeys(name)}.get(
            kind, self.symbol == name
        )

    # Our own steps.

    def advance(self, state: OrderState, reason: str = "", venue_code: int = 0) -> Step | None:
        """Take a step of our own: VALIDATING, PENDING_SUBMIT, UNKNOWN, or a REJECTED or EXPIRED that we vouch for.

        Evidence of the venue outweighs it: a refusal of an order that the venue has shown us is an anomaly.
        """
        contradicts = state in (_REJECTED, _EXPIRED) and self.venue_order_id != 0
        if contradicts:
            return self._anomaly(_TRANSITION)
        if _LOCAL_RANK[state] > _LOCAL_RANK[self._local]:
            self._local = state
            if reason and not self.venue_order_id:
                self.reason, self.venue_code = reason, venue_code
        return self._settle(self.visible)

    # What the venue says.

    def report(self, report: Report) -> Step | None:
        """Join a report of the venue."""
        venue_order_id, state, cum_lots, average_price, update_ms, qty_lots = report
        triggers = self.venue_order_id < 0 < venue_order_id
        if venue_order_id < 0 < self.venue_order_id:
            return None  # it has triggered: what the order does that it became is said under that order's id
        if self.venue_order_id and venue_order_id and venue_order_id != self.venue_order_id and not triggers:
            return self._anomaly(Wrong.IDENTITY)
        if cum_lots < 0 or qty_lots < 0 or cum_lots > max(self.qty_lots, qty_lots):
            return self._anomaly(Wrong.QUANTITY)
        before = self.visible
        if triggers:
            self._final, self._final_ms = None, -1
        if triggers or (venue_order_id and not self.venue_order_id):
            self.venue_order_id = venue_order_id
            self.reason, self.venue_code = "", 0
        if qty_lots and update_ms > self._qty_ms:
            self.qty_lots, self._qty_ms = qty_lots, update_ms
        self.cum_lots = max(self.cum_lots, cum_lots)
        self.update_ms = max(self.update_ms, update_ms)
        if cum_lots and (cum_lots, update_ms) > self._price_key:
            self._price, self._price_key = average_price, (cum_lots, update_ms)
        if state.terminal:
            newer = (update_ms, _FINAL_RANK[state]) > (self._final_ms, _FINAL_RANK[self._final] if self._final else 0)
            if self._final is None or newer:
                self._final, self._final_ms = state, update_ms
        return self._settle(before)

    def reprice(self, price_ticks: int, update_ms: int) -> None:
        """Join the limit price of a report: somebody may have amended it. The newest counts; 0 says nothing."""
        if price_ticks and update_ms > self._reprice_ms:
            self.price_ticks, self._reprice_ms = price_ticks, update_ms

    def fill(self, lots: int, update_ms: int = 0) -> Step | None:
        """Join one execution; the caller has made sure that its trade id is new."""
        if lots <= 0 or self.filled_lots + lots > self.qty_lots:
            return self._anomaly(Wrong.QUANTITY)
        before = self.visible
        self.filled_lots += lots
        self.cum_lots = max(self.cum_lots, self.filled_lots)
        self.update_ms = max(self.update_ms, update_ms)
        return self._settle(before)

    def _derive(self) -> OrderState:
        if 0 < self.qty_lots <= self.cum_lots:
            return _FILLED
        if self._final is not None:
            return self._final
        if self.cum_lots:
            return _PARTIALLY_FILLED
        return _SUBMITTED if self.venue_order_id else self._local

    def _settle(self, before: tuple[OrderState, int, Decimal]) -> Step | None:
        previous, cum_before, _ = before
        self.state = state = self._derive()
        if self.visible == before:
            return None
        # A price that becomes known is news, and no step of the state.
        fits = state in TRANSITIONS[previous] or (state is previous and self.cum_lots == cum_before)
        self.steps += 1
        return Step(previous, state, None if fits else _TRANSITION)

    def _anomaly(self, wrong: Wrong) -> Step:
        return Step(self.state, self.state, wrong)

    # The record.

    def event(self, step: Step, now_ns: int, *, anomaly: bool = False) -> OrderEvent:
        """The journal's line for ``step``; ``now_ns`` is the wall clock."""
        return OrderEvent(
            exchange_ns=self.update_ms * 1_000_000, receive_ns=now_ns, publish_ns=now_ns, seq=self.steps,
            account=self.account, venue=self.venue,
            symbol=self.symbol, client_order_id=self.client_order_id, intent_id=self.intent_id, strategy=self.strategy,
            venue_order_id=self.venue_order_id, side=self.side, order_type=self.order_type,
            time_in_force=self.time_in_force, price_ticks=self.price_ticks, qty_lots=self.qty_lots,
            cum_lots=self.cum_lots, average_price=self.average_price, reduce_only=self.reduce_only,
            position_side=self.position_side, stop_price_ticks=self.stop_price_ticks, previous_state=step.previous,
            state=step.state, reason=step.anomaly.value if step.anomaly else self.reason, venue_code=self.venue_code,
            external=self.external, anomaly=anomaly, correlation_id=self.correlation_id, stamps=self.stamps,
        )  # fmt: skip

    @classmethod
    def from_event(cls, event: OrderEvent) -> OrderMachine:
        """The order as the journal's newest line left it; fills are added by their own lines."""
        machine = cls(
            account=event.account, venue=event.venue, symbol=event.symbol, client_order_id=event.client_order_id,
            qty_lots=event.qty_lots, side=event.side, order_type=event.order_type, time_in_force=event.time_in_force,
            price_ticks=event.price_ticks, intent_id=event.intent_id, strategy=event.strategy,
            reduce_only=event.reduce_only, position_side=event.position_side,
            stop_price_ticks=event.stop_price_ticks, external=event.external, correlation_id=event.correlation_id,
            created_ns=event.publish_ns, stamps=event.stamps, steps=event.seq,
        )  # fmt: skip
        machine.reason, machine.venue_code = event.reason, event.venue_code
        machine.resume(event)
        return machine

    def resume(self, event: OrderEvent) -> None:
        """Take over a later line of the journal."""
        self.venue_order_id = event.venue_order_id or self.venue_order_id
        self.cum_lots = max(self.cum_lots, event.cum_lots)
        self.qty_lots = event.qty_lots
        self.price_ticks = event.price_ticks or self.price_ticks
        self.update_ms = max(self.update_ms, event.exchange_ns // 1_000_000)
        self.steps = max(self.steps, event.seq)
        if event.cum_lots and event.average_price and (event.cum_lots, self.update_ms) > self._price_key:
            self._price, self._price_key = event.average_price, (event.cum_lots, self.update_ms)
        if event.state in _LOCAL_RANK and not event.venue_order_id:
            if _LOCAL_RANK[event.state] > _LOCAL_RANK[self._local]:
                self._local = event.state
                self.reason, self.venue_code = event.reason, event.venue_code
        elif event.state.terminal and event.state is not _FILLED:
            self._final, self._final_ms = event.state, self.update_ms
        self.state = self._derive()
        self.journaled = (event.state, event.cum_lots, event.average_price)
