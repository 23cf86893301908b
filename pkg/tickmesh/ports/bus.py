"""The bus as services see it: core publish/subscribe, durable consumption, key-value buckets.

Guarantees: ``publish`` is at most once and never waits; ``publish_durable`` returns only when the stream
has stored the message; a durable consumer delivers at least once, so handlers deduplicate by message id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from tickmesh.domain.errors import DependencyError

Handler = Callable[[str, bytes], Awaitable[None] | None]
"""Called with (subject, payload); a coroutine result is awaited before the next message of that subscription."""


class DurableMessage(Protocol):
    """A message from a stream that waits for our answer."""

    @property
    def subject(self) -> str: ...

    @property
    def data(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def stream_seq(self) -> int: ...

    @property
    def redelivered(self) -> bool: ...

    @property
    def pending(self) -> int:
        """How many more the consumer still had to deliver when this one left the server."""
        ...

    async def ack(self) -> None: ...

    async def nak(self, delay_s: float = 0.0) -> None: ...

    async def term(self) -> None:
        """Never deliver it again: it cannot be processed."""
        ...


class KvEntry(msgspec.Struct, frozen=True):
    """One value of a bucket; ``value`` is None when the key was deleted."""

    bucket: str
    key: str
    value: bytes | None
    revision: int


class KeyValue(Protocol):
    """A bucket. Every operation may raise DependencyError."""

    async def get(self, key: str) -> KvEntry | None: ...

    async def put(self, key: str, value: bytes) -> int:
        """Store and return the revision."""
        ...

    async def create(self, key: str, value: bytes) -> int | None:
        """Store only if the key is absent; None when it is there."""
        ...

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Compare and set; None when ``revision`` is not the latest."""
        ...

    async def delete(self, key: str) -> None: ...

    async def keys(self) -> list[str]: ...

    def watch(self, key: str = ">") -> AsyncIterator[KvEntry]:
        """Every current value, then every change, for ever (survives reconnects)."""
        ...


class Subscription(Protocol):
    """What ``subscribe``, ``consume`` and ``respond`` give: the way to end it."""

    async def unsubscribe(self) -> None: ...


class Bus(Protocol):
    """What ``bus.nats.NatsBus`` and ``bus.memory.MemoryBus`` both are."""

    @property
    def connected(self) -> bool: ...

    @property
    def backlog_bytes(self) -> int:
        """Published bytes that the operating system has not taken yet: above zero, the server is behind."""
        ...

    def publish(self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        """Hand a message to the transport, without waiting, at most once.

        Raises:
            DependencyError: the connection is closed or its outgoing buffer is full.
        """
        ...

    def publish_many(self, subject: str, payloads: Sequence[bytes]) -> int:
        """``publish`` each in order until one is refused; returns how many were taken."""
        ...

    async def publish_durable(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
    ) -> int:
        """Publish and wait until the capturing stream has stored it; returns the stream sequence.

        Safe to repeat with the same ``message_id`` (deduplicated inside the stream's window).

        Raises:
            DependencyError: no acknowledgement within ``timeout_s``; it may or may not be stored.
        """
        ...

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Core subscription; survives reconnects. A handler that raises is logged and counted."""
        ...

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
    ) -> Subscription:
        """Pull from a durable consumer (made when absent) and hand messages over one by one, in order."""
        ...

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
    ) -> Subscription:
        """As ``consume``, in batches of at most ``batch`` or what came within ``max_wait_s``."""
        ...

    def replay(
        self, stream: str, *, filter_subject: str = ">", start_seq: int = 1, newest: int = 0
    ) -> AsyncIterator[tuple[str, bytes, int]]:
        """Read a stream from ``start_seq`` to its present end as (subject, payload, stream sequence), then stop.

        ``newest`` above 0 begins at most so many stream sequences before the end, for who wants the recent past only.

        Raises:
            DependencyError: the stream cannot be read now; what was yielded before stands.
        """
        ...

    async def last(self, stream: str, subject: str) -> bytes | None:
        """The newest message of ``subject`` that ``stream`` holds."""
        ...

    async def last_of_each(self, stream: str, filter_subject: str) -> list[tuple[str, bytes, int]]:
        """The newest message of every subject under ``filter_subject``, as (subject, payload, stream sequence).

        Raises:
            DependencyError: the stream did not answer, or holds more than 1024 such subjects.
        """
        ...

    async def request(self, subject: str, payload: bytes, *, timeout_s: float = 1.0) -> bytes: ...

    async def respond(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[bytes]], *, queue: str = ""
    ) -> Subscription: ...

    async def kv(self, bucket: str) -> KeyValue: ...

    async def flush(self, timeout_s: float = 2.0) -> None: ...

    async def close(self) -> None:
        """Drain subscriptions, flush and disconnect; bounded in time."""
        ...


def publish_each(bus: Bus, subject: str, payloads: Sequence[bytes]) -> int:
    """``Bus.publish_many``, one by one."""
    for number, payload in enumerate(payloads):
        try:
            bus.publish(subject, payload)
        except DependencyError:
            return number
    return len(payloads)
