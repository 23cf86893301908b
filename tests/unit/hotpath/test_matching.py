"""The matching book against a naive list that is re-sorted for every order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh.domain.enums import Side
from tickmesh.hotpath import MatchingBook

STEP = st.tuples(
    st.sampled_from(["place", "cancel"]), st.sampled_from(list(Side)), st.integers(95, 105), st.integers(1, 9)
)


@settings(max_examples=150, deadline=None, print_blob=True)
@given(st.lists(STEP, max_size=60))
def test_fills_equal_those_of_a_naive_price_time_reference(steps: list[tuple[str, Side, int, int]]) -> None:
    book, naive, placed = MatchingBook(), [], 0
    rested = taken = canceled = 0
    for action, side, ticks, lots in steps:
        if action == "cancel":
            order_id = ticks - 94 + placed // 2
            expected = sum(o[3] for o in naive if o[0] == order_id)
            naive = [o for o in naive if o[0] != order_id]
            assert book.cancel(order_id) == expected
            canceled += expected
            continue
        placed += 1
        got = book.take(side, ticks, lots)
        left, fills = lots, []
        candidates = [o for o in naive if o[1] is not side and (o[2] - ticks) * side <= 0]
        for maker in sorted(candidates, key=lambda o: (o[2] * side, o[0])):
            traded = min(left, maker[3])
            if traded:
                fills.append((maker[0], maker[2], traded))
                maker[3] -= traded
                left -= traded
        naive = [o for o in naive if o[3]]
        assert [(f.maker_id, f.ticks, f.lots) for f in got.fills] == fills
        assert got.lots_left == left
        taken += lots - left
        if left:
            book.rest(placed, side, ticks, left)
            naive.append([placed, side, ticks, left])
            rested += left
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        assert bid is None or ask is None or bid < ask
    in_book = sum(lots for side in Side for _, lots in book.levels(side))
    assert in_book == sum(o[3] for o in naive) == rested - taken - canceled


def test_resting_across_the_spread_is_refused() -> None:
    book = MatchingBook()
    book.rest(1, Side.SELL, 100, 5)
    with pytest.raises(ValueError, match="cross"):
        book.rest(2, Side.BUY, 100, 1)


def test_a_reduction_keeps_time_priority() -> None:
    book = MatchingBook()
    book.rest(1, Side.SELL, 100, 5)
    book.rest(2, Side.SELL, 100, 5)
    book.reduce(1, 3)
    assert [(f.maker_id, f.lots) for f in book.take(Side.BUY, None, 4).fills] == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("mode", "makers", "taker", "fills"),
    [
        ("EXPIRE_TAKER", [], True, []),
        ("EXPIRE_MAKER", [1], False, [2]),
        ("EXPIRE_BOTH", [1], True, []),
        ("NONE", [], False, [1]),
    ],
)
def test_self_trade_prevention_removes_whom_the_mode_names(
    mode: str, makers: list[int], taker: bool, fills: list[int]
) -> None:
    book = MatchingBook()
    book.rest(1, Side.SELL, 100, 5, owner=7)
    book.rest(2, Side.SELL, 101, 5, owner=8)
    got = book.take(Side.BUY, None, 5, owner=7, prevent=mode)
    assert (got.prevented.maker_ids, got.prevented.taker, [f.maker_id for f in got.fills]) == (makers, taker, fills)


def test_changed_levels_are_reported_once_with_their_new_total() -> None:
    book = MatchingBook()
    book.rest(1, Side.BUY, 99, 5)
    book.rest(2, Side.BUY, 99, 2)
    assert book.drain_changed() == [(Side.BUY, 99, 7)]
    book.take(Side.SELL, 99, 7)
    assert book.drain_changed() == [(Side.BUY, 99, 0)]
    assert book.drain_changed() == []
