"""risk pod: snapshots, order events, health and people's commands in; halts, alerts and the audit out.

It is the authority on what is halted and writes it down (bucket ``checkpoints``, key ``risk.halts``) before it
says it; execution latches on its own what it hears. It judges with ``risk.emergency`` and does nothing clever.
One process judges, others stand by and begin with what was written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from tickmesh.domain import subjects
from tickmesh.domain.enums import BreakerState, RiskState, Severity
from tickmesh.domain.errors import DependencyError, NotFiniteError
from tickmesh.domain.messages import AccountSnapshot, Audit, Control, OrderEvent, decode, encode
from tickmesh.observe.admin import json_response
from tickmesh.ports import KeyValue
from tickmesh.risk.breaker import BreakerConfig
from tickmesh.risk.emergency import HALT, Emergency, Trip
from tickmesh.risk.halt import Halt, HaltBook
from tickmesh.services.breakers import NATS, BreakerBoard, BreakerGate
from tickmesh.services.claim import Claim, work_alone
from tickmesh.services.journals import LayoutWatch
from tickmesh.services.limits import LimitsBook, watch_limits
from tickmesh.services.notices import alert
from tickmesh.services.service import Service

log = logging.getLogger("tickmesh.risk")

BUCKET, HALTS_KEY = "checkpoints", "risk.halts"
_RETRY_S = 0.5
_OUTBOX = 1000
_PEER = BreakerConfig(failures=3, window_ns=60_000_000_000, open_ns=100_000_000, probes=1)
"""Of a critical service's health: told early, and open so briefly that every later look is a probe."""


class SavedHalts(msgspec.Struct):
    """What survives a restart; ``control_seq`` is up to where the CTL stream is part of it."""

    halts: list[Halt]
    control_seq: int = 0


async def run(service: Service) -> None:
    """Watch until told to stop."""
    settings = service.settings
    lock = Path(settings.local.data_dir) / "risk" / "risk.lock"
    claim = Claim(service, "risk", lock, ttl_ms=settings.risk.lease_ttl_ms)
    warden = Warden(service, claim)
    service.admin.add_get("/halts", warden.show)
    service.admin.add_get("/layout", warden.layout.show)
    await work_alone(service, claim, warden.work)


