"""BreakerBoard: this process's circuit breakers, their states in the ``breakers`` bucket, everybody's states here.

In: results of calls through ``gate`` or ``guard``, and the bucket. ``state.<breaker>`` is written by its owner alone,
and a replica (``observe.instance``) has one of its own, renewed as long as it lives;
``force.<target>``, ``config.<target>`` and ``reset.<target>`` by people and the operator (``kube.breaker``), and hold
for every breaker of that target. Without NATS breakers still work; their states are told when it returns.
``stopping`` is what pre-trade checks look at (``RiskView.open_breakers``); see docs/decisions/0074 and 0150.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from tickmesh.domain.enums import BreakerState, Severity
from tickmesh.domain.errors import DependencyError
from tickmesh.kube.breaker import ConfigRecord, ForceRecord, Transition
from tickmesh.ports import KeyValue, KvEntry
from tickmesh.risk.breaker import BreakerConfig, CircuitBreaker, Ticket
from tickmesh.services.breaker_records import BreakerRecord, BreakerRecords, is_trading
from tickmesh.services.buckets import follow, take_all
from tickmesh.services.notices import alert
from tickmesh.services.service import Service

log = logging.getLogger("tickmesh.breakers")

BUCKET = "breakers"
NATS = BreakerConfig(failures=10, window_ns=30_000_000_000, open_ns=1_000_000_000, probes=2)
"""Of the bus, which is looked at at every tick: open after 2 s without it, closed when it is back."""
_TICK_S = 0.2
_RETRY_S = 0.5
_KEPT_TRANSITIONS = 20


class BreakerOpenError(DependencyError):
    """The call was not made because the breaker is open; trying again later is safe."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, f"the circuit breaker {name} is open: {reason}")


@dataclass(slots=True)
class _Own:
    """A breaker of this process and what its record needs."""

    breaker: CircuitBreaker
    target: str
    default: BreakerConfig
    stops: str
    is_readiness: bool
    probe: Callable[[], bool] | None
    since_ns: int
    transitions: deque[Transition] = field(default_factory=lambda: deque(maxlen=_KEPT_TRANSITIONS))


class BreakerGate:
    """One own breaker as ``ports.Gate``, for callers below this layer."""

    __slots__ = ("_board", "breaker")

    def __init__(self, board: BreakerBoard, breaker: CircuitBreaker) -> None:
        self._board = board
        self.breaker = breaker

    @property
    def closed(self) -> bool:
        return self.breaker.state(self._board.mono_ns()) is BreakerState.CLOSED

    @property
    def shut(self) -> bool:
        return self.breaker.state(self._board.mono_ns()) is BreakerState.OPEN

    def enter(self) -> int | None:
        ticket = self.breaker.enter(self._board.mono_ns())
        self._board.tell(self.breaker)
        return ticket

    def success(self, ticket: int) -> None:
        self.breaker.success(Ticket(ticket), self._board.mono_ns())
        self._board.tell(self.breaker)

    def failure(self, ticket: int, reason: str) -> None:
        self.breaker.failure(Ticket(ticket), self._board.mono_ns(), reason)
        self._board.tell(self.breaker)

    def neutral(self, ticket: int) -> None:
        self.breaker.neutral(Ticket(ticket), self._board.mono_ns())
        self._board.tell(self.breaker)

    def note(self, failed: str = "") -> None:
        """A result of something that asked nobody: a connection made (empty) or lost (why)."""
        ticket = self.enter()
        if ticket is not None:
            self.failure(ticket, failed) if failed else self.success(ticket)


