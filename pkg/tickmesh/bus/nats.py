"""NatsBus: the Bus port over nats-py and JetStream.

Bytes in, bytes out; encoding belongs to ``domain.messages``. ``bus.client`` has the short way to and from the
socket, ``bus.pull`` consumption, ``bus.kv`` buckets, ``bus.layout`` what the server must hold.

What is lost: ``publish`` is at most once. While the server is away 8 MiB are kept in order and sent on return,
then it refuses; what a dying connection had taken and not delivered is gone (``counts["lost_bytes"]`` is the
part we still held). ``publish_durable`` says so when it does not know.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from tickmesh.bus import layout
from tickmesh.bus.client import DirectClient
from tickmesh.bus.dispatch import Ordered
from tickmesh.bus.explain import explain
from tickmesh.bus.frames import parse_headers
from tickmesh.bus.kv import NatsKeyValue
from tickmesh.bus.pull import Puller, PullLostError
from tickmesh.domain.errors import DependencyError
from tickmesh.ports.bus import DurableMessage, Handler, publish_each

log = logging.getLogger(__name__)

_NATS_ERRORS = (NatsError, asyncio.TimeoutError, OSError)
_CLOSE_TIMEOUT_S = 5.0
_LAYOUT_RETRY_S = 1.0
_TELL_EVERY_S = 1.0
_REPLAY_PATIENCE_S = 10.0
_REPLAY_RETRY_S = 0.2


class _Task:
    """A subscription that is a background task of ours."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    async def unsubscribe(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class _Core:
    """A core subscription."""

    def __init__(self, client: DirectClient, subscription: Any) -> None:
        self._client = client
        self._subscription = subscription

    async def unsubscribe(self) -> None:
        try:
            await self._client.unsubscribe_direct(self._subscription)
        except NatsError:
            pass  # already gone with its connection


