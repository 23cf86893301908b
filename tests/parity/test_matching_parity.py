"""The matching engine and the queue model give the same fills, errors and books in both halves, callbacks included."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh import hotpath
from tickmesh.domain.enums import Side
from tickmesh.hotpath.pure import matching, queue_model
from tickmesh.hotpath.pure.grid import Grid
from tickmesh.hotpath.pure.market import DepthRead, TopRead, TradeRead, read
from tickmesh.venues.capture import Capture, Kind, infer_instruments
from tickmesh.venues.simvenue.exchange.market import Market
from tickmesh.venues.simvenue.exchange.types import ExchangeConfig

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


ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data")) / "binance-usdm"


class _Pure:
    MatchingBook, QueueModel = matching.MatchingBook, queue_model.QueueModel


class Desk:
    """simvenue's market on one half, with orders of ours in the queue and sweeps through the book."""

    def __init__(self, half: Any, instrument: Any) -> None:
        self.market = Market(instrument, ExchangeConfig())
        self.market.book, self.market.queue = half.MatchingBook(), half.QueueModel()
        self.order_id = 0

    def take(self, found: DepthRead | TopRead | TradeRead) -> Any:
        """A message of the venue; our fills of it."""
        market, queue = self.market, self.market.queue
        if isinstance(found, TradeRead):
            return queue.on_trade(found.ticks, found.lots, found.taker_side)
        if isinstance(found, TopRead):
            bought = queue.on_quote_through(Side.BUY, *found.ask)
            return bought, queue.on_quote_through(Side.SELL, *found.bid)
        for side, levels in ((Side.BUY, found.diff.bids), (Side.SELL, found.diff.asks)):
            for ticks, lots in levels:
                queue.on_level(side, ticks, lots)
                market.set_replay_level(side, ticks, lots)
        return None

    def act(self, number: int) -> Any:
        """Join the queue on both sides, near and far; leave it or shrink now and then; sweep some levels."""
        book, queue, done = self.market.book, self.market.queue, []
        for side in Side:
            best = book.best(side)
            if best is None:
                continue
            self.order_id += 1
            ticks = best - side * (number % 4)
            queue.join(self.order_id, side, ticks, 1 + number % 50, book.total(side, ticks))
            done.append(queue.ahead(self.order_id))
            if number % 3 == 0:
                queue.leave(self.order_id - 5)
            done.append(book.available(side.opposite, best - 20 * side, 10_000))
            if number % 5 == 0:
                done.append(book.take(side.opposite, best - 3 * side, 1 + number % 400, owner=7))
        return done

    def state(self, *, whole: bool) -> Any:
        book, queue = self.market.book, self.market.queue
        depth = None if whole else 5
        levels = [(book.best(side), book.levels(side, depth)) for side in Side]
        return levels, len(queue), [queue.ahead(n) for n in range(max(0, self.order_id - 20), self.order_id + 1)]


def test_the_fills_of_a_capture_are_equal() -> None:
    path = DATA / "btcusdt_20240808.gz"
    if not path.is_file():
        pytest.skip(f"no capture {path.name}")
    instrument = infer_instruments(path)["BTCUSDT"]
    grids = {"BTCUSDT": (Grid(instrument.tick_size, "price", ""), Grid(instrument.lot_size, "quantity", ""))}
    desks = [Desk(half, instrument) for half in (hotpath.native, _Pure)]
    fills = swept = 0
    for number, record in enumerate(itertools.islice(Capture(path).records(), 12_000)):
        found = read(record.raw, grids) if record.kind in (Kind.DEPTH, Kind.BOOK_TICKER, Kind.TRADE) else None
        if found is None:
            continue
        answers = [desk.take(found) for desk in desks]
        assert answers[0] == answers[1], record.raw
        fills += len(answers[0] or ()) if isinstance(found, TradeRead) else 0
        if number % 40 == 0:
            acts = [desk.act(number // 40) for desk in desks]
            assert acts[0] == acts[1]
            swept += sum(len(act.fills) for act in acts[0] if hasattr(act, "fills"))
            states = [desk.state(whole=number % 4_000 == 0) for desk in desks]
            assert states[0] == states[1]
    assert [desk.state(whole=True) for desk in desks].count(desks[0].state(whole=True)) == 2
    assert desks[0].market.book.drain_changed() == desks[1].market.book.drain_changed()
    assert fills > 100 and swept > 100, (fills, swept)
