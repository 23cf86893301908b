"""Reconciliation: what the venue tells otherwise is found, named and put right; its numbers must be numbers."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from tickmesh.domain.enums import PositionSide, Side
from tickmesh.domain.errors import NotFiniteError, OffGridError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import FillEvent
from tickmesh.portfolio.portfolio import Portfolio
from tickmesh.portfolio.position import Verdict
from tickmesh.portfolio.reconcile import Reading, VenueLeg, absorb, check, compare, correct

S = "BTCUSDT"
BTC = Instrument(venue="s", symbol=S, base="BTC", quote="USDT", tick_size=D("0.1"), lot_size=D("0.001"))
NOW = 1_700_000_000_000_000_000
BOTH = PositionSide.BOTH
CENT = D("0.01")


def fill(trade_id: int, lots: int, side: Side = Side.BUY) -> FillEvent:
    return FillEvent(
        account="a", venue="s", symbol=S, trade_id=trade_id, client_order_id="c", venue_order_id=1, side=side,
        price_ticks=500_000, qty_lots=lots,
    )  # fmt: skip


def leg(quantity: str, entry: str = "50000", **more: object) -> VenueLeg:
    base: dict[str, object] = {"symbol": S, "side": BOTH, "mark_price": D(50_000)}
    return VenueLeg(quantity=D(quantity), entry_price=D(entry), **{**base, **more})  # type: ignore[arg-type]


def reading(*legs: VenueLeg, wallet: str = "1000", **more: object) -> Reading:
    return Reading(at_ns=NOW, legs=list(legs), wallets={"USDT": D(wallet)}, **more)  # type: ignore[arg-type]


@pytest.fixture
def portfolio() -> Portfolio:
    found = Portfolio("a", "s", {S: BTC})
    found.wallets["USDT"] = D(1000)
    found.on_fill(fill(10, 30))
    return found


def test_what_agrees_is_no_difference(portfolio: Portfolio) -> None:
    assert compare(portfolio, reading(leg("0.030")), CENT) == []
    assert compare(portfolio, reading(leg("0.03", "50000.00000004"), wallet="1000.01"), CENT) == []


def test_each_kind_of_difference_is_named_with_both_sides(portfolio: Portfolio) -> None:
    found = compare(portfolio, reading(leg("0.050"), wallet="990"), CENT)
    assert [str(d) for d in found] == [
        "position of BTCUSDT: ours 0.030, the venue's 0.050", "wallet of USDT: ours 1000, the venue's 990",
    ]  # fmt: skip
    assert [d.kind for d in compare(portfolio, reading(leg("0.030", "50100")), CENT)] == ["entry"]
    assert [d.kind for d in compare(portfolio, reading(), CENT)] == ["position"]  # told as flat by silence


def test_a_correction_takes_the_venues_word_and_fills_it_contains_count_no_more(portfolio: Portfolio) -> None:
    said = reading(leg("-0.020", "49000"), wallet="1234.5")
    correct(portfolio, said, compare(portfolio, said, CENT), {S: 14})
    assert compare(portfolio, said, CENT) == []
    assert portfolio.books[S].legs[BOTH].lots == -20
    assert portfolio.on_fill(fill(14, 5)) is Verdict.TOO_OLD
    assert portfolio.on_fill(fill(15, 5)) is Verdict.APPLIED
    assert portfolio.books[S].legs[BOTH].lots == -15


def test_a_venue_that_counts_its_trades_anew_is_followed(portfolio: Portfolio) -> None:
    assert portfolio.on_fill(fill(3, 1)) is Verdict.APPLIED
    said = reading()
    correct(portfolio, said, compare(portfolio, said, CENT), {S: 2})
    assert portfolio.on_fill(fill(3, 4)) is Verdict.APPLIED
    assert portfolio.books[S].legs[BOTH].lots == 4


def test_hedge_mode_legs_are_compared_apart() -> None:
    portfolio = Portfolio("a", "s", {S: BTC})
    said = reading(leg("0.010", side=PositionSide.LONG), leg("-0.020", side=PositionSide.SHORT), wallet="0")
    found = compare(portfolio, said, CENT)
    assert [(d.side, d.theirs) for d in found] == [
        (PositionSide.LONG, D("0.010")), (PositionSide.SHORT, D("-0.020")),
    ]  # fmt: skip
    correct(portfolio, said, found, {S: 1})
    assert {side: x.lots for side, x in portfolio.books[S].legs.items()} == {
        PositionSide.LONG: 10, PositionSide.SHORT: -20,
    }  # fmt: skip


def test_what_only_the_venue_knows_is_taken_over(portfolio: Portfolio) -> None:
    said = reading(
        leg("0.030", maintenance_margin=D(6), liquidation_price=D(40_000)),
        leg("2", "100", symbol="DOGEUSD_PERP", mark_price=D(110), unrealized=D(20)),
        open_order_margin=D(50), leverages={S: 10},
    )  # fmt: skip
    absorb(portfolio, said)
    snapshot = portfolio.snapshot(NOW)
    ours, foreign = snapshot.positions
    assert (ours.leverage, ours.liquidation_price, ours.mark_price) == (10, 40_000, 50_000)
    assert (foreign.symbol, foreign.quantity, foreign.unrealized_pnl) == ("DOGEUSD_PERP", 2, 20)
    assert snapshot.exposure == 1500 + 220
    assert snapshot.margin_ratio == ((6 + D("2.2")) / D(1020)).quantize(D("0.00000001"))
    absorb(portfolio, reading(leg("0.030")))
    assert len(portfolio.snapshot(NOW).positions) == 1


def test_a_reading_with_a_number_that_is_none_is_not_used() -> None:
    for bad in (
        reading(leg("NaN")), reading(leg("1", "Infinity")), reading(leg("1", maintenance_margin=D("NaN"))),
        reading(leg("1", unrealized=D("NaN"))), reading(wallet="NaN"), reading(open_order_margin=D("Infinity")),
    ):  # fmt: skip
        with pytest.raises(NotFiniteError):
            check(bad)


def test_a_quantity_off_the_grid_is_refused(portfolio: Portfolio) -> None:
    said = reading(leg("0.0305"))
    with pytest.raises(OffGridError):
        correct(portfolio, said, compare(portfolio, said, CENT), {})


def test_two_readings_are_of_one_moment_only_when_positions_and_wallets_agree() -> None:
    assert reading(leg("1", update_ms=5)).same_as(reading(leg("1", update_ms=5)))
    assert not reading(leg("1", update_ms=5)).same_as(reading(leg("1", update_ms=6)))
    assert not reading(leg("1")).same_as(reading())
    assert not reading(leg("1")).same_as(reading(leg("1"), wallet="999.98"))  # a fee was paid in between
