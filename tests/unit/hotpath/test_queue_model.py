"""Queue position from trades and level changes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh.domain.enums import Side
from tickmesh.hotpath import QueueModel
from tickmesh.hotpath.pure.queue_model import QueueFill


def model(shown: int = 10, lots: int = 4) -> QueueModel:
    queue = QueueModel()
    queue.join(1, Side.BUY, 100, lots, shown)
    return queue


def test_trades_eat_what_is_ahead_before_they_fill_us() -> None:
    queue = model()
    assert queue.on_trade(100, 8, Side.SELL) == []
    assert queue.ahead(1) == 2
    assert queue.on_trade(100, 5, Side.SELL) == [QueueFill(1, 100, 3)]


def test_depth_does_not_count_a_trade_twice() -> None:
    queue = model()
    queue.on_trade(100, 4, Side.SELL)
    queue.on_level(Side.BUY, 100, 6)
    assert queue.ahead(1) == 6


def test_cancellations_are_spread_over_the_queue_and_rounded_against_us() -> None:
    queue = model(shown=10)
    queue.on_level(Side.BUY, 100, 20)
    queue.on_level(Side.BUY, 100, 15)
    assert queue.ahead(1) == 8  # 5 of 20 left, our 10 lose 2.5, rounded down


def test_a_trade_through_our_price_fills_at_our_price_for_its_own_size_at_most() -> None:
    assert model().on_trade(99, 3, Side.SELL) == [QueueFill(1, 100, 3)]


def test_a_trade_of_the_other_side_or_away_from_us_does_nothing() -> None:
    queue = model()
    assert queue.on_trade(100, 50, Side.BUY) == [] and queue.on_trade(101, 50, Side.SELL) == []
    assert queue.ahead(1) == 10


@settings(max_examples=150, deadline=None, print_blob=True)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 10)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(98, 101), st.integers(1, 12), st.booleans()), max_size=20),
)
def test_no_trade_fills_more_than_its_size_nor_an_order_more_than_it_has(
    orders: list[tuple[int, int]], events: list[tuple[int, int, bool]]
) -> None:
    queue, left = QueueModel(), {}
    for number, (lots, shown) in enumerate(orders, 1):
        queue.join(number, Side.BUY, 100, lots, shown)
        left[number] = lots
    for ticks, lots, is_trade in events:
        if not is_trade:
            queue.on_level(Side.BUY, 100, lots)
            continue
        fills = queue.on_trade(ticks, lots, Side.SELL)
        assert sum(fill.lots for fill in fills) <= lots
        for fill in fills:
            left[fill.order_id] -= fill.lots
            assert left[fill.order_id] >= 0
    for number, lots in left.items():
        assert (queue.ahead(number) is None) == (lots == 0)
