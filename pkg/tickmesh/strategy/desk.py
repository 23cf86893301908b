"""A desk runs one strategy: its plugin's signals become order intents, within its limits and its mode.

In: books, trades, order events, fills, timer ticks, each with the time at which it came. Out: messages in the order
in which they should leave: intents, signals for the record, alerts. Refuses to have two orders in one slot: a
quote is replaced when its old order is gone, so that nothing is ever doubled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, Mode, Severity, Side, Urgency
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import Alert, BookUpdate, FillEvent, Message, OrderEvent, OrderIntent, Trade
from tickmesh.strategy.aggregation import Proposal
from tickmesh.strategy.backoff import BackOff, BackOffPolicy
from tickmesh.strategy.drafts import Drafts, Moment
from tickmesh.strategy.guard import Guard
from tickmesh.strategy.interface import Signal
from tickmesh.strategy.ledger import DIRECTIONAL, Ledger, WorkingOrder
from tickmesh.strategy.limits import LimitFilter
from tickmesh.strategy.paper import PaperVenue
from tickmesh.strategy.resource import OnStale, StrategyResource

_SECOND_NS = 1_000_000_000
# Members of enumerations as constants: looking one up through its class costs ten times as much.
_OBSERVATION: Final = Mode.OBSERVATION
_SIMULATION: Final = Mode.SIMULATION
_IMMEDIATE: Final = Urgency.IMMEDIATE
_NORMAL: Final = Urgency.NORMAL
_PLACE: Final = IntentAction.PLACE
_TELL_AGAIN_NS = _SECOND_NS


class DeskPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Times after which a desk acts by itself, the same for every strategy of a process."""

    late_ns: int = 100_000_000
    late_factor: int = 5
    doubt_ns: int = _SECOND_NS
    """A book older than this is still used, with caution; so is a fresh one for ``caution_ns`` after a silence."""
    caution_ns: int = 2 * _SECOND_NS
    stale_ns: int = 3 * _SECOND_NS
    repeat_ns: int = _SECOND_NS
    unanswered_ns: int = 5 * _SECOND_NS
    back_off: BackOffPolicy = BackOffPolicy()


Crosses = Callable[["Desk", str, Side, int], bool]


def never_crosses(desk: Desk, symbol: str, side: Side, price_ticks: int) -> bool:
    """For a desk without neighbours."""
    return False


