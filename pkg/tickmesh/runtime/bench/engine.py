"""Benchmarks of the engine: a tick in, the book and its features, a signal out; each stage and the whole way.

The strategy is the scalping example, flat, with the parameters of its resource: its kernel looks at the book after
every message that changed it, and its signals are made each time. Messages are the capture's, in its order. What the
engine spends on messages that change no book (trades, old tops) is not counted: that would flatter the median. The
reference's figures are of single ticks and single levels: ``top`` is the one, ``level`` the other, from the capture's
own depth messages cut up into one message a level.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from tickmesh.hotpath import APPLIED, TOP
from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.market import Path, half
from tickmesh.runtime.bench.result import Result, from_ns
from tickmesh.strategy.examples.scalping import Scalping
from tickmesh.strategy.interface import StrategyConfig

_TOGETHER = ("", "tick", "book", "signal", "top")
STAGES = (*_TOGETHER, "level")
_WHAT = {
    "": "tick in to signal out: frame, book, imbalance, decision, signals; every message that changed the book",
    "tick": "bookTicker bytes into the book",
    "book": "depth message bytes into the book",
    "signal": "book to decision to signals (scalping)",
    "top": "tick in to signal out of the bookTicker messages alone, which is what the reference calls a tick",
    "level": "depth message of one level in, signal out: the reference's book update; the capture's, cut up by level",
}
_MAX_FRAMES = 60_000
_WARM = 2_000


def engine(name: str, stage: str) -> Callable[[Frames], Result]:
    """One stage, or with ``stage`` empty the whole way, through one half."""

    def run(frames: Frames) -> Result:
        if stage == "level":
            return from_ns(f"engine_{name}_level", _one_level(name, frames), f"{_WHAT[stage]}, {name}")
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
    kernel, signals = half(name).LeanSignal(0.25, 20), _strategy(frames).entry
    replica, take, decide = path.replica, path.market.on_frame, kernel.of
    clock = time.perf_counter_ns
    found: dict[str, list[int]] = {stage: [] for stage in _TOGETHER}
    whole, tick, book, signal, top = (found[stage].append for stage in _TOGETHER)
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


def _one_level(name: str, frames: Frames) -> list[int]:
    """Durations in ns from a depth message of one level to the signals."""
    path, symbol = Path(half(name), frames), frames.instrument.symbol
    kernel, signals = half(name).LeanSignal(0.25, 20), _strategy(frames).entry
    replica, take, decide, clock = path.replica, path.market.on_frame, kernel.of, time.perf_counter_ns
    durations = []
    for raw in _cut_up(frames.depth, replica.last_id):
        began = clock()
        outcome = take(raw)
        signals(symbol, decide(replica), kernel.lean)
        durations.append(clock() - began)
        if outcome != APPLIED:
            raise RuntimeError("a message of one level was not applied; the figures would be worthless")
    path.sound()
    return durations[_WARM:]


def _cut_up(depth: Sequence[bytes], last_id: int) -> Iterator[bytes]:
    """Each level of the messages after ``last_id`` in a message of its own, in order, numbered from there on."""
    number = last_id
    for raw in depth:
        whole = msgspec.json.decode(raw)
        if whole["data"]["u"] <= last_id:
            continue
        for side, level in ((name, level) for name in "ba" for level in whole["data"][name]):
            one = {"U": number + 1, "u": number + 1, "pu": number, "b": [], "a": [], side: [level]}
            number += 1
            yield msgspec.json.encode({**whole, "data": {**whole["data"], **one}})
            if number - last_id >= _MAX_FRAMES:
                return


def _strategy(frames: Frames) -> Scalping:
    plugin, symbol = Scalping(), frames.instrument.symbol
    plugin.initialize(StrategyConfig(name="bench", symbols=(symbol,), instruments={symbol: frames.instrument}))
    return plugin
