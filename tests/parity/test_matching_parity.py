"""The matching engine and the queue model give the same fills, errors and books in both halves, callbacks included."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh import hotpath
from tickmesh.domain.enums import Side
from tickmesh.hotpath.pure import matching, queue_model

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")

side = st.sampled_from(list(Side))
ticks = st.integers(97, 103)
lots = st.integers(-1, 9)
ids = st.integers(-4, 12)
prevent = st.sampled_from(["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"])
owner = st.integers(0, 2)

matching_step = st.one_of(
    st.tuples(st.just("rest"), ids, side, ticks, lots, owner),
    st.tuples(st.just("rest"), ids, side, ticks, lots, owner),
    st.tuples(st.just("take"), side, st.none() | ticks, lots, owner, prevent, st.sampled_from(["", "cap", "change"])),
    st.tuples(st.just("cancel"), ids),
    st.tuples(st.just("reduce"), ids, lots),
    st.tuples(st.just("available"), side, st.none() | ticks, lots, owner),
    st.tuples(st.just("drain_changed")),
)


def outcome(call: Any) -> Any:
    try:
        return call()
    except (ValueError, KeyError) as error:
        return (type(error), str(error))


def take(book: Any, taker: Side, limit: int | None, wanted: int, own: int, mode: str, react: str) -> Any:
    """A sweep whose callback may cap it, or change the book in the middle of it."""
    seen: list[Any] = []

    def on_fill(fill: Any) -> int | None:
        seen.append((fill, book.best(taker.opposite), book.total(taker.opposite, fill.ticks)))
        if react == "change":
            book.cancel(fill.maker_id + 1)
            outcome(lambda: book.rest(100 + len(seen), taker.opposite, fill.ticks + 5 * taker, 2))
            return None
        return 2 if react == "cap" else None

    return book.take(taker, limit, wanted, owner=own, prevent=mode, on_fill=on_fill), seen


def do(book: Any, step: tuple[Any, ...]) -> Any:
    name, *arguments = step
    if name == "take":
        return take(book, *arguments)
    return outcome(lambda: getattr(book, name)(*arguments))


@settings(max_examples=300, deadline=None, print_blob=True)
@given(st.lists(matching_step, max_size=80))
def test_any_orders_are_matched_alike(steps: list[tuple[Any, ...]]) -> None:
    assert hotpath.native is not None
    native, pure = hotpath.native.MatchingBook(), matching.MatchingBook()
    for step in steps:
        assert do(native, step) == do(pure, step), step
        for s in Side:
            assert native.best(s) == pure.best(s)
            assert native.levels(s) == pure.levels(s) and native.levels(s, 2) == pure.levels(s, 2)
            assert list(native.crossing(s, 101)) == list(pure.crossing(s, 101))
            for t in range(96, 105):
                assert native.orders_at(s, t) == pure.orders_at(s, t)
        for order_id in range(-4, 13):
            assert native.get(order_id) == pure.get(order_id)
            assert (order_id in native) == (order_id in pure)
    assert native.drain_changed() == pure.drain_changed()


queue_step = st.one_of(
    st.tuples(st.just("join"), ids, side, ticks, lots, st.integers(0, 20)),
    st.tuples(st.just("join"), ids, side, ticks, lots, st.integers(0, 20)),
    st.tuples(st.just("leave"), ids),
    st.tuples(st.just("reduce"), ids, lots),
    st.tuples(st.just("on_trade"), ticks, st.integers(0, 30), side),
    st.tuples(st.just("on_level"), side, ticks, st.integers(0, 30)),
    st.tuples(st.just("on_quote_through"), side, ticks, st.integers(0, 30)),
)


@settings(max_examples=500, deadline=None, print_blob=True)
@given(st.lists(queue_step, max_size=80))
def test_any_market_fills_our_queued_orders_alike(steps: list[tuple[Any, ...]]) -> None:
    assert hotpath.native is not None
    native, pure = hotpath.native.QueueModel(), queue_model.QueueModel()
    for name, *arguments in steps:
        found = [outcome(lambda q=q, n=name, a=arguments: getattr(q, n)(*a)) for q in (native, pure)]
        assert found[0] == found[1], (name, arguments)
        assert len(native) == len(pure)
        assert [native.ahead(i) for i in range(-4, 13)] == [pure.ahead(i) for i in range(-4, 13)]
