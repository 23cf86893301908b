"""Order types, refusals and life cycles on the pure exchange."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.exchange.types import (
    ExecutionType,
    OrderRecord,
    OrderStatus,
    OrderUpdate,
    PlaceRequest,
    PublicTrade,
    Stp,
)

S = "BTCUSDT"
BTC = Instrument(
    venue="simvenue", symbol=S, base="BTC", quote="USDT", tick_size=D("0.1"), lot_size=D("0.001"), min_price=D("0.1"),
    min_qty=D("0.001"), max_qty=D(1000), market_min_qty=D("0.001"), market_max_qty=D(120), min_notional=D(100),
    percent_price_up=D("1.05"), percent_price_down=D("0.95"), max_open_orders=3, max_algo_orders=2,
)  # fmt: skip


def venue(deposit: D = D(10_000)) -> Exchange:
    exchange = Exchange([BTC])
    for name in ("a", "b"):
        exchange.add_account(name, deposit)
    exchange.flow_seed_book(S, [(499_990, 1000), (499_980, 1000)], [(500_010, 1000), (500_020, 1000)], 0)
    exchange.advance(1)
    return exchange


def put(exchange: Exchange, side: Side = Side.BUY, kind: OrderType = OrderType.LIMIT, **more: object) -> OrderRecord:
    account = str(more.pop("account", "a"))
    if kind is OrderType.LIMIT:
        more = {"price": D(49_000), "time_in_force": TimeInForce.GTC, **more}
    if not more.get("close_position"):
        more = {"quantity": D("0.01"), **more}
    request = PlaceRequest(symbol=str(more.pop("symbol", S)), side=side, type=kind, **more)  # type: ignore[arg-type]
    return exchange.place(account, request, 10)


@pytest.mark.parametrize(
    ("code", "more"),
    [
        (-1121, {"symbol": "NOPE"}),
        (-1109, {"account": "nobody"}),
        (-1102, {"price": None}),
        (-1102, {"quantity": None}),
        (-1102, {"time_in_force": None}),
        (-1102, {"kind": OrderType.STOP_MARKET}),
        (-1106, {"kind": OrderType.MARKET, "price": D(50_000)}),
        (-1111, {"price": D("49000.001")}),
        (-4014, {"price": D("49000.01")}),
        (-1111, {"quantity": D("0.0101")}),
        (-4003, {"quantity": D(0)}),
        (-4005, {"quantity": D(1001)}),
        (-4005, {"kind": OrderType.MARKET, "quantity": D(121)}),
        (-4013, {"price": D(0)}),
        (-4015, {"client_order_id": "no spaces please"}),
        (-4016, {"price": D(60_000)}),
        (-4024, {"side": Side.SELL, "price": D(40_000)}),
        (-4061, {"position_side": PositionSide.LONG}),
        (-4164, {"quantity": D("0.001")}),
        (-2019, {"quantity": D(10)}),
        (-2027, {"quantity": D(1000), "price": D(200_0)}),
        (-2022, {"reduce_only": True}),
        (-5022, {"price": D("50001.0"), "time_in_force": TimeInForce.GTX}),
    ],
)
def test_each_refusal_has_the_venues_code_and_changes_nothing(code: int, more: dict[str, object]) -> None:
    exchange = venue()
    if code == -2027:
        exchange.set_leverage("a", S, 125, 5)
        more = {"quantity": D(10)}
    before = exchange.to_state()
    with pytest.raises(VenueError) as refusal:
        put(exchange, **more)  # type: ignore[arg-type]
    assert refusal.value.code == code
    after = exchange.to_state()
    after.now_ms = before.now_ms
    assert after == before


def test_a_stop_that_would_trigger_at_once_is_refused() -> None:
    exchange = venue()
    put(exchange, kind=OrderType.MARKET)
    with pytest.raises(VenueError, match="-2021"):
        put(exchange, kind=OrderType.STOP_MARKET, stop_price=D(50_000))


def test_order_counts_and_client_ids_are_limited() -> None:
    exchange = venue()
    put(exchange, client_order_id="one")
    with pytest.raises(VenueError, match="-4116"):
        put(exchange, client_order_id="one")
    put(exchange), put(exchange)
    with pytest.raises(VenueError, match="-1025"):
        put(exchange)
    for _ in range(2):
        put(exchange, kind=OrderType.STOP_MARKET, stop_price=D(51_000))
    with pytest.raises(VenueError, match="-4045"):
        put(exchange, kind=OrderType.STOP_MARKET, stop_price=D(51_000))


def test_a_market_order_far_from_the_mark_is_refused() -> None:
    exchange = venue()
    exchange.set_mark_price(S, D(40_000), 2)
    with pytest.raises(VenueError, match="-4131"):
        put(exchange, kind=OrderType.MARKET)


def test_unknown_orders_are_named_by_cancel_and_by_query() -> None:
    exchange = venue()
    with pytest.raises(VenueError, match="-2011"):
        exchange.cancel("a", S, 1, order_id=99)
    with pytest.raises(VenueError, match="-2013"):
        exchange.query_order("a", S, client_order_id="x")


@pytest.mark.parametrize(
    ("tif", "status", "filled"),
    [
        (TimeInForce.GTC, OrderStatus.PARTIALLY_FILLED, 1000),
        (TimeInForce.IOC, OrderStatus.EXPIRED, 1000),
        (TimeInForce.FOK, OrderStatus.EXPIRED, 0),
    ],
)
def test_time_in_force_decides_what_becomes_of_the_rest(tif: TimeInForce, status: OrderStatus, filled: int) -> None:
    order = put(venue(), quantity=D("1.5"), price=D("50001.0"), time_in_force=tif)
    assert (order.status, order.filled_lots) == (status, filled)


def test_gtx_rests_when_it_does_not_cross_and_orders_of_two_accounts_meet() -> None:
    exchange = venue()
    maker = put(exchange, price=D("50000.0"), time_in_force=TimeInForce.GTX)
    taker = put(exchange, Side.SELL, OrderType.MARKET, account="b")
    assert taker.avg_price == 50_000 and exchange.query_order("a", S, maker.order_id).status is OrderStatus.FILLED
    fees = {t.account_id: t.commission for t in exchange.trades}
    assert fees == {"a": D("0.1"), "b": D("0.25")}


@pytest.mark.parametrize(
    ("kind", "side", "stop"),
    [
        (OrderType.STOP_MARKET, Side.BUY, D("50002.0")),
        (OrderType.TAKE_PROFIT_MARKET, Side.SELL, D("50002.0")),
        (OrderType.STOP, Side.BUY, D("50002.0")),
        (OrderType.TAKE_PROFIT, Side.SELL, D("50002.0")),
    ],
)
def test_a_stop_waits_for_its_price_and_then_trades(kind: OrderType, side: Side, stop: D) -> None:
    exchange = venue()
    limit = {"price": D("50002.0") if side is Side.BUY else D("49990.0")} if not kind.endswith("MARKET") else {}
    order = put(exchange, side, kind, stop_price=stop, **limit)
    assert order.status is OrderStatus.NEW and S not in {t.symbol for t in exchange.trades}
    exchange.flow_place(S, Side.BUY, None, 1001, 11_000_000)
    assert exchange.query_order("a", S, order.order_id).status is OrderStatus.FILLED


def test_close_position_closes_it_all_and_reduce_only_never_flips() -> None:
    exchange = venue()
    put(exchange, kind=OrderType.MARKET, quantity=D("0.02"))
    stop = put(exchange, Side.SELL, OrderType.STOP_MARKET, stop_price=D("49999.0"), close_position=True)
    reduce = put(exchange, Side.SELL, price=D("50003.0"), quantity=D("0.05"), reduce_only=True)
    assert reduce.lots == 20
    exchange.flow_place(S, Side.SELL, None, 1, 12_000_000)
    assert exchange.query_order("a", S, stop.order_id).filled_lots == 20
    assert exchange.query_order("a", S, reduce.order_id).status is OrderStatus.EXPIRED
    assert exchange.position_risk("a", S)[0].lots == 0


@pytest.mark.parametrize("mode", list(Stp))
def test_self_trade_prevention_follows_the_takers_mode(mode: Stp) -> None:
    exchange = venue()
    maker = put(exchange, price=D("50000.0"))
    taker = put(exchange, Side.SELL, price=D("50000.0"), stp=mode)
    maker = exchange.query_order("a", S, maker.order_id)
    gone = OrderStatus.EXPIRED_IN_MATCH
    expected = {
        Stp.EXPIRE_TAKER: (OrderStatus.NEW, gone), Stp.EXPIRE_MAKER: (gone, OrderStatus.NEW),
        Stp.EXPIRE_BOTH: (gone, gone), Stp.NONE: (OrderStatus.FILLED, OrderStatus.FILLED),
    }  # fmt: skip
    assert (maker.status, taker.status) == expected[mode]


def test_modify_keeps_the_order_and_a_countdown_cancels_it() -> None:
    exchange = venue()
    order = put(exchange)
    changed = exchange.modify(
        "a", S, 11, side=Side.BUY, quantity=D("0.02"), price=D("49001.0"), order_id=order.order_id
    )
    assert (changed.order_id, changed.price_ticks, changed.lots) == (order.order_id, 490_010, 20)
    assert dict(exchange.depth(S).bids)[490_010] == 20 and 490_000 not in dict(exchange.depth(S).bids)
    exchange.countdown_cancel_all("a", S, 100, 20)
    exchange.advance(119)
    assert exchange.open_orders("a")
    exchange.drain_events()
    exchange.advance(120)
    updates = [e for e in exchange.drain_events() if isinstance(e, OrderUpdate)]
    assert [u.execution for u in updates] == [ExecutionType.CANCELED] and not exchange.open_orders("a")


def test_in_a_replay_our_order_waits_behind_the_real_queue() -> None:
    exchange = Exchange([BTC])
    exchange.add_account("a", D(10_000))
    exchange.replay_snapshot(S, [(500_000, 30)], [(500_010, 30)], 7, 0)
    order = put(exchange, price=D("50000.0"))
    exchange.replay_trade(S, 500_000, 25, Side.SELL, 1)
    assert exchange.query_order("a", S, order.order_id).filled_lots == 0
    exchange.replay_trade(S, 500_000, 10, Side.SELL, 2)
    assert exchange.query_order("a", S, order.order_id).filled_lots == 5
    exchange.replay_depth(S, [(Side.BUY, 500_000, 0), (Side.SELL, 499_999, 50)], 8, 3)
    assert exchange.query_order("a", S, order.order_id).status is OrderStatus.FILLED
    assert put(exchange, kind=OrderType.MARKET).avg_price == D("49999.9")
    volume = sum(e.lots for e in exchange.drain_events() if isinstance(e, PublicTrade))
    assert volume == 25 + 10 + 5 + 10
