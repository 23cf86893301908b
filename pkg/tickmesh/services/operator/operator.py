"""Operator: the watches' events in, three work queues and the bucket's watch behind them; one of several acts.

In: ``saw(kind, body)`` from kopf's handlers. Out: the reconcilers' writes. Caches are kept by every replica, so that
a new leader knows everything at once; only the leader writes. NATS or the API server may be away at any time: what
could not be done is tried again by the queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec

from tickmesh.domain.errors import ConfigError, DependencyError, TickmeshError
from tickmesh.kube.admission import Findings, check_strategy
from tickmesh.kube.desired import STRATEGY_LABEL, Installation
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.ports import Bus, Clock
from tickmesh.services.operator.accounts import AccountReconciler
from tickmesh.services.operator.breakers import BreakerReconciler
from tickmesh.services.operator.cluster import Cluster, ClusterError
from tickmesh.services.operator.election import Election
from tickmesh.services.operator.queue import WorkQueue
from tickmesh.services.operator.strategies import BUCKET, Known, StrategyReconciler
from tickmesh.settings.operator import OperatorSettings

log = logging.getLogger(__name__)

Manifest = dict[str, Any]
_RETRY_S = 1.0
_AUDIT_S = 20.0
_SETTLE_LOOK_S = 0.1
_SETTLE_LIST_EVERY = 20


class BlindWatchError(TickmeshError):
    """The API server has a resource that no watch has brought. Only a fresh start opens the watches anew."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"no watch has brought {kind} {name}, which is there; starting anew")
        self.kind = kind
        self.name = name


def read_installation(settings: OperatorSettings) -> Installation:
    """What the chart wrote; raises ConfigError when it cannot be used."""
    path = Path(settings.installation_file)
    try:
        made = msgspec.json.decode(path.read_bytes(), type=Installation)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"operator.installation_file {path}: {error}") from None
    return msgspec.structs.replace(made, image=settings.image) if settings.image else made


