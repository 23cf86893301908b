"""StrategyReconciler: makes the cluster and the ``strategies`` bucket hold what a Strategy asks for.

In: names of Strategies to look at; the newest objects from the watches; reports of pods from the bucket. Out: applied
manifests, bucket entries, status, Events. Level-triggered: it looks at what is, never at what happened, so a missed
event, a restart at any moment or a second call end in the same state. It writes only when something differs.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from tickmesh.domain.enums import IntentAction
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import OrderIntent, encode
from tickmesh.domain.subjects import intent as intent_subject
from tickmesh.kube import desired, status
from tickmesh.kube.desired import FINALIZER, STRATEGY_LABEL, Installation
from tickmesh.ports import Bus
from tickmesh.services.operator.cluster import Cluster

log = logging.getLogger(__name__)

Manifest = dict[str, Any]
BUCKET = "strategies"
_STATUS_INTERVAL_S = 2.0
_DELETE_LOOK_S = 1.0
_RESYNC_S = 600.0
_SOURCE_S = 60.0
FORCE_DELETE = "tickmesh.io/force-delete"


class Known:
    """The newest objects that the watches brought, by name. Filled by the handlers, read by the reconcilers."""

    def __init__(self) -> None:
        self.strategies: dict[str, Manifest] = {}
        self.deployments: dict[str, Manifest] = {}
        self.breakers: dict[str, Manifest] = {}
        self.accounts: dict[str, Manifest] = {}
        self.plugins: dict[str, Manifest] = {}
        """ConfigMaps with the label ``tickmesh.io/plugin``; others are not watched."""
        self.reports: dict[str, dict[int, status.PodReport]] = {}
        """By name and shard."""

    def report(self, name: str) -> status.PodReport | None:
        """What all shards of a strategy say together; None when none has said anything."""
        return status.combine(self.reports.get(name, {}))


class StrategyReconciler:
    """One per operator; ``reconcile`` is the worker of a WorkQueue."""

    def __init__(
        self, cluster: Cluster, bus: Bus, known: Known, installation: Installation, leading: Callable[[], bool]
    ) -> None:
        self._cluster = cluster
        self._bus = bus
        self._known = known
        self._installation = installation
        self._leading = leading
        self._applied: dict[str, str] = {}
        self._written: dict[str, bytes] = {}
        self._status_at: dict[str, float] = {}
        self._cancelled: set[str] = set()
        self._acknowledged: set[str] = set()
        self._read: dict[tuple[str, str], tuple[float, str]] = {}

    async def reconcile(self, name: str) -> float | None:
        """Bring one Strategy to where it should be; returns when to look again."""
        if not self._leading():
            return None
        strategy = self._known.strategies.get(name)
        if strategy is None:
            self._forget(name)
            return None
        if strategy["metadata"].get("deletionTimestamp"):
            return await self._release(strategy)
        if FINALIZER not in strategy["metadata"].get("finalizers", []):
            finalizers = [*strategy["metadata"].get("finalizers", []), FINALIZER]
            version = strategy["metadata"]["resourceVersion"]
            await self._cluster.patch(
                "Strategy", name, {"metadata": {"finalizers": finalizers, "resourceVersion": version}}
            )
        problems, source = await self._problems(strategy)
        if not problems:
            await self._apply(strategy, source)
        try:
            await self._publish(strategy)
        except DependencyError as error:
            problems.append(f"the strategies bucket cannot be written: {error}")
        return await self._write_status(strategy, problems)

    def on_report(self, key: str, value: bytes | None) -> str:
        """Take a pod's report from the bucket; one that cannot be read is logged and skipped. Returns whose it is."""
        name, _, shard = key.partition(".")
        number = int(shard) if shard.isdecimal() else 0
        told = self._known.reports.setdefault(name, {})
        if value is None:
            told.pop(number, None)
            return name
        try:
            told[number] = _report(value)
        except (msgspec.DecodeError, ArithmeticError) as error:
            log.warning("the report of strategy %s cannot be read: %s", key, error)
        return name

    async def _problems(self, strategy: Manifest) -> tuple[list[str], str]:
        """What is wrong with it now although it was admitted, and the text of its plugin."""
        spec, problems, source = strategy["spec"], [], ""
        account = spec.get("account")
        if spec.get("mode") == "Live" and account not in self._known.accounts:
            problems.append(f"TradingAccount {account!r} is not there (any more)")
        wanted = spec["plugin"].get("configMap")
        if wanted:
            text = await self._source(wanted["name"], wanted.get("key", "strategy.py"))
            if text is None:
                problems.append(f"ConfigMap {wanted['name']} with key {wanted.get('key', 'strategy.py')} is not there")
            else:
                source = text
        return problems, source

    async def _source(self, name: str, key: str) -> str | None:
        """Text of a plugin: from the watch when its ConfigMap is labelled, else asked for once a minute."""
        watched = self._known.plugins.get(name)
        if watched is not None:
            found: str | None = (watched.get("data") or {}).get(key)
            return found
        read_at, text = self._read.get((name, key), (0.0, ""))
        now = time.monotonic()
        if read_at and now - read_at < _SOURCE_S:
            return text
        self._read.pop((name, key), None)
        asked = await self._cluster.config_map_key(name, key)
        if asked is not None:  # one that is missing is looked for each time: it may come
            self._read[name, key] = (now, asked)
        return asked

    async def _apply(self, strategy: Manifest, source: str) -> None:
        """Apply what is not as it should be: the resource changed, or somebody changed a Deployment."""
        name = strategy["metadata"]["name"]
        wanted = desired.objects(strategy, self._installation, source)
        if await self._reshard(strategy):
            return  # the pods of the old sharding trade the same symbols: the new ones wait until those are gone
        key = hashlib.sha256(msgspec.json.encode(wanted)).hexdigest()
        drifted = [
            n
            for n in desired.deployment_names(strategy)
            if (have := self._known.deployments.get(n)) is None or _drifted(have, wanted)
        ]
        before = self._applied.get(name)
        if before == key and not drifted:
            return
        for manifest in wanted:
            await self._cluster.apply(manifest)
        self._applied[name] = key
        if before == key:
            words = f"{', '.join(drifted)} was changed or removed by somebody else; put back"
            await self._cluster.event(strategy, "Strategy", "Repaired", words)
        elif drifted and before is None:
            await self._cluster.event(strategy, "Strategy", "Created", f"{', '.join(drifted)} applied")
        elif drifted:
            await self._cluster.event(strategy, "Strategy", "Applied", "its pods are rolled to the changed resource")

    async def _reshard(self, strategy: Manifest) -> bool:
        """Delete Deployments of another sharding; True while one of them, or a pod of it, is still there."""
        name, names = strategy["metadata"]["name"], desired.deployment_names(strategy)
        obsolete = [
            d
            for n, d in self._known.deployments.items()
            if d["metadata"].get("labels", {}).get(STRATEGY_LABEL) == name and n not in names
        ]
        for deployment in obsolete:
            if not deployment["metadata"].get("deletionTimestamp"):
                await self._cluster.delete_deployment(deployment["metadata"]["name"])
        if obsolete:
            gone = ", ".join(sorted(d["metadata"]["name"] for d in obsolete))
            await self._cluster.event(strategy, "Strategy", "Resharding", f"waiting until the pods of {gone} are gone")
        return bool(obsolete)

    async def _publish(self, strategy: Manifest) -> None:
        """Write the hot part to the bucket, where the running pods follow it."""
        name, document = strategy["metadata"]["name"], desired.hot_document(strategy)
        if self._written.get(name) == document:
            return
        bucket = await self._bus.kv(BUCKET)
        entry = await bucket.get(f"spec.{name}")
        if entry is None or entry.value != document:
            await bucket.put(f"spec.{name}", document)
        self._written[name] = document

    async def _write_status(self, strategy: Manifest, problems: list[str]) -> float:
        name = strategy["metadata"]["name"]
        names = desired.deployment_names(strategy)
        known = status.Knowledge(
            deployments=[d for n in names if (d := self._known.deployments.get(n)) is not None],
            report=self._known.report(name),
            problems=problems,
        )
        made = status.compute(strategy, known, time.time_ns())
        if not status.differs(strategy, made):
            return _RESYNC_S
        now = time.monotonic()
        important = _condition_states(strategy.get("status") or {}) != _condition_states(made)
        due = self._status_at.get(name, 0.0) + _STATUS_INTERVAL_S
        if not important and now < due:
            return due - now  # P&L moves all the time: told every two seconds, conditions at once
        self._status_at[name] = now
        await self._cluster.patch_status("Strategy", name, made)
        # Whoever found it, operator or pod: a plugin that broke is told like an account that went.
        was, now_is = _degraded(strategy.get("status") or {}), _degraded(made)
        if now_is and now_is != was:
            await self._cluster.event(strategy, "Strategy", "Degraded", now_is, warning=True)
        elif was and not now_is:
            await self._cluster.event(strategy, "Strategy", "Recovered", f"no longer: {was}")
        return _RESYNC_S

    async def _release(self, strategy: Manifest) -> float | None:
        """Deletion: cancel its orders, wait until none is open, then let go."""
        name = strategy["metadata"]["name"]
        finalizers = strategy["metadata"].get("finalizers", [])
        if FINALIZER not in finalizers:
            return None
        forced = (strategy["metadata"].get("annotations") or {}).get(FORCE_DELETE) == "true"
        if not forced and not await self._quiet(strategy):
            words = (
                f"waiting: {self._left(strategy)}; to let go anyway, and look after its orders at the venue yourself: "
                f"kubectl annotate strategy {name} {FORCE_DELETE}=true"
            )
            await self._cluster.event(strategy, "Strategy", "CancellingOrders", words, warning=True)
            await self._write_status(strategy, [])
            return _DELETE_LOOK_S
        bucket = await self._bus.kv(BUCKET)
        shards = [shard for shard in self._known.reports.get(name, {}) if shard]
        for key in (f"spec.{name}", f"report.{name}", *(f"report.{name}.{shard}" for shard in shards)):
            await bucket.delete(key)
        others = [f for f in finalizers if f != FINALIZER]
        version = strategy["metadata"]["resourceVersion"]
        await self._cluster.patch("Strategy", name, {"metadata": {"finalizers": others, "resourceVersion": version}})
        self._forget(name)
        return None

    async def _quiet(self, strategy: Manifest) -> bool:
        """Whether no order of it is open, after asking for that: by its pods while they live, by execution always."""
        spec, name = strategy["spec"], strategy["metadata"]["name"]
        report = self._known.report(name)
        if not _was_live(strategy, report) and (report is None or report.open_orders == 0):
            return True
        await self._publish(strategy)  # paused: the pods cancel what is open and say when it is done
        open_at_execution = await self._cancel_is_open(strategy)
        told = len(self._known.reports.get(name, {})) >= spec.get("shards", 1)
        if told and report is not None and report.open_orders == 0 and report.paused:
            return True
        # No pod ever ran, or all are gone: then it is execution's word that counts, whatever a last report says.
        names = desired.deployment_names(strategy)
        pods = [d.get("status", {}).get("readyReplicas", 0) for n in names if (d := self._known.deployments.get(n))]
        return not any(pods) and not open_at_execution

    async def _cancel_is_open(self, strategy: Manifest) -> bool:
        """Ask execution once to cancel everything; True until it has: it acknowledges when every order has ended."""
        spec, name = strategy["spec"], strategy["metadata"]["name"]
        account = spec.get("account")
        if not account:
            return False
        subject, identity = intent_subject(account), f"delete.{strategy['metadata']['uid']}"
        if name not in self._cancelled:
            order = OrderIntent(
                intent_id=identity, strategy=name, account=account, venue=spec.get("venue") or "", symbol="",
                action=IntentAction.CANCEL_ALL, publish_ns=time.time_ns(),
            )  # fmt: skip
            await self._bus.publish_durable(subject, encode(order), message_id=identity)
            self._cancelled.add(name)
            return True
        if name in self._acknowledged:
            return False
        # A work queue forgets what was acknowledged. Another intent behind ours tells nothing: the next look may.
        if await self._bus.last("INTENTS", subject) is not None:
            return True
        self._acknowledged.add(name)
        return False

    def _left(self, strategy: Manifest) -> str:
        """What a deletion waits for, and whose turn it is."""
        name, account = strategy["metadata"]["name"], strategy["spec"].get("account", "")
        report = self._known.report(name)
        if report is not None and report.open_orders:
            return f"{report.open_orders} orders are open"
        if account and name not in self._acknowledged:
            return (
                f"the execution process of account {account} has not confirmed that its orders are cancelled "
                f"(does it run? kubectl get pods -l app.kubernetes.io/component=execution)"
            )
        return "its pods have not confirmed that none is open"

    def _forget(self, name: str) -> None:
        for table in (self._applied, self._written, self._status_at):
            table.pop(name, None)
        self._cancelled.discard(name)
        self._acknowledged.discard(name)
        self._known.reports.pop(name, None)


