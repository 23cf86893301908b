"""OrderRequests and top_of_book: equal in both halves; an order's bytes are also those that ``rest`` makes of any."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh import hotpath
from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, OrderIntent, decode, encode
from tickmesh.hotpath.pure import order_requests, top_of_book
from tickmesh.venues.binance_usdm.http import HttpClient
from tickmesh.venues.binance_usdm.order_request import PlainOrders
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.binance_usdm.translate_trading import place_parameters

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")
units = st.integers(1, 2**53)
texts = st.text("abcXYZ019-_.~", max_size=36) | st.text(max_size=5)


class Still:
    """A clock that stands."""

    def __init__(self, wall_ns: int) -> None:
        self.now_ns = wall_ns

    def wall_ns(self) -> int:
        return self.now_ns

    mono_ns = wall_ns


def answer_of(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except (ValueError, IndexError, OverflowError) as error:
        return type(error), str(error)


steps_of_any_kind = st.tuples(st.integers(0, 10**13), st.integers(0, 20))
limits = st.tuples(
    st.integers(0, 2), st.booleans(), st.integers(-1, 2**53), st.integers(-1, 2**53), texts,
    st.sampled_from([*map(str, TimeInForce), "a b"]), st.booleans(), st.integers(-1, 2**43),
)  # fmt: skip


@given(st.binary(max_size=100), steps_of_any_kind, steps_of_any_kind, texts, limits)
def test_the_bytes_of_an_order_are_equal(
    secret: bytes, tick: tuple[int, int], lot: tuple[int, int], symbol: str, order: tuple[Any, ...]
) -> None:
    assert hotpath.native is not None
    parts = (secret, b"POST /fapi/v1/order?", b"&recvWindow=750&timestamp=", b" HTTP/1.1\r\n\r\n")
    halves = (hotpath.native.OrderRequests(*parts), order_requests.OrderRequests(*parts))
    added = [[answer_of(half.add, symbol, *tick, *lot) for _ in range(2)] for half in halves]
    assert added[0] == added[1]
    written = [answer_of(half.limit, *order) for half in halves]
    assert written[0] == written[1]


steps = st.sampled_from(["0.1", "0.10", "0.001", "1", "5", "0.05", "1E+1", "25", "0.00000100", "0.0000000000000000001"])
orders = st.builds(
    OrderIntent, intent_id=st.just("m.1.2.bid"), strategy=st.just("m"), account=st.just("a"), venue=st.just("v"),
    symbol=st.just("BTCUSDT"), side=st.sampled_from(Side), order_type=st.sampled_from(OrderType),
    time_in_force=st.sampled_from(TimeInForce), price_ticks=units, qty_lots=units, reduce_only=st.booleans(),
    position_side=st.sampled_from(PositionSide), stop_price_ticks=st.just(0) | units,
)  # fmt: skip


@given(orders, steps, steps, st.integers(10**18, 2 * 10**18), st.integers(-5000, 5000), st.integers(0, 60_000))
def test_both_halves_write_what_the_general_way_writes(
    intent: OrderIntent, tick: str, lot: str, wall_ns: int, offset_ms: int, window_ms: int
) -> None:
    assert hotpath.native is not None
    instrument = Instrument(
        venue="v", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal(tick), lot_size=Decimal(lot)
    )
    approved = ApprovedOrder(intent, client_order_id(intent.strategy, intent.intent_id), 1)

    async def general() -> tuple[bytes, tuple[Any, ...]]:
        rest = BinanceUsdmRest(
            "http://h:1/pre", "key", "secret", 5000, Still(wall_ns), order_window_ms=window_ms, transport=HttpClient
        )
        rest.time_offset_ms = offset_ms
        parts = (b"secret", b"POST /pre/fapi/v1/order?", rest._order_tail, rest._after_target)
        return rest._request(b"POST", b"/fapi/v1/order", place_parameters(approved, instrument)), parts

    wanted, parts = asyncio.run(general())
    plain = intent.order_type is OrderType.LIMIT and not intent.stop_price_ticks
    plain = plain and intent.position_side is PositionSide.BOTH and "0.0000000000000000001" not in (tick, lot)
    for half in (hotpath.native.OrderRequests, order_requests.OrderRequests):
        found = PlainOrders(*parts, kind=half).request(approved, instrument, wall_ns // 1_000_000 + offset_ms)
        assert found == (wanted if plain else None)


def test_a_replaced_instrument_is_written_in_its_new_steps() -> None:
    orders = PlainOrders(b"s", b"?", b"&timestamp=", b"")
    approved = ApprovedOrder(
        OrderIntent(intent_id="i", strategy="m", account="a", venue="v", symbol="S", price_ticks=7, qty_lots=3), "id", 1
    )
    seen = []
    for tick in ("0.1", "0.01", "0.1"):
        instrument = Instrument(
            venue="v", symbol="S", base="B", quote="Q", tick_size=Decimal(tick), lot_size=Decimal("0.5")
        )
        seen.append((orders.request(approved, instrument, 1) or b"").split(b"price=")[1].split(b"&")[0])
    assert seen == [b"0.7", b"0.07", b"0.7"]


levels = st.lists(st.tuples(st.integers(0, 2**53), st.integers(0, 2**53)), max_size=25)
books = st.builds(
    BookUpdate, exchange_ns=st.integers(0, 2**62), receive_ns=st.integers(0, 2**62), seq=st.integers(0, 2**40),
    epoch=st.integers(0, 2**62), venue=st.sampled_from(["binance_usdm", "v" * 40]), symbol=st.just("BTCUSDT"),
    update_id=st.integers(0, 2**62), bids=levels, asks=levels, imbalance=st.floats(), microprice_ticks=st.floats(),
    conflated=st.integers(0, 300), stale=st.booleans(), receive_mono_ns=st.integers(-(2**40), 2**62),
    publish_mono_ns=st.integers(0, 2**62),
)  # fmt: skip


@given(books)
def test_the_top_of_a_book_is_read_alike_and_is_that_of_the_message(book: BookUpdate) -> None:
    assert hotpath.native is not None
    payload = encode(book)
    found = hotpath.native.top_of_book(payload)
    assert found == top_of_book.top_of_book(payload)
    again = decode(BookUpdate, payload)
    sides = [side[0][0] if side else 0 for side in (again.bids, again.asks)]
    assert found == (*sides, again.receive_mono_ns, again.stale)


@given(books, st.data())
def test_of_damaged_bytes_the_native_half_says_what_the_twin_says_or_leaves_it_to_the_decoder(
    book: BookUpdate, data: st.DataObject
) -> None:
    assert hotpath.native is not None
    payload = bytearray(encode(book))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(payload[: data.draw(st.integers(0, len(payload)))]) + data.draw(st.binary(max_size=3))
    found = hotpath.native.top_of_book(damaged)
    assert found is None or found == top_of_book.top_of_book(damaged)
    whole = hotpath.native.top_of_book(bytes(payload))
    assert whole is None or whole == top_of_book.top_of_book(bytes(payload))
