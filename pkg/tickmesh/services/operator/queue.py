"""WorkQueue: keys to look at, each at most once at a time, not too often, and less often while it fails.

In: ``add(key)`` from watch events, however many. Out: calls of a worker. A key added while it is worked on is worked
on once more; a storm of events for one key costs one call per ``min_interval_s``; a failing key waits twice as long
each time, up to ``max_backoff_s``. It holds keys, never objects: the worker looks at the newest state itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Owned by one event loop. ``calls`` and ``failures`` are for metrics and tests."""

    def __init__(
        self,
        worker: Callable[[K], Awaitable[float | None]],
        *,
        min_interval_s: float = 0.2,
        base_backoff_s: float = 0.5,
        max_backoff_s: float = 60.0,
        concurrency: int = 8,
    ) -> None:
        """``worker(key)`` returns None, or seconds after which it wants to look again; an exception is a failure."""
        self._worker = worker
        self._min_interval_s = min_interval_s
        self._base_s = base_backoff_s
        self._max_s = max_backoff_s
        self._slots = asyncio.Semaphore(concurrency)
        self._due: dict[K, float] = {}
        self._running: set[K] = set()
        self._last: dict[K, float] = {}
        self._failed: dict[K, int] = {}
        self._changed = asyncio.Event()
        self.calls = 0
        self.failures = 0

    def __len__(self) -> int:
        return len(self._due) + len(self._running)

    def add(self, key: K, after_s: float = 0.0) -> None:
        """Ask for ``key`` to be looked at; an earlier request stands."""
        now = asyncio.get_running_loop().time()
        due = max(now + after_s, self._last.get(key, 0.0) + self._min_interval_s)
        if self._failed.get(key) and key in self._due:
            return  # it waits for its next try; an event does not shorten that, or a failing status write would spin
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()

    def forget(self, key: K) -> None:
        """The thing is gone: no more tries."""
        self._due.pop(key, None)
        self._last.pop(key, None)
        self._failed.pop(key, None)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                now = asyncio.get_running_loop().time()
                ready = [k for k, due in self._due.items() if due <= now and k not in self._running]
                for key in ready:
                    await self._slots.acquire()
                    self._due.pop(key, None)
                    self._running.add(key)
                    group.create_task(self._one(key))
                waiting = [due for k, due in self._due.items() if k not in self._running]
                timeout = max(0.0, min(waiting) - asyncio.get_running_loop().time()) if waiting else None
                try:
                    async with asyncio.timeout(timeout):
                        await self._changed.wait()
                except TimeoutError:
                    pass

    async def _one(self, key: K) -> None:
        loop = asyncio.get_running_loop()
        again: float | None = None
        self.calls += 1
        self._last[key] = loop.time()
        try:
            again = await self._worker(key)
            self._failed.pop(key, None)
        except Exception as error:  # whatever failed, desired state is tried again, later and later
            self.failures += 1
            count = self._failed[key] = self._failed.get(key, 0) + 1
            again = min(self._max_s, self._base_s * 2 ** min(count - 1, 20)) * random.uniform(0.75, 1.25)
            log.warning("%s failed (%d. time), again in %.1f s: %s", key, count, again, error or type(error).__name__)
        finally:
            self._running.discard(key)
            self._slots.release()
            if again is not None:
                due = loop.time() + again
                self._due[key] = due if self._failed.get(key) else min(due, self._due.get(key, due))
            self._changed.set()
