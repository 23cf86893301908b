"""Exact grids, stable ids, and messages that older and newer versions can both read."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.client_order_id import client_order_id, is_ours
from tickmesh.domain.errors import OffGridError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, FillEvent, OrderIntent, decode, encode

BTC = Instrument(
    venue="v", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001")
)


@given(st.integers(-(10**12), 10**12))
def test_ticks_and_prices_round_trip_exactly(ticks: int) -> None:
    assert BTC.to_ticks(BTC.price(ticks)) == ticks
    assert BTC.to_lots(str(BTC.qty(ticks))) == ticks


@pytest.mark.parametrize("price", ["0.05", "61800.21", "NaN", "Infinity"])
def test_a_price_off_the_grid_is_an_error_and_not_a_rounding(price: str) -> None:
    with pytest.raises(OffGridError):
        BTC.to_ticks(price)


@given(st.text(max_size=50), st.text(max_size=50))
def test_the_same_intent_gives_the_same_venue_safe_id(strategy: str, intent: str) -> None:
    first = client_order_id(strategy, intent)
    assert first == client_order_id(strategy, intent)
    assert is_ours(first)
    assert len(first) <= 36


def test_a_newer_writer_with_appended_fields_is_readable() -> None:
    raw = msgspec.msgpack.decode(
        encode(
            FillEvent(
                account="a",
                venue="v",
                symbol="s",
                trade_id=1,
                client_order_id="c",
                venue_order_id=2,
                realized_pnl=Decimal("1.50"),
            )
        )
    )
    newer = msgspec.msgpack.encode([*raw, "a field of the future"])
    assert decode(FillEvent, newer).realized_pnl == Decimal("1.50")


def test_an_older_writer_without_the_newest_fields_is_readable() -> None:
    raw = msgspec.msgpack.decode(encode(BookUpdate(venue="v", symbol="s", bids=[(3, 4)])))
    assert decode(BookUpdate, msgspec.msgpack.encode(raw[:-4])).bids == [(3, 4)]


def test_garbage_is_a_decode_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(OrderIntent, b"\xc1garbage")