class NatsBus:
    """The Bus port on a NATS server with JetStream. Make one with ``connect``."""

    def __init__(self, client: DirectClient, js: JetStreamContext) -> None:
        self._client = client
        self._js = js
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies: dict[bytes, asyncio.Future[tuple[dict[str, str], bytes]]] = {}
        self._reply_prefix = ""
        self._reply_number = 0
        self._told: dict[str, float] = {}
        self._closing = False
        self._said_lost = 0
        self.handler_errors = 0
        self.dropped = 0

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str,
        user_credentials: str | None = None,
        token: str | None = None,
        connect_timeout_s: float = 30.0,
        replicas: int = 1,
        apply_layout: bool = True,
    ) -> NatsBus:
        """Connect, reconnecting for ever afterwards, and make sure the layout is there, now and after each return.

        Raises:
            DependencyError: no server with JetStream at ``url`` within ``connect_timeout_s``.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + connect_timeout_s
        told = ""
        while True:
            client = DirectClient()
            js = client.jetstream(timeout=5)
            bus = cls(client, js)
            try:
                async with asyncio.timeout_at(deadline):  # nats-py itself would try for ever
                    options = bus._options(url, name, user_credentials, token, apply_layout, replicas)
                    await client.connect(url, **options)
                if apply_layout:
                    await layout.apply(js, replicas=replicas)
                await bus._open_replies()
                return bus
            except (*_NATS_ERRORS, APIError) as error:
                if isinstance(error, APIError) or not told:
                    told = explain(error)  # what a server said beats that the last attempt ran out of time
                bus._closing = True
                await asyncio.gather(client.close(), return_exceptions=True)
                if loop.time() >= deadline:
                    raise DependencyError("nats", f"no NATS server with JetStream answers at {url} ({told})") from error
                await asyncio.sleep(0.2)

    def _options(
        self, url: str, name: str, credentials: str | None, token: str | None, apply_layout: bool, replicas: int
    ) -> dict[str, Any]:
        async def on_error(error: Exception) -> None:
            self._tell(type(error).__name__, f"nats: {str(error).removeprefix('nats: ') or type(error).__name__}")

        async def on_disconnect() -> None:
            if self._closing:
                return
            self._tell("disconnected", f"nats: disconnected from {url}; reconnecting, publications wait in memory")

        async def on_reconnect() -> None:
            lost, self._said_lost = self._client.lost_bytes - self._said_lost, self._client.lost_bytes
            if lost:
                log.warning("nats: reconnected to %s; %d bytes or more of publications were lost on the way", url, lost)
            else:
                log.info("nats: reconnected to %s", url)
            for listener in list(self._client.on_reconnect):
                listener()
            if apply_layout:
                self._spawn(self._restore_layout(replicas), "layout")

        return {
            "name": name,
            "error_cb": on_error,
            "disconnected_cb": on_disconnect,
            "reconnected_cb": on_reconnect,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.25,
            "connect_timeout": 2,
            # A server that hangs is given up after 4 to 6 s.
            "ping_interval": 2,
            "max_outstanding_pings": 2,
            "flusher_queue_size": 1024 * 64,
            "allow_reconnect": True,
            **({"user_credentials": credentials} if credentials else {}),
            **({"token": token} if token else {}),
        }

    async def _restore_layout(self, replicas: int) -> None:
        """A restarted server has forgotten the streams it held in memory; every service may put them back."""
        while True:
            try:
                await layout.apply(self._js, replicas=replicas)
                return
            except (*_NATS_ERRORS, APIError) as error:
                log.warning("the streams are not checked yet: %s", explain(error))
                await asyncio.sleep(_LAYOUT_RETRY_S)

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def backlog_bytes(self) -> int:
        return self._client.backlog_bytes

    @property
    def client(self) -> DirectClient:
        """The nats-py client, for what the port does not cover."""
        return self._client

    @property
    def jetstream(self) -> JetStreamContext:
        return self._js

    @property
    def counts(self) -> dict[str, int]:
        """What went amiss since the start: handler errors, drops, reconnections, bytes known to be lost."""
        return {
            "handler_errors": self.handler_errors,
            "dropped": self.dropped,
            "reconnects": int(self._client.stats["reconnects"]),
            "lost_bytes": self._client.lost_bytes,
        }

    def publish(self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        self._send(subject, payload, b"", headers)

    def publish_many(self, subject: str, payloads: Sequence[bytes]) -> int:
        head = b"PUB %b" % subject.encode()
        command = b"".join([b"%b %d\r\n%b\r\n" % (head, len(payload), payload) for payload in payloads])
        client, count = self._client, len(payloads)
        if len(command) > client.max_payload > 0:
            return publish_each(self, subject, payloads)  # perhaps one is too large
        try:
            client.send(command, subject)
        except DependencyError:
            return publish_each(self, subject, payloads)  # perhaps a part fits
        client.stats["out_msgs"] += count
        client.stats["out_bytes"] += sum(map(len, payloads))
        return count

    def hold(self) -> None:
        """Collect publications until ``release``: one system call for a burst. Never hold across an await."""
        self._client.held = True

    def release(self) -> None:
        """Send what was collected."""
        self._client.held = False
        self._client.push()

    def _send(self, subject: str, payload: bytes, reply: bytes, headers: Mapping[str, str] | None) -> None:
        client = self._client
        size = len(payload)
        if headers:
            head = ("NATS/1.0\r\n" + "".join([f"{k}: {v}\r\n" for k, v in headers.items()]) + "\r\n").encode()
            size += len(head)
            to = b"%b %b" % (subject.encode(), reply)
            command = b"HPUB %b %d %d\r\n%b%b\r\n" % (to, len(head), size, head, payload)
        elif reply:
            command = b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply, size, payload)
        else:
            command = b"PUB %b %d\r\n%b\r\n" % (subject.encode(), size, payload)
        if size > client.max_payload > 0:
            # The server would close the connection on it, for everybody who shares it.
            raise DependencyError(
                "nats",
                f"cannot publish on {subject}: {size} bytes, the server takes {client.max_payload} (max_payload)",
            )
        client.send(command, subject)
        stats = client.stats
        stats["out_msgs"] += 1
        stats["out_bytes"] += len(payload)

    def _answer(self, subject: str, payload: bytes) -> None:
        self._send(subject, payload, b"", None)

    async def publish_durable(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
    ) -> int:
        try:
            head, body = await self._ask(subject, payload, {**(headers or {}), "Nats-Msg-Id": message_id}, timeout_s)
        except TimeoutError:
            raise DependencyError(
                "nats", f"{subject} was not acknowledged by its stream within {timeout_s:g} s; it may be stored or not"
            ) from None
        if head.get("Status") == "503":
            raise DependencyError("nats", f"{subject} was not stored: no stream captures it, or JetStream is starting")
        answer = json.loads(body)
        if "error" in answer:
            error = APIError(**answer["error"])
            raise DependencyError("nats", f"{subject} was not stored: {explain(error)}")
        return int(answer["seq"])

    async def _open_replies(self) -> None:
        self._reply_prefix = self._client.new_inbox()
        await self._client.subscribe_direct(f"{self._reply_prefix}.*", self._on_reply)

    def _on_reply(self, subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        future = self._replies.pop(subject, None)
        if future is not None and not future.done():
            future.set_result((parse_headers(head), payload))

    async def _ask(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None, timeout_s: float
    ) -> tuple[dict[str, str], bytes]:
        """Publish and wait for the one answer. Raises TimeoutError, DependencyError."""
        self._reply_number += 1
        reply = f"{self._reply_prefix}.{self._reply_number}".encode()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[dict[str, str], bytes]] = loop.create_future()
        self._replies[reply] = future
        timer = loop.call_later(timeout_s, _expire, future)
        try:
            self._send(subject, payload, reply, headers)
            return await future
        finally:
            timer.cancel()
            self._replies.pop(reply, None)

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> _Core:
        def take(subject: str, reply: str, payload: bytes) -> Awaitable[None] | None:
            return handler(subject, payload)

        return await self._subscribe(subject, take, queue)

    async def _subscribe(
        self, subject: str, take: Callable[[str, str, bytes], Awaitable[None] | None], queue: str
    ) -> _Core:
        ordered = Ordered(subject, take, self._spawn, self._on_handler_error, self._on_drop)
        return await self._subscribe_with(subject, ordered, queue)

    async def _subscribe_with(self, subject: str, ordered: Ordered, queue: str) -> _Core:
        try:
            subscription = await self._client.subscribe_direct(subject, ordered, queue=queue)
        except _NATS_ERRORS as error:
            raise DependencyError("nats", f"cannot subscribe to {subject}: {explain(error)}") from error
        try:
            # SUB travels now, so that a caller who publishes next is heard.
            await self._client.flush(timeout=2)
        except _NATS_ERRORS:
            log.debug("%s is subscribed when NATS is back", subject)  # nats-py replays its subscriptions
        return _Core(self._client, subscription)

    def _on_handler_error(self) -> None:
        self.handler_errors += 1

    def _on_drop(self, name: str) -> None:
        self.dropped += 1
        self._tell(f"drop {name}", f"the handler of {name} is too slow: {self.dropped} messages dropped so far")

    def _tell(self, what: str, sentence: str) -> None:
        """Warn, at most once a second about one thing."""
        now_s = time.monotonic()
        if now_s - self._told.get(what, 0.0) >= _TELL_EVERY_S:
            self._told[what] = now_s
            log.warning("%s", sentence)

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
    ) -> _Task:
        async def each(messages: list[DurableMessage]) -> None:
            for message in messages:
                try:
                    await handler(message)
                except Exception:  # whatever it is, the message is not lost: unacknowledged, it comes again
                    self.handler_errors += 1
                    log.exception("consumer %s failed on %s; it will be redelivered", durable, message.subject)
                    await message.nak(delay_s=1.0)

        return self._pull(stream, durable, each, filter_subjects, batch, 0.0, ack_wait_s, max_ack_pending)

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
    ) -> _Task:
        return self._pull(stream, durable, handler, filter_subjects, batch, max_wait_s, ack_wait_s, 100_000)

    def _pull(
        self,
        stream: str,
        durable: str,
        handler: Callable[[list[DurableMessage]], Awaitable[None]],
        filter_subjects: tuple[str, ...],
        batch: int,
        linger_s: float,
        ack_wait_s: float,
        max_ack_pending: int,
    ) -> _Task:
        config = ConsumerConfig(
            durable_name=durable,
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL,
            ack_wait=ack_wait_s,
            max_ack_pending=max_ack_pending,
            filter_subject=filter_subjects[0] if len(filter_subjects) == 1 else None,
            filter_subjects=list(filter_subjects) if len(filter_subjects) > 1 else None,
        )

        async def run() -> None:
            puller: Puller | None = None
            try:
                while True:
                    try:
                        if puller is None:
                            await self._js.add_consumer(stream, config)
                            puller = Puller(self._client, stream, durable, batch, self._answer)
                            await puller.open()
                        await self._handle(handler, await puller.take(linger_s), durable, stream)
                    except (*_NATS_ERRORS, APIError, DependencyError) as error:
                        if not isinstance(error, PullLostError) or self.connected:
                            self._tell(
                                f"{stream} {durable}", f"consumer {durable} of {stream}: {explain(error)}; again"
                            )
                        if puller is not None:
                            await puller.close()
                            puller = None
                        await asyncio.sleep(0.1 if isinstance(error, PullLostError) else 0.5)
            finally:
                if puller is not None:
                    await puller.close()

        return _Task(self._spawn(run(), f"consume:{stream}:{durable}"))

    async def _handle(
        self,
        handler: Callable[[list[DurableMessage]], Awaitable[None]],
        messages: list[Any],
        durable: str,
        stream: str,
    ) -> None:
        """Call a handler; what it did not answer when it raised comes again after a second."""
        try:
            await handler(messages)
        except DependencyError:
            raise
        except Exception:  # whatever it is, what was not acknowledged comes again
            self.handler_errors += 1
            log.exception("consumer %s of %s failed; its messages will be redelivered", durable, stream)
            for message in messages:
                if not message.settled:
                    await message.nak(delay_s=1.0)

    async def replay(
        self, stream: str, *, filter_subject: str = ">", start_seq: int = 1, newest: int = 0
    ) -> AsyncGenerator[tuple[str, bytes, int], None]:
        now = asyncio.get_running_loop().time
        give_up_at = 0.0  # a consumer that was never there is not waited for
        while True:
            puller: Puller | None = None
            try:
                info = await self._js.stream_info(stream)
                if newest:
                    start_seq, newest = max(start_seq, info.state.last_seq - newest + 1), 0
                if info.state.messages == 0 or info.state.last_seq < start_seq:
                    return
                config = ConsumerConfig(
                    ack_policy=AckPolicy.NONE,
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=max(start_seq, 1),
                    filter_subject=None if filter_subject == ">" else filter_subject,
                    inactive_threshold=30,
                    mem_storage=True,
                )
                consumer = await self._js.add_consumer(stream, config)
                left = consumer.num_pending or 0
                puller = Puller(self._client, stream, consumer.name, 1000, self._answer)
                await puller.open()
                give_up_at = now() + _REPLAY_PATIENCE_S
                while left > 0:
                    for message in await puller.take():
                        left = min(left - 1, message.pending)
                        start_seq, give_up_at = message.stream_seq + 1, now() + _REPLAY_PATIENCE_S
                        yield message.subject, message.data, message.stream_seq
                return
            except (*_NATS_ERRORS, APIError, PullLostError) as error:
                # Its server went, in a roll of the cluster perhaps: go on where it stopped, at another one.
                if now() >= give_up_at or self._client.is_closed:
                    raise DependencyError("nats", f"cannot read stream {stream}: {explain(error)}") from error
                await asyncio.sleep(_REPLAY_RETRY_S)
            finally:
                if puller is not None:
                    await puller.close()

    async def last(self, stream: str, subject: str) -> bytes | None:
        try:
            message = await self._js.get_last_msg(stream, subject, direct=True)
        except NotFoundError:
            return None
        except (*_NATS_ERRORS, APIError) as error:
            raise DependencyError("nats", f"cannot read {subject} of {stream}: {explain(error)}") from error
        return bytes(message.data or b"")

    async def last_of_each(self, stream: str, filter_subject: str) -> list[tuple[str, bytes, int]]:
        found: list[tuple[str, bytes, int]] = []
        inbox = self._client.new_inbox()
        try:
            subscription = await self._client.subscribe(inbox)
            try:
                wanted = msgspec.json.encode({"multi_last": [filter_subject]})
                await self._client.publish(f"$JS.API.DIRECT.GET.{stream}", wanted, reply=inbox)
                async with asyncio.timeout(2.0):
                    while True:
                        message = await subscription.next_msg(timeout=2.0)
                        head = message.headers or {}
                        status = head.get("Status")
                        if status in ("204", "404"):  # end of batch, nothing there
                            return found
                        if status is not None:
                            raise DependencyError("nats", f"stream {stream} refuses to tell its newest: {head}")
                        found.append((head["Nats-Subject"], bytes(message.data), int(head["Nats-Sequence"])))
            finally:
                await subscription.unsubscribe()
        except _NATS_ERRORS as error:
            words = str(error) or type(error).__name__
            raise DependencyError("nats", f"cannot read the newest of {filter_subject} in {stream}: {words}") from error

    async def request(self, subject: str, payload: bytes, *, timeout_s: float = 1.0) -> bytes:
        try:
            head, body = await self._ask(subject, payload, None, timeout_s)
        except TimeoutError:
            raise DependencyError(subject, f"no answer on {subject} within {timeout_s:g} s") from None
        if head.get("Status") == "503":
            raise DependencyError(subject, f"nobody answers on {subject}")
        return body

    async def respond(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[bytes]], *, queue: str = ""
    ) -> _Core:
        async def answer(subject: str, reply: str, payload: bytes) -> None:
            self._answer(reply, await handler(subject, payload))

        return await self._subscribe(subject, answer, queue)

    async def kv(self, bucket: str) -> NatsKeyValue:
        try:
            store = await self._js.key_value(bucket)
        except (*_NATS_ERRORS, APIError) as error:
            raise DependencyError("nats", f"bucket {bucket} is not there: {explain(error)}") from error
        return NatsKeyValue(bucket, store, self._js, self._client, self._answer, explain)

    async def flush(self, timeout_s: float = 2.0) -> None:
        try:
            await self._client.flush(timeout=max(1, int(timeout_s)))
        except _NATS_ERRORS as error:
            raise DependencyError("nats", f"flush failed: {explain(error)}") from error

    async def close(self) -> None:
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._client.drain()
        except (*_NATS_ERRORS, TimeoutError):
            await self._client.close()

    def _spawn(self, coroutine: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
