"""AccountReconciler: a TradingAccount's limits carried over to the ``limits`` bucket, its state told in its status.

In: resources from the watch, snapshots of the account service, what risk has latched. Out: the account's limits
document, status, an Event per change of a condition. Keys, margin and position mode are not its business: execution
holds the keys, and the modes are set at the venue.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from tickmesh.domain import subjects
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import AccountSnapshot, decode
from tickmesh.kube import account as rules
from tickmesh.ports import Bus, Clock
from tickmesh.risk.limits import Limits, LimitsError, parse
from tickmesh.services.limits import BUCKET, DEFAULT_KEY
from tickmesh.services.operator.cluster import Cluster
from tickmesh.services.operator.strategies import Known
from tickmesh.services.risk import BUCKET as HALTS
from tickmesh.services.risk import HALTS_KEY, SavedHalts

log = logging.getLogger(__name__)

Manifest = dict[str, Any]
_RETRY_S = 1.0
_LOOK_S = 5.0
"""Money moves all the time; a status is written that often at most, but for conditions."""


class AccountReconciler:
    """One per operator; ``reconcile`` is the worker of a WorkQueue, ``follow`` its second source of keys."""

    def __init__(self, cluster: Cluster, bus: Bus, clock: Clock, known: Known, leading: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._bus = bus
        self._clock = clock
        self._known = known
        self._leading = leading
        self._snapshots: dict[str, AccountSnapshot] = {}
        self._halts: dict[str, str] = {}
        self._written: dict[str, float] = {}

    async def follow(self, add: Callable[[str], None]) -> None:
        """Hear snapshots and halts until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear())
            group.create_task(self._follow_halts(add))

    async def reconcile(self, name: str) -> float | None:
        """Carry a new generation over, then tell the account's state."""
        resource = self._known.accounts.get(name)
        if not self._leading() or resource is None:
            return None
        bucket, key = await self._bus.kv(BUCKET), subjects.token(name)
        entry = await bucket.get(key)
        document: Manifest = json.loads(entry.value) if entry is not None and entry.value else {}
        wanted, refused = rules.carry_over(resource, document), ""
        if wanted is not None and wanted != document:
            refused = await self._refusal(wanted)
            if not refused:
                written = msgspec.json.encode(wanted)
                if entry is None:
                    await bucket.put(key, written)
                elif await bucket.update(key, written, entry.revision) is None:
                    return 0.2  # somebody was faster with another limit: look again
                document = wanted
        now = self._clock.wall_ns()
        halted = sorted(scope for scope in ("all", f"account.{key}") if scope in self._halts)
        status = rules.compute_status(resource, document, refused, self._snapshots.get(key), halted, now)
        await self._tell(resource, status)
        return _LOOK_S

    async def _refusal(self, document: Manifest) -> str:
        """Why execution and risk would refuse this document; empty when they would not."""
        default = await (await self._bus.kv(BUCKET)).get(DEFAULT_KEY)
        try:
            base = parse(default.value if default is not None and default.value else b"{}", Limits())
            parse(msgspec.json.encode(document), base)
        except LimitsError as error:
            return error.detail
        return ""

    async def _tell(self, resource: Manifest, status: Manifest) -> None:
        name, before = resource["metadata"]["name"], resource.get("status") or {}
        if before == status:
            return
        old, new = _states(before), _states(status)
        now = time.monotonic()
        if old == new and now - self._written.get(name, 0.0) < _LOOK_S - 0.5:
            return
        self._written[name] = now
        await self._cluster.patch_status("TradingAccount", name, {**dict.fromkeys(before), **status})
        for kind, reason, message in sorted(new - old):
            if (kind, reason) not in {(k, r) for k, r, _ in old} and reason not in ("CarriedOver", "Trading"):
                warning = reason != "Reporting"
                await self._cluster.event(resource, "TradingAccount", reason, message, warning=warning)

    async def _hear(self) -> None:
        async def on_snapshot(_: str, payload: bytes) -> None:
            try:
                snapshot = decode(AccountSnapshot, payload)
            except msgspec.DecodeError as error:
                log.warning("an account's snapshot cannot be read: %s", error)
                return
            self._snapshots[subjects.token(snapshot.account)] = snapshot

        while True:
            try:
                await self._bus.subscribe("account.*.snapshot", on_snapshot)
                return
            except DependencyError as error:
                log.warning("accounts cannot be heard: %s; trying again", error)
                await asyncio.sleep(_RETRY_S)

    async def _follow_halts(self, add: Callable[[str], None]) -> None:
        while True:
            try:
                bucket = await self._bus.kv(HALTS)
                async for entry in bucket.watch(HALTS_KEY):
                    saved = msgspec.json.decode(entry.value, type=SavedHalts) if entry.value else SavedHalts([])
                    self._halts = {halt.scope: halt.reason for halt in saved.halts if halt.state.value == "HALTED"}
                    for name in list(self._known.accounts):
                        add(name)
            except (DependencyError, msgspec.DecodeError) as error:
                log.warning("what is halted cannot be followed: %s; trying again", error)
            await asyncio.sleep(_RETRY_S)


def _states(status: Manifest) -> set[tuple[str, str, str]]:
    return {(c["type"], c["reason"], c["message"]) for c in status.get("conditions", [])}
