"""Both halves of book, features, parser and message codec are equal bit for bit, on captures and on random input."""

from __future__ import annotations

import collections
import functools
import gc
import itertools
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.parity.twins import STAMPS, Twins, bits, snapshot

from tickmesh import hotpath
from tickmesh.hotpath.pure import book as pure_book
from tickmesh.hotpath.pure import market as pure_market
from tickmesh.hotpath.pure.synchroniser import Diff
from tickmesh.venues.capture import Capture, Kind, infer_instruments

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data")) / "binance-usdm"


@pytest.mark.parametrize("name", ["btcusdt_20240808.gz", "stream_2021.txt"])
def test_books_features_and_messages_of_a_capture_are_equal(name: str) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"no capture {name}")
    snapshots: dict[str, bytes] = {}
    instruments = infer_instruments(DATA / name)
    if name.endswith(".txt"):
        others = Capture(DATA / "snapshots_2021.txt").records()
        snapshots = {r.symbol: r.raw for r in others if r.kind is Kind.SNAPSHOT}
        # The finer grid of the snapshots: one symbol still has old orders off the step that it lists today.
        instruments = infer_instruments(DATA / "snapshots_2021.txt")
    twins = Twins({s: (str(i.tick_size), str(i.lot_size)) for s, i in instruments.items()})
    counts: dict[int, int] = {}
    for number, record in enumerate(Capture(DATA / name).records()):
        if record.kind is Kind.SNAPSHOT:
            snapshot(twins, record.symbol or next(iter(twins.replicas)), record.raw)
        elif record.kind in (Kind.DEPTH, Kind.BOOK_TICKER, Kind.TRADE):
            outcome = twins.frame(record.raw)
            counts[outcome] = counts.get(outcome, 0) + 1
            if outcome == pure_market.BUFFERED and record.symbol in snapshots:
                snapshot(twins, record.symbol, snapshots.pop(record.symbol))
        if number % 50 == 0:
            twins.compare(whole=number % 2500 == 0)
    twins.compare(whole=True)
    assert counts[pure_market.APPLIED] > 100 and counts[pure_market.TOP] > 100
    assert twins.markets[0].left_to_twin == 0, "the scanner must know the venue's own layout"


@settings(deadline=None)
@given(st.data())
def test_a_run_does_what_frames_one_by_one_do_and_stops_at_what_is_not_plain(data: st.DataObject) -> None:
    """Both halves run random reads of a capture with holes, repetitions, rubbish and foreign frames between them;
    a third market takes the same frames one by one."""
    if not (DATA / "btcusdt_20240808.gz").is_file():
        pytest.skip("no capture")
    twins, single = Twins({"BTCUSDT": ("0.10", "0.001")}), Twins({"BTCUSDT": ("0.10", "0.001")})
    pair, (alone, _) = twins.replicas["BTCUSDT"], single.replicas["BTCUSDT"]
    records = _first_records()
    frames = [r.raw for r in records if r.kind is not Kind.SNAPSHOT]
    strange = [
        b"",
        b"{}",
        b'{"e":"trade"',
        frames[0][:-9],
        frames[30].replace(b"BTCUSDT", b"ETHUSDT"),
        b'{"result":null,"id":1}',
    ]
    start = data.draw(st.integers(0, 100))
    for number in range(data.draw(st.integers(1, 12))):
        read = list(frames[start : (start := start + data.draw(st.integers(0, 60)))])
        for at in data.draw(st.lists(st.integers(0, 60), max_size=3)):
            what = data.draw(st.sampled_from(["strange", "hole", "again"]))
            if what == "strange":
                read.insert(at, data.draw(st.sampled_from(strange)))
            elif read and what == "hole":
                del read[at % len(read)]
            elif read:
                read.insert(at, read[at % len(read)])
        if number == 1:
            body = next(r.raw for r in records if r.kind is Kind.SNAPSHOT)
            snapshot(twins, "BTCUSDT", body)
            snapshot(single, "BTCUSDT", body)
        _run_and_compare(twins, single, read)
        twins.compare(whole=True)
        assert bits(pair[0].features()) == bits(alone.features()) and pair[0].checksum() == alone.checksum()


