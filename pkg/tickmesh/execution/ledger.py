"""OrderLedger: every order and fill of one account, what each fact does to them, and what must be journaled.

In come approved intents, venue facts (``VenueFact``), trades and the journal itself. Out go order events and
fills in ``outbox``, in the order in which they must be stored, and calls on ``Effects`` (the risk view).
It refuses to make a second order of one intent and to count one trade twice. No I/O, no clock.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from tickmesh.domain import subjects
from tickmesh.domain.client_order_id import client_order_id, is_ours
from tickmesh.domain.enums import OrderState, OrderType, PositionSide, Side, TimeInForce
from tickmesh.domain.messages import ZERO, FillEvent, OrderEvent, OrderIntent
from tickmesh.execution.machine import OrderMachine, Report, Step, Wrong

MAX_KEPT_ORDERS = 50_000
MAX_KEPT_TRADES = 200_000
# Members of enumerations as constants: looking one up through its class costs ten times as much.
_VALIDATING: Final = OrderState.VALIDATING
_REFUSED = (Wrong.QUANTITY, Wrong.IDENTITY)
"""Anomalies of reports that changed nothing."""
NOBODY = "none"
"""Stands in a subject for the client order id of something that names no order."""


class VenueFact(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue says about one order, with what it takes to adopt it when we do not know it."""

    symbol: str
    client_order_id: str
    report: Report
    side: Side = Side.BUY
    order_type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTC
    price_ticks: int = 0
    stop_price_ticks: int = 0
    qty_lots: int = 0
    reduce_only: bool = False
    position_side: PositionSide = PositionSide.BOTH


