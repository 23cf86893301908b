"""How much this machine holds processes up, so that "within a second" can be tested on a busy one.

A promise in seconds is meant for a machine that gives its processes their turn. ``Pace`` runs a bystander beside the
thing under test: a process that works a millisecond and sleeps nine, over and over, and writes down how long both took.
What it lost to others in the same seconds is what the thing under test may have lost: the limit grows by that, and by
nothing else.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_WORK_NS = 1_000_000
_SLEEP_NS = 9_000_000
_RECORD = struct.Struct("<qqq")
"""When a turn ended (monotonic), how long its work took by the clock, and how late it woke up; all ns."""


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What a bystander saw in a stretch of time."""

    slowdown: float
    """Time by the clock for a second of work; 1 on an idle machine."""
    worst_s: float
    """The longest that it was kept from going on, in one go."""

    def allows_s(self, limit_s: float) -> float:
        """The limit of an idle machine, on this one."""
        return limit_s * self.slowdown + self.worst_s


class Pace:
    """``with Pace() as pace: ...; pace.assert_within(0.5, gap_s)``."""

    def __enter__(self) -> Self:
        self._file = Path(tempfile.mkstemp(prefix="tickmesh-pace-")[1])
        self._process = subprocess.Popen([sys.executable, "-S", "-E", __file__, str(self._file)])
        while not self._file.stat().st_size:
            assert self._process.poll() is None, "the bystander did not start"
            time.sleep(0.001)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._file.unlink()

    def seen(self) -> Hindrance:
        """What the bystander has seen until now, in all."""
        data = self._file.read_bytes()
        turns = list(_RECORD.iter_unpack(data[: len(data) // _RECORD.size * _RECORD.size]))
        silent_ns = time.monotonic_ns() - turns[-1][0] - _WORK_NS - _SLEEP_NS  # held up at this very moment
        worked_ns = sum(turn[1] for turn in turns)
        worst_ns = max(silent_ns, *(max(turn[1] - _WORK_NS, turn[2]) for turn in turns), 0)
        return Hindrance(max(1.0, worked_ns / (len(turns) * _WORK_NS)), worst_ns / 1e9)

    def assert_within(self, limit_s: float, took_s: float) -> None:
        """Fail when ``took_s`` is more than this machine explains."""
        seen = self.seen()
        assert took_s < seen.allows_s(limit_s), f"{took_s:.3f} s, allowed are {limit_s} s on an idle machine; {seen}"


def _stand_by(path: str) -> None:
    with open(path, "ab", buffering=0) as file:  # noqa: PTH123  # -S leaves little to import
        while True:
            before = time.monotonic_ns()
            end = time.thread_time_ns() + _WORK_NS
            while time.thread_time_ns() < end:
                pass
            worked = time.monotonic_ns()
            time.sleep(_SLEEP_NS / 1e9)
            now = time.monotonic_ns()
            file.write(_RECORD.pack(now, worked - before, now - worked - _SLEEP_NS))


if __name__ == "__main__":
    _stand_by(sys.argv[1])
