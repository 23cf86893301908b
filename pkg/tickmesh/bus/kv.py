"""NatsKeyValue: a JetStream key-value bucket as the KeyValue port.

Reading and writing is nats-py's; watching is ours, because a watch here must outlive its server: it is an
ephemeral consumer that is made again within a second of every reconnection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NoKeysError, NotFoundError

from tickmesh.bus.client import DirectClient
from tickmesh.bus.pull import Puller, PullLostError, Send, Stored
from tickmesh.domain.errors import DependencyError
from tickmesh.ports.bus import KvEntry

log = logging.getLogger(__name__)

_NATS_ERRORS = (NatsError, APIError, asyncio.TimeoutError, OSError)
_WATCH_BATCH = 256
_WATCH_RETRY_S = 0.25
_GONE_AFTER_S = 30.0


class NatsKeyValue:
    """One bucket."""

    def __init__(
        self,
        bucket: str,
        store: Any,
        js: JetStreamContext,
        client: DirectClient,
        send: Send,
        explain: Callable[..., str],
    ) -> None:
        self._bucket = bucket
        self._store = store
        self._js = js
        self._client = client
        self._send = send
        self._explain = explain

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
        """Every current value, then every change, for ever.

        A value is told again after a server lost its data and got it back from us; never an older one first.
        """
        seen = 0
        while True:
            puller: Puller | None = None
            try:
                stream = f"KV_{self._bucket}"
                if (await self._js.stream_info(stream)).state.last_seq < seen:
                    seen = 0  # the bucket was made anew and counts from 1
                puller = await self._open(stream, key)
                while True:
                    for message in await puller.take():
                        if message.stream_seq > seen:
                            seen = message.stream_seq
                            yield self._entry(message)
            except PullLostError as error:
                log.debug("watch of %s: %s", self._bucket, error)
            except (*_NATS_ERRORS, DependencyError) as error:
                log.debug("watch of %s interrupted: %s", self._bucket, error or type(error).__name__)
                await asyncio.sleep(_WATCH_RETRY_S)
            finally:
                if puller is not None:
                    await puller.close()

    async def _open(self, stream: str, key: str) -> Puller:
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            filter_subject=f"$KV.{self._bucket}.{key}",
            inactive_threshold=_GONE_AFTER_S,
            mem_storage=True,
            num_replicas=1,
        )
        info = await self._js.add_consumer(stream, config)
        puller = Puller(self._client, stream, info.name, _WATCH_BATCH, self._send)
        await puller.open()
        return puller

    def _entry(self, message: Stored) -> KvEntry:
        headers = message.headers
        gone = headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers
        key = message.subject.removeprefix(f"$KV.{self._bucket}.")
        return KvEntry(self._bucket, key, None if gone else message.data, message.stream_seq)

    def _failed(self, verb: str, key: str, error: BaseException) -> DependencyError:
        return DependencyError("nats", f"cannot {verb} {key} in bucket {self._bucket}: {self._explain(error)}")
