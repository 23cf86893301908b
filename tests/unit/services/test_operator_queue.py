"""The operator's work queue: storms are merged, failures wait longer and longer, nothing is worked on twice at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

from tickmesh.services.operator.queue import WorkQueue


@contextlib.asynccontextmanager
async def running(worker: Callable[[str], Awaitable[float | None]], **keys: float) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(worker, **keys)  # type: ignore[arg-type]
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_storm_of_events_is_a_few_calls_and_the_last_state_is_seen() -> None:
    state, seen = 0, []

    async def worker(_: str) -> None:
        seen.append(state)

    async with running(worker, min_interval_s=0.05) as queue:
        for number in range(1, 201):
            state = number
            queue.add("a")
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
    assert seen[-1] == 200
    assert len(seen) <= 20


async def test_a_key_is_never_worked_on_twice_at_once() -> None:
    inside, most = 0, 0

    async def worker(_: str) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1

    async with running(worker, min_interval_s=0.0) as queue:
        for _ in range(50):
            queue.add("a")
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.1)
    assert most == 1
    assert queue.calls >= 2


async def test_failures_wait_longer_each_time_and_events_do_not_shorten_the_wait() -> None:
    at: list[float] = []

    async def worker(_: str) -> None:
        at.append(asyncio.get_running_loop().time())
        raise RuntimeError("no")

    async with running(worker, min_interval_s=0.0, base_backoff_s=0.02, max_backoff_s=0.2) as queue:
        queue.add("a")
        for _ in range(300):
            await asyncio.sleep(0.002)
            queue.add("a")
    waits = [b - a for a, b in itertools.pairwise(at)]
    assert 3 <= len(waits) <= 12
    assert waits[1] > waits[0]
    assert max(waits) <= 0.6


async def test_one_that_fails_does_not_hold_up_the_others() -> None:
    done: list[str] = []

    async def worker(key: str) -> None:
        if key == "bad":
            raise RuntimeError("no")
        done.append(key)

    async with running(worker, base_backoff_s=10.0) as queue:
        for key in ("bad", "a", "b"):
            queue.add(key)
        await asyncio.sleep(0.1)
        assert sorted(done) == ["a", "b"]
        assert queue.failures == 1


async def test_a_worker_may_ask_to_be_called_again() -> None:
    calls = 0

    async def worker(_: str) -> float | None:
        nonlocal calls
        calls += 1
        return 0.01 if calls < 4 else None

    async with running(worker, min_interval_s=0.0) as queue:
        queue.add("a")
        await asyncio.sleep(0.3)
    assert calls == 4