class Desk:
    """One strategy at work. ``plan`` is its resource with account, venue and symbols filled in; edits of it keep its
    name, account and venue."""

    def __init__(
        self, plan: StrategyResource, guard: Guard, instruments: Mapping[str, Instrument], *, epoch: int,
        policy: DeskPolicy, crosses: Crosses = never_crosses,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.name, self.account, self.venue = plan.name, plan.spec.account, plan.spec.venue
        self.guard = guard
        self.instruments = dict(instruments)
        self.policy = policy
        self.epoch = epoch
        self.drafts = Drafts(plan.name, plan.spec.account, plan.spec.venue, epoch, plan.share.shard)
        self.mode = plan.spec.mode
        self.standby = False
        """Somebody else acts for the strategy: we look, listen and keep the books, and say nothing."""
        self.halted: set[str] = set()
        self.retired = False
        self.journal_seq = 0
        self.live = Ledger(self.instruments)
        self.paper = Ledger(self.instruments)
        self.paper_venue = PaperVenue()
        self.filter = LimitFilter(plan.spec.limits, self.instruments.values())
        self.books: dict[str, BookUpdate] = {}
        self.stale: set[str] = set()
        self._cautious_until: dict[str, int] = {}
        self.signals = 0
        self.refused = 0
        self.back_off = BackOff(policy.back_off)
        self._crosses = crosses
        self._gained: dict[str, int] = {}
        self._told: dict[tuple[str, str], tuple[tuple[Any, ...], int]] = {}
        self._out: list[Message] = []
        self._notes: list[tuple[Signal, int, int, Moment, str, str]] = []

    # What it is

    @property
    def ledger(self) -> Ledger:
        """The ledger that the present mode trades on; Observation looks at the live one."""
        return self.paper if self.mode is _SIMULATION else self.live

    @property
    def hears_trades(self) -> bool:
        """Whether a public trade means anything here: to the plugin, or to the paper venue's queues."""
        return self.guard.hears_trades or self.mode is _SIMULATION

    def may_place(self, symbol: str, now_mono_ns: int) -> str:
        """Why no order may be placed now; empty when one may."""
        if self.standby:
            return "standing by"
        if self.mode is _OBSERVATION:
            return "Observation mode"
        if now_mono_ns < self._gained.get(symbol, 0):
            return "another shard may still have orders there"
        if self.plan.spec.paused or self.retired:
            return "paused"
        if self.guard.disabled:
            return "the plugin is disabled"
        if self.halted:
            return f"halted: {', '.join(sorted(self.halted))}"
        return self.back_off.why(now_mono_ns)

    # What happens to it

    def propose(self, data: BookUpdate | Trade, now: Moment) -> list[Proposal]:
        """Show market data to the plugin; its wishes, not yet acted upon."""
        symbol = data.symbol
        if isinstance(data, BookUpdate):
            self.books[symbol] = data
            if data.stale or not data.bids or not data.asks:
                self._on_stale(symbol, now)
                return []
            if symbol in self.stale:
                self.stale.discard(symbol)
                self._cautious_until[symbol] = now.now_mono_ns + self.policy.caution_ns
        elif symbol in self.stale or symbol not in self.books:
            return []
        if self.mode is _SIMULATION and not self.standby:
            venue, instrument = self.paper_venue, self.instruments[symbol]
            is_book = isinstance(data, BookUpdate)
            self._on_paper(venue.on_book(data, instrument) if is_book else venue.on_trade(data, instrument), now)  # type: ignore[arg-type]
        signals = self.guard.signals(data)
        if not signals or self.standby:
            return []
        self.signals += len(signals)
        instruments, symbols = self.instruments, self.plan.spec.symbols
        proposals = []
        for signal in signals:
            if signal.symbol in instruments and signal.symbol in symbols:
                proposals.append(Proposal(self.name, self.account, self.venue, signal))
            else:
                why = f"{signal.symbol} is not among spec.symbols"
                self._tell(signal, signal.quote or DIRECTIONAL, now, 0, 0, why)
        return proposals

    def act(self, signal: Signal, now: Moment) -> None:
        """Turn one aggregated signal into orders, as far as mode and limits allow."""
        symbol, slot = signal.symbol, signal.quote or DIRECTIONAL
        ledger = self.ledger
        working = ledger.in_slot(symbol, slot) if ledger.orders and self.mode is not _OBSERVATION else []
        if signal.withdraw:
            for order in working:
                self._cancel(order, now)
            return None
        now_mono_ns, policy, book = now.now_mono_ns, self.policy, self.books.get(symbol)
        late = now_mono_ns - now.tick_receive_mono_ns > policy.late_ns
        cautious = book is not None and now_mono_ns - book.receive_mono_ns > policy.doubt_ns
        cautious = cautious or now_mono_ns < self._cautious_until.get(symbol, 0)
        if (late or cautious) and signal.urgency is _IMMEDIATE and not signal.reduce_only:
            signal = msgspec.structs.replace(signal, urgency=_NORMAL)  # what we see may be over: take nothing
        price_ticks = self._price(signal, book)
        if not price_ticks:
            return self._tell(signal, slot, now, 0, 0, "no price: a side of the book is empty")
        if cautious and not signal.reduce_only:
            price_ticks = self._widened(signal, price_ticks)
            signal = msgspec.structs.replace(signal, qty_lots=max(1, signal.qty_lots // 2))
        pace = policy.late_factor if late else 1
        if working:
            # Its place is taken; a replacement follows when the old order is gone.
            return self._make_room(working, signal, price_ticks, now, pace)
        why = self.may_place(symbol, now_mono_ns)
        if why:
            return self._tell(signal, slot, now, price_ticks, signal.qty_lots, why)
        if self._crosses(self, symbol, signal.side, price_ticks):
            return self._tell(signal, slot, now, price_ticks, signal.qty_lots, "would trade with an order of ours")
        verdict = self.filter.check(
            ledger, self.instruments[symbol], signal.side, price_ticks, signal.qty_lots,
            now_mono_ns=now_mono_ns, reducing=signal.reduce_only,
            cool_down_factor=pace,
        )  # fmt: skip
        if not verdict.qty_lots:
            return self._tell(signal, slot, now, price_ticks, signal.qty_lots, verdict.reason)
        return self._place(signal, slot, price_ticks, verdict.qty_lots, now)

    def on_order_event(self, event: OrderEvent, now: Moment) -> None:
        """An order of ours moved; told twice or late, it changes nothing."""
        before = self.live.orders.get(event.client_order_id)
        if before is None and not self.plan.share.takes(event.symbol):
            return  # another shard looks after it
        news = self.live.on_event(event, now.now_mono_ns)
        if not news and before is None:
            return
        failing = self.back_off.on_event(event, now.now_mono_ns)
        if failing:
            self._alert(Severity.CRITICAL, "orders_failing", failing)
        if self.mode is not _SIMULATION:
            self.guard.call("on_order_event", event)
            self._show_position(event.symbol)

    def on_fill(self, fill: FillEvent, now: Moment) -> bool:
        """Book a fill of ours once; returns whether it was new."""
        if not self.live.on_fill(fill):
            return False
        if self.mode is not _SIMULATION:
            self.guard.call("on_order_fill", fill)
            self._show_position(fill.symbol)
        return True

    def on_timer(self, now: Moment) -> None:
        """Do what is due: old books are stale, expired orders go, unanswered questions are asked again."""
        for symbol, book in self.books.items():
            if symbol not in self.stale and now.now_mono_ns - book.receive_mono_ns > self.policy.stale_ns:
                self._on_stale(symbol, now)
        if self.standby:
            return
        idle = self.retired or self.plan.spec.paused or bool(self.halted)
        idle = (
            idle
            or self.guard.disabled
            or self.mode is _OBSERVATION
            or now.now_mono_ns < self.back_off.observing_until_mono_ns
        )
        for ledger in (self.live, self.paper):
            off_duty = idle or ledger is not self.ledger
            for order in list(ledger.orders.values()):
                expired = order.rest_until_mono_ns and now.now_mono_ns >= order.rest_until_mono_ns
                orphan = order.unwanted or (order.adopted and order.slot == DIRECTIONAL)
                orphan = orphan or order.symbol not in self.plan.spec.symbols
                if off_duty or expired or orphan or order.cancel_sent_mono_ns:
                    self._cancel(order, now, ledger)
                if not order.acknowledged and ledger is self.live:
                    self._ask_again(order, now)

    def cancel_all(self, now: Moment) -> None:
        """Ask for the end of everything that works, whatever we know of it."""
        if self.standby:
            return
        for order in list(self.paper.orders.values()):
            self._cancel(order, now, self.paper)
        if self.plan.share.shards == 1:
            self._out.append(self.drafts.cancel_all(now))
            return
        for symbol in sorted({*self.plan.spec.symbols, *(o.symbol for o in self.live.orders.values())}):
            self._out.append(self.drafts.cancel_all(now, symbol))  # the rest is other shards'

    def begin(self, epoch: int) -> None:
        """Act from now on, under an epoch of our own."""
        self.epoch = self.drafts.epoch = epoch
        self.standby = False

    def gained(self, symbols: Iterable[str], until_mono_ns: int) -> None:
        """Symbols that were another shard's a moment ago: no orders there before it has cancelled its own."""
        self._gained = dict.fromkeys(symbols, until_mono_ns)

    def take(self) -> list[Message]:
        """The messages since the last time, in the order in which they should leave."""
        for report in self.guard.take_reports():
            kind = "plugin_disabled" if report.disabled else "plugin_error"
            self._alert(Severity.CRITICAL if report.disabled else Severity.WARNING, kind, report.text)
        out = self.take_intents()
        if self._notes:
            notes, self._notes = self._notes, []
            out += [self.drafts.signal(*note) for note in notes]
        return out

    def take_intents(self) -> list[Message]:
        """As ``take``, without what is only for the record: that is written out when the orders have left."""
        out, self._out = self._out, []
        return out

    def caught_up(self, journal_seq: int) -> None:
        """Everything in the journal up to ``journal_seq`` has been told to this desk."""
        self.journal_seq = journal_seq
        self.live.turn()

    def clear(self) -> None:
        """Let every working order go at the next timer tick; whoever wants one asks anew."""
        for order in self.live.orders.values():
            order.unwanted = True
        for order in self.paper.orders.values():
            order.unwanted = True

    def not_sent(self, intent: OrderIntent) -> None:
        """An intent certainly did not leave: it counts no more."""
        if intent.action is _PLACE:
            self.live.forget(client_order_id(self.name, intent.intent_id))
        elif intent.target_client_order_id in self.live.orders:
            self.live.orders[intent.target_client_order_id].cancel_sent_mono_ns = 1

    def show_positions(self) -> None:
        """Tell the plugin what is held; after a start and after a change of mode."""
        for symbol in self.plan.spec.symbols:
            self._show_position(symbol)

    # How it does it

    def _price(self, signal: Signal, book: BookUpdate | None) -> int:
        """The price in ticks: a maker's never crosses, an urgent one reaches the other side; 0 when there is none."""
        if book is None or not book.bids or not book.asks or signal.symbol in self.stale:
            return 0
        bid, ask, side = book.bids[0][0], book.asks[0][0], signal.side
        if signal.urgency is _IMMEDIATE:
            return signal.price_ticks or (ask if side > 0 else bid)
        touch, other = (bid, ask) if side > 0 else (ask, bid)
        price = signal.price_ticks or touch
        if not signal.price_ticks and signal.urgency is _NORMAL:
            price = touch + side  # one better than the queue, if the spread has room
        limit = other - side
        return max(1, min(price, limit) if side > 0 else max(price, limit))

    def _widened(self, signal: Signal, price_ticks: int) -> int:
        """One spread further from the other side."""
        book = self.books[signal.symbol]
        return max(1, price_ticks - int(signal.side) * max(1, book.asks[0][0] - book.bids[0][0]))

    def _make_room(self, working: list[WorkingOrder], signal: Signal, price_ticks: int, now: Moment, pace: int) -> None:
        """Cancel what does not serve the signal. A quote that is merely too shy stays while no other may follow."""
        may_follow = not self.may_place(signal.symbol, now.now_mono_ns) and self.filter.ready(
            signal.symbol, signal.side, now.now_mono_ns, pace
        )
        serves = False
        for order in working:
            if not serves and not order.cancel_sent_mono_ns and _serves(order, signal, price_ticks):
                serves = True
                continue
            shy = order.side is signal.side and int(order.side) * (order.price_ticks - price_ticks) <= 0
            if serves or may_follow or not shy or not signal.quote or order.open_lots > signal.qty_lots:
                self._cancel(order, now)

    def _place(self, signal: Signal, slot: str, price_ticks: int, qty_lots: int, now: Moment) -> None:
        instrument = self.instruments[signal.symbol]
        exempt = signal.reduce_only and price_ticks * qty_lots < least_worth(instrument)
        order, intent = self.drafts.order(signal, slot, price_ticks, qty_lots, now, exempt=exempt)
        self.ledger.place(order)
        self.filter.placed(signal.symbol, signal.side, now.now_mono_ns)
        if self.mode is _SIMULATION:
            book = self.books[signal.symbol]
            self._on_paper(self.paper_venue.place(intent, book, instrument), now)
        else:
            self._out.append(intent)
        self._tell(signal, slot, now, price_ticks, qty_lots, "", order.intent_id)

    def _cancel(self, order: WorkingOrder, now: Moment, ledger: Ledger | None = None) -> None:
        """Ask once a ``repeat_ns`` until it is gone; cancelling twice is harmless."""
        if self.standby:
            return
        if order.cancel_sent_mono_ns and now.now_mono_ns - order.cancel_sent_mono_ns < self.policy.repeat_ns:
            return
        order.cancel_sent_mono_ns = now.now_mono_ns
        if (ledger or self.ledger) is self.paper:
            self._on_paper(self.paper_venue.cancel(order.client_order_id), now)
            self.paper.forget(order.client_order_id)
            return
        self._out.append(self.drafts.cancel(order, now))

    def _ask_again(self, order: WorkingOrder, now: Moment) -> None:
        """Send an intent again that nobody answered: its end is told either way (decision 0052)."""
        asked = order.asked_mono_ns or order.placed_mono_ns
        if now.now_mono_ns - asked >= self.policy.unanswered_ns and order.placed_ns:
            order.asked_mono_ns = now.now_mono_ns
            self._out.append(self.drafts.again(order))

    def _on_stale(self, symbol: str, now: Moment) -> None:
        self.stale.add(symbol)
        if self.plan.spec.on_stale is OnStale.CANCEL:
            for order in [o for o in self.ledger.orders.values() if o.symbol == symbol]:
                self._cancel(order, now)

    def _on_paper(self, events: list[OrderEvent | FillEvent], now: Moment) -> None:
        for event in events:
            if isinstance(event, FillEvent):
                if self.paper.on_fill(event):
                    self.guard.call("on_order_fill", event)
            elif self.paper.on_event(event, now.now_mono_ns):
                self.guard.call("on_order_event", event)
        if events:
            self._show_position(events[0].symbol)

    def _show_position(self, symbol: str) -> None:
        self.guard.call("on_position_update", self.ledger.position(symbol))

    def _tell(
        self, signal: Signal, slot: str, now: Moment, price_ticks: int, qty_lots: int, why: str, identity: str = ""
    ) -> None:
        """Record a signal; the same one again, or another refusal within a second, is not worth a message."""
        self.refused += bool(why)
        key, what = (signal.symbol, slot), (signal.side, price_ticks, qty_lots, why)
        told, at = self._told.get(key, ((), 0))
        if not identity and (told == what or now.now_mono_ns - at < _TELL_AGAIN_NS):
            return
        self._told[key] = (what, now.now_mono_ns)
        self._notes.append((signal, price_ticks, qty_lots, now, why, identity))

    def _alert(self, severity: Severity, kind: str, text: str) -> None:
        fields = {"strategy": self.name}
        self._out.append(
            Alert(severity=severity, kind=kind, text=f"{self.name}: {text}", source="strategy", fields=fields)
        )


def _serves(order: WorkingOrder, signal: Signal, price_ticks: int) -> bool:
    """Whether an order that works already is what the signal wants; keeping it keeps its place in the queue."""
    if order.side is not signal.side:
        return False
    if not signal.quote:
        return signal.urgency <= order.urgency
    return order.price_ticks == price_ticks and order.open_lots <= signal.qty_lots <= 2 * order.open_lots


def least_worth(instrument: Instrument) -> int:
    """The venue's least order value in ticks times lots, rounded up."""
    if instrument.min_notional is None:
        return 0
    return -int(-instrument.min_notional // (instrument.tick_size * instrument.lot_size))
