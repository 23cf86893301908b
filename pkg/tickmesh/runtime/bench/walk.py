"""Benchmark of an order's way without anybody else: from a frame's bytes to the order's bytes at a socket, one process.

In: a pause between two walks. Out: the time of a walk, with the medians of its parts. What the pause adds is what the
caches, the branch predictors and the interpreter forget in it; decision record 0170.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

from tickmesh.domain.messages import Stamps
from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.result import Result, from_ns
from tickmesh.services.rehearsal import Rehearsal
from tickmesh.settings import load

_WARM = 200
_PARTS = {
    "in_feed": ("tick_receive_mono_ns", "feed_publish_mono_ns"),
    "to_strategy": ("feed_publish_mono_ns", "strategy_receive_mono_ns"),
    "in_strategy": ("strategy_receive_mono_ns", "intent_publish_mono_ns"),
    "to_execution": ("intent_publish_mono_ns", "execution_receive_mono_ns"),
    "in_checks": ("execution_receive_mono_ns", "validated_mono_ns"),
    "to_socket": ("validated_mono_ns", "sent_mono_ns"),
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an order is due, how many are measured, and how often the way is rehearsed meanwhile (0 never)."""

    name: str
    pause_s: float
    orders: int
    rehearse_s: float
    what: str


PACES = (
    Pace("walk", 0.0, 3000, 0.0, "back to back"),
    Pace("walk_2ms", 0.002, 1000, 0.0, "every 2 ms, spinning in between"),
    Pace("walk_150ms", 0.15, 100, 0.0, "every 150 ms, spinning in between"),
    Pace("walk_150ms_rehearsed", 0.15, 100, 0.001, "every 150 ms, rehearsed every millisecond in between"),
)


def walk(pace: Pace) -> Callable[[Frames], Result]:
    """The benchmark of one pace."""
    return lambda _: asyncio.run(_walk(pace))


async def _walk(pace: Pace) -> Result:
    stamps: list[Stamps] = []
    async with Rehearsal.open(load()) as rehearsal:
        for _ in range(_WARM):
            rehearsal.once()
        gc.collect()
        gc.freeze()
        while len(stamps) < pace.orders:
            _wait(pace, rehearsal)
            if rehearsal.once():
                stamps.append(rehearsal.stamps)
    parts = {name: sorted(getattr(s, end) - getattr(s, begin) for s in stamps) for name, (begin, end) in _PARTS.items()}
    shown = ", ".join(f"{name} {times[len(times) // 2] / 1000:.0f}" for name, times in parts.items())
    whole = [s.sent_mono_ns - s.tick_receive_mono_ns for s in stamps]
    return from_ns(
        pace.name, whole, f"frame's bytes to order's bytes at a socket, one process alone, {pace.what}: {shown}"
    )


def _wait(pace: Pace, rehearsal: Rehearsal) -> None:
    now = time.perf_counter()
    end, due = now + pace.pause_s, now + pace.rehearse_s
    while now < end:
        if pace.rehearse_s and now >= due:
            rehearsal.once()
            due = now + pace.rehearse_s
        now = time.perf_counter()
