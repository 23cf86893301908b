"""Benchmarks of one process: bytes of a message to book and features, ours and theirs, on the same real frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tickmesh import hotpath
from tickmesh.domain.errors import TickmeshError
from tickmesh.hotpath.pure.market import Market as PureMarket
from tickmesh.hotpath.pure.replica import BookReplica as PureReplica
from tickmesh.hotpath.pure.signal import LeanSignal as PureLean
from tickmesh.runtime.bench import rivals
from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.result import Result, from_ns
from tickmesh.settings.feed import FeedSettings
from tickmesh.venues.binance_usdm.codec_market import parse_depth_snapshot

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


class Path:
    """The feed's work on one frame, without its sockets: parse, check the sequence, apply, compute the features."""

    def __init__(self, half: Half, frames: Frames) -> None:
        keys, instrument = FeedSettings(), frames.instrument
        self.market = half.Market()
        self.replica = half.BookReplica(
            "binance",
            instrument.symbol,
            tick_size=instrument.tick_size,
            lot_size=instrument.lot_size,
            depth=keys.book_depth,
            flow_half_life_ns=1_000_000_000,
            volatility_interval_ns=1_000_000_000,
            volatility_half_life_ns=60_000_000_000,
        )
        self.market.add(self.replica)
        snapshot = parse_depth_snapshot(frames.snapshot)
        bids = [(instrument.to_ticks(p), instrument.to_lots(q)) for p, q in snapshot.bids]
        asks = [(instrument.to_ticks(p), instrument.to_lots(q)) for p, q in snapshot.asks]
        for raw in frames.depth:
            self.market.on_frame(raw)
            if self.replica.on_snapshot(snapshot.lastUpdateId, bids, asks) and self.replica.synchronised:
                break
        else:
            raise AbsentError("the capture's depth messages never join its snapshot")
        on_frame, features = self.market.on_frame, self.replica.features

        def step(raw: bytes) -> object:
            on_frame(raw)
            return features()

        self.step: Callable[[bytes], object] = step
        """One frame to features; a closure, as those of the rivals are."""

    def sound(self) -> None:
        """What was measured must have been a living book."""
        if self.replica.gaps or self.replica.stale:
            raise RuntimeError("the book was not synchronised to the end; the figures would be worthless")


class Half(Protocol):
    """Either half of the hot path."""

    @property
    def Market(self) -> Any: ...

    @property
    def BookReplica(self) -> Any: ...

    @property
    def LeanSignal(self) -> Any: ...


def half(name: str) -> Half:
    """``pure`` or ``native``; both in one process, whichever the services use.

    Raises:
        AbsentError: the native half is not there.
    """
    if name == "pure":
        return _Pure
    if hotpath.native is None:
        raise AbsentError(f"the native half is not in use: {hotpath.WHY_PURE}")
    native: Half = hotpath.native
    return native


class _Pure:
    Market = PureMarket
    BookReplica = PureReplica
    LeanSignal = PureLean


