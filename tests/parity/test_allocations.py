"""The native half allocates nothing per message on the steady path: part by part, by the crate's own count.

What goes out to Python (a payload, an approved order) is an object of Python's; that a frame makes none of those either
is in ``test_market_parity``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.parity.twins import STAMPS, Twins, snapshot

from tickmesh import hotpath
from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.messages import OrderIntent
from tickmesh.hotpath.pure.ring import ring_bytes
from tickmesh.risk.limits import Limits
from tickmesh.runtime.bench.orders import decode_intent, desk_and_intents
from tickmesh.venues.capture import Capture, Kind

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")

ROOT = Path(__file__).resolve().parents[2]
CAPTURE = (
    Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data")) / "binance-usdm" / "btcusdt_20240808.gz"
)
NATIVE: Any = hotpath.native
WARM, COUNTED = 5_000, 15_000


def allocations(step: Callable[[Any], object], warm: Iterator[Any], counted: Iterator[Any]) -> int:
    """How often the crate asked for memory in ``step`` over ``counted``, once ``warm`` is behind it."""
    for each in warm:
        step(each)
    items = list(counted)
    assert len(items) > 1_000
    before = NATIVE.allocations()
    for each in items:
        step(each)
    return int(NATIVE.allocations() - before)


def test_the_count_counts() -> None:
    made = NATIVE.L2Book()
    for ticks in range(100):
        made.set_bid(ticks, 1)
    before = NATIVE.allocations()
    NATIVE.Histogram()
    made.bids()
    assert NATIVE.allocations() - before >= 2


@pytest.fixture(scope="module")
def market() -> tuple[Any, Any, dict[Kind, list[bytes]]]:
    """A living book of the capture, and the frames that come next, by kind: of depth, only those that follow."""
    if not CAPTURE.is_file():
        pytest.skip(f"the capture {CAPTURE.name} is not there (TICKMESH_DATA)")
    twins = Twins({"BTCUSDT": ("0.10", "0.001")})
    frames: dict[Kind, list[bytes]] = {}
    for record in Capture(CAPTURE).records():
        if record.kind is Kind.SNAPSHOT:
            snapshot(twins, "BTCUSDT", record.raw)
        frames.setdefault(record.kind, []).append(record.raw)
    return twins.markets[0], twins.replicas["BTCUSDT"][0], frames


@pytest.mark.parametrize(
    ("kind", "outcome"), [(Kind.DEPTH, "APPLIED"), (Kind.BOOK_TICKER, "TOP"), (Kind.TRADE, "TRADE")]
)
def test_a_frame_its_features_and_its_messages(
    market: tuple[Any, Any, dict[Kind, list[bytes]]], kind: Kind, outcome: str
) -> None:
    source, replica, frames = market
    outcomes: list[int] = []

    def step(frame: bytes) -> None:
        outcomes.append(source.on_frame(frame))
        replica.features()
        replica.encode_update(*STAMPS)
        replica.keep_trade()
        assert len(replica.encode_trades(*STAMPS)) == 1

    chosen = frames[kind]
    warm = min(WARM, len(chosen) // 3)
    if kind is not Kind.DEPTH:  # a top is newer than the book, and a trade needs none
        replica.disconnect()
        replica.on_snapshot(1, [(600_000, 5)], [(620_000, 5)])
        replica.on_diff((1, 1, 1, [], []), 0)
    found = allocations(step, iter(chosen[:warm]), iter(chosen[warm : warm + COUNTED]))
    assert found == 0
    assert outcomes[warm:].count(getattr(hotpath, outcome)) > 0.9 * (len(outcomes) - warm), "it must have been used"
    assert source.left_to_twin == 0


def test_a_decision_a_latency_and_a_token(market: tuple[Any, Any, dict[Kind, list[bytes]]]) -> None:
    _, replica, _ = market
    kernel, histogram, bucket = NATIVE.LeanSignal(0.1, 10), NATIVE.Histogram(), NATIVE.TokenBucket(10, 1_000)

    def step(number: int) -> None:
        kernel.of(replica)
        histogram.record(number * 977)
        bucket.take(1, number * 500)

    assert allocations(step, iter(range(10)), iter(range(10, COUNTED))) == 0
    assert histogram.count == COUNTED


def test_a_message_through_the_ring() -> None:
    memory = memoryview(bytearray(ring_bytes(256, 512)))
    writer = NATIVE.RingWriter(memory, 256, 512, generation=1)
    reader = NATIVE.RingReader(memory)
    subjects = itertools.cycle(["md.book.binance.BTCUSDT", "md.trade.binance.BTCUSDT"])

    def step(number: int) -> None:
        writer.write(next(subjects), b"x" * (number % 400))
        writer.sleepers()
        assert reader.read() is not None

    assert allocations(step, iter(range(400)), iter(range(COUNTED))) == 0
    assert reader.lost == 0


def test_an_order_through_all_pre_trade_checks_with_its_reservation() -> None:
    desk, view, intents = desk_and_intents(COUNTED)
    # A window of messages grows until it holds what its limit counts, once; it has then got all of its memory.
    desk.set_limits(Limits(max_messages_per_s=1_000, max_messages_per_min=2_000, throttle_orders=2_000))
    decoded = [decode_intent(raw) for raw in intents]
    times_ns = itertools.count(50_000_000_000, 2_000_000_000)

    def step(intent: OrderIntent) -> None:
        now_ns = next(times_ns)
        view.on_book("BTCUSDT", 599_999, 600_000, now_ns)
        view.on_mark("BTCUSDT", Decimal(60_000), now_ns)
        answer = desk.approve(intent, view, intent.publish_ns, now_ns)
        assert isinstance(answer, ApprovedOrder), answer
        view.release(answer.client_order_id)

    assert allocations(step, iter(decoded[:WARM]), iter(decoded[WARM:])) == 0
    assert desk.quick == COUNTED, "the kernel must have said yes"
