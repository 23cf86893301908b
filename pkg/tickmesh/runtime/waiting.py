"""``asyncio.wait_for`` as Python 3.12 has it, for 3.11 too; libraries of ours (nats-py) call it in everybody's tasks.

Before 3.12 a cancellation that comes at the moment of the result is swallowed: the task goes on, whoever cancelled it
waits for ever, and a service does not stop within its drain time. Nothing else is changed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def wait_for(awaitable: Awaitable[T], timeout: float | None) -> T:
    """The result of ``awaitable``; it is cancelled, and TimeoutError raised, after ``timeout`` seconds."""
    if timeout is not None and timeout <= 0:
        task = asyncio.ensure_future(awaitable)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait([task])
        try:
            return task.result()
        except asyncio.CancelledError:
            raise TimeoutError from None
    async with asyncio.timeout(timeout):
        return await awaitable


def mend() -> None:
    """Put it in place where the one that is there loses cancellations."""
    if sys.version_info < (3, 12):
        asyncio.wait_for = wait_for  # type: ignore[assignment]  # typeshed overloads it for futures