class Operator:
    """One replica."""

    def __init__(
        self,
        cluster: Cluster,
        bus: Bus,
        clock: Clock,
        metrics: Metrics,
        health: Health,
        settings: OperatorSettings,
        installation: Installation,
        me: str,
    ) -> None:
        self.known = Known()
        self._tables = {
            "Strategy": self.known.strategies, "CircuitBreaker": self.known.breakers,
            "TradingAccount": self.known.accounts, "Deployment": self.known.deployments,
        }  # fmt: skip
        self.election = Election(cluster, clock, settings.lease_name, me, ttl_ms=settings.lease_ttl_ms)
        self._settled = asyncio.Event()

        def leading() -> bool:
            return self._settled.is_set() and self.election.valid()

        self.strategies = StrategyReconciler(cluster, bus, self.known, installation, leading)
        self.breakers = BreakerReconciler(cluster, bus, clock, self.known, leading)
        self.accounts = AccountReconciler(cluster, bus, clock, self.known, leading)
        self.strategy_queue: WorkQueue[str] = WorkQueue(self.strategies.reconcile)
        self.breaker_queue: WorkQueue[str] = WorkQueue(self.breakers.reconcile, min_interval_s=0.1)
        self.account_queue: WorkQueue[str] = WorkQueue(self.accounts.reconcile)
        self._cluster = cluster
        self._bus = bus
        self._metrics = metrics
        self._health = health
        # None while tickmesh runs from a checkout that was not installed: then nothing is known about plugins.
        self._plugins: Collection[str] | None = {e.name for e in entry_points(group="tickmesh.strategies")} or None

    def saw(self, kind: str, change: str | None, body: Manifest) -> None:
        """Take one event of a watch. ``change`` is kopf's type: None at the first listing, DELETED for the last."""
        name = body["metadata"]["name"]
        gone = change == "DELETED"
        self._metrics.counter("watch_events_total", "events of the watches", kind=kind).inc()
        match kind:
            case "Strategy":
                _keep(self.known.strategies, name, body, gone)
                self.strategy_queue.add(name)
            case "Deployment":
                _keep(self.known.deployments, name, body, gone)
                owner = body["metadata"].get("labels", {}).get(STRATEGY_LABEL)
                if owner:
                    self.strategy_queue.add(owner)
            case "CircuitBreaker":
                _keep(self.known.breakers, name, body, gone)
                self.breaker_queue.add(name)
            case "TradingAccount":
                _keep(self.known.accounts, name, body, gone)
                self.account_queue.add(name)
                for strategy in self.known.strategies.values():
                    if strategy["spec"].get("account") == name:
                        self.strategy_queue.add(strategy["metadata"]["name"])
            case "ConfigMap":
                _keep(self.known.plugins, name, body, gone)
                for strategy in self.known.strategies.values():
                    if strategy["spec"]["plugin"].get("configMap", {}).get("name") == name:
                        self.strategy_queue.add(strategy["metadata"]["name"])

    async def admit(self, strategy: Manifest, old: Manifest | None) -> Findings:
        """The webhook's answer. An account that no watch has brought yet may have been made a moment ago: ask."""
        accounts: Collection[str] = self.known.accounts
        if (account := strategy["spec"].get("account", "")) and account not in accounts:
            try:
                accounts = await self._cluster.names("TradingAccount")
            except ClusterError as error:
                log.warning("TradingAccounts cannot be listed (%s); what the watch brought has to do", error)
        return check_strategy(strategy, old, accounts=accounts, entry_points=self._plugins)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.election.run())
            group.create_task(self.strategy_queue.run())
            group.create_task(self.breaker_queue.run())
            group.create_task(self.account_queue.run())
            group.create_task(self._follow_reports())
            group.create_task(self.breakers.follow(self.breaker_queue.add))
            group.create_task(self.accounts.follow(self.account_queue.add))
            group.create_task(self._settle())
            group.create_task(self._lead())
            group.create_task(self._measure())
            group.create_task(self._audit())

    async def _settle(self) -> None:
        """Let nothing be judged before the watches have brought what was there at the start.

        Each kind has a watch of its own: a Strategy that comes before its account is not Degraded, and one whose
        Deployments of another sharding have not come yet does not get new ones beside them.
        """
        waiting = await self._unknown()
        looks = 0
        while waiting:
            await asyncio.sleep(_SETTLE_LOOK_S)
            looks += 1
            waiting = {(kind, name) for kind, name in waiting if name not in self._tables[kind]}
            if waiting and looks % _SETTLE_LIST_EVERY == 0:
                waiting &= await self._unknown()  # what is gone meanwhile comes no more
        self._settled.set()

    async def _unknown(self) -> set[tuple[str, str]]:
        """What is there and was brought by no watch yet; waits until the API server answers."""
        found: set[tuple[str, str]] = set()
        for kind in self._tables:
            while True:
                try:
                    found |= {(kind, name) for name in await self._cluster.names(kind)}
                    break
                except ClusterError as error:
                    if error.status == 404:
                        break  # a definition that is not there has no resources
                    log.warning("%s cannot be listed: %s; trying again", kind, error)
                    await asyncio.sleep(_RETRY_S)
        return {(kind, name) for kind, name in found if name not in self._tables[kind]}

    async def _lead(self) -> None:
        """Look at everything once whenever leadership comes."""
        await self._settled.wait()
        while True:
            await self.election.leading.wait()
            log.info("looking at %d strategies, %d breakers", len(self.known.strategies), len(self.known.breakers))
            for name in list(self.known.strategies):
                self.strategy_queue.add(name)
            for name in list(self.known.breakers):
                self.breaker_queue.add(name)
            for name in list(self.known.accounts):
                self.account_queue.add(name)
            while self.election.valid():
                await asyncio.sleep(0.5)

    async def _audit(self) -> None:
        """Compare what the watches brought with what there is.

        kopf looks for a kind when its definition changes, and may look before it is served: then nobody watches it.

        Raises:
            BlindWatchError: a resource was there twice in a row and is not known yet.
        """
        missed: set[tuple[str, str]] = set()
        while True:
            await asyncio.sleep(_AUDIT_S)
            missing: set[tuple[str, str]] = set()
            for kind in ("Strategy", "CircuitBreaker", "TradingAccount"):
                try:
                    names = await self._cluster.names(kind)
                    missing |= {(kind, name) for name in names if name not in self._tables[kind]}
                except ClusterError as error:
                    log.debug("%s cannot be listed: %s", kind, error)
            for kind, name in missing & missed:
                raise BlindWatchError(kind, name)
            missed = missing

    async def _follow_reports(self) -> None:
        while True:
            try:
                bucket = await self._bus.kv(BUCKET)
                async for entry in bucket.watch("report.>"):
                    name = self.strategies.on_report(entry.key.removeprefix("report."), entry.value)
                    if name in self.known.strategies:
                        self.strategy_queue.add(name)
            except DependencyError as error:
                log.warning("the reports of strategies cannot be followed: %s; trying again", error)
            await asyncio.sleep(_RETRY_S)

    async def _measure(self) -> None:
        gauge = self._metrics.gauge
        while True:
            gauge("leading", "1 while this replica acts").set(float(self.election.valid()))
            gauge("strategies", "Strategy resources known").set(len(self.known.strategies))
            gauge("queue_length", "keys that wait or are worked on").set(len(self.strategy_queue))
            gauge("reconcile_calls", "reconciliations so far").set(self.strategy_queue.calls)
            gauge("reconcile_failures", "reconciliations that failed").set(self.strategy_queue.failures)
            if self._bus.connected:
                self._health.satisfy("bus")
            else:
                self._health.require("bus", "NATS is not reachable; trading goes on, changes wait")
            await asyncio.sleep(1.0)


def _keep(table: dict[str, Manifest], name: str, body: Manifest, gone: bool) -> None:
    if gone:
        table.pop(name, None)
    else:
        table[name] = body
