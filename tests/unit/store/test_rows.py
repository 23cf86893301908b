"""Messages become rows with exact money, one key for one message."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.enums import Severity, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import (
    AccountSnapshot,
    Alert,
    Audit,
    BookUpdate,
    Control,
    FillEvent,
    MarkPrice,
    OrderEvent,
    PositionState,
    SignalMessage,
    Trade,
)
from tickmesh.store.lane import kind_of
from tickmesh.store.rows import COLUMNS, at, book_rows, fill_rows, rows_of

GRID = Instrument(venue="v", symbol="S", base="S", quote="Q", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"))
NOW = 1_780_000_000_123_456_789


def known(venue: str, symbol: str) -> Instrument | None:
    return GRID


def unknown(venue: str, symbol: str) -> Instrument | None:
    return None


EVERY = [
    BookUpdate(venue="v", symbol="S"),
    Trade(venue="v", symbol="S", trade_id=1, price_ticks=1, qty_lots=1, taker_side=Side.BUY),
    MarkPrice(venue="v", symbol="S", mark_price=Decimal(1)),
    SignalMessage(strategy="s", symbol="S", venue="v", side=Side.BUY, strength=1.0),
    OrderEvent(account="a", venue="v", symbol="S", client_order_id="c"),
    FillEvent(account="a", venue="v", symbol="S", trade_id=1, client_order_id="c", venue_order_id=1),
    AccountSnapshot(account="a", venue="v", positions=[PositionState(venue="v", symbol="S")]),
    Alert(severity=Severity.INFO, kind="k", text="t"),
    Audit(source="s", event="e", actor="a"),
]


@pytest.mark.parametrize("message", EVERY, ids=lambda m: type(m).__name__)
def test_every_row_has_a_value_for_every_column_of_its_table(message) -> None:
    for find in (known, unknown):
        tables = rows_of(message, find)
        assert tables
        for table, rows in tables.items():
            assert all(len(row) == len(COLUMNS[table]) for row in rows)


def test_what_nobody_records_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError, match="Control"):
        rows_of(Control(verb="halt", scope="all"), known)


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_money_is_exact_with_a_grid_and_absent_without(ticks: int, lots: int) -> None:
    fill = FillEvent(
        account="a", venue="v", symbol="S", trade_id=1, client_order_id="c", venue_order_id=1, price_ticks=ticks,
        qty_lots=lots,
    )  # fmt: skip
    for find, wanted in ((known, (Decimal(ticks) / 100, Decimal(lots) / 1000)), (unknown, (None, None))):
        row = dict(zip(COLUMNS["fills"], fill_rows(fill, find, 1)["fills"][0], strict=True))
        assert (row["price"], row["quantity"], row["price_ticks"], row["qty_lots"]) == (*wanted, ticks, lots)


def test_an_empty_side_of_a_book_is_absent_and_so_are_spread_and_mid() -> None:
    book = BookUpdate(venue="v", symbol="S", bids=[(100, 1)], receive_ns=NOW)
    row = dict(zip(COLUMNS["market_data_snapshots"], book_rows(book, known)["market_data_snapshots"][0], strict=True))
    assert (row["best_bid"], row["best_ask"], row["spread"], row["mid_price"]) == (Decimal("1.00"), None, None, None)


@given(st.lists(st.integers(-(2**70), 2**70), max_size=3))
def test_nonsense_in_a_stamp_never_asks_for_a_day_outside_this_century(stamps: list[int]) -> None:
    found = at(*stamps)
    assert found == datetime(1970, 1, 1, tzinfo=UTC) or datetime(2009, 1, 1, tzinfo=UTC) <= found < datetime(
        2100, 1, 1, tzinfo=UTC
    )


def test_the_first_believable_stamp_decides_cut_to_microseconds() -> None:
    assert at(0, NOW) == datetime.fromtimestamp(1_780_000_000, UTC).replace(microsecond=123_456)


def test_a_subject_tells_the_kind_and_what_is_not_recorded_is_told_apart() -> None:
    assert kind_of("fill.main.BTCUSDT") is FillEvent
    assert kind_of("order.event.main.c1") is OrderEvent
    assert kind_of("account.main.snapshot") is AccountSnapshot
    assert kind_of("account.main.other") is None
    assert kind_of("order.intent.main") is None
