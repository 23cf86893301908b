"""Benchmarks of one process: bytes of a message to book and features, ours and theirs, on the same real frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tickmesh.domain.messages import MarkPrice
from tickmesh.hotpath.pure.market import Market as PureHotMarket
from tickmesh.hotpath.pure.replica import BookReplica
from tickmesh.runtime.bench import rivals
from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.result import Result, from_ns
from tickmesh.settings.feed import FeedSettings
from tickmesh.venues.binance_usdm.codec_market import parse_depth_snapshot
from tickmesh.venues.binance_usdm.market_intake import Market, MarketIntake

_ROUNDS = 2


def timed(step: Callable[[bytes], object], frames: Sequence[bytes]) -> list[int]:
    """Durations in ns of ``step`` over each frame; the first tenth warms up and is not counted."""
    clock = time.perf_counter_ns
    durations = []
    for frame in frames:
        began = clock()
        step(frame)
        durations.append(clock() - began)
    return durations[len(durations) // 10 :]


class _Sink:
    """Takes what the feed would publish and does nothing with it; a frame that is refused ends the benchmark."""

    def on_trade(self, market: Market, mono_ns: int) -> None: ...

    def on_mark(self, mark: MarkPrice, mono_ns: int) -> None: ...

    def on_dirty(self, market: Market) -> None: ...

    def on_gap(self, market: Market) -> None:
        raise RuntimeError("a gap in the capture: what follows would measure a dead book")

    def on_needs_snapshot(self, market: Market) -> None: ...

    def on_malformed(self, error: Exception, frame: bytes) -> None:
        raise error


class PurePath:
    """The feed's own intake on one frame, without its sockets: parse, check the sequence, apply, features."""

    def __init__(self, frames: Frames) -> None:
        keys = FeedSettings()
        instrument = frames.instrument
        self._market = Market(
            instrument,
            BookReplica(
                "binance",
                instrument.symbol,
                tick_size=instrument.tick_size,
                lot_size=instrument.lot_size,
                depth=keys.book_depth,
                flow_half_life_ns=1_000_000_000,
                volatility_interval_ns=1_000_000_000,
                volatility_half_life_ns=60_000_000_000,
            ),
        )
        self._intake = MarketIntake("binance", {instrument.symbol: self._market}, _Sink(), hot_market=PureHotMarket)
        snapshot = parse_depth_snapshot(frames.snapshot)
        # A message older than the snapshot is dropped by the rules, so the measured stream may start at its beginning.
        for raw in frames.depth:
            self._intake.on_frame(raw, 1)
            if self._intake.on_snapshot(self._market, snapshot, 1) and not self._market.replica.stale:
                break

    def step(self, raw: bytes) -> object:
        """One frame to the message that the feed would publish."""
        market = self._market
        self._intake.on_frame(raw, 1)
        if market.dirty:
            market.dirty = False
            return market.replica.update()
        return None


def timer(_: Frames) -> Result:
    """What measuring itself costs; it is in every figure of this table."""
    return from_ns("timer", timed(lambda _: None, [b""] * 50_000), "an empty call between two clock readings")


def depth_pure(frames: Frames) -> Result:
    durations = [d for _ in range(_ROUNDS) for d in timed(PurePath(frames).step, frames.depth)]
    what = f"depth message ({frames.mean_levels:.0f} levels) bytes to book to features, Python"
    return from_ns("depth_pure", durations, what)


def top_pure(frames: Frames) -> Result:
    path = PurePath(frames)
    for raw in frames.depth[:200]:
        path.step(raw)
    return from_ns("top_pure", timed(path.step, frames.tops[:20_000]), "bookTicker bytes to features, Python")


def mix_pure(frames: Frames) -> Result:
    """Messages a second of the natural mix, in blocks of 1000, on one core."""
    path = PurePath(frames)
    clock = time.perf_counter_ns
    rates = []
    for start in range(0, len(frames.mix) - 999, 1000):
        block = frames.mix[start : start + 1000]
        began = clock()
        for raw in block:
            path.step(raw)
        rates.append(1000 * 1e9 / (clock() - began))
    rates.sort()
    return Result(
        "mix_pure",
        "msg/s",
        p50=round(rates[len(rates) // 2]),
        p99=round(rates[len(rates) // 100]),
        n=len(frames.mix),
        what="messages a second of the capture's natural mix on one core, Python (p99: the slowest hundredth)",
    )


def _rival(name: str, make: Callable[[Frames], rivals.Step], what: str) -> Callable[[Frames], Result]:
    def run(frames: Frames) -> Result:
        return from_ns(name, timed(make(frames), frames.depth), what)

    return run


def depth_hftbacktest(frames: Frames) -> Result:
    step, count = rivals.hftbacktest(frames)
    clock = time.perf_counter_ns
    durations = []
    for index in range(count):
        began = clock()
        step(index)
        durations.append(clock() - began)
    return from_ns("depth_hftbacktest", durations, "hftbacktest's native depth, no JSON: floats prepared beforehand")


depth_msgspec_floor = _rival("depth_msgspec_floor", rivals.msgspec_floor, "bare msgspec decode of the same bytes")
copy_floor = _rival("copy_floor", rivals.memory_copy, "memory copy of the same bytes")
depth_cryptofeed = _rival("depth_cryptofeed", rivals.cryptofeed, "cryptofeed's path: yapic.json, Decimal, order_book")
depth_nautilus = _rival("depth_nautilus", rivals.nautilus, "NautilusTrader's Binance adapter and OrderBook")
