"""Benchmarks of one process: bytes of a message to book and features, ours and theirs, on the same real frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tickmesh.book.replica import BookReplica
from tickmesh.book.synchroniser import Diff
from tickmesh.hotpath.pure.grid import Grid
from tickmesh.runtime.bench import rivals
from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.result import Result, from_ns
from tickmesh.venues.binance_usdm.codec_market import (
    BookTickerFrame,
    DepthFrame,
    TradeFrame,
    parse_depth_snapshot,
    parse_frame,
)

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


class PurePath:
    """The feed's work on one frame with the Python twin, without its sockets."""

    def __init__(self, frames: Frames) -> None:
        instrument = frames.instrument
        self._price = Grid(instrument.tick_size, "price", instrument.symbol).units
        self._qty = Grid(instrument.lot_size, "quantity", instrument.symbol).units
        self.replica = BookReplica(
            "binance",
            instrument.symbol,
            depth=10,
            flow_half_life_ns=1_000_000_000,
            volatility_interval_ns=1_000_000_000,
            volatility_half_life_ns=60_000_000_000,
        )
        start = parse_depth_snapshot(frames.snapshot)
        price, qty = self._price, self._qty
        bids = [(price(p), qty(q)) for p, q in start.bids]
        asks = [(price(p), qty(q)) for p, q in start.asks]
        # Benchmarks start at the snapshot and take the stream from there, as a reconnect does.
        for raw in frames.depth:
            self.replica.on_diff(self._diff(parse_frame(raw)), 0, 1)  # type: ignore[arg-type]
            if self.replica.on_snapshot(start.lastUpdateId, bids, asks, 1):
                break
        self._now_ns = 1

    def _diff(self, frame: DepthFrame) -> Diff:
        price, qty = self._price, self._qty
        return Diff(
            frame.U,
            frame.u,
            frame.pu,
            [(price(p), qty(q)) for p, q in frame.b],
            [(price(p), qty(q)) for p, q in frame.a],
        )

    def step(self, raw: bytes) -> object:
        """Parse, check the sequence, apply, compute the features."""
        frame = parse_frame(raw)
        self._now_ns += 100_000
        if isinstance(frame, DepthFrame):
            self.replica.on_diff(self._diff(frame), frame.T, self._now_ns)
        elif isinstance(frame, BookTickerFrame):
            price, qty = self._price, self._qty
            self.replica.on_top(
                frame.u, (price(frame.b), qty(frame.B)), (price(frame.a), qty(frame.A)), frame.T, self._now_ns
            )
        elif isinstance(frame, TradeFrame):
            return self._price(frame.p), self._qty(frame.q)
        return self.replica.update()


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
