"""Benchmarks of the engine: a tick in, the book and its features, a signal out; each stage and the whole way.

The strategy is the scalping example, flat, with the parameters of its resource: its kernel looks at the book after
every message that changed it, and its signals are made each time. Messages are the capture's, in its order. What the
engine spends on messages that change no book (trades, old tops) is not counted: that would flatter the median.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tickmesh.hotpath import APPLIED, TOP
from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.market import Path, half
from tickmesh.runtime.bench.result import Result, from_ns
from tickmesh.strategy.examples.scalping import Scalping
from tickmesh.strategy.interface import StrategyConfig

STAGES = ("", "tick", "book", "signal", "top")
_WHAT = {
    "": "tick in to signal out: frame, book, imbalance, decision, signals; every message that changed the book",
    "tick": "bookTicker bytes into the book",
    "book": "depth message bytes into the book",
    "signal": "book to decision to signals (scalping)",
    "top": "tick in to signal out of the bookTicker messages alone, which is what the reference calls a tick",
}
_MAX_FRAMES = 60_000
_WARM = 2_000


def engine(name: str, stage: str) -> Callable[[Frames], Result]:
    """One stage, or with ``stage`` empty the whole way, through one half."""

    def run(frames: Frames) -> Result:
        label = f"engine_{name}_{stage}" if stage else f"engine_{name}"
        return from_ns(label, _measured(name, frames)[stage], f"{_WHAT[stage]}, {name}")

    return run


_cache: dict[tuple[str, int], dict[str, list[int]]] = {}


def _measured(name: str, frames: Frames) -> dict[str, list[int]]:
    """Durations in ns by stage; the stages of one half are measured together, in one pass."""
    key = (name, id(frames))
    if key in _cache:
        return _cache[key]
    path, symbol = Path(half(name), frames), frames.instrument.symbol
    plugin = Scalping()
    plugin.initialize(StrategyConfig(name="bench", symbols=(symbol,), instruments={symbol: frames.instrument}))
    kernel = half(name).LeanSignal(0.25, 20)
    replica, take, decide, signals = path.replica, path.market.on_frame, kernel.of, plugin.entry
    clock = time.perf_counter_ns
    found: dict[str, list[int]] = {stage: [] for stage in STAGES}
    whole, tick, book, signal, top = (found[stage].append for stage in STAGES)
    for raw in frames.mix[:_MAX_FRAMES]:
        began = clock()
        outcome = take(raw)
        if outcome != TOP and outcome != APPLIED:
            continue
        parsed = clock()
        signals(symbol, decide(replica), kernel.lean)
        ended = clock()
        whole(ended - began)
        if outcome == TOP:
            tick(parsed - began)
            top(ended - began)
        else:
            book(parsed - began)
        signal(ended - parsed)
    path.sound()
    for durations in found.values():
        del durations[: min(_WARM, len(durations) // 10)]
    _cache[key] = found
    return found
