"""Both halves know the same open orders and the same newest ids, whatever came before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh import hotpath
from tickmesh.hotpath.pure import open_orders as pure

native = hotpath.native
pytestmark = pytest.mark.skipif(native is None, reason=f"no native half: {hotpath.WHY_PURE}")

FIELDS = ("strategy", "side", "leg", "price_ticks", "lots", "left_lots", "worth_ticks", "resting_ticks")
IDS = [f"tm-{number}" for number in range(6)]
ids, sides, prices = st.sampled_from(IDS), st.sampled_from((1, -1)), st.integers(0, 3) | st.integers(-(2**53), 2**53)
names = st.sampled_from(("mm", "other", "", "日本"))
steps = st.lists(
    st.tuples(st.just("add"), ids, names, sides, st.integers(0, 2), prices, prices, prices, prices)
    | st.tuples(st.just("leave"), ids, prices)
    | st.tuples(st.just("take"), ids),
    max_size=40,
)


def shown(order: Any) -> tuple[Any, ...] | None:
    return None if order is None else tuple(getattr(order, name) for name in FIELDS)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_the_same_orders_are_open_in_both_halves(steps: list[tuple[Any, ...]]) -> None:
    halves: list[Any] = [pure.OpenOrders(), native.OpenOrders()]  # type: ignore[union-attr]
    for verb, *what in steps:
        answers = [getattr(half, verb)(*what) for half in halves]
        assert shown(answers[0]) == shown(answers[1])
        twin, fast = halves
        assert len(twin) == len(fast)
        assert [shown(twin.get(name)) for name in IDS] == [shown(fast.get(name)) for name in IDS]
        for side in (1, -1):
            assert twin.nearest(side) == fast.nearest(side)
            for strategy in ("mm", "日本"):
                assert twin.alike(strategy, side, 1, 1) == fast.alike(strategy, side, 1, 1)


def test_an_order_that_was_looked_at_does_not_change_with_the_one_that_is_held() -> None:
    for half in (pure, native):
        orders: Any = half.OpenOrders()  # type: ignore[union-attr]
        orders.add("tm-a", "mm", 1, 0, 100, 5, 100, 100)
        before = orders.get("tm-a")
        assert isinstance(before, half.OpenOrder)  # type: ignore[union-attr]
        orders.leave("tm-a", 2)
        assert (before.left_lots, orders.get("tm-a").left_lots, orders.get("tm-a").lots) == (5, 2, 5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 12), max_size=60))
def test_the_newest_ids_are_remembered_and_no_more(most: int, added: list[int]) -> None:
    twin, fast = pure.RecentIds(most), native.RecentIds(most)  # type: ignore[union-attr]
    for number in added:
        twin.add(str(number))
        fast.add(str(number))
        assert len(twin) == len(fast) <= most == fast.most
        assert [str(n) in twin for n in range(13)] == [str(n) in fast for n in range(13)]
        assert str(number) in fast
