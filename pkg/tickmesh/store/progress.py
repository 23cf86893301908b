"""How far a numbered stream is recorded, and what it lost before we read it.

Pure. Sequence numbers in, in any order and more than once; out comes the highest one and the holes below it.
A hole that nobody fills within the grace time is missed for good: the stream purged or expired it under us.
Redelivery, several recorders and restarts only fill holes late, so they count nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

MAX_HOLES = 512


class Hole(msgspec.Struct, array_like=True, frozen=True):
    """Numbers ``first`` to ``last`` (inclusive) have not come; open since ``since_ns`` (wall clock)."""

    first: int
    last: int
    since_ns: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


class Progress(msgspec.Struct, frozen=True):
    """State of one lane; ``high_seq`` 0 means nothing yet."""

    high_seq: int = 0
    holes: tuple[Hole, ...] = ()
    missed: int = 0


def advance(progress: Progress, seen: Iterable[tuple[int, bool]], now_ns: int, grace_ns: int) -> Progress:
    """Note ``seen`` (sequence number, redelivered) and give up holes older than ``grace_ns``.

    A number below the highest one that fills no hole and is no redelivery comes from a stream that was made
    anew: counting starts again there. At most ``MAX_HOLES`` stay open; the oldest are then given up early.
    """
    high, holes, missed = progress.high_seq, list(progress.holes), progress.missed
    for seq, redelivered in sorted(seen):
        if seq <= 0:
            continue
        if high == 0:
            high = seq
        elif seq > high:
            if seq > high + 1:
                holes.append(Hole(high + 1, seq - 1, now_ns))
            high = seq
        else:
            at = next((i for i, h in enumerate(holes) if h.first <= seq <= h.last), None)
            if at is not None:
                holes[at : at + 1] = _without(holes[at], seq)
            elif not redelivered and seq != high:
                high, holes = seq, []
    expired = [h for h in holes if now_ns - h.since_ns > grace_ns]
    kept = [h for h in holes if now_ns - h.since_ns <= grace_ns]
    expired += kept[: max(0, len(kept) - MAX_HOLES)]
    return Progress(high, tuple(kept[-MAX_HOLES:]), missed + sum(h.size for h in expired))


def _without(hole: Hole, seq: int) -> list[Hole]:
    parts = (Hole(hole.first, seq - 1, hole.since_ns), Hole(seq + 1, hole.last, hole.since_ns))
    return [part for part in parts if part.size > 0]
