"""LeanSignal: equal in both halves, on any numbers, on any book, and on the capture."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.parity.twins import Twins, bits

from tickmesh import hotpath
from tickmesh.hotpath.pure import signal

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")
ticks = st.integers(1, 2**40)


def kernels(min_lean: float, max_spread_ticks: int) -> tuple[Any, Any]:
    assert hotpath.native is not None
    return hotpath.native.LeanSignal(min_lean, max_spread_ticks), signal.LeanSignal(min_lean, max_spread_ticks)


@given(st.floats(0, 1), st.integers(1, 50), st.floats(-1, 1), ticks, st.integers(-5, 60))
def test_decisions_are_equal_and_follow_the_rule(
    min_lean: float, most: int, lean: float, bid: int, spread: int
) -> None:
    native, pure = kernels(min_lean, most)
    found = native.decide(lean, bid, bid + spread)
    assert found == pure.decide(lean, bid, bid + spread)
    assert bits((native.lean,)) == bits((pure.lean,)) == bits((lean,))
    if found:
        assert 0 < spread <= most and abs(lean) >= min_lean
        assert found == (bid if lean > 0 else -(bid + spread))


def frame(kind: str, first: int, last: int, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> bytes:
    def side(levels: list[tuple[int, int]]) -> str:
        return ",".join(f'["{p}","{q}"]' for p, q in levels)

    return (
        f'{{"stream":"s@depth","data":{{"e":"{kind}","E":5,"T":5,"s":"S","U":{first},"u":{last},"pu":{first - 1},'
        f'"b":[{side(bids)}],"a":[{side(asks)}]}}}}'
    ).encode()


levels = st.lists(st.tuples(st.integers(90, 110), st.integers(0, 9)), max_size=6)


@given(st.lists(st.tuples(levels, levels), min_size=1, max_size=20), st.floats(0, 0.9), st.integers(1, 20))
def test_books_of_any_shape_give_equal_decisions(
    diffs: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]], min_lean: float, most: int
) -> None:
    twins = Twins({"S": ("1", "1")}, depth=5)
    native, pure = kernels(min_lean, most)
    pair = twins.replicas["S"]
    assert native.of(pair[0]) == pure.of(pair[1]) == 0  # nothing is known yet
    for half in pair:
        half.on_snapshot(10, [(99, 3)], [(101, 2)])
    for number, (bids, asks) in enumerate(diffs, start=11):
        for market in twins.markets:
            market.on_frame(frame("depthUpdate", number, number, bids, asks))
        assert native.of(pair[0]) == pure.of(pair[1])
        assert bits((native.lean,)) == bits((pure.lean,))