def _run_and_compare(twins: Twins, single: Twins, read: list[bytes]) -> None:
    markets, pair, at, next_trade = twins.markets, twins.replicas["BTCUSDT"], 0, twins.replicas["BTCUSDT"][1].next_trade
    while at < len(read):
        began = at
        twins.both(lambda half, at=at: markets[half].run(read, at))
        at = twins.both(lambda half: markets[half].at)
        touched = twins.both(lambda half: markets[half].touched())
        kept = twins.both(lambda half: pair[half].encode_trades(*STAMPS))
        expected, ids = [single.frame(frame) for frame in read[began:at]], []
        for outcome, frame in zip(expected, read[began:at], strict=True):
            assert outcome in (pure_market.TOP, pure_market.TOP_OLD, pure_market.APPLIED, pure_market.TRADE)
            if outcome == pure_market.TRADE:
                ids.append(msgspec.json.decode(frame)["data"]["t"])
        assert ids == [msgspec.msgpack.decode(one)[7] for one in kept] == list(range(next_trade, next_trade + len(ids)))
        assert [msgspec.msgpack.decode(one)[3] for one in kept] == [STAMPS[2] + i for i in range(len(ids))]
        changed = any(o in (pure_market.TOP, pure_market.APPLIED) for o in expected)
        assert touched == ([(0, changed, pure_market.APPLIED in expected, len(ids))] if expected else [])
        next_trade += len(ids)
        if at == len(read):
            return
        outcome = single.frame(read[at])
        if not isinstance(outcome, tuple):  # else an error, the same one
            assert twins.both(lambda half: (markets[half].outcome, markets[half].last))[0] == outcome
            if outcome == pure_market.TRADE:
                next_trade = pair[1].trade_id + 1
                pair[0].next_trade = pair[1].next_trade = next_trade
        at += 1


def test_a_run_keeps_a_bounded_number_of_trades_and_stops_at_the_next_one() -> None:
    twins = Twins({"BTCUSDT": ("0.10", "0.001")})
    text = (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":%d,"p":"9.1","q":"1","m":true}}'
    )
    for replica in twins.replicas["BTCUSDT"]:
        replica.next_trade = 0
    assert twins.both(lambda half: twins.markets[half].run([text % n for n in range(300)], 0)) == 256
    assert twins.both(lambda half: twins.markets[half].outcome) == pure_market.TRADE
    assert len(twins.both(lambda half: twins.replicas["BTCUSDT"][half].encode_trades(*STAMPS))) == 256
    assert twins.both(lambda half: twins.replicas["BTCUSDT"][half].encode_trades(*STAMPS)) == []


@functools.cache
def _first_records() -> list[Any]:
    return list(itertools.islice(Capture(DATA / "btcusdt_20240808.gz").records(), 1_000))


level = st.tuples(st.integers(900, 1100) | st.integers(0, 2**53), st.integers(0, 4) | st.integers(0, 2**53))
levels = st.lists(level, max_size=12)


