"""Time as a seam: two clocks, both in nanoseconds, never mixed."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Source of time for a shell; cores get time with the event instead."""

    def wall_ns(self) -> int:
        """Unix time; may step."""
        ...

    def mono_ns(self) -> int:
        """CLOCK_MONOTONIC: comparable between processes of one machine, never steps."""
        ...
