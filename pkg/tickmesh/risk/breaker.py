"""CircuitBreaker: results of calls to one dependency in, permission for the next call out.

Closed until too many calls fail, then open: every call is refused for a while. After that half-open: a few
probes may pass; enough good ones close it, one bad one opens it again. A person may force it open or closed.
Only faults of the dependency are failures; an answer that says no (an insufficient balance, a post-only
rejection) is ``neutral``. Time comes in with each call, from one monotonic clock. It calls nobody.
"""

from __future__ import annotations

from collections import deque
from typing import NewType

import msgspec

from tickmesh.domain.enums import BreakerState

Ticket = NewType("Ticket", int)
"""Permission for one call; its result brings it back, so that a result of an earlier life of the breaker is told."""

_NS_PER_S = 1_000_000_000


class BreakerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults of reference/architecture.md. ``window_ns`` 0: failures count when they are consecutive."""

    failures: int = 5
    window_ns: int = 30 * _NS_PER_S
    open_ns: int = 30 * _NS_PER_S
    probes: int = 3

    def __post_init__(self) -> None:
        if self.failures < 1 or self.window_ns < 0 or self.open_ns < 1 or self.probes < 1:
            raise ValueError(f"a breaker needs positive bounds, found {self}")


COPY_TRADING = BreakerConfig(failures=5, window_ns=0, open_ns=300 * _NS_PER_S, probes=1)
"""reference/copy-trading.md: five consecutive failures, then a cool-down of five minutes."""


class Transition(msgspec.Struct, frozen=True):
    """One change of state; ``reason`` is one sentence, ``actor`` empty when nobody forced it."""

    name: str
    before: BreakerState
    after: BreakerState
    reason: str
    at_ns: int
    actor: str = ""


class CircuitBreaker:
    """One breaker; one owner, no locks. Transitions wait in ``drain`` for the shell that tells them."""

    def __init__(self, name: str, config: BreakerConfig | None = None) -> None:
        self.name = name
        self.config = config or BreakerConfig()
        self.forced: BreakerState | None = None
        self.reason = ""
        self.opened = 0
        """How often it opened by itself."""
        self._state = BreakerState.CLOSED
        self._since_ns = 0
        self._failures: deque[int] = deque(maxlen=self.config.failures)
        self._generation = 1
        self._probes_out = 0
        self._probes_good = 0
        self._last_probe_ns = 0
        self._transitions: list[Transition] = []

    def configure(self, config: BreakerConfig) -> None:
        """Use other bounds from now on; what is counted stays counted."""
        if config != self.config:
            self.config = config
            self._failures = deque(self._failures, maxlen=config.failures)

    def failures(self, now_ns: int) -> int:
        """Failures that count at this moment."""
        window_ns = self.config.window_ns
        return sum(1 for at_ns in self._failures if not window_ns or now_ns - at_ns < window_ns)

    @property
    def next_probe_ns(self) -> int:
        """When an open one lets probes through; 0 while it is not open or is held."""
        return self._since_ns + self.config.open_ns if self._state is BreakerState.OPEN and self.forced is None else 0

    def state(self, now_ns: int) -> BreakerState:
        """The state now; an open one becomes half-open when its time is over."""
        if self.forced is not None:
            return self.forced
        if self._state is BreakerState.OPEN and now_ns - self._since_ns >= self.config.open_ns:
            self._go(BreakerState.HALF_OPEN, f"{self.config.open_ns / _NS_PER_S:g} s have passed", now_ns)
        return self._state

    def enter(self, now_ns: int) -> Ticket | None:
        """Ask before a call: a Ticket to bring back with its result, or None: do not call."""
        state = self.state(now_ns)
        if state is BreakerState.OPEN:
            return None
        if state is BreakerState.HALF_OPEN:
            if self._probes_out and now_ns - self._last_probe_ns >= self.config.open_ns:
                self._probes_out = 0  # their results never came
                self._generation += 1
            if self._probes_out + self._probes_good >= self.config.probes:
                return None
            self._probes_out += 1
            self._last_probe_ns = now_ns
        return Ticket(self._generation)

    def success(self, ticket: Ticket, now_ns: int) -> None:
        """The call was answered as it should."""
        if not self._counts(ticket, now_ns):
            return
        if self._state is BreakerState.CLOSED:
            if not self.config.window_ns:
                self._failures.clear()
            return
        self._probes_out -= 1
        self._probes_good += 1
        if self._probes_good >= self.config.probes:
            self._go(BreakerState.CLOSED, f"{self._probes_good} probes in a row were answered", now_ns)

    def failure(self, ticket: Ticket, now_ns: int, reason: str = "") -> None:
        """The dependency failed: no answer, a broken connection, an error of its own."""
        if not self._counts(ticket, now_ns):
            return
        if self._state is BreakerState.HALF_OPEN:
            self._open(f"a probe failed: {reason}" if reason else "a probe failed", now_ns)
            return
        config = self.config
        self._failures.append(now_ns)
        if len(self._failures) == config.failures and (
            not config.window_ns or now_ns - self._failures[0] < config.window_ns
        ):
            within = f"within {config.window_ns / _NS_PER_S:g} s" if config.window_ns else "in a row"
            self._open(f"{config.failures} failures {within}" + (f", the last: {reason}" if reason else ""), now_ns)

    def neutral(self, ticket: Ticket, now_ns: int) -> None:
        """The answer says nothing about the dependency's health; a probe's place is free again."""
        if self._counts(ticket, now_ns) and self._state is BreakerState.HALF_OPEN:
            self._probes_out -= 1

    def force(self, state: BreakerState, actor: str, now_ns: int, why: str = "") -> None:
        """A person holds it OPEN or CLOSED until ``release``; results do not count meanwhile.

        Raises:
            ValueError: HALF_OPEN cannot be held.
        """
        if state is BreakerState.HALF_OPEN:
            raise ValueError("a breaker can be held Open or Closed, not HalfOpen")
        before = self.state(now_ns)
        if self.forced is state:
            return
        self.forced, self.reason = state, f"forced {state} by {actor}" + (f": {why}" if why else "")
        self._generation += 1
        self._transitions.append(Transition(self.name, before, state, self.reason, now_ns, actor))

    def release(self, actor: str, now_ns: int) -> None:
        """Back to closed and to its own judgement, with nothing counted; also resets an open one by hand."""
        before = self.state(now_ns)
        was_forced, self.forced = self.forced is not None, None
        if before is BreakerState.CLOSED and not was_forced:
            self._failures.clear()
            return
        self._state = before
        self._go(BreakerState.CLOSED, f"reset by {actor}", now_ns, actor)

    def reset(self, actor: str, now_ns: int) -> None:
        """Back to closed with nothing counted; one that is held stays held."""
        if self.forced is None:
            self.release(actor, now_ns)

    def drain(self) -> list[Transition]:
        """Transitions since the last call, in order."""
        found, self._transitions = self._transitions, []
        return found

    def _counts(self, ticket: Ticket, now_ns: int) -> bool:
        return self.forced is None and ticket == self._generation and self.state(now_ns) is not BreakerState.OPEN

    def _open(self, reason: str, now_ns: int) -> None:
        self.opened += 1
        self._go(BreakerState.OPEN, reason, now_ns)

    def _go(self, state: BreakerState, reason: str, now_ns: int, actor: str = "") -> None:
        before, self._state, self._since_ns, self.reason = self._state, state, now_ns, reason
        self._generation += 1
        self._failures.clear()
        self._probes_out = self._probes_good = 0
        self._transitions.append(Transition(self.name, before, state, reason, now_ns, actor))
