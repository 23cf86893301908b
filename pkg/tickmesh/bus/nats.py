"""NatsBus: the Bus port over nats-py and JetStream.

Bytes in, bytes out; encoding belongs to ``domain.messages``. The publish path writes to the socket in the
same loop iteration (see ``publish``) because nats-py's flusher task costs a task switch per message.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NoKeysError, NotFoundError

from tickmesh.bus import layout
from tickmesh.domain.errors import DependencyError
from tickmesh.ports.bus import DurableMessage, Handler, KvEntry

log = logging.getLogger(__name__)

_NATS_ERRORS = (NatsError, asyncio.TimeoutError, OSError)
_MAX_BUFFERED_BYTES = 8 * 1024 * 1024


class _Stored:
    """A JetStream message as the DurableMessage port."""

    __slots__ = ("_msg",)

    def __init__(self, msg: Msg) -> None:
        self._msg = msg

    @property
    def subject(self) -> str:
        return str(self._msg.subject)

    @property
    def data(self) -> bytes:
        return bytes(self._msg.data)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._msg.headers or {}

    @property
    def stream_seq(self) -> int:
        return int(self._msg.metadata.sequence.stream)

    @property
    def redelivered(self) -> bool:
        return int(self._msg.metadata.num_delivered or 1) > 1

    @property
    def pending(self) -> int:
        return int(self._msg.metadata.num_pending or 0)

    async def ack(self) -> None:
        await self._msg.ack()

    async def nak(self, delay_s: float = 0.0) -> None:
        await self._msg.nak(delay=delay_s or None)

    async def term(self) -> None:
        await self._msg.term()


class _Task:
    """A subscription that is a background task of ours."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    async def unsubscribe(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class _Core:
    """A core subscription."""

    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription

    async def unsubscribe(self) -> None:
        try:
            await self._subscription.unsubscribe()
        except NatsError:
            pass  # already gone with its connection


class NatsKeyValue:
    """One JetStream key-value bucket."""

    def __init__(self, bucket: str, store: Any, js: JetStreamContext) -> None:
        self._bucket = bucket
        self._store = store
        self._js = js

    async def get(self, key: str) -> KvEntry | None:
        try:
            entry = await self._store.get(key)
        except (KeyNotFoundError, NotFoundError):
            return None
        except _NATS_ERRORS as error:
            raise self._failed("read", key, error) from error
        return KvEntry(self._bucket, key, entry.value, entry.revision)

    async def put(self, key: str, value: bytes) -> int:
        try:
            return int(await self._store.put(key, value))
        except _NATS_ERRORS as error:
            raise self._failed("write", key, error) from error

    async def create(self, key: str, value: bytes) -> int | None:
        try:
            return int(await self._store.create(key, value))
        except KeyWrongLastSequenceError:
            return None
        except _NATS_ERRORS as error:
            raise self._failed("create", key, error) from error

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        try:
            return int(await self._store.update(key, value, last=revision))
        except KeyWrongLastSequenceError:
            return None
        except _NATS_ERRORS as error:
            raise self._failed("update", key, error) from error

    async def delete(self, key: str) -> None:
        try:
            await self._store.delete(key)
        except _NATS_ERRORS as error:
            raise self._failed("delete", key, error) from error

    async def keys(self) -> list[str]:
        try:
            return list(await self._store.keys())
        except NoKeysError:
            return []
        except _NATS_ERRORS as error:
            raise self._failed("list", "*", error) from error

    async def watch(self, key: str = ">") -> AsyncIterator[KvEntry]:
        seen = 0
        while True:
            try:
                watcher = await self._store.watch(key)
                try:
                    while True:
                        try:
                            entry = await watcher.updates(timeout=30)
                        except (TimeoutError, NatsError):
                            # The watcher's consumer may be gone with its server; a fresh one tells all again.
                            break
                        if entry is None:
                            continue
                        if entry.revision <= seen:
                            continue
                        seen = entry.revision
                        gone = entry.operation in ("DEL", "PURGE")
                        yield KvEntry(self._bucket, entry.key, None if gone else entry.value, entry.revision)
                finally:
                    await asyncio.gather(watcher.stop(), return_exceptions=True)
            except _NATS_ERRORS as error:
                log.debug("watch of %s interrupted: %s", self._bucket, error)
                await asyncio.sleep(0.5)

    def _failed(self, verb: str, key: str, error: BaseException) -> DependencyError:
        return DependencyError("nats", f"cannot {verb} {key} in bucket {self._bucket}: {error or type(error).__name__}")


