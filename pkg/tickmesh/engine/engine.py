"""Engine: the whole pipeline of one account behind one method, book to strategy to risk to execution to portfolio.

In: Events. Out: Actions, in the order in which they are to be carried out. It is made of the very objects that the
services are made of, one step at a time; here they are one step, for the backtest, paper trading and the replay of a
recorded day. It refuses what the pods refuse. Pure: the same events give the same actions, whoever runs it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tickmesh.domain.enums import IntentAction, OrderState
from tickmesh.domain.errors import NotFiniteError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, Control, FillEvent, MarkPrice, OrderEvent, OrderIntent, Trade
from tickmesh.engine.effects import ViewEffects
from tickmesh.engine.event import (
    Action,
    Ask,
    Cancel,
    Event,
    Publish,
    Refused,
    Sent,
    Store,
    Submit,
    Tick,
    Unanswered,
)
from tickmesh.engine.intake import IntentDesk, Settled
from tickmesh.execution.halt import HaltLatch
from tickmesh.execution.ledger import OrderLedger, TradeFact, VenueFact
from tickmesh.execution.machine import OrderMachine
from tickmesh.portfolio.portfolio import Portfolio
from tickmesh.risk.halt import show
from tickmesh.risk.limits import Limits
from tickmesh.risk.pretrade import PreTrade
from tickmesh.risk.view import RiskView
from tickmesh.strategy.drafts import Moment
from tickmesh.strategy.floor import Floor, Outgoing

_HORIZON_NS = 3_600_000_000_000


class Engine:
    """One account on one venue. ``floor`` may be empty: then intents come in as events."""

    def __init__(
        self,
        account: str,
        venue: str,
        instruments: Mapping[str, Instrument],
        limits: Limits,
        floor: Floor | None = None,
    ) -> None:
        self.floor = floor or Floor()
        self.view = RiskView(account, dict(instruments))
        self.ledger = OrderLedger(account, venue, ViewEffects(self.view))
        self.pretrade = PreTrade(instruments, limits)
        self.intents = IntentDesk(self.ledger, self.pretrade, self.view, _HORIZON_NS)
        self.portfolio = Portfolio(account, venue, instruments)
        self.latch = HaltLatch(account)
        self.rejected_inputs = 0
        """Inputs that made no sense and changed nothing."""
        self._actions: list[Action] = []

    def step(self, event: Event) -> list[Action]:
        """Take one event; the caller owns the actions."""
        now_ns, mono_ns, what = event
        match what:
            case BookUpdate():
                self._on_book(what, now_ns, mono_ns)
            case Trade():
                self._say(self.floor.on_market_data(what, Moment(now_ns, mono_ns)), now_ns, mono_ns)
            case MarkPrice():
                self._on_mark(what, now_ns, mono_ns)
            case OrderIntent():
                self._on_intent(what, now_ns, mono_ns)
            case Control():
                self._on_control(what, now_ns, mono_ns)
            case VenueFact():
                self.ledger.on_fact(what, now_ns)
            case TradeFact():
                self._on_trade(what, now_ns)
            case Sent(approved):
                order = self.ledger.begin(approved.intent)
                self.ledger.advance(order, OrderState.PENDING_SUBMIT, now_ns)
            case Unanswered(client_id, reason, code):
                self._on_failure(client_id, OrderState.UNKNOWN, reason, code, now_ns)
            case Refused(client_id, reason, code):
                self._on_failure(client_id, OrderState.REJECTED, reason, code, now_ns)
            case Tick():
                self._say(self.floor.on_timer(Moment(now_ns, mono_ns)), now_ns, mono_ns)
        self._tell(now_ns, mono_ns)
        actions, self._actions = self._actions, []
        return actions

    # Market data.

    def _on_book(self, book: BookUpdate, now_ns: int, mono_ns: int) -> None:
        if book.symbol in self.view.symbols:
            bid = book.bids[0][0] if book.bids else 0
            ask = book.asks[0][0] if book.asks else 0
            self.view.on_book(book.symbol, bid, ask, book.receive_mono_ns or mono_ns, book.stale)
        stamps = (book.receive_mono_ns, book.publish_mono_ns, book.exchange_ns)
        self._say(self.floor.on_market_data(book, Moment(now_ns, mono_ns, *stamps)), now_ns, mono_ns)

    def _on_mark(self, mark: MarkPrice, now_ns: int, mono_ns: int) -> None:
        try:
            self.view.on_mark(mark.symbol, mark.mark_price, mono_ns)
            self.portfolio.on_mark(mark.symbol, mark.mark_price, now_ns)
        except NotFiniteError:
            self.rejected_inputs += 1

    # Intents and commands.

    def _say(self, outgoing: object, now_ns: int, mono_ns: int) -> None:
        """What desks want: intents go through risk at once, the rest is for the record."""
        each: Outgoing
        for each in outgoing:  # type: ignore[attr-defined]
            if isinstance(each.message, OrderIntent):
                each.message.publish_ns = each.message.publish_ns or now_ns
                self._on_intent(each.message, now_ns, mono_ns)
            else:
                self._actions.append(Publish(each.desk.name, each.message))

    def _on_intent(self, intent: OrderIntent, now_ns: int, mono_ns: int) -> None:
        if intent.action is IntentAction.CANCEL:
            order = self.ledger.orders.get(intent.target_client_order_id)
            if order is None or not order.state.terminal:
                self._actions.append(Cancel(intent.symbol, intent.target_client_order_id))
        elif intent.action is IntentAction.CANCEL_ALL:
            self._cancel(self.ledger.open_of(intent.strategy, intent.symbol))
        elif self.intents.known(intent, now_ns) is None:
            answer = self.intents.judge(msgspec.structs.replace(intent), now_ns, mono_ns)
            if not isinstance(answer, Settled):
                self._actions.append(Submit(answer))

    def _on_control(self, control: Control, now_ns: int, mono_ns: int) -> None:
        if self.latch.apply(control):
            show(self.latch.state.scopes, self.view)
            if control.verb != "resume":
                spare = control.verb == "reduce"
                covered = [
                    o for o in self.ledger.open_of() if o.in_scope(control.scope) and not (spare and o.reduce_only)
                ]
                self._cancel(covered)
        self._say(self.floor.on_control(control, Moment(now_ns, mono_ns)), now_ns, mono_ns)

    def _cancel(self, orders: list[OrderMachine]) -> None:
        self._actions += [Cancel(order.symbol, order.client_order_id) for order in orders]

    # The venue.

    def _on_trade(self, trade: TradeFact, now_ns: int) -> None:
        order = self.ledger.order_of_trade(trade)
        if order is None:
            self._actions.append(Ask(trade.symbol, trade.client_order_id))
        else:
            self.ledger.on_trade(trade, order, now_ns)

    def _on_failure(self, client_id: str, state: OrderState, reason: str, code: int, now_ns: int) -> None:
        order = self.ledger.orders.get(client_id)
        if order is None:
            self.rejected_inputs += 1
            return
        self.ledger.advance(order, state, now_ns, reason, code)
        if order.state is OrderState.UNKNOWN:
            self._actions.append(Ask(order.symbol, client_id))

    def _tell(self, now_ns: int, mono_ns: int) -> None:
        """Journal what happened, book it, and let the strategies hear of it; they may want something because of it."""
        while records := self.ledger.take_outbox():
            for record in records:
                self._actions.append(Store(record))
                message, now = record.message, Moment(now_ns, mono_ns)
                if isinstance(message, FillEvent):
                    self.portfolio.on_fill(message)
                    self._say(self.floor.on_fill(message, now), now_ns, mono_ns)
                elif isinstance(message, OrderEvent):
                    self._say(self.floor.on_order_event(message, now), now_ns, mono_ns)
