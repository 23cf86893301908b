"""Cash and lots are conserved; funding, liquidation, hedge mode and saved state."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.exchange.ledger import total_wallet
from tickmesh.venues.simvenue.exchange.types import ExecutionType, MarginCall, OrderUpdate, PlaceRequest, Stp

S = "BTCUSDT"
BTC = Instrument(venue="s", symbol=S, base="BTC", quote="USDT", tick_size=D("0.1"), lot_size=D("0.001"))
STEP = st.tuples(
    st.sampled_from(["limit", "ioc", "market", "reduce", "stop", "flow", "cancel", "mark", "fund"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(list(Side)),
    st.integers(-12, 12),
    st.integers(1, 400),
    st.sampled_from(list(Stp)),
)


def venue(deposit: D = D(3_000)) -> Exchange:
    exchange = Exchange([BTC])
    exchange.add_account("a", deposit)
    exchange.add_account("b", deposit)
    exchange.flow_seed_book(S, [(499_990 - i, 300) for i in range(9)], [(500_010 + i, 300) for i in range(9)], 0)
    exchange.advance(1)
    return exchange


def order(side: Side, kind: OrderType, lots: int, **more: object) -> PlaceRequest:
    return PlaceRequest(symbol=S, side=side, type=kind, quantity=BTC.qty(lots), **more)  # type: ignore[arg-type]


def step(exchange: Exchange, now: int, action: str, who: str, side: Side, offset: int, lots: int, stp: Stp) -> None:
    price = BTC.price(500_000 + offset)
    if action == "flow":
        exchange.flow_place(S, side, 500_000 + offset if lots % 3 else None, lots, now * 1_000_000)
    elif action == "mark":
        exchange.set_mark_price(S, BTC.price(500_000 + offset * 1000), now)
    elif action == "fund":
        exchange.advance(exchange.now_ms + exchange.config.funding_interval_ms)
    elif action == "cancel":
        exchange.cancel_all(who, S, now)
    elif action == "stop":
        exchange.place(who, order(side, OrderType.STOP_MARKET, lots, stop_price=price), now)
    elif action in ("market", "reduce"):
        exchange.place(who, order(side, OrderType.MARKET, lots, reduce_only=action == "reduce", stp=stp), now)
    else:
        tif = TimeInForce.IOC if action == "ioc" else TimeInForce.GTC
        exchange.place(who, order(side, OrderType.LIMIT, lots, price=price, time_in_force=tif, stp=stp), now)


@settings(max_examples=120, deadline=None, print_blob=True)
@given(st.lists(STEP, max_size=40), st.booleans())
def test_cash_and_lots_are_conserved_and_the_book_never_crosses(
    steps: list[tuple[str, str, Side, int, int, Stp]], isolated: bool
) -> None:
    exchange = venue()
    if isolated:
        exchange.set_margin_type("a", S, "ISOLATED", 1)
    for now, parts in enumerate(steps, 2):
        try:
            step(exchange, now, *parts)
        except VenueError:
            pass  # a refusal is a legitimate outcome; the invariants below must hold all the same
        ledgers = list(exchange.ledgers.values())
        cost = sum((p.cost for ledger in ledgers for p in ledger.positions.values()), D(0))
        assert total_wallet(ledgers) - cost + exchange.house == 6_000
        for position in (p for ledger in ledgers for p in ledger.positions.values()):
            assert position.lots or not position.isolated
        held = {ledger.account_id: ledger.lots(S, PositionSide.BOTH) for ledger in ledgers}
        assert sum(held.values()) + exchange.markets[S].flow_lots == 0
        for name, lots in held.items():
            assert lots == sum(t.side * t.lots for t in exchange.trades if t.account_id == name)
        bids, asks = exchange.depth(S).bids, exchange.depth(S).asks
        assert not bids or not asks or bids[0][0] < asks[0][0]
        book = exchange.markets[S].book
        for ledger in ledgers:
            for record in ledger.open_orders.values():
                resting = book.get(record.order_id)
                assert record.is_conditional or (resting is not None and resting.lots == record.open_lots)
    copy = Exchange([BTC])
    copy.from_state(exchange.to_state())
    assert copy.to_state() == exchange.to_state()


def test_a_round_trip_pays_fees_and_realizes_the_difference() -> None:
    exchange = venue()
    exchange.place("a", order(Side.BUY, OrderType.MARKET, 100), 2)
    exchange.place("a", order(Side.SELL, OrderType.MARKET, 100), 3)
    kinds = {kind: sum(i.amount for i in exchange.income("a", kind=kind)) for kind in ("REALIZED_PNL", "COMMISSION")}
    assert kinds == {"REALIZED_PNL": D("-0.2"), "COMMISSION": D("-5.0")}
    assert exchange.account_info("a").wallet == D("2994.8")


def test_longs_pay_what_shorts_get_in_funding() -> None:
    exchange = venue()
    exchange.place("a", order(Side.BUY, OrderType.LIMIT, 100, price=D(50_000), time_in_force=TimeInForce.GTC), 2)
    exchange.place("b", order(Side.SELL, OrderType.MARKET, 100), 3)
    exchange.advance(exchange.config.funding_interval_ms)
    (paid,), (got,) = exchange.income("a", kind="FUNDING_FEE"), exchange.income("b", kind="FUNDING_FEE")
    assert paid.amount == -got.amount < 0
    assert exchange.funding(S)[0].rate == D("0.0001")


def test_margin_is_called_first_and_then_the_position_is_liquidated() -> None:
    exchange = venue()
    exchange.place("a", order(Side.BUY, OrderType.MARKET, 1000), 2)
    exchange.place("a", order(Side.BUY, OrderType.LIMIT, 10, price=D(40_000), time_in_force=TimeInForce.GTC), 3)
    liquidation = exchange.position_risk("a", S)[0].liquidation_price
    exchange.drain_events()
    exchange.set_mark_price(S, liquidation + 40, 4)
    assert [type(e) for e in exchange.drain_events()].count(MarginCall) == 1
    exchange.set_mark_price(S, liquidation - 1, 5)
    kinds = [e.execution for e in exchange.drain_events() if isinstance(e, OrderUpdate)]
    assert kinds[0] is ExecutionType.CANCELED and ExecutionType.CALCULATED in kinds
    assert exchange.position_risk("a", S)[0].lots == 0 and exchange.account_info("a").wallet >= 0


def isolated_venue(leverage: int = 20) -> Exchange:
    """Account a is isolated and long 0.1 BTC at 50,001."""
    exchange = venue()
    exchange.set_margin_type("a", S, "ISOLATED", 2)
    exchange.set_leverage("a", S, leverage, 2)
    exchange.place("a", order(Side.BUY, OrderType.MARKET, 100), 3)
    return exchange


def test_an_isolated_position_sets_its_margin_aside_and_a_close_frees_it() -> None:
    exchange = isolated_venue()
    info, position = exchange.account_info("a"), exchange.position_risk("a", S)[0]
    assert position.isolated_wallet == D("5000.1") / 20
    assert info.cross_wallet == info.wallet - position.isolated_wallet and info.available == info.cross_wallet
    exchange.place("a", order(Side.SELL, OrderType.MARKET, 50, reduce_only=True), 4)
    assert exchange.position_risk("a", S)[0].isolated_wallet == D("5000.1") / 40
    exchange.place("a", order(Side.SELL, OrderType.MARKET, 50, reduce_only=True), 5)
    info = exchange.account_info("a")
    assert info.wallet == info.cross_wallet == info.available


def test_an_isolated_liquidation_costs_its_own_margin_and_nothing_else() -> None:
    exchange = isolated_venue()
    before = exchange.account_info("a").cross_wallet
    price = exchange.position_risk("a", S)[0].liquidation_price
    assert D(47_000) < price < D(48_500)
    exchange.set_mark_price(S, price + 1, 4)
    assert exchange.position_risk("a", S)[0].lots == 100
    exchange.flow_place(S, Side.SELL, None, 2_700, 5)  # the book is gone: the house takes over at the mark
    exchange.set_mark_price(S, price - 2_000, 6)
    after = exchange.account_info("a")
    assert exchange.position_risk("a", S)[0].lots == 0
    assert after.wallet == after.cross_wallet == before
    assert exchange.income("a", kind="INSURANCE_CLEAR")[-1].amount > 0


def test_isolated_margin_is_added_and_taken_within_bounds_and_moves_the_liquidation_price() -> None:
    exchange = isolated_venue()
    before = exchange.position_risk("a", S)[0]
    exchange.change_position_margin("a", S, PositionSide.BOTH, D(500), 4)
    after = exchange.position_risk("a", S)[0]
    assert after.isolated_wallet == before.isolated_wallet + 500
    assert after.liquidation_price < before.liquidation_price - 4_000
    for code, change in ((-4050, D(100_000)), (-4051, D(-700)), (-4055, D(0))):
        with pytest.raises(VenueError) as refused:
            exchange.change_position_margin("a", S, PositionSide.BOTH, change, 5)
        assert refused.value.code == code
    exchange.change_position_margin("a", S, PositionSide.BOTH, D(-450), 5)
    with pytest.raises(VenueError) as flat:
        exchange.change_position_margin("b", S, PositionSide.BOTH, D(1), 6)
    assert flat.value.code == -4054
    with pytest.raises(VenueError) as lower:
        exchange.set_leverage("a", S, 10, 7)
    assert lower.value.code == -4161


def test_what_is_isolated_is_not_liquidated_with_the_cross_account_and_survives_a_restart() -> None:
    exchange = isolated_venue()
    copy = Exchange([BTC])
    copy.from_state(exchange.to_state())
    view, kept = exchange.position_risk("a", S)[0], copy.position_risk("a", S)[0]
    assert kept.isolated_wallet == view.isolated_wallet and kept.margin_type == "ISOLATED"


def test_in_hedge_mode_a_side_closes_only_itself() -> None:
    exchange = venue()
    exchange.set_position_mode("a", True, 2)
    exchange.place("a", order(Side.BUY, OrderType.MARKET, 50, position_side=PositionSide.LONG), 3)
    for code, request in (
        (-4061, order(Side.SELL, OrderType.MARKET, 10)),
        (-1106, order(Side.SELL, OrderType.MARKET, 10, position_side=PositionSide.LONG, reduce_only=True)),
        (-2022, order(Side.BUY, OrderType.MARKET, 10, position_side=PositionSide.SHORT)),
        (-2022, order(Side.SELL, OrderType.MARKET, 60, position_side=PositionSide.LONG)),
    ):
        with pytest.raises(VenueError) as refused:
            exchange.place("a", request, 4)
        assert refused.value.code == code
    exchange.place("a", order(Side.SELL, OrderType.MARKET, 50, position_side=PositionSide.LONG), 5)
    assert [p.lots for p in exchange.position_risk("a", S)] == [0, 0]
    exchange.set_position_mode("a", False, 6)


def test_hedge_mode_holds_both_sides_at_once() -> None:
    exchange = venue()
    exchange.set_position_mode("a", True, 2)
    exchange.place("a", order(Side.BUY, OrderType.MARKET, 50, position_side=PositionSide.LONG), 3)
    exchange.place("a", order(Side.SELL, OrderType.MARKET, 30, position_side=PositionSide.SHORT), 4)
    assert [p.lots for p in exchange.position_risk("a", S)] == [50, -30]


def test_changes_since_the_last_drain_rebuild_the_exchange() -> None:
    exchange = venue()
    first = exchange.drain_changes()
    exchange.place("a", order(Side.BUY, OrderType.LIMIT, 10, price=D(49_000), time_in_force=TimeInForce.GTC), 2)
    second = exchange.drain_changes()
    assert [o.order_id for o in second.orders] == [1] and not second.accounts
    second.accounts = first.accounts
    second.income = first.income + second.income
    copy = Exchange([BTC])
    copy.from_state(second)
    assert copy.to_state() == exchange.to_state() and copy.depth(S).bids == [(490_000, 10)]