@given(st.lists(st.tuples(st.booleans(), level), max_size=300))
def test_levels_anywhere_give_the_same_book(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    assert hotpath.native is not None
    native, pure = hotpath.native.L2Book(), pure_book.L2Book()
    for is_bid, (ticks, lots) in changes:
        for book in (native, pure):
            (book.set_bid if is_bid else book.set_ask)(ticks, lots)
        assert native.best_bid == pure.best_bid
        assert native.best_ask == pure.best_ask
    assert native.bids() == pure.bids() and native.asks() == pure.asks()
    assert native.bids(3) == pure.bids(3) and native.asks(3) == pure.asks(3)
    for _, (ticks, _) in changes[:20]:
        assert native.bids_below(ticks, 4) == pure.bids_below(ticks, 4)
        assert native.asks_above(ticks, 4) == pure.asks_above(ticks, 4)
    assert (len(native), native.crossed, native.checksum()) == (len(pure), pure.crossed, pure.checksum())


@given(st.lists(st.tuples(st.sampled_from([0, 3_000, 20_000, 40_000, 90_000]), st.integers(0, 60), st.integers(0, 2))))
def test_a_touch_that_jumps_about_gives_the_same_book(moves: list[tuple[int, int, int]]) -> None:
    assert hotpath.native is not None
    native, pure = hotpath.native.L2Book(), pure_book.L2Book()
    for far, near, lots in moves:
        for book in (native, pure):
            book.set_bid(100_000 + far + near, lots)
            book.set_ask(300_000 - far - near, lots)
        for ticks in (0, far, 100_000 + far, 300_000 - far):
            assert native.bids_below(ticks, 3) == pure.bids_below(ticks, 3)
            assert native.asks_above(ticks, 3) == pure.asks_above(ticks, 3)
    for book in (native, pure):
        book.load([*pure.bids(), (7, 1), (7, 2), (8, 0)], pure.asks())
    assert native.bids() == pure.bids() and native.asks() == pure.asks()


@st.composite
def steps(draw: st.DrawFn) -> Iterator[tuple[str, Any]]:
    kinds = st.sampled_from(["diff", "diff", "diff", "again", "top", "snapshot", "trade", "disconnect", "silent"])
    return draw(st.lists(st.tuples(kinds, st.integers(0, 3), levels, levels, st.integers(0, 10**9)), max_size=60))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps())
@example([("diff", 1, [], [], 1), ("again", 0, [], [], 1)])
def test_any_sequence_of_events_gives_the_same_state(events: Any) -> None:
    twins = Twins({"BTCUSDT": ("0.10", "0.001")}, depth=3)
    pair = twins.replicas["BTCUSDT"]
    last, now_ns = 10, 1_000
    sent = [(10, 10)]
    for half in (0, 1):  # most of what can go wrong begins with a living book
        pair[half].on_snapshot(10, [(990, 5)], [(1010, 5)], 0)
        pair[half].on_diff(Diff(10, 10, 10, [], []), 1)
    for kind, skip, bids, asks, passed in events:
        now_ns += passed
        if kind == "diff":
            # A skipped id is a gap; zero repeats the last one.
            previous, last = last + max(0, skip - 2), last + 10 * min(skip, 1)
            sent.append((previous, last))
            diff = Diff(previous + 1, last, previous, bids, asks)
            twins.both(lambda half, d=diff, t=now_ns: pair[half].on_diff(d, t))
        elif kind == "again":
            before, then = sent[-1 - skip % len(sent)]
            diff = Diff(before + 1, then, before, bids, asks)
            twins.both(lambda half, d=diff, t=now_ns: pair[half].on_diff(d, t))
        elif kind == "top":
            top = (bids or [(1, 0)])[0], (asks or [(2, 0)])[0]
            twins.both(lambda half, i=last + skip, t=top, n=now_ns: pair[half].on_top(i, t[0], t[1], n))
        elif kind == "snapshot":
            twins.both(lambda half, i=last - skip, b=bids, a=asks, n=now_ns: pair[half].on_snapshot(i, b, a, n))
        elif kind == "trade":
            for replica in pair:
                replica.on_trade(last, passed, skip, -1 if skip else 1, now_ns)
        elif kind == "disconnect":
            for replica in pair:
                replica.disconnect()
        else:
            for replica in pair:
                replica.silent = skip > 1
        twins.compare()
        assert pair[0].update() == pair[1].update()
    twins.compare(whole=True)


edges = sorted({n for k in range(64) for n in (2**k - 1, 2**k, 1 - 2**k, -(2**k), -1 - 2**k) if -(2**63) <= n < 2**63})


