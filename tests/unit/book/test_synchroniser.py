"""A book that says it is right is right, whatever is lost, doubled or reordered; and it equals the oracle."""

import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.hotpath.pure.book import L2Book
from tickmesh.hotpath.pure.grid import Grid
from tickmesh.hotpath.pure.synchroniser import Diff, Outcome, Synchroniser
from tickmesh.venues.binance_usdm.codec_market import DepthFrame, Reply, parse_depth_snapshot, parse_frame
from tickmesh.venues.capture import Capture, Kind, infer_instruments, rebuild_book

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data")) / "binance-usdm"

level = st.tuples(st.integers(1, 40), st.integers(0, 5))


@given(st.lists(st.tuples(st.booleans(), level), max_size=200))
def test_the_book_equals_a_plain_dictionary(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    book, bids, asks = L2Book(), {}, {}
    for is_bid, (ticks, lots) in changes:
        side = bids if is_bid else asks
        (book.set_bid if is_bid else book.set_ask)(ticks, lots)
        side.pop(ticks, None)
        if lots:
            side[ticks] = lots
    assert book.bids() == sorted(bids.items(), reverse=True)
    assert book.asks() == sorted(asks.items())
    assert book.best_bid == (max(bids.items()) if bids else None)
    assert book.best_ask == (min(asks.items()) if asks else None)
    assert book.bids(3) == book.bids()[:3]
    assert book.asks(3) == book.asks()[:3]


def chain(changes: list[tuple[int, int]]) -> tuple[list[Diff], list[dict[int, int]]]:
    """Diffs with a sound sequence, and the true bids after each of them (index 0 is before the first)."""
    diffs, truth, bids = [], [{}], {}
    for number, (ticks, lots) in enumerate(changes):
        diffs.append(Diff(number * 10 + 1, number * 10 + 9, number * 10 - 1, [(ticks, lots)], []))
        bids = {**bids, ticks: lots}
        if not lots:
            del bids[ticks]
        truth.append(bids)
    return diffs, truth


@given(st.lists(level, min_size=3, max_size=40), st.data())
def test_a_book_that_says_it_is_right_is_right(changes: list[tuple[int, int]], data: st.DataObject) -> None:
    diffs, truth = chain(changes)
    deliveries = data.draw(st.lists(st.integers(0, len(diffs) - 1), max_size=120), label="what arrives, in this order")
    synchroniser = Synchroniser()
    newest = -1
    for index in deliveries:
        newest = max(newest, index)
        synchroniser.on_diff(diffs[index])
        if synchroniser.needs_snapshot:
            at = data.draw(st.integers(0, newest), label="the venue answers as of")
            synchroniser.on_snapshot(at * 10 + 5, list(truth[at + 1].items()), [])
        if synchroniser.synchronised:
            state = truth[(synchroniser.last_id - 9) // 10 + 1]
            assert dict(synchroniser.book.bids()) == state


def test_a_hole_is_a_gap_and_a_snapshot_mends_it() -> None:
    diffs, truth = chain([(1, 1), (2, 2), (3, 3), (4, 4)])
    synchroniser = Synchroniser()
    assert synchroniser.on_diff(diffs[0]) is Outcome.BUFFERED
    assert synchroniser.on_snapshot(5, [], [])
    assert synchroniser.synchronised
    assert synchroniser.on_diff(diffs[0]) is Outcome.OLD
    assert synchroniser.on_diff(diffs[2]) is Outcome.GAP
    assert synchroniser.gaps == 1
    assert synchroniser.needs_snapshot
    assert not synchroniser.on_snapshot(5, [], []), "a snapshot older than the buffer cannot be used"
    assert synchroniser.on_snapshot(25, list(truth[3].items()), [])
    assert synchroniser.on_diff(diffs[3]) is Outcome.APPLIED
    assert dict(synchroniser.book.bids()) == truth[4]


@pytest.mark.slow
def test_the_final_book_of_the_real_capture_equals_the_independent_rebuild() -> None:
    capture = DATA / "btcusdt_20240808.gz"
    if not capture.exists():
        pytest.skip(f"the capture {capture.name} is not there (TICKMESH_DATA)")
    instrument = infer_instruments(capture)["BTCUSDT"]
    prices = Grid(instrument.tick_size, "price", "BTCUSDT")
    lots = Grid(instrument.lot_size, "quantity", "BTCUSDT")
    synchroniser = Synchroniser()
    for record in Capture(capture).records():
        if record.kind is Kind.SNAPSHOT:
            snapshot = parse_depth_snapshot(record.raw)
            bids = [(prices.units(p), lots.units(q)) for p, q in snapshot.bids]
            asks = [(prices.units(p), lots.units(q)) for p, q in snapshot.asks]
            assert synchroniser.on_snapshot(snapshot.lastUpdateId, bids, asks)
            continue
        frame = parse_frame(record.raw)
        assert not isinstance(frame, Reply)
        if isinstance(frame, DepthFrame):
            synchroniser.on_diff(
                Diff(
                    frame.U, frame.u, frame.pu,
                    [(prices.units(p), lots.units(q)) for p, q in frame.b],
                    [(prices.units(p), lots.units(q)) for p, q in frame.a],
                )
            )  # fmt: skip
    oracle = rebuild_book(capture, "BTCUSDT")
    assert synchroniser.synchronised
    assert synchroniser.gaps == 0
    book = synchroniser.book
    assert {instrument.price(t): instrument.qty(q) for t, q in book.bids()} == _plain(oracle.bids)
    assert {instrument.price(t): instrument.qty(q) for t, q in book.asks()} == _plain(oracle.asks)
    assert not book.crossed


def _plain(side: object) -> dict[Decimal, Decimal]:
    items = side.items() if isinstance(side, dict) else side
    return {Decimal(p): Decimal(q) for p, q in items}  # type: ignore[attr-defined]