class Warden:
    """Judges every account and keeps what is halted."""

    def __init__(self, service: Service, claim: Claim) -> None:
        self._service = service
        self._claim = claim
        self._keys = service.settings.risk
        self._limits = LimitsBook()
        self._halts = HaltBook()
        self._breakers = BreakerBoard(service)
        self._breakers.add("bus-risk", NATS, target="bus", probe=lambda: service.bus.connected)
        self._peers = {
            name: self._breakers.gate(
                self._breakers.add(f"{name}-risk", _PEER, target="downstream", is_readiness=False)
            )
            for name in self._keys.critical_services
        }
        self.layout = LayoutWatch(service)
        self._emergency = Emergency(
            max_silent_ns=int(self._keys.max_silent_s * 1e9), first_answer_ns=int(self._keys.first_answer_s * 1e9)
        )
        self._control_seq = 0
        self._saved = b""
        self._outbox: asyncio.Queue[Control] = asyncio.Queue(_OUTBOX)
        self._dirty = asyncio.Event()
        metrics = service.metrics
        self._snapshots = metrics.counter("snapshots_total", "account snapshots judged")
        self._anomalies = metrics.counter("anomalies_total", "messages that made no sense and were skipped")
        self._state = metrics.gauge("halted_scopes", "scopes that are halted or may only reduce")

    async def show(self, _: web.Request) -> web.Response:
        """What is halted and which breakers there are, for people and tests."""
        if not self._claim.held.is_set():
            return json_response({"error": "another process judges; this one stands by"}, status=503)
        return json_response({"halts": self._halts.halts, "breakers": self._breakers.records})

    async def work(self) -> None:
        """Start, then judge for ever."""
        bucket = await self._load()
        bus = self._service.bus
        await bus.subscribe("ctl.>", self._on_control)
        await bus.subscribe("account.*.snapshot", self._on_snapshot)
        await bus.subscribe("order.event.>", self._on_order_event)
        await self._catch_up_again()
        self._service.health.set_started()
        async with asyncio.TaskGroup() as group:
            group.create_task(watch_limits(self._service, self._limits))
            group.create_task(self._breakers.run())
            group.create_task(self._publish())
            group.create_task(self._save(bucket))
            group.create_task(self._watch_health())
            group.create_task(self.layout.run())

    async def _load(self) -> KeyValue:
        while True:
            try:
                bucket = await self._service.bus.kv(BUCKET)
                entry = await bucket.get(HALTS_KEY)
                if entry is not None and entry.value:
                    saved = msgspec.json.decode(entry.value, type=SavedHalts)
                    self._halts, self._control_seq, self._saved = HaltBook(saved.halts), saved.control_seq, entry.value
                await self._catch_up()
                break
            except DependencyError as error:
                log.warning("cannot load what is halted: %s; retrying", error)
                await asyncio.sleep(_RETRY_S)
        for halt in self._halts.halts:
            log.warning("%s is %s since before: %s", halt.scope, halt.state, halt.reason)
        self._state.set(len(self._halts.halts))
        return bucket

    async def _catch_up(self) -> None:
        async for _, payload, seq in self._service.bus.replay("CTL", start_seq=self._control_seq + 1):
            self._apply(payload)
            self._control_seq = seq

    async def _catch_up_again(self) -> None:
        """What was commanded between the reading and the hearing. Reading a command twice changes nothing."""
        while True:
            try:
                return await self._catch_up()
            except DependencyError as error:
                log.warning("cannot read what was commanded: %s; retrying", error)
                await asyncio.sleep(_RETRY_S)

    # Messages.

    def _on_control(self, _: str, payload: bytes) -> None:
        self._apply(payload)

    def _apply(self, payload: bytes) -> None:
        try:
            control = decode(Control, payload)
        except msgspec.MsgspecError:
            self._anomalies.inc()
            return
        if control.verb == "resume":
            self._emergency.resumed(subjects.clean_scope(control.scope))
        if self._halts.apply(control):
            log.warning("%s %s by %s: %s", control.verb, control.scope, control.actor, control.reason)
            self._state.set(len(self._halts.halts))
            self._dirty.set()

    def _on_snapshot(self, _: str, payload: bytes) -> None:
        try:
            snapshot = decode(AccountSnapshot, payload)
            trips = self._emergency.on_snapshot(
                snapshot, self._limits.of(snapshot.account), self._service.clock.mono_ns()
            )
        except (msgspec.MsgspecError, NotFiniteError) as error:
            self._anomalies.inc()
            alert(self._service, Severity.WARNING, "bad_snapshot", f"an account snapshot makes no sense: {error}")
            return
        self._snapshots.inc()
        self._act(trips)

    def _on_order_event(self, _: str, payload: bytes) -> None:
        try:
            event = decode(OrderEvent, payload)
        except msgspec.MsgspecError:
            self._anomalies.inc()
            return
        self._act(self._emergency.on_order_event(event, self._limits.of(event.account), self._service.clock.mono_ns()))

    # Acting.

    def _act(self, trips: list[Trip]) -> None:
        """Latch what is new, tell people, and queue it for everybody."""
        for trip in trips:
            arguments = {"kind": trip.kind}
            account = trip.scope.removeprefix("account.")
            if trip.verb == HALT:
                arguments |= {"cancel": "true", "flatten": str(self._limits.of(account).flatten_on_halt).lower()}
            control = Control(
                publish_ns=self._service.clock.wall_ns(), verb=trip.verb, scope=trip.scope, reason=trip.reason,
                actor="risk", arguments=arguments,
            )  # fmt: skip
            if not self._halts.apply(control):
                continue
            self._service.metrics.counter("trips_total", "halts and reductions", kind=trip.kind, verb=trip.verb).inc()
            self._state.set(len(self._halts.halts))
            self._dirty.set()
            with contextlib.suppress(asyncio.QueueFull):  # a thousand halts unsaid: one more changes nothing
                self._outbox.put_nowait(control)

    async def _publish(self) -> None:
        """Say halts and record them, again until the streams have them; who listens hears the first attempt.

        A halt that a person has resumed meanwhile is not said again.
        """
        while True:
            control = await self._outbox.get()
            while not self._claim.unopposed():
                await asyncio.sleep(_RETRY_S / 10)  # lapsed just now: a successor, if there is one, judges by itself
            severity = Severity.CRITICAL if control.verb == HALT else Severity.WARNING
            text = f"{control.verb} {control.scope}: {control.reason}"
            alert(self._service, severity, control.arguments["kind"], text, scope=control.scope)
            identity = _identity(control)
            audit = Audit(
                publish_ns=control.publish_ns, source="risk", event=control.verb, actor="risk",
                detail={"scope": control.scope, "reason": control.reason, **control.arguments},
            )  # fmt: skip
            while self._halts.of(subjects.clean_scope(control.scope)) is not RiskState.ACTIVE:
                try:
                    subject = subjects.control(control.verb, control.scope)
                    await self._service.bus.publish_durable(subject, encode(control), message_id=identity)
                    await self._service.bus.publish_durable(
                        subjects.audit("risk"), encode(audit), message_id=f"audit-{identity}"
                    )
                    break
                except DependencyError as error:
                    log.error("a halt is not in its stream yet: %s; retrying", error)
                    await asyncio.sleep(_RETRY_S)

    async def _save(self, bucket: KeyValue) -> None:
        while True:
            self._dirty.clear()
            saved = msgspec.json.encode(SavedHalts(self._halts.halts, self._control_seq))
            if not self._claim.valid():
                await asyncio.sleep(_RETRY_S / 10)  # a successor's may be newer
                continue
            try:
                if saved != self._saved:
                    await bucket.put(HALTS_KEY, saved)
                    self._saved = saved
            except DependencyError as error:
                log.error("what is halted could not be saved: %s; retrying", error)
                await asyncio.sleep(_RETRY_S)
                continue
            await self._dirty.wait()

    async def _watch_health(self) -> None:
        timeout = aiohttp.ClientTimeout(total=min(2.0, self._keys.check_interval_s))
        async with aiohttp.ClientSession(timeout=timeout) as session:
            last_ns = self._service.clock.mono_ns()
            while True:
                await asyncio.sleep(self._keys.check_interval_s)
                now_ns = self._service.clock.mono_ns()
                paused = now_ns - last_ns > 2e9 * self._keys.check_interval_s
                last_ns = now_ns
                if paused or not self._service.bus.connected:
                    # We were stopped, or hear nobody: silence proves nothing about the others.
                    self._emergency.heard_nothing(now_ns)
                    continue
                for name, gate in self._peers.items():
                    healthy = await self._is_healthy(session, name, gate)
                    self._act(self._emergency.on_health(name, healthy, self._service.clock.mono_ns()))
                self._act(self._emergency.on_time(self._service.clock.mono_ns()))

    async def _is_healthy(self, session: aiohttp.ClientSession, name: str, gate: BreakerGate) -> bool:
        """Ask one service; held open by a person it is not asked, and nothing is held against it."""
        ticket = gate.enter()
        if ticket is None:
            return gate.breaker.forced is BreakerState.OPEN
        healthy = await _answers(session, f"{self._service.settings.peer_url(name)}/healthz")
        gate.success(ticket) if healthy else gate.failure(ticket, f"the {name} service does not answer")
        return healthy


def _identity(control: Control) -> str:
    """The same for every attempt, so that the stream keeps one."""
    return f"risk-{control.publish_ns}-{subjects.clean_scope(control.scope)}"


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