@given(
    st.lists(st.sampled_from(edges) | st.integers(-(2**63), 2**63 - 1), min_size=6, max_size=6),
    st.text(max_size=300).filter(lambda t: t.isprintable()),
)
def test_a_message_has_the_bytes_that_msgspec_gives_it(stamps: list[int], symbol: str) -> None:
    twins = Twins({symbol: ("1", "1")})
    native, pure = twins.replicas[symbol]
    assert native.encode_update(*stamps) == pure.encode_update(*stamps)
    for replica in (native, pure):
        replica.on_trade(*stamps[:3], 1 if stamps[3] % 2 else -1, stamps[4])
        replica.keep_trade()
    (message,) = pure.encode_trades(*stamps)
    assert native.encode_trades(*stamps) == [message]
    assert isinstance(msgspec.msgpack.decode(message), list)


def test_integers_at_the_edge_of_each_form_have_the_bytes_that_msgspec_gives_them() -> None:
    native, pure = Twins({"S": ("1", "1")}).replicas["S"]
    for first in range(0, len(edges), 6):
        stamps = (edges[first:] + edges)[:6]
        assert native.encode_update(*stamps) == pure.encode_update(*stamps)


def test_the_steady_path_makes_no_python_object() -> None:
    if not (DATA / "btcusdt_20240808.gz").is_file():
        pytest.skip("no capture")
    twins = Twins({"BTCUSDT": ("0.10", "0.001")})
    market, (replica, _) = twins.markets[0], twins.replicas["BTCUSDT"]
    records = list(itertools.islice(Capture(DATA / "btcusdt_20240808.gz").records(), 60_000))
    snapshot(twins, "BTCUSDT", next(r.raw for r in records if r.kind is Kind.SNAPSHOT))
    frames = [r.raw for r in records if r.kind is not Kind.SNAPSHOT]
    for frame in frames[:5_000]:
        market.on_frame(frame)
    swallow = collections.deque[int](maxlen=0).extend
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        steps = [map(market.on_frame, block) for block in (frames[5_000:30_000], frames[30_000:])]
        swallow(steps[0])
        before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        tracemalloc.reset_peak()
        swallow(steps[1])
        blocks = sys.getallocatedblocks() - blocks
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    messages = len(frames) - 30_000
    # What measuring itself takes: a tuple and a few integers; one object a message would be 24,000 of them.
    assert messages > 20_000 and blocks < 20, blocks
    assert peak - before < 1_024, f"{peak - before} bytes at once, even if given back"
    assert replica.synchronised and replica.gaps == 0 and market.left_to_twin == 0


def test_the_steady_path_allocates_nothing() -> None:
    if not (DATA / "btcusdt_20240808.gz").is_file():
        pytest.skip("no capture")
    twins = Twins({"BTCUSDT": ("0.10", "0.001")})
    market, (replica, _) = twins.markets[0], twins.replicas["BTCUSDT"]
    frames: list[bytes] = []
    for number, record in enumerate(Capture(DATA / "btcusdt_20240808.gz").records()):
        if record.kind is Kind.SNAPSHOT:
            snapshot(twins, "BTCUSDT", record.raw)
        elif number < 5_000:
            market.on_frame(record.raw)
        elif number < 25_000:
            frames.append(record.raw)
        else:
            break
    assert hotpath.native is not None
    before = hotpath.native.allocations()
    for frame in frames:
        market.on_frame(frame)
        replica.features()
        replica.encode_update(*STAMPS)
    assert hotpath.native.allocations() == before
    replica.next_trade = 0  # none of them is the next one: a run then stops at each trade, else it goes through
    at = -1
    while (at := market.run(frames, at + 1)) < len(frames):
        pass
    assert hotpath.native.allocations() == before
    assert replica.synchronised and replica.gaps == 0, "the frames must have been applied"
