"""What cannot be true of an order changes nothing and is journaled with its content."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.messages import FillEvent, OrderEvent, OrderIntent
from tickmesh.execution.ledger import OrderLedger, TradeFact, VenueFact
from tickmesh.execution.machine import OrderMachine, Report, Step
from tickmesh.execution.plausible import FUTURE_NS, implausible

NOW_NS = 1_700_000_000_000_000_000
NOW_MS = NOW_NS // 1_000_000


class Counted:
    """Effects that count what reached them."""

    def __init__(self) -> None:
        self.calls = 0

    def on_step(self, order: OrderMachine, step: Step) -> None:
        self.calls += 1

    def on_fill(self, order: OrderMachine, fill: FillEvent) -> None:
        self.calls += 1


def trade(**changes: object) -> TradeFact:
    plain = TradeFact(
        symbol="BTCUSDT", trade_id=5, venue_order_id=77, side=Side.BUY, price_ticks=100, qty_lots=3, exchange_ms=NOW_MS
    )
    return msgspec.structs.replace(plain, **changes)


def fact(client_id: str = "c", cum_lots: int = 0, update_ms: int = NOW_MS, qty_lots: int = 10) -> VenueFact:
    report = Report(77, OrderState.SUBMITTED, cum_lots, Decimal(100), update_ms, qty_lots)
    return VenueFact(symbol="BTCUSDT", client_order_id=client_id, report=report, qty_lots=10)


def resting() -> tuple[OrderLedger, OrderMachine, Counted]:
    effects = Counted()
    ledger = OrderLedger("main", "binance", effects)
    intent = OrderIntent(
        intent_id="i", strategy="s", account="main", venue="binance", symbol="BTCUSDT", qty_lots=10, publish_ns=1
    )
    order = ledger.begin(intent)
    ledger.on_fact(fact(order.client_order_id), NOW_NS)
    ledger.take_outbox()
    effects.calls = 0
    return ledger, order, effects


@pytest.mark.parametrize(
    ("told", "executed", "why"),
    [
        (fact(cum_lots=-1), None, "-1/10"),
        (fact(qty_lots=-10), None, "/-10"),
        (fact(), trade(qty_lots=-3), "trade 5 of -3 lots"),
        (fact(), trade(qty_lots=0), "of 0 lots"),
        (fact(), trade(price_ticks=-1), "at -1 ticks"),
        (fact(update_ms=NOW_MS + FUTURE_NS // 1_000_000 + 1), None, "future"),
        (fact(), trade(exchange_ms=NOW_MS * 2), "future"),
    ],
)
def test_what_cannot_be_is_named_with_its_content(told: VenueFact, executed: TradeFact | None, why: str) -> None:
    assert why in implausible(told, executed, NOW_NS)


def test_clocks_that_differ_by_seconds_are_no_anomaly() -> None:
    assert not implausible(fact(update_ms=NOW_MS + 9_000), trade(exchange_ms=NOW_MS + 9_000), NOW_NS)


@given(lots=st.integers(max_value=0))
def test_a_fill_of_nothing_or_less_is_journaled_as_such_and_the_true_one_of_that_id_still_counts(lots: int) -> None:
    ledger, order, effects = resting()
    assert not ledger.on_trade(trade(qty_lots=lots), order, NOW_NS)
    (record,) = ledger.take_outbox()
    assert isinstance(record.message, OrderEvent) and f"of {lots} lots" in record.message.reason
    assert (order.state, order.filled_lots, order.cum_lots, effects.calls) == (OrderState.SUBMITTED, 0, 0, 0)
    assert not ledger.knows_trade("BTCUSDT", 5)
    assert ledger.on_trade(trade(), order, NOW_NS)
    assert order.filled_lots == 3


def test_something_about_nobody_is_journaled_and_makes_no_order() -> None:
    ledger, order, effects = resting()
    ledger.refuse("", "", "garbage: <html>", NOW_NS)
    (record,) = ledger.take_outbox()
    assert record.subject == "order.event.main.none"
    assert isinstance(record.message, OrderEvent) and record.message.reason == "garbage: <html>"
    again = OrderLedger("main", "binance", Counted())
    again.restore(record.message)
    assert not again.orders and list(ledger.orders.values()) == [order] and effects.calls == 0


def test_a_quantity_beyond_the_order_is_journaled_with_what_the_venue_said() -> None:
    ledger, order, _ = resting()
    ledger.on_fact(fact(order.client_order_id, cum_lots=11), NOW_NS)
    (record,) = ledger.take_outbox()
    assert isinstance(record.message, OrderEvent) and "77, SUBMITTED, 11" in record.message.reason
