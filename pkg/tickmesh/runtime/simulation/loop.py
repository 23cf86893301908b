"""VirtualLoop: an asyncio event loop without threads, sockets or a clock of its own.

In: callbacks and timers of one simulated process. Out: they run one at a time, when the world says so. The world owns
time; this loop never waits. A process is killed by never running its loop again (``World`` sees to what is left).
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from typing import Any


class VirtualLoop(asyncio.BaseEventLoop):
    """One process's loop.

    Args:
        mono_ns: the machine's monotonic clock.
        on_error: called with what a callback or a task raised and nobody caught.
    """

    def __init__(self, mono_ns: Callable[[], int], on_error: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._mono_ns = mono_ns
        self.set_exception_handler(lambda _loop, context: on_error(context))
        self.ran = 0
        """Callbacks run so far: the simulation's unit of progress."""

    def time(self) -> float:
        return self._mono_ns() / 1e9

    @property
    def ready(self) -> bool:
        """Whether a callback could run now."""
        return bool(self._ready)  # type: ignore[attr-defined]

    def next_due_ns(self) -> int | None:
        """When the next timer is due, on the machine's monotonic clock."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        return math.ceil(scheduled[0]._when * 1e9) if scheduled else None

    def wake_due(self) -> None:
        """Make every timer that is due ready."""
        now_s, scheduled = self.time() + 1e-9, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._when <= now_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)  # type: ignore[attr-defined]

    def run_one(self) -> None:
        """Run the callback whose turn it is."""
        handle = self._ready.popleft()  # type: ignore[attr-defined]
        if handle._cancelled:
            return
        self.ran += 1
        asyncio._set_running_loop(self)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)

    def forget(self) -> None:
        """Nothing of this loop will ever run again."""
        self.set_exception_handler(lambda _loop, _context: None)
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]

    def _write_to_self(self) -> None:
        """Nobody waits in another thread."""

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets."""