class NatsBus:
    """The Bus port on a NATS server with JetStream. Make one with ``connect``."""

    def __init__(self, client: Client, js: JetStreamContext) -> None:
        self._client = client
        self._js = js
        self._tasks: set[asyncio.Task[None]] = set()
        self.handler_errors = 0

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str,
        user_credentials: str | None = None,
        connect_timeout_s: float = 30.0,
        replicas: int = 1,
        apply_layout: bool = True,
    ) -> NatsBus:
        """Connect, reconnecting for ever afterwards, and make sure the layout is there.

        Raises:
            DependencyError: no server with JetStream at ``url`` within ``connect_timeout_s``.
        """

        async def on_error(error: Exception) -> None:
            log.warning("nats: %s", error or type(error).__name__)

        async def on_disconnect() -> None:
            log.warning("nats: disconnected from %s", url)

        async def on_reconnect() -> None:
            log.info("nats: reconnected to %s", url)

        deadline = asyncio.get_running_loop().time() + connect_timeout_s
        while True:
            try:
                options: dict[str, Any] = {"user_credentials": user_credentials} if user_credentials else {}
                client = await nats.connect(
                    url,
                    name=name,
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_reconnect,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,
                    connect_timeout=2,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    pending_size=_MAX_BUFFERED_BYTES,
                    flusher_queue_size=1024 * 64,
                    allow_reconnect=True,
                    **options,
                )
                js = client.jetstream(timeout=5)
                if apply_layout:
                    await layout.apply(js, replicas=replicas)
                return cls(client, js)
            except (*_NATS_ERRORS, APIError) as error:
                if asyncio.get_running_loop().time() >= deadline:
                    raise DependencyError(
                        "nats", f"no NATS server with JetStream answers at {url} ({error or type(error).__name__})"
                    ) from error
                await asyncio.sleep(0.2)

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def backlog_bytes(self) -> int:
        client = self._client
        writer = getattr(client._transport, "_io_writer", None)
        waiting = writer.transport.get_write_buffer_size() if writer is not None else 0
        return int(client._pending_data_size + waiting)

    @property
    def client(self) -> Client:
        """The nats-py client, for what the port does not cover."""
        return self._client

    @property
    def jetstream(self) -> JetStreamContext:
        return self._js

    def publish(self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        client = self._client
        if client.is_closed:
            raise DependencyError("nats", f"cannot publish on {subject}: the connection is closed")
        if headers:
            head = "NATS/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
            raw = head.encode()
            command = b"HPUB %b %d %d\r\n%b%b\r\n" % (subject.encode(), len(raw), len(raw) + len(payload), raw, payload)
        else:
            command = b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)
        if client._pending_data_size > _MAX_BUFFERED_BYTES:
            raise DependencyError("nats", f"cannot publish on {subject}: {client._pending_data_size} bytes are waiting")
        # Append to nats-py's own pending buffer, so that order and reconnect buffering stay its business,
        # then hand it to the transport at once instead of waking the flusher task (docs/decisions/0003).
        client._pending.append(command)
        client._pending_data_size += len(command)
        client.stats["out_msgs"] += 1
        client.stats["out_bytes"] += len(payload)
        if client.is_connected and not client.is_connecting:
            transport = client._transport
            if transport is not None:
                transport.writelines(client._pending[:])
                client._pending = []
                client._pending_data_size = 0

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
            ack = await self._js.publish(
                subject, payload, timeout=timeout_s, headers={**(headers or {}), "Nats-Msg-Id": message_id}
            )
        except (*_NATS_ERRORS, APIError) as error:
            raise DependencyError(
                "nats", f"{subject} was not acknowledged by its stream: {error or type(error).__name__}"
            ) from error
        return int(ack.seq)

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> _Core:
        async def on_message(msg: Msg) -> None:
            try:
                result = handler(msg.subject, msg.data)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                self.handler_errors += 1
                log.exception("handler of %s failed on %s; the message is skipped", subject, msg.subject)

        subscription = await self._client.subscribe(
            subject, queue=queue, cb=on_message, pending_msgs_limit=262_144, pending_bytes_limit=128 * 1024 * 1024
        )
        # SUB travels now, so that a caller who publishes next is heard.
        await self._client.flush(timeout=2)
        return _Core(subscription)

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
                except Exception:
                    self.handler_errors += 1
                    log.exception("consumer %s failed on %s; it will be redelivered", durable, message.subject)
                    await message.nak(delay_s=1.0)

        return await self._pull(
            stream, durable, each, filter_subjects, batch, 0.0, ack_wait_s, max_ack_pending=max_ack_pending
        )

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
        return await self._pull(stream, durable, handler, filter_subjects, batch, max_wait_s, ack_wait_s)

    async def _pull(
        self,
        stream: str,
        durable: str,
        handler: Callable[[list[DurableMessage]], Awaitable[None]],
        filter_subjects: tuple[str, ...],
        batch: int,
        linger_s: float,
        ack_wait_s: float,
        max_ack_pending: int = 100_000,
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
            subscription = None
            while True:
                try:
                    if subscription is None:
                        await self._js.add_consumer(stream, config)
                        subscription = await self._js.pull_subscribe_bind(durable, stream=stream)
                    messages = await subscription.fetch(batch, timeout=5.0)
                    if linger_s and len(messages) < batch:
                        await asyncio.sleep(linger_s)
                        try:
                            messages += await subscription.fetch(batch - len(messages), timeout=0.05)
                        except TimeoutError:
                            pass
                    await handler([_Stored(m) for m in messages])
                except TimeoutError:
                    continue
                except (NatsError, APIError, OSError) as error:
                    log.warning("consumer %s on %s: %s; retrying", durable, stream, error or type(error).__name__)
                    subscription = None
                    await asyncio.sleep(0.5)
                except Exception:
                    self.handler_errors += 1
                    log.exception("consumer %s on %s failed; its messages will be redelivered", durable, stream)
                    await asyncio.sleep(0.5)

        return _Task(self._spawn(run(), f"consume:{stream}:{durable}"))

    async def replay(
        self, stream: str, *, filter_subject: str = ">", start_seq: int = 1
    ) -> AsyncIterator[tuple[str, bytes, int]]:
        try:
            info = await self._js.stream_info(stream)
            end = info.state.last_seq
            if info.state.messages == 0 or end < start_seq:
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
            pending = consumer.num_pending or 0
            subscription = await self._js.pull_subscribe_bind(consumer.name, stream=stream)
        except (*_NATS_ERRORS, APIError) as error:
            raise DependencyError("nats", f"cannot replay {stream}: {error or type(error).__name__}") from error
        try:
            while pending > 0:
                try:
                    messages = await subscription.fetch(min(pending, 1000), timeout=5.0)
                except (*_NATS_ERRORS, APIError) as error:
                    raise DependencyError(
                        "nats", f"the replay of {stream} broke off: {error or type(error).__name__}"
                    ) from error
                for msg in messages:
                    pending -= 1
                    yield msg.subject, msg.data, int(msg.metadata.sequence.stream)
        finally:
            await asyncio.gather(
                subscription.unsubscribe(), self._js.delete_consumer(stream, consumer.name), return_exceptions=True
            )

    async def last(self, stream: str, subject: str) -> bytes | None:
        try:
            message = await self._js.get_last_msg(stream, subject, direct=True)
        except NotFoundError:
            return None
        except (*_NATS_ERRORS, APIError) as error:
            raise DependencyError("nats", f"cannot read {subject} of {stream}: {error}") from error
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
            return bytes((await self._client.request(subject, payload, timeout=timeout_s)).data)
        except NoRespondersError as error:
            raise DependencyError(subject, f"nobody answers on {subject}") from error
        except _NATS_ERRORS as error:
            raise DependencyError(subject, f"no answer on {subject} within {timeout_s:g} s") from error

    async def respond(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[bytes]], *, queue: str = ""
    ) -> _Core:
        async def on_message(msg: Msg) -> None:
            try:
                await msg.respond(await handler(msg.subject, msg.data))
            except Exception:
                self.handler_errors += 1
                log.exception("request on %s failed", msg.subject)

        return _Core(await self._client.subscribe(subject, queue=queue, cb=on_message))

    async def kv(self, bucket: str) -> NatsKeyValue:
        try:
            return NatsKeyValue(bucket, await self._js.key_value(bucket), self._js)
        except (*_NATS_ERRORS, APIError) as error:
            raise DependencyError("nats", f"bucket {bucket} is not there: {error}") from error

    async def flush(self, timeout_s: float = 2.0) -> None:
        try:
            await self._client.flush(timeout=max(1, int(timeout_s)))
        except _NATS_ERRORS as error:
            raise DependencyError("nats", f"flush failed: {error or type(error).__name__}") from error

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(5):
                await self._client.drain()
        except (*_NATS_ERRORS, TimeoutError):
            await self._client.close()

    def _spawn(self, coroutine: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
