"""Ordered: one subscription's messages to its handler, at once while it can, one after the other always.

A handler that returns nothing runs inside the socket's read. One that returns an awaitable is awaited in a
task, and what arrives meanwhile waits in a bounded queue (newest dropped, counted, told once a second).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

MAX_WAITING = 65_536

Spawn = Callable[[Any, str], asyncio.Task[None]]


class Ordered:
    """``handler`` takes (subject, reply, payload); ``on_error`` is called for each handler that raised."""

    def __init__(
        self, name: str, handler: Callable[[str, str, bytes], Awaitable[None] | None], spawn: Spawn,
        on_error: Callable[[], None], on_drop: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._name = name
        self._handler = handler
        self._spawn = spawn
        self._on_error = on_error
        self._on_drop = on_drop
        self._waiting: deque[tuple[str, str, bytes]] | None = None

    def __call__(self, subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        self.hand(subject.decode(), reply.decode() if reply else "", payload)

    def hand(self, subject: str, reply: str, payload: bytes) -> None:
        """The next message of this subscription, wherever it comes from. Never raises."""
        waiting = self._waiting
        if waiting is not None:
            if len(waiting) >= MAX_WAITING:
                self._on_drop(self._name)
                return
            waiting.append((subject, reply, payload))
            return
        result = self._call(subject, reply, payload)
        if result is not None:
            self._waiting = deque()  # bounded by MAX_WAITING in hand()
            self._spawn(self._work(result), f"handle:{self._name}")

    def _call(self, subject: str, reply: str, payload: bytes) -> Awaitable[None] | None:
        try:
            result = self._handler(subject, reply, payload)
        except Exception:  # one message that its handler cannot take must not make the subscription deaf
            self._on_error()
            log.exception("handler of %s failed on %s; the message is skipped", self._name, subject)
            return None
        return result if result is not None and inspect.isawaitable(result) else None

    async def _work(self, first: Awaitable[None]) -> None:
        assert self._waiting is not None
        await self._finish(first)
        while self._waiting:
            result = self._call(*self._waiting.popleft())
            if result is not None:
                await self._finish(result)
        self._waiting = None

    async def _finish(self, result: Awaitable[None]) -> None:
        try:
            await result
        except Exception:  # as in _call
            self._on_error()
            log.exception("handler of %s failed; the message is skipped", self._name)
