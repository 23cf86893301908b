"""Lease: keeps a LeaseCore in step with its key in the ``leases`` bucket.

In: the bucket's changes and the clock. Out: ``held`` and ``lost`` as events, ``valid()`` as the fence to ask before
every act. A bucket that cannot be reached costs the lease after its time to live, never sooner, and is no error here:
the loop goes on and takes the lease again when the bucket is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.lease import Attempt, LeaseCore, LeaseRecord, Move
from tickmesh.ports import Bus, Clock, KeyValue, KvEntry

log = logging.getLogger(__name__)

_BUCKET = "leases"
_RETRY_S = 0.1
_MAX_SLEEP_S = 1.0


class Lease:
    """Contends for ``key`` while ``run`` runs. Safe to ask from the same event loop at any time."""

    def __init__(self, bus: Bus, clock: Clock, key: str, me: str, *, ttl_ms: int) -> None:
        self.key = key
        self.core = LeaseCore(me, ttl_ms * 1_000_000)
        self.held = asyncio.Event()
        self.lost = asyncio.Event()
        self.lost.set()
        self._bus = bus
        self._clock = clock
        self._write_s = max(0.05, ttl_ms / 1000 / 2)
        self._changed = asyncio.Event()
        self._bucket: KeyValue | None = None
        self._stopping = False

    @property
    def epoch(self) -> int:
        return self.core.epoch

    def valid(self) -> bool:
        """The fence: whether we hold the lease at this very moment."""
        ok = self.core.valid(self._clock.mono_ns())
        if not ok and self.held.is_set():
            self._lose("it was not renewed in time")
        return ok

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Lease]:
        """Contend in the background; give the lease back at the end, so that the next one need not wait."""
        tasks = [asyncio.create_task(self._watch(), name=f"lease-watch-{self.key}")]
        tasks.append(asyncio.create_task(self._contend(), name=f"lease-{self.key}"))
        try:
            yield self
        finally:
            self._stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.give_back()

    async def give_back(self) -> None:
        """Stop acting and let the next one in."""
        attempt = self.core.give_back()
        if self.held.is_set():
            self._lose("given back")
        if attempt is not None and self._bucket is not None:
            with contextlib.suppress(DependencyError, TimeoutError):
                async with asyncio.timeout(self._write_s):
                    await self._write(self._bucket, attempt)

    async def _watch(self) -> None:
        while True:
            try:
                bucket = await self._bus.kv(_BUCKET)
                self._bucket = bucket
                self._see(await bucket.get(self.key))
                async for entry in bucket.watch(self.key):
                    self._see(entry)
            except DependencyError as error:
                log.warning("lease %s: the bucket cannot be watched (%s); trying again", self.key, error)
            await asyncio.sleep(_RETRY_S)

    def _see(self, entry: KvEntry | None) -> None:
        now = self._clock.mono_ns()
        if entry is None:
            self.core.see(None, 0, now)
        elif entry.value is None:
            self.core.see(None, entry.revision, now)
        else:
            try:
                record = msgspec.json.decode(entry.value, type=LeaseRecord)
            except msgspec.DecodeError:
                log.error("lease %s: its key holds something that is no lease; it is treated as absent", self.key)
                self.core.see(LeaseRecord(holder="", epoch=0, ttl_ms=0), entry.revision, now)
            else:
                self.core.see(record, entry.revision, now)
        self.valid()
        self._changed.set()

    async def _contend(self) -> None:
        while True:
            self._changed.clear()
            now = self._clock.mono_ns()
            attempt = self.core.next(now, self._clock.wall_ns()) if self._bucket is not None else None
            if attempt is not None:
                await self._try(attempt)
                continue
            wait_s = min(_MAX_SLEEP_S, self.core.wait_ns(now) / 1e9 + 0.001)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            self.valid()

    async def _try(self, attempt: Attempt) -> None:
        assert self._bucket is not None
        try:
            async with asyncio.timeout(self._write_s):
                revision = await self._write(self._bucket, attempt)
        except (DependencyError, TimeoutError):
            # It may or may not be stored; reading the key again tells.
            self.valid()
            with contextlib.suppress(DependencyError, TimeoutError):
                async with asyncio.timeout(self._write_s):
                    self._see(await self._bucket.get(self.key))
            await asyncio.sleep(_RETRY_S)
            return
        if self.core.done(attempt, revision):
            if attempt.move is not Move.RENEW:
                log.info("lease %s: held by us (%s), epoch %d", self.key, self.core.me, self.core.epoch)
                # Whoever waits for ``lost`` of the former epoch has been told when that one ended.
                self.lost.clear()
                self.held.set()
        else:
            with contextlib.suppress(DependencyError, TimeoutError):
                async with asyncio.timeout(self._write_s):
                    self._see(await self._bucket.get(self.key))

    async def _write(self, bucket: KeyValue, attempt: Attempt) -> int | None:
        value = msgspec.json.encode(attempt.record)
        if attempt.move is Move.CREATE:
            return await bucket.create(self.key, value)
        return await bucket.update(self.key, value, attempt.revision)

    def _lose(self, why: str) -> None:
        log.log(logging.INFO if self._stopping else logging.WARNING, "lease %s: no longer ours: %s", self.key, why)
        self.held.clear()
        self.lost.set()
