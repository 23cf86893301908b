"""FusedBus: one connection for several services of one process, with a shorter way between them.

In: the Bus port, shared. Out: every message goes to NATS as ever, so that streams and other processes see no
difference; the subscribers in this process get it by a call, and the server is asked not to send it back (``echo``).
Market data is handed over first and sent afterwards, that of a burst at its end. What is on the order path is given to
the kernel first: a process that is killed between the two has told the stream of its intent before the venue hears of
the order.
Refuses queue groups: which member of a group gets a message is the server's to say. Decision record 0101.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from tickmesh.bus.dispatch import Ordered
from tickmesh.bus.memory import matches
from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import ConfigError
from tickmesh.ports.bus import publish_each

_MAX_ROUTES = 4096
_MARKET = "md."
_ROUND_A_MESSAGE = 32
"""Bytes of a publication besides subject and payload, at most."""
_INTERNAL = "$_"
"""What subjects of JetStream and of answers begin with."""


class _Fused:
    """A subscription that also hears its own process."""

    def __init__(self, bus: FusedBus, inner: Any, entry: tuple[str, Ordered]) -> None:
        self._bus = bus
        self._inner = inner
        self._entry = entry

    async def unsubscribe(self) -> None:
        self._bus.forget(self._entry)
        await self._inner.unsubscribe()


class FusedBus(NatsBus):
    """Make one with ``connect``."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._local: list[tuple[str, Ordered]] = []
        self._routes: dict[str, tuple[Ordered, ...]] = {}
        self._later: list[tuple[str, bytes]] = []
        """Market data of the present burst that was handed over and is sent when the burst ends."""
        self.handed_over = 0
        """Messages that reached a subscriber of this process without the server."""

    def _options(self, *arguments: Any) -> dict[str, Any]:
        return {**super()._options(*arguments), "no_echo": True}

    def forget(self, entry: tuple[str, Ordered]) -> None:
        """End the local half of a subscription."""
        if entry in self._local:
            self._local.remove(entry)
        self._routes.clear()

    async def _subscribe(
        self, subject: str, take: Callable[[str, str, bytes], Awaitable[None] | None], queue: str
    ) -> Any:
        if queue:
            raise ConfigError(f"a fused process cannot share {subject} in a queue group; run it as processes")
        entry = (subject, Ordered(subject, take, self._spawn, self._on_handler_error, self._on_drop))
        inner = await self._subscribe_with(subject, entry[1], queue)
        self._attach(entry)
        return _Fused(self, inner, entry)

    def attach(self, subject: str, take: Callable[[str, str, bytes], None]) -> None:
        """Hear this process alone, for good; the server is not told."""
        self._attach((subject, Ordered(subject, take, self._spawn, self._on_handler_error, self._on_drop)))

    def _attach(self, entry: tuple[str, Ordered]) -> None:
        self._local.append(entry)
        self._routes.clear()

    def _send(self, subject: str, payload: bytes, reply: bytes, headers: Mapping[str, str] | None) -> None:
        routes = self._routes.get(subject)
        if routes is None:
            routes = () if subject[0] in _INTERNAL else self._route(subject)
        if not routes:
            super()._send(subject, payload, reply, headers)
            return
        self.handed_over += 1
        answer_to = reply.decode() if reply else ""
        if subject.startswith(_MARKET):
            client, size = self._client, len(payload) + len(subject) + _ROUND_A_MESSAGE
            client.may_send(subject, size)  # before anybody has acted on it
            later = client.held and not headers and not reply and (size < client.max_payload or not client.max_payload)
            if later:
                client.promised_bytes += size
                self._later.append((subject, payload))
            for ordered in routes:
                ordered.hand(subject, answer_to, payload)
            if not later:
                super()._send(subject, payload, reply, headers)
            return
        super()._send(subject, payload, reply, headers)
        self._client.push()  # the feed may be collecting; what it collects is nobody's order and follows
        for ordered in routes:
            ordered.hand(subject, answer_to, payload)

    def publish_many(self, subject: str, payloads: Sequence[bytes]) -> int:
        return publish_each(self, subject, payloads)

    def release(self) -> None:
        later, self._later = self._later, []
        self._client.promised_bytes = 0  # the room is theirs
        try:
            for subject, payload in later:
                super()._send(subject, payload, b"", None)
        finally:
            super().release()

    def _answer(self, subject: str, payload: bytes) -> None:
        asked_here = self._replies.pop(subject.encode(), None)
        if asked_here is None:
            super()._answer(subject, payload)
        elif not asked_here.done():
            asked_here.set_result(({}, payload))

    def _route(self, subject: str) -> tuple[Ordered, ...]:
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()  # every order has a subject of its own
        routes = self._routes[subject] = tuple(o for pattern, o in self._local if matches(pattern, subject))
        return routes
