"""An order that somebody amended at the venue counts as it is now: in the limits, in the journal, after a restart."""

from __future__ import annotations

from decimal import Decimal

from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.messages import OrderEvent, OrderIntent
from tickmesh.engine.effects import ViewEffects
from tickmesh.engine.replay import picture_of
from tickmesh.execution.ledger import OrderLedger, VenueFact
from tickmesh.execution.machine import Report
from tickmesh.risk.view import RiskView
from tickmesh.venues.simvenue.server.listing import instruments_for

SYMBOL = "BTCUSDT"
INSTRUMENTS = instruments_for((SYMBOL,))


def desk() -> tuple[OrderLedger, RiskView]:
    view = RiskView("main", INSTRUMENTS)
    view.on_mark(SYMBOL, Decimal(100_000), 1)
    return OrderLedger("main", "binance", ViewEffects(view)), view


def fact(client_id: str, lots: int, price: int, at_ms: int, state: OrderState = OrderState.SUBMITTED) -> VenueFact:
    report = Report(7, state, 0, update_ms=at_ms, qty_lots=lots)
    return VenueFact(
        symbol=SYMBOL, client_order_id=client_id, report=report, side=Side.SELL, price_ticks=price, qty_lots=lots
    )


def resting(ledger: OrderLedger) -> str:
    intent = OrderIntent(intent_id="i", strategy="s", account="main", venue="binance", symbol=SYMBOL, side=Side.SELL,
                         qty_lots=2, price_ticks=1_000_100, publish_ns=1)  # fmt: skip
    order = ledger.begin(intent)
    ledger.advance(order, OrderState.PENDING_SUBMIT, 1)
    ledger.on_fact(fact(order.client_order_id, 2, 1_000_100, 1000), 2)
    return order.client_order_id


def test_what_an_amended_order_may_still_fill_is_reserved_at_its_new_price() -> None:
    ledger, view = desk()
    client_id = resting(ledger)
    assert view.symbols[SYMBOL].both.open_sell_lots == 2
    ledger.on_fact(fact(client_id, 5, 1_000_050, 1001), 3)
    assert view.symbols[SYMBOL].both.open_sell_lots == 5
    assert view.symbols[SYMBOL].orders.nearest(Side.SELL) == 1_000_050
    ledger.on_fact(fact(client_id, 2, 1_000_100, 1000), 4)  # what is older comes late
    assert view.symbols[SYMBOL].both.open_sell_lots == 5
    ledger.on_fact(fact(client_id, 1, 1_000_050, 1002), 5)
    assert view.symbols[SYMBOL].both.open_sell_lots == 1
    ledger.on_fact(fact(client_id, 1, 1_000_050, 1003, OrderState.CANCELED), 6)
    assert view.symbols[SYMBOL].both.open_sell_lots == 0


def test_an_amendment_is_in_the_journal_and_the_journal_rebuilds_it() -> None:
    ledger, _ = desk()
    client_id = resting(ledger)
    ledger.on_fact(fact(client_id, 5, 1_000_050, 1001), 3)
    lines = [r.message for r in ledger.take_outbox()]
    newest = lines[-1]
    assert isinstance(newest, OrderEvent) and not newest.anomaly
    assert (newest.state, newest.qty_lots, newest.price_ticks) == (OrderState.SUBMITTED, 5, 1_000_050)
    again, _ = desk()
    for line in lines:
        again.restore(line)
    assert again.orders[client_id].price_ticks == 1_000_050
    assert picture_of(again).hash == picture_of(ledger).hash


def test_a_report_of_another_order_amends_nothing() -> None:
    ledger, view = desk()
    client_id = resting(ledger)
    other = fact(client_id, 5, 1_000_050, 1001)
    ledger.on_fact(
        VenueFact(
            symbol=SYMBOL, client_order_id=client_id, side=Side.SELL, price_ticks=1_000_050, qty_lots=5,
            report=Report(8, *other.report[1:]),
        ),
        3,
    )  # fmt: skip
    assert (ledger.orders[client_id].qty_lots, ledger.orders[client_id].price_ticks) == (2, 1_000_100)
    assert view.symbols[SYMBOL].both.open_sell_lots == 2
