"""The order machine: what each fact does, and what it does not let through."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations

import pytest

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.messages import FillEvent, OrderEvent, OrderIntent
from tickmesh.execution.ledger import MAX_KEPT_ORDERS, OrderLedger, TradeFact, VenueFact, missing_fills
from tickmesh.execution.machine import TRANSITIONS, OrderMachine, Report, Step, Wrong

S = OrderState


def machine(state: OrderState = S.PENDING_SUBMIT) -> OrderMachine:
    order = OrderMachine(account="main", venue="binance", symbol="BTCUSDT", client_order_id="c", qty_lots=10)
    for step in (S.VALIDATING, S.PENDING_SUBMIT):
        order.advance(step)
        if state is step:
            break
    return order


def report(state: OrderState, cum: int = 0, ms: int = 1, venue_id: int = 7) -> Report:
    return Report(venue_id, state, cum, Decimal(100) if cum else Decimal(0), ms, 10)


def test_every_state_is_in_the_table_and_nothing_leaves_an_end_but_late_fills() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    for end in (S.REJECTED, S.FILLED):
        assert not TRANSITIONS[end]
    for end in (S.CANCELED, S.EXPIRED):
        assert TRANSITIONS[end] == {end, S.FILLED}
    assert S.PENDING_SUBMIT not in TRANSITIONS[S.UNKNOWN], "an UNKNOWN order is never sent again"


def test_an_order_that_was_amended_has_its_newest_quantity_whatever_order_the_reports_come_in() -> None:
    placed = Report(7, S.SUBMITTED, 0, Decimal(0), 1, 10)
    partly = Report(7, S.PARTIALLY_FILLED, 4, Decimal(100), 3, 10)
    amended = Report(7, S.PARTIALLY_FILLED, 4, Decimal(100), 5, 6)
    for reports in permutations((placed, partly, amended)):
        order = machine()
        for told in reports:
            order.report(told)
        assert (order.state, order.qty_lots, order.cum_lots) == (S.PARTIALLY_FILLED, 6, 4)
        order.report(Report(7, S.FILLED, 6, Decimal(100), 9, 6))
        assert order.state is S.FILLED


def test_unknown_never_turns_into_rejected_by_a_repeated_timeout() -> None:
    order = machine()
    assert order.advance(S.UNKNOWN, "no answer") == Step(S.PENDING_SUBMIT, S.UNKNOWN)
    assert order.advance(S.UNKNOWN, "no answer") is None
    assert order.state is S.UNKNOWN


def test_a_timeout_after_the_venue_has_shown_the_order_changes_nothing() -> None:
    order = machine()
    order.report(report(S.SUBMITTED))
    assert order.advance(S.UNKNOWN, "no answer") is None
    assert order.state is S.SUBMITTED


def test_a_refusal_of_an_order_that_the_venue_has_shown_is_an_anomaly() -> None:
    order = machine()
    order.report(report(S.SUBMITTED))
    step = order.advance(S.REJECTED, "no", -2010)
    assert step == Step(S.SUBMITTED, S.SUBMITTED, Wrong.TRANSITION)
    assert order.state is S.SUBMITTED


def test_an_order_that_was_given_up_and_turns_up_is_taken_and_marked() -> None:
    order = machine()
    order.advance(S.UNKNOWN)
    order.advance(S.REJECTED, "the venue has no such order")
    step = order.report(report(S.SUBMITTED))
    assert step == Step(S.REJECTED, S.SUBMITTED, Wrong.TRANSITION)


def test_a_late_fill_after_cancel_is_kept_and_the_order_stays_canceled() -> None:
    order = machine()
    order.report(report(S.SUBMITTED))
    order.report(report(S.CANCELED, 0, 5))
    assert order.fill(4) == Step(S.CANCELED, S.CANCELED)
    assert (order.cum_lots, order.state) == (4, S.CANCELED)
    order.fill(6)
    assert order.state is S.FILLED


@pytest.mark.parametrize(
    ("bad", "wrong"),
    [
        (report(S.PARTIALLY_FILLED, -1), Wrong.QUANTITY),
        (report(S.PARTIALLY_FILLED, 11), Wrong.QUANTITY),
        (report(S.SUBMITTED, venue_id=8), Wrong.IDENTITY),
    ],
)
def test_a_report_that_cannot_be_true_is_recorded_and_leaves_the_state_unharmed(bad: Report, wrong: Wrong) -> None:
    order = machine()
    order.report(report(S.PARTIALLY_FILLED, 3))
    step = order.report(bad)
    assert step is not None and step.anomaly is wrong
    assert (order.state, order.cum_lots, order.venue_order_id) == (S.PARTIALLY_FILLED, 3, 7)


@pytest.mark.parametrize("lots", [0, -3, 11])
def test_a_fill_that_cannot_be_true_is_an_anomaly(lots: int) -> None:
    order = machine()
    step = order.fill(lots)
    assert step is not None and step.anomaly is Wrong.QUANTITY
    assert order.cum_lots == 0


class Calls:
    def __init__(self) -> None:
        self.steps: list[OrderState] = []
        self.fills: list[int] = []

    def on_step(self, order: OrderMachine, step: Step) -> None:
        self.steps.append(step.state)

    def on_fill(self, order: OrderMachine, fill: FillEvent) -> None:
        self.fills.append(fill.trade_id)


def ledger() -> OrderLedger:
    return OrderLedger("main", "binance", Calls())


def intent(intent_id: str = "i") -> OrderIntent:
    return OrderIntent(
        intent_id=intent_id, strategy="s", account="main", venue="binance", symbol="BTCUSDT", qty_lots=10, publish_ns=1
    )


def fact(client_id: str, state: OrderState, cum: int = 0, venue_id: int = 7) -> VenueFact:
    return VenueFact(
        symbol="BTCUSDT", client_order_id=client_id, report=report(state, cum, venue_id=venue_id), qty_lots=10
    )


def trade(trade_id: int = 5, lots: int = 4) -> TradeFact:
    return TradeFact(
        symbol="BTCUSDT", trade_id=trade_id, venue_order_id=7, side=Side.BUY, price_ticks=100, qty_lots=lots
    )


def test_a_trade_counts_once_whoever_tells_it_and_its_order_may_be_named_by_the_venue_id_only() -> None:
    book = ledger()
    order = book.on_fact(fact("x", S.PARTIALLY_FILLED, 4), 1)
    assert missing_fills(book.open.values()) == {"BTCUSDT"}
    assert book.order_of_trade(trade()) is order
    assert book.on_trade(trade(), order, 1)
    assert not book.on_trade(trade(), order, 1)
    assert (order.filled_lots, order.missing_lots) == (4, 0)
    assert missing_fills(book.open.values()) == set()


def test_an_order_of_somebody_else_is_adopted_as_external_and_ours_as_ours() -> None:
    book = ledger()
    assert book.on_fact(fact("web_abc", S.SUBMITTED), 1).external
    mine = client_order_id("s", "i")
    assert not book.on_fact(fact(mine, S.SUBMITTED, venue_id=8), 1).external
    linked = book.begin(intent())
    assert linked.client_order_id == mine and linked.intent_id == "i" and linked.state is S.SUBMITTED


def test_an_order_with_missing_fills_stays_on_the_list_after_its_end() -> None:
    book = ledger()
    order = book.on_fact(fact("x", S.FILLED, 10), 1)
    assert order.state is S.FILLED and "x" in book.open and book.open_of() == []
    book.on_trade(trade(lots=10), order, 1)
    assert "x" not in book.open


def test_an_anomaly_is_journaled_with_its_mark_and_is_not_replayed() -> None:
    book = ledger()
    book.on_fact(fact("x", S.PARTIALLY_FILLED, 4), 1)
    book.take_outbox()
    book.on_fact(fact("x", S.PARTIALLY_FILLED, 99), 1)
    (record,) = book.take_outbox()
    assert isinstance(record.message, OrderEvent) and record.message.anomaly
    assert record.message.reason.startswith(Wrong.QUANTITY.value) and "99" in record.message.reason
    again = ledger()
    again.restore(record.message)
    assert not again.orders


def test_memory_is_bounded_and_open_orders_are_never_forgotten() -> None:
    book = ledger()
    book.on_fact(fact("first", S.SUBMITTED, venue_id=1), 1)
    for number in range(MAX_KEPT_ORDERS + 50):
        book.advance(book.begin(intent(str(number))), S.REJECTED, 1, "no")
    book.take_outbox()
    assert len(book.orders) <= MAX_KEPT_ORDERS + 1
    assert "first" in book.orders and book.open_of()[0].client_order_id == "first"
