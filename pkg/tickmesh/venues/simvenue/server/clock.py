"""VenueClock: the one place where venue time is made; wall clock in, milliseconds and nanoseconds out.

The exchange runs on true time, so that its timers never stand still. What clients are shown and what their timestamps
are compared with is shifted by ``offset_ms``, the fault of a venue whose clock is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

NS_PER_MS = 1_000_000


class VenueClock:
    """Clock of one venue; ``offset_ms`` is added to every time that leaves it."""

    def __init__(self, wall_ns: Callable[[], int]) -> None:
        self.now_ns = wall_ns
        self.offset_ms = 0

    def now_ms(self) -> int:
        """True time, for the exchange."""
        return self.now_ns() // NS_PER_MS

    def shown_ms(self) -> int:
        """Time as clients see it."""
        return self.now_ns() // NS_PER_MS + self.offset_ms

    def shown(self, true_ms: int) -> int:
        """A true time as clients see it; 0 stays 0."""
        return true_ms + self.offset_ms if true_ms else 0