class BreakerBoard:
    """All breakers as this process knows them; ``run`` keeps them current."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.mono_ns = service.clock.mono_ns
        self._own: dict[str, _Own] = {}
        self._records = BreakerRecords(service.settings.observe.instance, self.mono_ns())
        self._unsaved: dict[str, None] = {}
        self._forces: dict[str, ForceRecord] = {}
        self._configs: dict[str, BreakerConfig] = {}
        self.on_target: Callable[[str], None] = lambda target: None
        """Told the target of every force and configuration, before it is applied: the place to add a breaker for it."""

    def add(
        self, name: str, config: BreakerConfig | None = None, *, target: str, stops: str = "",
        is_readiness: bool = True, probe: Callable[[], bool] | None = None,
    ) -> CircuitBreaker:  # fmt: skip
        """Make a breaker of this process.

        Args:
            name: unique over all services; replicas add who they are. Made one token.
            config: bounds while the bucket has none for ``target``.
            target: what it stands before, in the words of ``kube.breaker``.
            stops: what it stops while it is open: "", "all", "account.A", "strategy.S" or "symbol.X".
            is_readiness: whether the service is not ready while it is open.
            probe: asked at every tick whether the dependency is there, for one that is connected to, not called.
        """
        name, config = self._records.full_name(name), config or BreakerConfig()
        breaker = CircuitBreaker(name, self._configs.get(target, config))
        self._own[name] = _Own(breaker, target, config, stops, is_readiness, probe, self._service.clock.wall_ns())
        force = self._forces.get(target)
        if force is not None:
            breaker.force(BreakerState(force.state), force.actor, self.mono_ns(), force.reason)
        self._note(breaker)
        self.tell(breaker)
        return breaker

    def gate(self, breaker: CircuitBreaker) -> BreakerGate:
        """The breaker as callers of lower layers take it."""
        return BreakerGate(self, breaker)

    def config_of(self, target: str) -> BreakerConfig | None:
        """What the bucket has configured for ``target``."""
        return self._configs.get(target)

    def stopping(self, account: str) -> set[str]:
        """What open breakers and forces stop for ``account``, in the words of ``risk.checks.breakers``."""
        found = self._records.stopping(account)
        found |= {t for t, force in self._forces.items() if force.state == BreakerState.OPEN and is_trading(t)}
        return {name for name in found if not name.startswith("account.") or name == f"account.{account}"}

    def away(self, target: str) -> str:
        """Why ``target`` is not to be relied on now, as any process sees it; empty when nobody says so."""
        force = self._forces.get(target)
        if force is not None:
            return f"held Open by {force.actor}" if force.state == BreakerState.OPEN else ""
        return self._records.failing(target)

    @property
    def records(self) -> list[BreakerRecord]:
        """Every breaker of every process, sorted by name."""
        return self._records.sorted

    @asynccontextmanager
    async def guard(self, breaker: CircuitBreaker, is_failure: Callable[[BaseException], bool]) -> AsyncIterator[None]:
        """Make a call under ``breaker``: a result counts as success, an exception as ``is_failure`` says, else not.

        Raises:
            BreakerOpenError: it is open; nothing was called.
        """
        ticket = breaker.enter(self.mono_ns())
        if ticket is None:
            self.tell(breaker)
            raise BreakerOpenError(breaker.name, breaker.reason)
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception) and is_failure(error):
                breaker.failure(ticket, self.mono_ns(), str(error))
            else:
                breaker.neutral(ticket, self.mono_ns())
            raise
        else:
            breaker.success(ticket, self.mono_ns())
        finally:
            self.tell(breaker)

    def tell(self, breaker: CircuitBreaker) -> None:
        """Note what became of an own breaker: record, alert, readiness; the bucket follows in ``run``."""
        changes = breaker.drain()
        if not changes:
            return
        service, own = self._service, self._own[breaker.name]
        ahead_ns = service.clock.wall_ns() - self.mono_ns()
        for change in changes:
            severity = Severity.CRITICAL if change.after is BreakerState.OPEN else Severity.INFO
            alert(
                service, severity, "circuit_breaker",
                f"circuit breaker {change.name} went from {change.before} to {change.after}: {change.reason}",
                breaker=change.name, target=own.target, state=change.after.value, actor=change.actor,
            )  # fmt: skip
            service.metrics.counter("breaker_transitions_total", "changes of state", breaker=change.name,
                                    state=change.after.value).inc()  # fmt: skip
            own.since_ns = change.at_ns + ahead_ns
            own.transitions.append(
                Transition(at_ns=own.since_ns, before=change.before, after=change.after, reason=change.reason)
            )
        if own.is_readiness:
            if changes[-1].after is BreakerState.OPEN:
                service.health.require(f"breaker {breaker.name}", f"its circuit breaker is open: {breaker.reason}")
            else:
                service.health.satisfy(f"breaker {breaker.name}")
        self._note(breaker)

    def _note(self, breaker: CircuitBreaker) -> None:
        own, now_ns = self._own[breaker.name], self.mono_ns()
        state = breaker.state(now_ns)
        ahead_ns = self._service.clock.wall_ns() - now_ns
        record = BreakerRecord(
            name=breaker.name, owner=self._service.name, instance=self._service.settings.observe.instance,
            target=own.target, state=state, forced=breaker.forced is not None, reason=breaker.reason,
            stops=own.stops, opened=breaker.opened, failures=breaker.failures(now_ns), since_ns=own.since_ns,
            next_probe_ns=breaker.next_probe_ns + ahead_ns if breaker.next_probe_ns else 0,
            transitions=list(own.transitions),
        )  # fmt: skip
        self._records.put(record)
        self._unsaved[breaker.name] = None
        self._service.metrics.gauge("circuit_breaker_open", "1 while it is open", breaker=breaker.name).set(
            float(state is BreakerState.OPEN)
        )

    # The bucket.

    async def run(self) -> None:
        """Follow the bucket and write our own states, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(follow(self._service.bus, BUCKET, self.on_entry))
            group.create_task(self._write())

    async def load(self) -> None:
        """Take over what the bucket holds, before anything is done that it may forbid. Raises DependencyError."""
        await take_all(await self._service.bus.kv(BUCKET), self.on_entry)

    def on_entry(self, entry: KvEntry) -> None:
        """Take over a change of the bucket; a value that cannot be read is told and skipped."""
        kind, _, name = entry.key.partition(".")
        try:
            if kind == "force":
                self._on_force(name, entry.value)
            elif kind == "config":
                self._on_config(name, entry.value)
            elif kind == "reset" and entry.value:
                self._on_reset(name)
            elif kind == "state":
                self._records.on_state(name, entry.value, self.mono_ns())
        except (msgspec.MsgspecError, ValueError) as error:
            alert(self._service, Severity.WARNING, "bad_breaker", f"breakers/{entry.key} cannot be used: {error}")

    def _of(self, target: str) -> list[_Own]:
        return [own for own in self._own.values() if own.target == target]

    def _on_force(self, target: str, value: bytes | None) -> None:
        now_ns = self.mono_ns()
        if value:
            force = msgspec.json.decode(value, type=ForceRecord)
            state = BreakerState(force.state)
            if state is BreakerState.HALF_OPEN:
                raise ValueError("a breaker can be held Open or Closed, not HalfOpen")
            self._forces[target] = force
            self.on_target(target)
            for own in self._of(target):
                own.breaker.force(state, force.actor, now_ns, force.reason)
        elif target in self._forces:
            actor = self._forces.pop(target).actor
            for own in self._of(target):
                own.breaker.release(actor, now_ns)
        for own in self._of(target):
            self.tell(own.breaker)

    def _on_config(self, target: str, value: bytes | None) -> None:
        if value:
            given = msgspec.json.decode(value, type=ConfigRecord)
            self._configs[target] = BreakerConfig(given.failures, given.window_ns, given.open_ns, given.probes)
        else:
            self._configs.pop(target, None)
        self.on_target(target)
        for own in self._of(target):
            own.breaker.configure(self._configs.get(target, own.default))

    def _on_reset(self, target: str) -> None:
        for own in self._of(target):
            own.breaker.reset("hand", self.mono_ns())
            self._note(own.breaker)
            self.tell(own.breaker)

    async def _tick(self) -> None:
        """Look regularly, apart from writing: a server that does not answer must not stop the looking."""
        while True:
            self.look()
            await asyncio.sleep(_TICK_S)

    async def _write(self) -> None:
        bucket: KeyValue | None = None
        while True:
            try:
                bucket = bucket or await self._service.bus.kv(BUCKET)
                for name in list(self._records.gone):
                    await bucket.delete(f"state.{name}")
                    self._records.gone.pop(name, None)
                for name in list(self._unsaved):
                    record = self._records[name]
                    await bucket.put(f"state.{name}", msgspec.json.encode(record))
                    if record is self._records[name]:
                        del self._unsaved[name]
            except DependencyError as error:
                log.debug("breaker states are not saved yet: %s", error)
                await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(_TICK_S)

    def look(self) -> None:
        """What happens by time alone: probes of connections, open to half-open, failures that grow old."""
        now_ns = self.mono_ns()
        for name, own in list(self._own.items()):
            if own.probe is not None:
                self.gate(own.breaker).note("" if own.probe() else f"{own.target} is not connected")
            own.breaker.state(now_ns)
            self.tell(own.breaker)
            if own.breaker.failures(now_ns) != self._records[name].failures:
                self._note(own.breaker)
        if self._records.is_renewal_due(now_ns):
            self._unsaved |= dict.fromkeys(self._own)
        self._records.forget(now_ns, connected=self._service.bus.connected)
