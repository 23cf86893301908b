"""The portfolio against the pure exchange's ledger: the same fills give the same money, in whatever order they come."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce
from tickmesh.domain.errors import NotFiniteError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import AccountSnapshot, FillEvent
from tickmesh.portfolio.day import DAY_NS
from tickmesh.portfolio.portfolio import Portfolio, PortfolioState, VenueTerms
from tickmesh.portfolio.position import Verdict
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.exchange.types import PlaceRequest, Stp, UserTrade

S = "BTCUSDT"
BTC = Instrument(venue="s", symbol=S, base="BTC", quote="USDT", tick_size=D("0.1"), lot_size=D("0.001"))
DEPOSIT = D(100_000)
NOW = 20_000 * DAY_NS + 1
SIDES = {False: [PositionSide.BOTH], True: [PositionSide.LONG, PositionSide.SHORT]}
STEP = st.tuples(
    st.sampled_from(["limit", "market", "market", "cancel", "mark", "fund"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(list(Side)),
    st.integers(0, 1),
    st.integers(-12, 12),
    st.integers(1, 400),
)
Steps = list[tuple[str, str, Side, int, int, int]]


def trade(steps: Steps, dual: bool) -> Exchange:
    """Two accounts and a market trade at random; refusals are legitimate outcomes."""
    exchange = Exchange([BTC])
    for who in ("a", "b"):
        exchange.add_account(who, DEPOSIT)
        if dual:
            exchange.set_position_mode(who, True, 0)
    exchange.flow_seed_book(S, [(499_990 - i, 300) for i in range(9)], [(500_010 + i, 300) for i in range(9)], 0)
    exchange.advance(1)
    for now, (action, who, side, leg, offset, lots) in enumerate(steps, 2):
        position_side = SIDES[dual][leg % len(SIDES[dual])]
        common = {"symbol": S, "side": side, "quantity": BTC.qty(lots), "position_side": position_side}
        try:
            if action == "mark":
                exchange.set_mark_price(S, BTC.price(500_000 + offset * 100), now)
            elif action == "fund":
                exchange.advance(exchange.now_ms + exchange.config.funding_interval_ms)
            elif action == "cancel":
                exchange.cancel_all(who, S, now)
            elif action == "market":
                exchange.place(who, PlaceRequest(type=OrderType.MARKET, stp=Stp.NONE, **common), now)
            else:
                exchange.place(
                    who,
                    PlaceRequest(type=OrderType.LIMIT, price=BTC.price(500_000 + offset), stp=Stp.NONE,
                                 time_in_force=TimeInForce.GTC, **common),
                    now,
                )  # fmt: skip
        except VenueError:
            continue
    return exchange


def fill(t: UserTrade) -> FillEvent:
    return FillEvent(
        account=t.account_id, venue="s", symbol=t.symbol, trade_id=t.trade_id, client_order_id="c",
        venue_order_id=t.order_id, side=t.side, position_side=t.position_side, price_ticks=t.ticks, qty_lots=t.lots,
        commission=t.commission, commission_asset="USDT", realized_pnl=t.realized_pnl, maker=t.maker,
    )  # fmt: skip


def empty(window: int = 100_000) -> Portfolio:
    portfolio = Portfolio("a", "s", {S: BTC}, window=window)
    portfolio.wallets["USDT"] = DEPOSIT
    return portfolio


def one(lots: int, *, trade_id: int = 1, ticks: int = 500_000, side: Side = Side.BUY, **more: object) -> FillEvent:
    base = FillEvent(
        account="a", venue="s", symbol=S, trade_id=trade_id, client_order_id="c", venue_order_id=1, side=side,
        price_ticks=ticks, qty_lots=lots,
    )  # fmt: skip
    return msgspec.structs.replace(base, **more)


def assert_equal(portfolio: Portfolio, exchange: Exchange, who: str) -> AccountSnapshot:
    """Every figure that both have."""
    info = exchange.account_info(who)
    portfolio.on_mark(S, exchange.mark_price(S).mark, NOW)
    snapshot = portfolio.snapshot(NOW)
    assert snapshot.wallet == info.wallet
    assert snapshot.unrealized_pnl == info.unrealized
    assert snapshot.equity == info.margin_balance
    theirs = {p.side: p for p in exchange.position_risk(who, S)}
    for position in snapshot.positions:
        told = theirs[position.position_side]
        assert position.qty_lots == told.lots and position.quantity == told.qty
        assert position.realized_pnl == told.realized and position.unrealized_pnl == told.unrealized
        assert position.entry_price == told.entry_price
    assert snapshot.realized_pnl == sum((t.realized_pnl for t in exchange.trades if t.account_id == who), D(0))
    assert snapshot.commission == sum((t.commission for t in exchange.trades if t.account_id == who), D(0))
    assert snapshot.exposure == sum((abs(p.notional) for p in theirs.values()), D(0))
    return snapshot


def book_all(portfolio: Portfolio, exchange: Exchange, who: str, fills: list[FillEvent]) -> None:
    for event in fills:
        portfolio.on_fill(event)
    for line in exchange.income(who, limit=1000):
        if line.type != "TRANSFER":
            portfolio.on_income(line.type, "USDT", line.amount, str(line.income_id), line.time_ms)


@settings(max_examples=80, deadline=None, print_blob=True)
@given(steps=st.lists(STEP, max_size=40), dual=st.booleans(), who=st.sampled_from(["a", "b"]))
def test_positions_and_profit_equal_the_venues_ledger(steps: Steps, dual: bool, who: str) -> None:
    exchange = trade(steps, dual)
    portfolio = empty()
    book_all(portfolio, exchange, who, [fill(t) for t in exchange.trades if t.account_id == who])
    snapshot = assert_equal(portfolio, exchange, who)
    funding = exchange.income(who, kind="FUNDING_FEE", limit=1000)
    assert snapshot.funding == sum((line.amount for line in funding), D(0))


@settings(max_examples=80, deadline=None, print_blob=True)
@given(steps=st.lists(STEP, max_size=30), dual=st.booleans(), data=st.data())
def test_any_order_with_duplicates_and_restarts_gives_the_same_state(
    steps: Steps, dual: bool, data: st.DataObject
) -> None:
    exchange = trade(steps, dual)
    fills = [fill(t) for t in exchange.trades if t.account_id == "a"]
    shuffled = data.draw(st.permutations(fills + fills[: len(fills) // 2]))
    cut = data.draw(st.integers(0, len(shuffled)))
    portfolio = empty()
    for event in shuffled[:cut]:
        portfolio.on_fill(event)
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(portfolio.state()), type=PortfolioState)
    restarted = Portfolio("a", "s", {S: BTC}, window=100_000)
    restarted.load(saved)
    book_all(restarted, exchange, "a", shuffled[cut:] + shuffled[:cut])  # the journal brings some again
    assert_equal(restarted, exchange, "a")
    assert restarted.fills == len(fills)


@given(st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 50), st.integers(-500, 500)), max_size=120))
def test_a_full_window_changes_nothing_for_fills_that_come_nearly_in_order(
    parts: list[tuple[Side, int, int]],
) -> None:
    fills = [
        one(lots, trade_id=i, side=side, ticks=500_000 + offset) for i, (side, lots, offset) in enumerate(parts, 1)
    ]
    plain, narrow = empty(), empty(window=8)
    for event in fills:
        plain.on_fill(event)
    for i in range(0, len(fills), 4):  # groups of four, each backwards
        for event in reversed(fills[i : i + 4]):
            assert narrow.on_fill(event) is Verdict.APPLIED
            assert narrow.on_fill(event) in (Verdict.DUPLICATE, Verdict.TOO_OLD)
    assert narrow.books[S].legs == plain.books[S].legs
    assert narrow.wallets == plain.wallets


def test_a_fill_older_than_the_window_is_refused_and_changes_nothing() -> None:
    portfolio = empty(window=2)
    for trade_id in (5, 6, 7):
        portfolio.on_fill(one(1, trade_id=trade_id))
    before = portfolio.state()
    assert portfolio.on_fill(one(9, trade_id=4)) is Verdict.TOO_OLD
    assert portfolio.on_fill(one(1, symbol="DOGEUSDT")) is Verdict.UNKNOWN_SYMBOL
    assert portfolio.state() == before


@pytest.mark.parametrize(
    "change",
    [{"qty_lots": 0}, {"qty_lots": -5}, {"price_ticks": 0}, {"trade_id": 0}, {"commission": D("NaN")},
     {"commission": D("Infinity")}],
)  # fmt: skip
def test_a_fill_that_makes_no_sense_is_refused_whole(change: dict[str, object]) -> None:
    portfolio = empty()
    before = portfolio.state()
    with pytest.raises(NotFiniteError):
        portfolio.on_fill(msgspec.structs.replace(one(5), **change))
    assert portfolio.state() == before


@pytest.mark.parametrize("price", [D("NaN"), D("sNaN"), D("Infinity"), D(0), D(-1)])
def test_a_price_that_is_none_leaves_the_last_good_one(price: D) -> None:
    portfolio = empty()
    portfolio.on_mark(S, D(50_000), NOW)
    with pytest.raises(NotFiniteError):
        portfolio.on_mark(S, price, NOW)
    with pytest.raises(NotFiniteError):
        portfolio.on_mid(S, price, NOW)
    assert portfolio.price_of(S, NOW) == (D(50_000), True)


def test_an_old_mark_gives_way_to_the_middle_and_old_prices_are_counted() -> None:
    portfolio = empty()
    portfolio.on_fill(one(1000))
    portfolio.on_mark(S, D(50_100), NOW)
    portfolio.on_mid(S, D(50_200), NOW + 11_000_000_000)
    assert portfolio.snapshot(NOW + 1).unrealized_pnl == 100
    later = portfolio.snapshot(NOW + 11_000_000_000)
    assert later.unrealized_pnl == 200 and later.stale_prices == 0
    assert portfolio.snapshot(NOW + 60_000_000_000).stale_prices == 1


def test_a_position_without_any_price_counts_at_its_entry() -> None:
    portfolio = empty()
    portfolio.on_fill(one(1000))
    snapshot = portfolio.snapshot(NOW)
    assert (snapshot.exposure, snapshot.unrealized_pnl, snapshot.stale_prices) == (50_000, 0, 1)


def test_a_commission_in_another_asset_is_valued_when_its_price_is_known_and_never_taken_for_quote() -> None:
    portfolio = empty()
    portfolio.wallets["BNB"] = D(2)
    portfolio.on_fill(one(10, commission=D("0.01"), commission_asset="BNB"))
    assert portfolio.commission == 0 and portfolio.commission_unvalued == {"BNB": D("0.01")}
    portfolio.on_mark("BNBUSDT", D(600), NOW)
    portfolio.on_fill(one(10, trade_id=2, commission=D("0.01"), commission_asset="BNB"))
    assert portfolio.commission == 6
    snapshot = portfolio.snapshot(NOW)
    assert {b.asset: b.wallet for b in snapshot.balances} == {"BNB": D("1.98"), "USDT": DEPOSIT}
    assert snapshot.wallet == DEPOSIT


def test_funding_and_transfers_count_once_and_a_deposit_is_no_profit() -> None:
    portfolio = empty()
    portfolio.snapshot(NOW)
    for _ in range(3):
        portfolio.on_income("FUNDING_FEE", "USDT", D("-1.5"), "f1", 1)
        portfolio.on_income("TRANSFER", "USDT", D(5_000), "t1", 2)
        portfolio.on_income("COMMISSION", "USDT", D(-9), "c1", 3)
    snapshot = portfolio.snapshot(NOW)
    assert snapshot.wallet == DEPOSIT + 5_000 - D("1.5")
    assert (snapshot.funding, snapshot.daily_pnl) == (D("-1.5"), D("-1.5"))
    assert snapshot.peak_equity == DEPOSIT + 5_000
    portfolio.on_income("TRANSFER", "USDT", D(-50_000), "t2", 4)
    assert portfolio.snapshot(NOW).drawdown == (D("1.5") / (DEPOSIT + 5_000 - 50_000)).quantize(D("0.00000001"))
    with pytest.raises(NotFiniteError):
        portfolio.on_income("FUNDING_FEE", "USDT", D("NaN"), "f2", 5)


def test_daily_profit_starts_anew_at_midnight_and_drawdown_from_the_peak_does_not() -> None:
    portfolio = empty()
    portfolio.on_fill(one(1000))  # 1 BTC at 50,000
    for price in (50_000, 52_000, 51_000):
        portfolio.on_mark(S, D(price), NOW)
        snapshot = portfolio.snapshot(NOW)
    assert (snapshot.daily_pnl, snapshot.peak_equity) == (1_000, DEPOSIT + 2_000)
    assert snapshot.daily_drawdown == snapshot.drawdown == (D(1_000) / D(102_000)).quantize(D("0.00000001"))
    tomorrow = NOW + DAY_NS
    portfolio.on_mark(S, D(51_000), tomorrow)
    snapshot = portfolio.snapshot(tomorrow)
    assert (snapshot.daily_pnl, snapshot.daily_drawdown) == (0, 0)
    assert snapshot.drawdown > 0 and snapshot.day_ns == tomorrow // DAY_NS * DAY_NS
    back = portfolio.snapshot(NOW)  # a clock that was set back starts no new day
    assert back.day_ns == snapshot.day_ns and back.day_start_equity == snapshot.day_start_equity


def test_margin_ratio_and_available_balance_equal_the_venues_when_its_terms_are_known() -> None:
    exchange = trade([("market", "a", Side.BUY, 0, 0, 400), ("mark", "a", Side.BUY, 0, -9, 1)], dual=False)
    portfolio = empty()
    book_all(portfolio, exchange, "a", [fill(t) for t in exchange.trades if t.account_id == "a"])
    view, info = exchange.position_risk("a", S)[0], exchange.account_info("a")
    portfolio.terms[S, PositionSide.BOTH] = VenueTerms(view.leverage, view.maintenance_margin / view.notional)
    snapshot = assert_equal(portfolio, exchange, "a")
    assert snapshot.margin_ratio == (info.maintenance_margin / info.margin_balance).quantize(D("0.00000001"))
    assert snapshot.available == info.available
    assert snapshot.leverage_ratio == (view.notional / info.margin_balance).quantize(D("0.00000001"))


def test_an_account_with_nothing_left_is_at_the_point_of_liquidation() -> None:
    portfolio = empty()
    portfolio.on_fill(one(10_000))
    portfolio.on_mark(S, D(30_000), NOW)
    snapshot = portfolio.snapshot(NOW)
    assert snapshot.equity < 0
    assert (snapshot.margin_ratio, snapshot.available, snapshot.leverage_ratio) == (1, 0, 0)
