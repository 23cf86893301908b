"""BreakerBoard: this process's circuit breakers, their states in the ``breakers`` bucket, everybody's states here.

Key ``state.<name>`` is written by the breaker's owner alone, key ``force.<name>`` by people alone ("Open",
"Closed", or deleted to release), so that neither overwrites the other. Without NATS breakers still work; their
states are told when it returns. ``stopping`` is what pre-trade checks look at (``RiskView.open_breakers``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from tickmesh.domain.enums import BreakerState, Severity
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.subjects import token
from tickmesh.ports import KeyValue, KvEntry
from tickmesh.risk.breaker import BreakerConfig, CircuitBreaker
from tickmesh.services.notices import alert
from tickmesh.services.service import Service

log = logging.getLogger("tickmesh.breakers")

BUCKET = "breakers"
_STATE, _FORCE = "state.", "force."
_TICK_S = 0.2
_RETRY_S = 0.5


class BreakerRecord(msgspec.Struct, kw_only=True):
    """The value of ``state.<name>``. ``stops`` is what an open one stops: "", "all", "strategy.X" or "symbol.X"."""

    name: str
    owner: str
    state: BreakerState
    forced: bool = False
    reason: str = ""
    stops: str = ""
    opened: int = 0
    since_ns: int = 0


class Force(msgspec.Struct, kw_only=True):
    """The value of ``force.<name>``."""

    state: BreakerState
    actor: str


class BreakerOpenError(DependencyError):
    """The call was not made because the breaker is open; trying again later is safe."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, f"the circuit breaker {name} is open: {reason}")


class BreakerBoard:
    """All breakers as this process knows them; ``run`` keeps them current."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._own: dict[str, CircuitBreaker] = {}
        self._stops: dict[str, str] = {}
        self._records: dict[str, BreakerRecord] = {}
        self._unsaved: dict[str, None] = {}
        self._forces: dict[str, Force] = {}

    def add(self, name: str, config: BreakerConfig | None = None, *, stops: str = "") -> CircuitBreaker:
        """Make a breaker of this process; ``name`` is unique over all of them."""
        name = token(name)
        breaker = self._own[name] = CircuitBreaker(name, config)
        self._stops[name] = stops
        self._unsaved[name] = None
        return breaker

    @property
    def stopping(self) -> set[str]:
        """What open breakers stop, in the words of ``risk.checks.breakers``: a scope, or the name for everything."""
        return {
            record.name if record.stops == "all" else record.stops
            for record in self._records.values()
            if record.state is BreakerState.OPEN and record.stops
        }

    @property
    def records(self) -> list[BreakerRecord]:
        """Every breaker of every process, sorted by name."""
        return [self._records[name] for name in sorted(self._records)]

    @asynccontextmanager
    async def guard(self, breaker: CircuitBreaker, is_failure: Callable[[BaseException], bool]) -> AsyncIterator[None]:
        """Make a call under ``breaker``: a result counts as success, an exception as ``is_failure`` says, else not.

        Raises:
            BreakerOpenError: it is open; nothing was called.
        """
        clock = self._service.clock
        ticket = breaker.enter(clock.mono_ns())
        if ticket is None:
            self.tell(breaker)
            raise BreakerOpenError(breaker.name, breaker.reason)
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception) and is_failure(error):
                breaker.failure(ticket, clock.mono_ns(), str(error))
            else:
                breaker.neutral(ticket, clock.mono_ns())
            raise
        else:
            breaker.success(ticket, clock.mono_ns())
        finally:
            self.tell(breaker)

    def tell(self, breaker: CircuitBreaker) -> None:
        """Note what became of an own breaker: record, alert; the bucket follows in ``run``."""
        for change in breaker.drain():
            severity = Severity.CRITICAL if change.after is BreakerState.OPEN else Severity.INFO
            alert(
                self._service, severity, "circuit_breaker",
                f"circuit breaker {change.name} went from {change.before} to {change.after}: {change.reason}",
                breaker=change.name, state=change.after.value, actor=change.actor,
            )  # fmt: skip
            self._service.metrics.counter("breaker_transitions_total", "changes of state", breaker=change.name,
                                          state=change.after.value).inc()  # fmt: skip
            self._note(breaker)

    def _note(self, breaker: CircuitBreaker) -> None:
        clock = self._service.clock
        state = breaker.state(clock.mono_ns())
        self._records[breaker.name] = BreakerRecord(
            name=breaker.name, owner=self._service.name, state=state, forced=breaker.forced is not None,
            reason=breaker.reason, stops=self._stops[breaker.name], opened=breaker.opened, since_ns=clock.wall_ns(),
        )  # fmt: skip
        self._unsaved[breaker.name] = None
        self._service.metrics.gauge("circuit_breaker_open", "1 while it is open", breaker=breaker.name).set(
            float(state is BreakerState.OPEN)
        )

    async def run(self) -> None:
        """Follow the bucket and write our own states, for ever."""
        for breaker in self._own.values():
            self._note(breaker)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._write())

    async def _watch(self) -> None:
        while True:
            try:
                bucket = await self._service.bus.kv(BUCKET)
                async for entry in bucket.watch():
                    self.on_entry(entry)
            except DependencyError as error:
                log.warning("cannot watch the breakers: %s; retrying", error)
                await asyncio.sleep(_RETRY_S)

    def on_entry(self, entry: KvEntry) -> None:
        """Take over a change of the bucket; a value that cannot be read is logged and skipped."""
        try:
            if entry.key.startswith(_FORCE):
                self._on_force(entry.key.removeprefix(_FORCE), entry.value)
            elif entry.key.startswith(_STATE) and entry.key.removeprefix(_STATE) not in self._own:
                name = entry.key.removeprefix(_STATE)
                if entry.value:
                    self._records[name] = msgspec.json.decode(entry.value, type=BreakerRecord)
                else:
                    self._records.pop(name, None)
        except (msgspec.MsgspecError, ValueError) as error:
            alert(self._service, Severity.WARNING, "bad_breaker", f"breakers/{entry.key} cannot be used: {error}")

    def _on_force(self, name: str, value: bytes | None) -> None:
        breaker, now_ns = self._own.get(name), self._service.clock.mono_ns()
        if breaker is None:
            return
        if value:
            force = self._forces[name] = msgspec.json.decode(value, type=Force)
            breaker.force(force.state, force.actor, now_ns)
        elif name in self._forces:
            breaker.release(self._forces.pop(name).actor, now_ns)
        self.tell(breaker)

    async def _write(self) -> None:
        bucket: KeyValue | None = None
        while True:
            now_ns = self._service.clock.mono_ns()
            for breaker in self._own.values():
                breaker.state(now_ns)  # an open one becomes half-open by time alone
                self.tell(breaker)
            try:
                bucket = bucket or await self._service.bus.kv(BUCKET)
                for name in list(self._unsaved):
                    record = self._records[name]
                    await bucket.put(_STATE + name, msgspec.json.encode(record))
                    if record is self._records[name]:
                        del self._unsaved[name]
            except DependencyError as error:
                log.debug("breaker states are not saved yet: %s", error)
                await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(_TICK_S)
