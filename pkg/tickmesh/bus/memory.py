"""MemoryBus: the Bus port inside one process, for tests, the simulation and services that need no bus.

Streams are lists, delivery is immediate and in order; subjects match with NATS's ``*`` and ``>``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from tickmesh.domain.errors import DependencyError
from tickmesh.ports.bus import DurableMessage, Handler, KvEntry, publish_each

_ORDER_SUBJECTS = {"INTENTS": ("order.intent.>",), "ORDERS": ("order.event.>", "fill.>")}
_PREFIXES = {
    "MD": ("md.>",), "SIGNALS": ("signal.>",), "ACCOUNT": ("account.>",), "COPY": ("copy.trade.>",),
    "CTL": ("ctl.>",), "ALERTS": ("alert.>",), "AUDIT": ("audit.>",), **_ORDER_SUBJECTS,
}  # fmt: skip


def matches(pattern: str, subject: str) -> bool:
    """Whether ``subject`` falls under the NATS ``pattern``."""
    want, have = pattern.split("."), subject.split(".")
    for i, part in enumerate(want):
        if part == ">":
            return len(have) > i
        if i >= len(have) or part not in ("*", have[i]):
            return False
    return len(want) == len(have)


class _MemoryMessage:
    def __init__(self, subject: str, data: bytes, headers: Mapping[str, str], stream_seq: int) -> None:
        self.subject = subject
        self.data = data
        self.headers = headers
        self.stream_seq = stream_seq
        self.redelivered = False
        self.pending = 0
        self.settled: str | None = None

    async def ack(self) -> None:
        self.settled = "ack"

    async def nak(self, delay_s: float = 0.0) -> None:
        self.settled = "nak"
        self.redelivered = True

    async def term(self) -> None:
        self.settled = "term"


class _MemorySubscription:
    def __init__(self, cancel: Callable[[], Any]) -> None:
        self._cancel = cancel

    async def unsubscribe(self) -> None:
        self._cancel()


class MemoryKeyValue:
    """A bucket as a dict with revisions."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._entries: dict[str, KvEntry] = {}
        self._revision = 0
        self._watchers: list[tuple[str, asyncio.Queue[KvEntry]]] = []

    def _store(self, key: str, value: bytes | None) -> int:
        self._revision += 1
        entry = self._entries[key] = KvEntry(self._bucket, key, value, self._revision)
        for pattern, queue in self._watchers:
            if matches(pattern, key):
                queue.put_nowait(entry)
        return self._revision

    async def get(self, key: str) -> KvEntry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.value is not None else None

    async def put(self, key: str, value: bytes) -> int:
        return self._store(key, value)

    async def create(self, key: str, value: bytes) -> int | None:
        return None if await self.get(key) else self._store(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        entry = self._entries.get(key)
        return self._store(key, value) if entry is not None and entry.revision == revision else None

    async def delete(self, key: str) -> None:
        self._store(key, None)

    async def keys(self) -> list[str]:
        return [key for key, entry in self._entries.items() if entry.value is not None]

    async def watch(self, key: str = ">") -> AsyncIterator[KvEntry]:
        queue: asyncio.Queue[KvEntry] = asyncio.Queue()  # bounded by what one process puts
        for entry in list(self._entries.values()):
            if matches(key, entry.key):
                queue.put_nowait(entry)
        watcher = (key, queue)
        self._watchers.append(watcher)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.remove(watcher)


class MemoryBus:
    """The Bus port without a server."""

    def __init__(self) -> None:
        self.connected = True
        self.backlog_bytes = 0
        self.streams: dict[str, list[_MemoryMessage]] = defaultdict(list)
        self._subscribers: list[tuple[str, Handler]] = []
        self._responders: list[tuple[str, Callable[[str, bytes], Awaitable[bytes]]]] = []
        self._buckets: dict[str, MemoryKeyValue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()
        self._message_ids: set[str] = set()

    def publish(self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        if not self.connected:
            raise DependencyError("bus", f"cannot publish on {subject}: the bus is closed")
        self._capture(subject, payload, headers or {})
        for pattern, handler in list(self._subscribers):
            if matches(pattern, subject):
                result = handler(subject, payload)
                if inspect.isawaitable(result):
                    self._spawn(result)

    def publish_many(self, subject: str, payloads: Sequence[bytes]) -> int:
        return publish_each(self, subject, payloads)

    async def publish_durable(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
    ) -> int:
        if message_id in self._message_ids:
            return 0
        self._message_ids.add(message_id)
        self.publish(subject, payload, headers={**(headers or {}), "Nats-Msg-Id": message_id})
        await asyncio.sleep(0)
        return max((len(log) for name, log in self.streams.items() if self._captures(name, subject)), default=0)

    def _captures(self, stream: str, subject: str) -> bool:
        return any(matches(p, subject) for p in _PREFIXES.get(stream, ()))

    def _capture(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        for stream in _PREFIXES:
            if self._captures(stream, subject):
                log = self.streams[stream]
                log.append(_MemoryMessage(subject, payload, headers, len(log) + 1))
        self._arrived.set()

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> _MemorySubscription:
        entry = (subject, handler)
        self._subscribers.append(entry)
        return _MemorySubscription(lambda: self._subscribers.remove(entry))

    async def consume(
        self,
        stream: str,
        durable: str,
        handler: Callable[[DurableMessage], Awaitable[None]],
        *,
        filter_subjects: tuple[str, ...] = (),
        batch: int = 256,
        max_ack_pending: int = 10_000,
        ack_wait_s: float = 30.0,
    ) -> _MemorySubscription:
        async def each(messages: list[DurableMessage]) -> None:
            for message in messages:
                await handler(message)

        return await self.consume_batches(stream, durable, each, filter_subjects=filter_subjects, batch=batch)

    async def consume_batches(
        self,
        stream: str,
        durable: str,
        handler: Callable[[list[DurableMessage]], Awaitable[None]],
        *,
        filter_subjects: tuple[str, ...] = (),
        batch: int = 1000,
        max_wait_s: float = 0.5,
        ack_wait_s: float = 60.0,
    ) -> _MemorySubscription:
        async def run() -> None:
            while True:
                self._arrived.clear()
                todo: list[DurableMessage] = [
                    m
                    for m in self.streams[stream]
                    if m.settled not in ("ack", "term")
                    and (not filter_subjects or any(matches(f, m.subject) for f in filter_subjects))
                ]
                if todo:
                    await handler(todo[:batch])
                    await asyncio.sleep(0)
                else:
                    await self._arrived.wait()

        return _MemorySubscription(self._spawn(run()).cancel)

    async def replay(
        self, stream: str, *, filter_subject: str = ">", start_seq: int = 1, newest: int = 0
    ) -> AsyncIterator[tuple[str, bytes, int]]:
        if newest:
            start_seq = max(start_seq, len(self.streams[stream]) - newest + 1)
        for message in list(self.streams[stream])[start_seq - 1 :]:
            if matches(filter_subject, message.subject):
                yield message.subject, message.data, message.stream_seq

    async def last(self, stream: str, subject: str) -> bytes | None:
        return next((m.data for m in reversed(self.streams[stream]) if matches(subject, m.subject)), None)

    async def last_of_each(self, stream: str, filter_subject: str) -> list[tuple[str, bytes, int]]:
        newest = {m.subject: m for m in self.streams[stream] if matches(filter_subject, m.subject)}
        return [(m.subject, m.data, m.stream_seq) for m in newest.values()]

    async def request(self, subject: str, payload: bytes, *, timeout_s: float = 1.0) -> bytes:
        for pattern, handler in self._responders:
            if matches(pattern, subject):
                async with asyncio.timeout(timeout_s):
                    return await handler(subject, payload)
        raise DependencyError(subject, f"nobody answers on {subject}")

    async def respond(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[bytes]], *, queue: str = ""
    ) -> _MemorySubscription:
        entry = (subject, handler)
        self._responders.append(entry)
        return _MemorySubscription(lambda: self._responders.remove(entry))

    async def kv(self, bucket: str) -> MemoryKeyValue:
        return self._buckets.setdefault(bucket, MemoryKeyValue(bucket))

    async def flush(self, timeout_s: float = 2.0) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.connected = False
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