class TradeFact(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of ours. ``client_order_id`` is empty when the source does not tell (the trade list)."""

    symbol: str
    trade_id: int
    venue_order_id: int
    side: Side
    price_ticks: int
    qty_lots: int
    client_order_id: str = ""
    position_side: PositionSide = PositionSide.BOTH
    commission: Decimal = ZERO
    commission_asset: str = ""
    realized_pnl: Decimal = ZERO
    maker: bool = False
    exchange_ms: int = 0


class Record(msgspec.Struct, frozen=True):
    """One line for the journal. ``message_id`` is the same whenever the same thing is said again."""

    subject: str
    message: OrderEvent | FillEvent
    message_id: str


class Effects(Protocol):
    """Who must know at once, in the same step (the risk view)."""

    def on_step(self, order: OrderMachine, step: Step) -> None: ...

    def on_fill(self, order: OrderMachine, fill: FillEvent) -> None: ...


class OrderLedger:
    """All orders of one account; one owner, no locks."""

    def __init__(self, account: str, venue: str, effects: Effects) -> None:
        self.account = account
        self.venue = venue
        self.orders: OrderedDict[str, OrderMachine] = OrderedDict()
        self.open: dict[str, OrderMachine] = {}
        """Orders that are not settled: not at their end, or with fills still missing."""
        self.outbox: list[Record] = []
        self.last_trade_id: dict[str, int] = defaultdict(int)
        self.known_trades_below: dict[str, int] = {}
        """Per symbol, the trade up to which (inclusive) all are journaled, from the checkpoint."""
        self.anomalies = 0
        self._effects = effects
        self._by_venue_id: dict[tuple[str, int], str] = {}
        self._intents: OrderedDict[str, str] = OrderedDict()
        self._trades: OrderedDict[tuple[str, int], None] = OrderedDict()

    # Intents.

    def seen(self, intent_id: str) -> bool:
        """Whether this intent was taken up already."""
        return intent_id in self._intents

    def begin(self, intent: OrderIntent) -> OrderMachine:
        """Make the order of a new intent, VALIDATING; or link the intent to the order that already bears its id."""
        client_id = client_order_id(intent.strategy, intent.intent_id)
        self._remember(self._intents, intent.intent_id, client_id, MAX_KEPT_ORDERS)
        known = self.orders.get(client_id)
        if known is not None:
            known.intent_id, known.strategy, known.external = intent.intent_id, intent.strategy, False
            known.correlation_id = known.correlation_id or intent.correlation_id
            return known
        order = OrderMachine(
            account=self.account, venue=self.venue, symbol=intent.symbol, client_order_id=client_id,
            qty_lots=intent.qty_lots, side=intent.side, order_type=intent.order_type,
            time_in_force=intent.time_in_force, price_ticks=intent.price_ticks, intent_id=intent.intent_id,
            strategy=intent.strategy, reduce_only=intent.reduce_only, position_side=intent.position_side,
            stop_price_ticks=intent.stop_price_ticks, correlation_id=intent.correlation_id,
            created_ns=intent.publish_ns,
            stamps=intent.stamps,
        )  # fmt: skip
        order.advance(_VALIDATING)
        self._keep(order)
        return order

    def advance(self, order: OrderMachine, state: OrderState, now_ns: int, reason: str = "", code: int = 0) -> None:
        """Take a step of our own and journal it."""
        self._after(order, order.advance(state, reason, code), now_ns)

    def relink(self, order: OrderMachine, now_ns: int) -> None:
        """Journal an order again as it is, after an intent was linked to an order that was found at the venue."""
        order.steps += 1
        self._journal(order, Step(order.state, order.state), now_ns)

    def complete_journal(self, now_ns: int) -> None:
        """After ``restore``: journal what a fill's line implies and a former life did not live to say."""
        for order in self.orders.values():
            if order.journaled is not None and order.journaled != order.visible:
                order.steps += 1
                self._journal(order, Step(order.journaled[0], order.state), now_ns)

    # The venue.

    def on_fact(self, fact: VenueFact, now_ns: int) -> OrderMachine:
        """Join what the venue says; an order that we do not know is adopted."""
        order = self.orders.get(fact.client_order_id)
        if order is None:
            order = self._adopt(fact)
        if order.qty_lots == 0:
            order.qty_lots = fact.qty_lots
        terms = order.qty_lots, order.price_ticks
        step = order.report(fact.report)
        if step is None or step.anomaly not in _REFUSED:
            _, _, _, _, update_ms, _ = fact.report
            order.reprice(fact.price_ticks, update_ms)
        if step is None and terms != (order.qty_lots, order.price_ticks):
            order.steps += 1
            step = Step(order.state, order.state)  # amended by somebody: no step of the state, and news all the same
        if order.venue_order_id:
            self._by_venue_id[(order.symbol, order.venue_order_id)] = order.client_order_id
        self._after(order, step, now_ns, fact.report)
        return order

    def refuse(self, symbol: str, client_order_id: str, content: str, now_ns: int) -> None:
        """Journal an input that cannot be, with its content; no order, fill or position changes."""
        self.anomalies += 1
        order = self.orders.get(client_order_id)
        if order is not None:
            event = order.event(Step(order.state, order.state), now_ns, anomaly=True)
            event.reason = content
        else:
            event = OrderEvent(
                receive_ns=now_ns, publish_ns=now_ns, account=self.account, venue=self.venue, symbol=symbol,
                client_order_id=client_order_id, external=True, anomaly=True, reason=content,
            )  # fmt: skip
        subject = subjects.order_event(self.account, client_order_id or NOBODY)
        self.outbox.append(Record(subject, event, f"{client_order_id}.refused.{self.anomalies}.{now_ns}"))

    def order_of_trade(self, trade: TradeFact) -> OrderMachine | None:
        """Whose execution this is; None means that the venue must be asked for the order first."""
        client_id = trade.client_order_id or self._by_venue_id.get((trade.symbol, trade.venue_order_id), "")
        return self.orders.get(client_id)

    def knows_trade(self, symbol: str, trade_id: int) -> bool:
        return trade_id <= self.known_trades_below.get(symbol, 0) or (symbol, trade_id) in self._trades

    def on_trade(self, trade: TradeFact, order: OrderMachine, now_ns: int) -> bool:
        """Join one execution of ``order``; False when it was counted already, or cannot be (then it is journaled so).

        The trade id of one that cannot be stays free: the true one may still come.
        """
        key = (trade.symbol, trade.trade_id)
        if self.knows_trade(*key):
            return False
        if trade.qty_lots <= 0 or trade.price_ticks <= 0:
            content = f"trade {trade.trade_id} of {trade.qty_lots} lots at {trade.price_ticks} ticks"
            self.refuse(trade.symbol, order.client_order_id, f"a fill that cannot be: {content}", now_ns)
            return False
        self._note_trade(*key)
        fill = FillEvent(
            exchange_ns=trade.exchange_ms * 1_000_000, receive_ns=now_ns, publish_ns=now_ns, account=self.account,
            venue=self.venue, symbol=trade.symbol, trade_id=trade.trade_id, client_order_id=order.client_order_id,
            venue_order_id=trade.venue_order_id, strategy=order.strategy, side=trade.side,
            position_side=trade.position_side, price_ticks=trade.price_ticks, qty_lots=trade.qty_lots,
            commission=trade.commission, commission_asset=trade.commission_asset, realized_pnl=trade.realized_pnl,
            maker=trade.maker, correlation_id=order.correlation_id,
        )  # fmt: skip
        self._note_venue_id(order, trade.venue_order_id)
        step = order.fill(trade.qty_lots, trade.exchange_ms)
        # The fill is journaled whatever the order's own sums say: the venue did trade.
        self.outbox.append(
            Record(
                subjects.fill(self.account, trade.symbol), fill, f"fill.{self.account}.{trade.symbol}.{trade.trade_id}"
            )
        )
        self._effects.on_fill(order, fill)
        self._after(order, step, now_ns)
        if step is None:
            self._close_if_settled(order)
        return True

    # The journal, read back.

    def restore(self, message: OrderEvent | FillEvent) -> None:
        """Take one line of the journal, in stream order; nothing is journaled again, effects are not called."""
        if isinstance(message, FillEvent):
            key = (message.symbol, message.trade_id)
            if key in self._trades:
                return
            self._note_trade(*key)
            order = self.orders.get(message.client_order_id)
            if order is not None:
                self._note_venue_id(order, message.venue_order_id)
                order.fill(message.qty_lots, message.exchange_ns // 1_000_000)
                self._close_if_settled(order)
            return
        if message.anomaly:
            return
        order = self.orders.get(message.client_order_id)
        if order is None:
            order = OrderMachine.from_event(message)
            self._keep(order)
        else:
            order.resume(message)
        if message.intent_id:
            order.intent_id, order.strategy = message.intent_id, message.strategy
            self._remember(self._intents, message.intent_id, message.client_order_id, MAX_KEPT_ORDERS)
        if order.venue_order_id:
            self._by_venue_id[(order.symbol, order.venue_order_id)] = order.client_order_id
        self._close_if_settled(order)

    def take_outbox(self) -> list[Record]:
        """What is to be journaled now; the caller owns it."""
        taken, self.outbox = self.outbox, []
        return taken

    def open_of(self, strategy: str = "", symbol: str = "") -> list[OrderMachine]:
        """Orders that may still trade, of a strategy and a symbol (empty means all)."""
        return [
            o
            for o in self.open.values()
            if not o.state.terminal and (not strategy or o.obeys(strategy)) and (not symbol or o.symbol == symbol)
        ]

    def symbols_with_open(self) -> set[str]:
        """Symbols in which an order of ours (not of somebody else on the same account) may still trade."""
        return {o.symbol for o in self.open.values() if not o.state.terminal and not o.external}

    # Inside.

    def _adopt(self, fact: VenueFact) -> OrderMachine:
        order = OrderMachine(
            account=self.account, venue=self.venue, symbol=fact.symbol, client_order_id=fact.client_order_id,
            qty_lots=fact.qty_lots, side=fact.side, order_type=fact.order_type, time_in_force=fact.time_in_force,
            price_ticks=fact.price_ticks, reduce_only=fact.reduce_only, position_side=fact.position_side,
            stop_price_ticks=fact.stop_price_ticks, external=not is_ours(fact.client_order_id),
            state=OrderState.PENDING_SUBMIT,
        )  # fmt: skip
        self._keep(order)
        return order

    def _keep(self, order: OrderMachine) -> None:
        self.orders[order.client_order_id] = order
        self.open[order.client_order_id] = order
        if len(self.orders) > MAX_KEPT_ORDERS:
            self._forget(next(iter(self.orders)))

    def _forget(self, client_id: str) -> None:
        oldest = self.orders[client_id]
        if client_id in self.open:
            self.orders.move_to_end(client_id)  # never an order that can still trade
            return
        del self.orders[client_id]
        self._by_venue_id.pop((oldest.symbol, oldest.venue_order_id), None)

    def _note_venue_id(self, order: OrderMachine, venue_order_id: int) -> None:
        """A trade may be the first that the venue says of an order: it names it, too."""
        if venue_order_id and order.venue_order_id <= 0:
            order.venue_order_id = venue_order_id
            self._by_venue_id[(order.symbol, venue_order_id)] = order.client_order_id

    def _note_trade(self, symbol: str, trade_id: int) -> None:
        self._trades[(symbol, trade_id)] = None
        self.last_trade_id[symbol] = max(self.last_trade_id[symbol], trade_id)
        if len(self._trades) > MAX_KEPT_TRADES:
            self._trades.popitem(last=False)

    def _after(self, order: OrderMachine, step: Step | None, now_ns: int, report: Report | None = None) -> None:
        if step is None:
            return
        if step.anomaly is not None:
            self.anomalies += 1
        if step.anomaly in _REFUSED or (step.anomaly and step.state is step.previous):
            self._journal(order, step, now_ns, anomaly=True, report=report)
            return
        self._journal(order, step, now_ns)
        self._effects.on_step(order, step)
        self._close_if_settled(order)

    def _journal(
        self, order: OrderMachine, step: Step, now_ns: int, *, anomaly: bool = False, report: Report | None = None
    ) -> None:
        client_id = order.client_order_id
        message_id = f"{client_id}.{order.steps}.{step.state}.{order.cum_lots}.{order.average_price}"
        if anomaly:
            message_id += f".anomaly.{self.anomalies}.{now_ns}"
        event = order.event(step, now_ns, anomaly=anomaly)
        if report is not None and anomaly:
            event.reason += f": the venue said {', '.join(map(str, report))}"
        self.outbox.append(Record(subjects.order_event(self.account, client_id), event, message_id))

    def _close_if_settled(self, order: OrderMachine) -> None:
        if order.settled:
            self.open.pop(order.client_order_id, None)
        else:
            self.open[order.client_order_id] = order

    @staticmethod
    def _remember(table: OrderedDict[str, str], key: str, value: str, bound: int) -> None:
        table[key] = value
        if len(table) > bound:
            table.popitem(last=False)


def missing_fills(orders: Iterable[OrderMachine]) -> set[str]:
    """Symbols in which the venue reports more filled than the fills that arrived."""
    return {o.symbol for o in orders if o.missing_lots}
