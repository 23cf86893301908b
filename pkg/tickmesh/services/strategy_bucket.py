"""Where a pod's Strategy resource comes from: key ``spec.<name>`` of the ``strategies`` bucket, the operator's.

In: the bucket's changes. Out: Seen, as ``ResourceFiles`` gives it. A document that cannot be used takes nothing away:
what was last good stays, and the mistake is told. A key that was deleted means that the strategy is gone; a bucket that
cannot be reached, or lost its data, means nothing.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.ports import Bus, KvEntry
from tickmesh.services.strategy_files import Seen
from tickmesh.strategy.resource import ResourceError, StrategyResource, from_document

log = logging.getLogger(__name__)

BUCKET = "strategies"
PREFIX = "bucket:"
_RETRY_S = 0.25


class BucketResources:
    """Follows one key. ``changed`` is set whenever there is something to look at."""

    def __init__(self, bus: Bus, name: str, shard: int = -1) -> None:
        self.changed = asyncio.Event()
        self._bus = bus
        self._name = name
        self._shard = shard
        self._resource: StrategyResource | None = None
        self._mistake = ""
        self._fresh = False

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                bucket = await self._bus.kv(BUCKET)
                async for entry in bucket.watch(f"spec.{self._name}"):
                    self._take(entry)
            except DependencyError as error:
                log.warning("the resource of %s cannot be followed: %s; trying again", self._name, error)
            await asyncio.sleep(_RETRY_S)

    def look(self) -> Seen | None:
        """What the key holds; None when it is as it was."""
        fresh, self._fresh = self._fresh, False
        return self.present if fresh else None

    @property
    def present(self) -> Seen:
        seen = Seen(mistakes=[self._mistake] if self._mistake else [])
        if self._resource is not None and self._shard < self._resource.spec.shards:  # else our shard is no more
            seen.resources[self._name] = self._resource
        return seen

    def _take(self, entry: KvEntry) -> None:
        self._fresh = True
        self.changed.set()
        self._mistake = ""
        if entry.value is None:
            self._resource = None
            return
        where = f"bucket {BUCKET}: {entry.key}"
        try:
            found = from_document(msgspec.json.decode(entry.value), where)
            if found.name != self._name:
                raise ResourceError(where, 0, "metadata.name", f"is {found.name!r}, the key says {self._name!r}")
            self._resource = found
        except msgspec.DecodeError as error:
            self._mistake = f"{where}: not JSON: {error}"
        except ResourceError as error:
            self._mistake = str(error)
