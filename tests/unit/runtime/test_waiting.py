"""A cancellation that comes together with the result is not lost, on every Python."""

import asyncio

import pytest

from tickmesh.runtime.waiting import wait_for


async def test_a_cancellation_at_the_moment_of_the_result_ends_the_task() -> None:
    event = asyncio.Event()

    async def loop_for_ever() -> None:
        while True:
            await wait_for(event.wait(), 10)
            event.clear()

    task = asyncio.create_task(loop_for_ever())
    await asyncio.sleep(0)
    event.set()
    await asyncio.sleep(0)  # the inner wait has its result; the task has not run yet
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=2)
    assert done, "the cancellation was swallowed"
    assert task.cancelled()


async def test_it_times_out_and_gives_results_as_the_library_does() -> None:
    with pytest.raises(TimeoutError):
        await wait_for(asyncio.sleep(10), 0.01)
    with pytest.raises(TimeoutError):
        await wait_for(asyncio.sleep(10), 0)
    assert await wait_for(asyncio.sleep(0, "x"), None) == "x"
    done = asyncio.get_running_loop().create_future()
    done.set_result("y")
    assert await wait_for(done, 0) == "y"
