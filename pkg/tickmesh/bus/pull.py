"""Puller: one JetStream consumer's messages as they come, asked for ahead of need.

A request for a batch is always open at the server, so a message travels as soon as it is stored; the number
asked for bounds what can wait here. Missed heartbeats, a lost connection or a vanished consumer raise
``PullLostError``: the caller makes the consumer again and goes on (what it had not acknowledged comes again).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import msgspec
from nats.errors import Error as NatsError

from tickmesh.bus.client import DirectClient
from tickmesh.bus.frames import parse_headers
from tickmesh.domain.errors import DependencyError

_EXPIRES_S = 30.0
_HEARTBEAT_S = 2.0
_MISSED_HEARTBEATS = 3
_NS = 1_000_000_000

Send = Callable[[str, bytes], None]
"""(subject, payload): publish at once."""


class PullLostError(DependencyError):
    """The consumer behind a Puller is gone or silent; make it again."""

    def __init__(self, detail: str) -> None:
        super().__init__("nats", detail)


class Stored:
    """A JetStream message as the DurableMessage port; its place in the stream is read from the reply subject."""

    __slots__ = ("_head", "_reply", "_send", "_tokens", "data", "settled", "subject")

    def __init__(self, subject: bytes, reply: bytes, head: bytes, payload: bytes, send: Send) -> None:
        self.subject = subject.decode()
        self.data = payload
        self.settled = False
        """Whether we answered: ack, nak or term."""
        self._reply = reply.decode()
        self._head = head
        self._send = send
        # $JS.ACK.[<domain>.<account hash>.]<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ts>.<pending>
        tokens = self._reply.split(".")
        self._tokens = tokens[4:9] if len(tokens) == 9 else tokens[6:11]

    @property
    def headers(self) -> Mapping[str, str]:
        return parse_headers(self._head)

    @property
    def stream_seq(self) -> int:
        return int(self._tokens[1])

    @property
    def redelivered(self) -> bool:
        return int(self._tokens[0]) > 1

    @property
    def pending(self) -> int:
        return int(self._tokens[4])

    async def ack(self) -> None:
        self._answer(b"+ACK")

    async def nak(self, delay_s: float = 0.0) -> None:
        self._answer(b'-NAK {"delay": %d}' % int(delay_s * _NS) if delay_s else b"-NAK")

    async def term(self) -> None:
        self._answer(b"+TERM")

    def _answer(self, word: bytes) -> None:
        self._send(self._reply, word)
        self.settled = True


class Puller:
    """Requests and the messages that answer them. Made by ``open``; ``take`` until PullLostError; ``close``."""

    def __init__(self, client: DirectClient, stream: str, consumer: str, batch: int, send: Send) -> None:
        self._client = client
        self._ask_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._what = f"consumer {consumer} of stream {stream}"
        self._batch = batch
        self._send = send
        self._inbox = client.new_inbox()
        self._subscription: object | None = None
        self._buffer: deque[Stored] = deque()  # bounded by what was asked for
        self._asked = 0
        """Messages that the server may still send for our open requests."""
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        """Set when a whole batch waits, or none will."""
        self._lost: str | None = None
        self._heard = False

    async def open(self) -> None:
        self._client.on_reconnect.add(self._on_reconnect)
        self._subscription = await self._client.subscribe_direct(self._inbox, self._on_message)

    async def close(self) -> None:
        self._client.on_reconnect.discard(self._on_reconnect)
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await self._client.unsubscribe_direct(subscription)
            except NatsError:
                pass  # the connection is closing; the server forgets it with us

    def _on_message(self, subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        self._heard = True
        if reply.startswith(b"$JS.ACK."):
            self._asked -= 1
            self._buffer.append(Stored(subject, reply, head, payload, self._send))
            self._arrived.set()
            if len(self._buffer) >= self._batch:
                self._full.set()
            return
        found = parse_headers(head)
        status = found.get("Status", "")
        if status == "100":
            return  # the server is there and has nothing
        words = found.get("Description", "")
        if status in ("404", "408") or (status == "409" and "Nats-Pending-Messages" in found):
            self._asked -= int(found.get("Nats-Pending-Messages", self._asked))
        if status in ("503", "409") and "Nats-Pending-Messages" not in found:
            self._lost = f"{self._what} is gone: {words or 'nobody answers for it'}"
        self._arrived.set()

    async def take(self, linger_s: float = 0.0) -> list[Stored]:
        """What has arrived, at least one, at most ``batch``; waits up to ``linger_s`` more for a full batch.

        Raises:
            PullLostError: what arrived before was handed out; make a new Puller.
        """
        while not self._buffer:
            self._ask()
            await self._wait(_HEARTBEAT_S * _MISSED_HEARTBEATS)
        if linger_s > 0 and len(self._buffer) < self._batch:
            self._ask(whole=True)
            self._full.clear()
            try:
                async with asyncio.timeout(linger_s):
                    await self._full.wait()
            except TimeoutError:
                pass  # what came is the batch
        taken = [self._buffer.popleft() for _ in range(min(self._batch, len(self._buffer)))]
        self._ask()
        return taken

    def _ask(self, *, whole: bool = False) -> None:
        """Keep a request open for at least half a batch, or for all that there is room for."""
        room = self._batch - self._asked - len(self._buffer)
        if self._lost is not None or room <= 0 or (self._asked and not whole and room < self._batch // 2):
            return
        request = {"batch": room, "expires": int(_EXPIRES_S * _NS), "idle_heartbeat": int(_HEARTBEAT_S * _NS)}
        body = msgspec.json.encode(request)
        command = b"PUB %b %b %d\r\n%b\r\n" % (self._ask_subject.encode(), self._inbox.encode(), len(body), body)
        self._client.send(command, self._ask_subject)
        self._asked += room

    async def _wait(self, timeout_s: float) -> None:
        """Wait until something arrived; silence without heartbeats is a loss."""
        self._heard = False
        self._arrived.clear()
        if self._lost is None and self._client.is_closed:
            self._lost = "the connection to NATS is closed"
        if self._lost is None:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                if not self._heard:
                    self._lost = f"{self._what} has not been heard of for {timeout_s:g} s"
        if self._lost is not None and not self._buffer:
            raise PullLostError(self._lost)

    def _on_reconnect(self) -> None:
        # Our requests died with the connection; a message that one of them took is redelivered after its ack wait.
        self._lost = "the connection to NATS was made anew"
        self._arrived.set()
        self._full.set()
