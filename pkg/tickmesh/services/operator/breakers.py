"""BreakerReconciler: CircuitBreaker resources and the ``breakers`` bucket kept together, both ways.

In: resources from the watch, the bucket's changes. Out: ``config.*``, ``force.*`` and ``reset.*`` in the bucket, status
in the cluster, an Event per change of state. Who wins is written in ``kube.breaker``. While no operator runs the bucket
alone works; afterwards the status catches up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.kube import breaker as rules
from tickmesh.kube.conditions import timestamp
from tickmesh.ports import Bus, Clock, KvEntry
from tickmesh.services.breakers import BUCKET
from tickmesh.services.buckets import take_all
from tickmesh.services.operator.cluster import Cluster
from tickmesh.services.operator.strategies import Known

log = logging.getLogger(__name__)

_RETRY_S = 0.5
_RESYNC_S = 300.0
T = TypeVar("T")


class BreakerReconciler:
    """One per operator; ``reconcile`` is the worker of a WorkQueue, ``follow`` its second source of keys."""

    def __init__(self, cluster: Cluster, bus: Bus, clock: Clock, known: Known, leading: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._bus = bus
        self._clock = clock
        self._known = known
        self._leading = leading
        self._records: dict[str, rules.StateRecord] = {}
        self._forces: dict[str, rules.ForceRecord] = {}
        self._configs: dict[str, rules.ConfigRecord] = {}
        self._ready = asyncio.Event()

    async def follow(self, add: Callable[[str], None]) -> None:
        """Follow the bucket for ever; ask for the resources that a change concerns."""
        while True:
            try:
                bucket = await self._bus.kv(BUCKET)
                await take_all(bucket, self._take)
                self._ready.set()
                for name in list(self._known.breakers):
                    add(name)
                async for entry in bucket.watch():
                    target = self._take(entry)
                    for name, resource in list(self._known.breakers.items()):
                        if rules.target_of(resource) == target:
                            add(name)
            except DependencyError as error:
                log.warning("the breakers bucket cannot be followed: %s; trying again", error)
            await asyncio.sleep(_RETRY_S)

    async def reconcile(self, name: str) -> float | None:
        """Carry a new generation over to the bucket, then tell the bucket's state in the status."""
        if not self._leading():
            return None
        if not self._ready.is_set():
            return _RETRY_S  # without the bucket's present state an old force of the resource would be written again
        resource = self._known.breakers.get(name)
        if resource is None:
            return None
        target = rules.target_of(resource)
        now_ns = self._clock.wall_ns()
        writes = rules.carry_over(resource, self._configs.get(target), self._forces.get(target), now_ns)
        await self._write(target, writes)
        records = [r for r in self._records.values() if r.target == target]
        status = rules.compute_status(
            resource, records, self._forces.get(target), self._configs.get(target),
            lambda ns: timestamp(ns or now_ns),
        )  # fmt: skip
        before = resource.get("status") or {}
        if before != status:
            await self._cluster.patch_status("CircuitBreaker", name, {**dict.fromkeys(before), **status})
            if before.get("state", "Closed") != status["state"]:
                words = f"{before.get('state', 'Closed')} to {status['state']}: {status['reason']}"
                warning = status["state"] == "Open"
                await self._cluster.event(resource, "CircuitBreaker", status["state"], words, warning=warning)
        return _RESYNC_S

    async def _write(self, target: str, writes: rules.Writes) -> None:
        if writes.config is None:
            return
        bucket = await self._bus.kv(BUCKET)
        # The config goes last: it says that this generation has been carried over.
        if writes.force is not None:
            await bucket.put(f"force.{target}", msgspec.json.encode(writes.force))
            self._forces[target] = writes.force
        elif writes.release:
            await bucket.delete(f"force.{target}")
            self._forces.pop(target, None)
        if writes.reset:
            await bucket.put(f"reset.{target}", msgspec.json.encode({"at": writes.reset}))
        await bucket.put(f"config.{target}", msgspec.json.encode(writes.config))
        self._configs[target] = writes.config

    def _take(self, entry: KvEntry) -> str:
        """Note a change; returns the target that it concerns."""
        kind, _, rest = entry.key.partition(".")
        match kind:
            case "force":
                _set(self._forces, rest, entry.value, rules.ForceRecord)
                return rest
            case "config":
                _set(self._configs, rest, entry.value, rules.ConfigRecord)
                return rest
            case "state":
                old = self._records.get(rest)
                _set(self._records, rest, entry.value, rules.StateRecord)
                new = self._records.get(rest)
                return (new.target if new else "") or (old.target if old else "")
        return ""


def _set(table: dict[str, T], key: str, value: bytes | None, kind: type[T]) -> None:
    if not value:
        table.pop(key, None)
        return
    try:
        table[key] = msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        log.warning("the breakers bucket's entry for %s cannot be read: %s", key, error)
