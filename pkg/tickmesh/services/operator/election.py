"""Election: which of several operators acts, on a coordination.k8s.io Lease, with the same LeaseCore as trading.

In: the Lease object and CLOCK_MONOTONIC. Out: ``leading`` as an event and ``valid()`` to ask before each write.
An API server that is away costs the leadership after its time to live; nothing is written meanwhile, trading goes on.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from tickmesh.domain.lease import Attempt, LeaseCore, LeaseRecord, Move
from tickmesh.ports import Clock
from tickmesh.services.operator.cluster import Cluster, ClusterError

log = logging.getLogger(__name__)

_POLL_S = 1.0
_EPOCH = "tickmesh.io/epoch"


class Election:
    """One contender. ``name`` of the Lease, ``me`` unique among living operators (the pod's name)."""

    def __init__(self, cluster: Cluster, clock: Clock, name: str, me: str, *, ttl_ms: int = 8000) -> None:
        self._cluster = cluster
        self._clock = clock
        self._name = name
        self._core = LeaseCore(me, ttl_ms * 1_000_000)
        self.leading = asyncio.Event()

    def valid(self) -> bool:
        """Whether we lead at this moment."""
        ok = self._core.valid(self._clock.mono_ns())
        if not ok and self.leading.is_set():
            log.warning("no longer the leader")
            self.leading.clear()
        return ok

    async def run(self) -> None:
        """Contend until cancelled, then give back."""
        try:
            while True:
                try:
                    if not self._core.valid(self._clock.mono_ns()):
                        await self._look()
                    attempt = self._core.next(self._clock.mono_ns(), self._clock.wall_ns())
                    if attempt is not None:
                        await self._try(attempt)
                except ClusterError as error:
                    log.warning("the election's lease: %s", error)
                self.valid()
                await asyncio.sleep(_POLL_S)
        finally:
            await asyncio.shield(self.give_back())

    async def give_back(self) -> None:
        """Let the next one lead at once."""
        self.leading.clear()
        back = self._core.give_back()
        if back is not None:
            try:
                async with asyncio.timeout(3.0):
                    await self._write(back)
            except (ClusterError, TimeoutError) as error:
                log.info("the lease could not be given back (%s); it runs out by itself", error)

    async def _look(self) -> None:
        found = await self._cluster.get_lease(self._name)
        now = self._clock.mono_ns()
        if found is None:
            self._core.see(None, 0, now)
            return
        annotations = found.metadata.annotations or {}
        record = LeaseRecord(
            holder=found.spec.holderIdentity or "",
            epoch=int(annotations.get(_EPOCH, "0")),
            ttl_ms=(found.spec.leaseDurationSeconds or 1) * 1000,
        )
        self._core.see(record, int(found.metadata.resourceVersion), now)

    async def _try(self, attempt: Attempt) -> None:
        written = await self._write(attempt)
        revision = int(written.metadata.resourceVersion) if written is not None else None
        if self._core.done(attempt, revision) and not self.leading.is_set():
            log.info("leading, term %d", self._core.epoch)
            self.leading.set()

    async def _write(self, attempt: Attempt) -> Any | None:
        record = attempt.record
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        metadata: dict[str, Any] = {
            "name": self._name,
            "namespace": self._cluster.namespace,
            "annotations": {_EPOCH: str(record.epoch)},
            "labels": {"app.kubernetes.io/part-of": "tickmesh"},
        }
        if attempt.move is not Move.CREATE:
            metadata["resourceVersion"] = str(attempt.revision)
        manifest = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": max(1, record.ttl_ms // 1000),
                "renewTime": now,
                "leaseTransitions": record.epoch,
            },
        }
        return await self._cluster.write_lease(manifest, create=attempt.move is Move.CREATE)