def _was_live(strategy: Manifest, report: status.PodReport | None) -> bool:
    """Whether orders of it may be at the venue: it is Live, or its pods confirmed no other mode since."""
    confirmed = (strategy.get("status") or {}).get("mode", "")
    return "Live" in (
        strategy["spec"].get("mode", ""),
        *confirmed.split("/"),
        *(report.mode if report else "").split("/"),
    )


def _report(value: bytes) -> status.PodReport:
    """Raises DecodeError or ArithmeticError."""
    report = msgspec.json.decode(value, type=status.PodReport)
    status.combine({0: report})  # its numbers are numbers
    return report


def _degraded(found: Manifest) -> str:
    """Why it is degraded; empty when it is not."""
    conditions = found.get("conditions", [])
    return next((c["message"] for c in conditions if c["type"] == "Degraded" and c["status"] == "True"), "")


def _condition_states(found: Manifest) -> list[tuple[str, str]]:
    states = [(c["type"], c["status"]) for c in found.get("conditions", [])]
    return [*states, ("phase", found.get("phase", "")), ("generation", str(found.get("observedGeneration", 0)))]


def _drifted(have: Manifest, wanted: list[Manifest]) -> bool:
    """Whether a Deployment lacks something that we set. What others added (defaults, autoscalers' fields) is theirs."""
    mine = next(
        (m for m in wanted if m["kind"] == "Deployment" and m["metadata"]["name"] == have["metadata"]["name"]), None
    )
    return mine is not None and not _contains(have["spec"], mine["spec"])


def _contains(have: Any, want: Any) -> bool:
    if isinstance(want, dict):
        return isinstance(have, dict) and all(k in have and _contains(have[k], v) for k, v in want.items() if v != {})
    if isinstance(want, list):
        return isinstance(have, list) and len(have) == len(want) and all(map(_contains, have, want))
    return bool(have == want or str(have) == str(want))