class AbsentError(TickmeshError):
    """A benchmark that cannot run here; ``why`` is one sentence."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def timer(_: Frames) -> Result:
    """What measuring itself costs; it is in every figure of this table."""
    return from_ns("timer", timed(lambda _: None, [b""] * 50_000), "an empty call between two clock readings")


def depth(name: str) -> Callable[[Frames], Result]:
    """Depth messages of the capture through one half."""

    def run(frames: Frames) -> Result:
        durations = []
        for _ in range(_ROUNDS):
            path = Path(half(name), frames)
            durations += timed(path.step, frames.depth)
            path.sound()
        what = f"depth message ({frames.mean_levels:.0f} levels on average) bytes to book to features, {name}"
        return from_ns(f"depth_{name}", durations, what)

    return run


def small(name: str, kind: str) -> Callable[[Frames], Result]:
    """bookTicker or trade messages through one half."""

    def run(frames: Frames) -> Result:
        path = Path(half(name), frames)
        chosen = frames.tops if kind == "top" else frames.trades
        if not chosen:
            raise AbsentError(f"the capture has no {'bookTicker' if kind == 'top' else 'trade'} messages")
        step = path.step if kind == "top" else path.market.on_frame
        what = "bookTicker bytes to features" if kind == "top" else "trade bytes to a trade"
        return from_ns(f"{kind}_{name}", timed(step, chosen[:20_000]), f"{what}, {name}")

    return run


def mix(name: str) -> Callable[[Frames], Result]:
    """Messages a second of the natural mix, in blocks of 1000 (or a tenth of a short capture), on one core."""

    def run(frames: Frames) -> Result:
        path = Path(half(name), frames)
        clock = time.perf_counter_ns
        rates = []
        size = max(1, min(1000, len(frames.mix) // 10))
        for start in range(0, len(frames.mix) - size + 1, size):
            block = frames.mix[start : start + size]
            began = clock()
            for raw in block:
                path.step(raw)
            rates.append(size * 1e9 / (clock() - began))
        path.sound()
        rates.sort()
        what = f"messages a second of the capture's natural mix on one core, {name} (p99: the slowest hundredth)"
        p50, p99 = round(rates[len(rates) // 2]), round(rates[len(rates) // 100])
        return Result(f"mix_{name}", "msg/s", p50, p99, len(frames.mix), what)

    return run


def allocations_native(frames: Frames) -> Result:
    """Blocks that the crate's allocator hands out per message: into the book, its features, its message's bytes."""
    path = Path(half("native"), frames)
    count = getattr(hotpath.native, "allocations", None)
    if count is None:
        raise AbsentError("this native half was built without its allocation counter")
    stamps = (1, 2, 3, 4, 5, 6)

    def step(raw: bytes) -> None:
        path.step(raw)
        path.replica.encode_update(*stamps)

    warm = min(30_000, len(frames.mix) // 2)
    for raw in frames.mix[:warm]:
        step(raw)
    chosen = frames.mix[warm : warm + 10_000]
    before = count()
    for raw in chosen:
        step(raw)
    after = count()
    path.sound()
    per_message = (after - before) / len(chosen)
    what = "allocations of the crate per message on the steady path: book, features, message"
    return Result("allocations_native", "blocks", round(per_message, 4), round(per_message, 4), len(chosen), what)


def _rival(
    name: str, make: Callable[[Frames], rivals.Step], what: str, *, keeps_a_book: bool = False
) -> Callable[[Frames], Result]:
    def run(frames: Frames) -> Result:
        step = make(frames)
        durations = timed(step, frames.depth)
        if keeps_a_book:
            _same_book(frames, step)
        return from_ns(name, durations, what)

    return run


def _same_book(frames: Frames, step: rivals.Step) -> None:
    """A rival's book must end where ours does: it has then done the work. Its last message again changes nothing."""
    path = Path(half("pure"), frames)
    for raw in frames.depth:
        path.market.on_frame(raw)
    path.sound()
    (bid, bid_lots), (ask, ask_lots) = path.replica.bids(1)[0], path.replica.asks(1)[0]
    tick = float(frames.instrument.tick_size)
    ours = (bid + ask) / 2 * tick, (ask - bid) * tick, (bid_lots - ask_lots) / (bid_lots + ask_lots)
    theirs: Any = step(frames.depth[-1])
    if any(abs(float(their) - our) > 1e-6 * tick for their, our in zip(theirs, ours, strict=True)):
        raise RuntimeError(f"its book ends at {theirs}, ours at {ours}: the figure would compare different work")


def depth_hftbacktest(frames: Frames) -> Result:
    """Depth messages through hftbacktest's book, whose input was parsed before."""
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
depth_cryptofeed = _rival(
    "depth_cryptofeed", rivals.cryptofeed, "cryptofeed's path: yapic.json, Decimal, order_book", keeps_a_book=True
)
depth_nautilus = _rival(
    "depth_nautilus", rivals.nautilus, "NautilusTrader's Binance adapter and OrderBook", keeps_a_book=True
)
