"""Emergency: snapshots, rejections and health in, trips out: what must be reduced or halted, and why.

The triggers of reference/architecture.md: daily drawdown, margin ratio, exposure, repeated rejections,
repeated reconciliation mismatches, a critical service that does not answer. It only judges: services.risk
publishes and latches. The same breach trips again with every input until its cause is gone, so that a resume
during a breach holds only if the limit was raised.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import msgspec

from tickmesh.domain.enums import OrderState
from tickmesh.domain.errors import NotFiniteError
from tickmesh.domain.halt import ALL
from tickmesh.domain.messages import AccountSnapshot, OrderEvent
from tickmesh.risk.halt import scope_of
from tickmesh.risk.limits import Limits

_NS_PER_S = 1_000_000_000
HALT, REDUCE = "halt", "reduce"

BUSINESS_CODES = frozenset({-5021, -5022, -2022})
"""Rejections that are answers and no faults: fill-or-kill not filled, post-only would take, nothing to reduce."""

LATE_CODES = frozenset({-1021, -2013})
"""Requests that came too late, and orders that, asked for, never arrived: a partition makes many of both at once. No
order was wrong; the circuit breaker of the venue's REST stops trading for as long as it lasts."""


class Trip(msgspec.Struct, frozen=True):
    """Something must stop; ``kind`` is a stable name for counters and alerts, ``reason`` one sentence."""

    verb: str
    scope: str
    kind: str
    reason: str


class Emergency:
    """The triggers of all accounts. Limits may change at any time; times are wall ns of the caller.

    A critical service that was never heard has ``first_answer_ns``: it may still be on its way up.
    """

    def __init__(self, *, max_silent_ns: int, first_answer_ns: int = 0) -> None:
        self._max_silent_ns = max_silent_ns
        self._first_answer_ns = max(first_answer_ns, max_silent_ns)
        self._heard: set[str] = set()
        self._rejections: dict[str, deque[int]] = {}
        self._mismatches: dict[str, deque[int]] = {}
        self._last_mismatches: dict[str, tuple[int, int]] = {}
        self._last_ns: dict[str, int] = {}
        self._failing_since_ns: dict[str, int] = {}

    def on_snapshot(self, snapshot: AccountSnapshot, limits: Limits, now_ns: int) -> list[Trip]:
        """Judge one account.

        Raises:
            NotFiniteError: a figure is no number; the snapshot does not count as a sign of life either.
        """
        for name in ("equity", "daily_drawdown", "margin_ratio", "exposure"):
            value: Decimal = getattr(snapshot, name)
            if not value.is_finite():
                raise NotFiniteError(f"{name} of account {snapshot.account}", value)
        self._last_ns[snapshot.account] = now_ns
        scope, trips = scope_of("account", snapshot.account), []
        for kind, words, value, reduce, halt in (
            ("daily_drawdown", "the daily drawdown", snapshot.daily_drawdown, limits.reduce_daily_drawdown,
             limits.max_daily_drawdown),
            ("margin_ratio", "the margin ratio", snapshot.margin_ratio, limits.reduce_margin_ratio,
             limits.max_margin_ratio),
            ("exposure", "the exposure", snapshot.exposure, limits.max_exposure_notional,
             limits.max_exposure_notional * limits.exposure_halt_factor),
        ):  # fmt: skip
            if value > halt:
                trips.append(Trip(HALT, scope, kind, f"{words} of {snapshot.account} is {value:f}, its limit {halt:f}"))
            elif value > reduce:
                trips.append(Trip(REDUCE, scope, kind, f"{words} of {snapshot.account} is {value:f}, past {reduce:f}"))
        if snapshot.equity <= 0 < snapshot.exposure:
            trips.append(Trip(HALT, scope, "equity", f"nothing is left in {snapshot.account} to cover its positions"))
        return trips + self._on_mismatches(snapshot, limits, now_ns)

    def _on_mismatches(self, snapshot: AccountSnapshot, limits: Limits, now_ns: int) -> list[Trip]:
        """Corrections to the venue count one by one; the account service's own count survives its restarts."""
        account = snapshot.account
        before = self._last_mismatches.get(account)
        self._last_mismatches[account] = (snapshot.mismatches, now_ns)
        if before is None or snapshot.mismatches <= before[0]:
            return []
        times = self._mismatches.setdefault(account, deque(maxlen=10_000))
        times.append(now_ns)
        found = _within(times, now_ns, limits.mismatch_window_s)
        if found < limits.max_mismatches:
            return []
        reason = f"{account} differed from the venue {found} times within {limits.mismatch_window_s} s"
        return [Trip(HALT, scope_of("account", account), "mismatch", reason)]

    def on_order_event(self, event: OrderEvent, limits: Limits, now_ns: int) -> list[Trip]:
        """Count a venue's rejection; refusals of our own checks and ordinary answers are none."""
        if event.state is not OrderState.REJECTED or event.anomaly:
            return []
        if not event.venue_code or event.venue_code in BUSINESS_CODES | LATE_CODES:
            return []
        times = self._rejections.setdefault(event.account, deque(maxlen=10_000))
        times.append(now_ns)
        found = _within(times, now_ns, limits.rejection_window_s)
        if found <= limits.max_rejections:
            return []
        reason = (
            f"the venue rejected {found} orders of {event.account} within {limits.rejection_window_s} s, "
            f"the last with {event.venue_code} {event.reason}"
        )
        return [Trip(HALT, scope_of("account", event.account), "rejections", reason.strip())]

    def resumed(self, scope: str) -> None:
        """A person looked at it: what was counted before the resume counts no more."""
        for counted in (self._rejections, self._mismatches):
            for account in [a for a in counted if scope in (ALL, scope_of("account", a))]:
                del counted[account]

    def on_health(self, name: str, healthy: bool, now_ns: int) -> list[Trip]:
        """Note one check of a critical service; failing for longer than it may be silent halts everything."""
        if healthy:
            self._heard.add(name)
            self._failing_since_ns.pop(name, None)
            return []
        silent_ns = now_ns - self._failing_since_ns.setdefault(name, now_ns)
        if silent_ns <= (self._max_silent_ns if name in self._heard else self._first_answer_ns):
            return []
        return [Trip(HALT, ALL, "health", f"the {name} service has not answered for {silent_ns // _NS_PER_S} s")]

    def heard_nothing(self, now_ns: int) -> None:
        """We ourselves were away: count everybody's silence from now."""
        self._failing_since_ns.clear()
        self._last_ns = dict.fromkeys(self._last_ns, now_ns)

    def on_time(self, now_ns: int) -> list[Trip]:
        """An account that was heard and fell silent is judged by nobody: halt it."""
        return [
            Trip(HALT, scope_of("account", account), "silence",
                 f"no snapshot of {account} has come for {(now_ns - last_ns) // _NS_PER_S} s")
            for account, last_ns in self._last_ns.items()
            if now_ns - last_ns > self._max_silent_ns
        ]  # fmt: skip


def _within(times: deque[int], now_ns: int, window_s: int) -> int:
    """Forget what is older than the window; how many remain."""
    while times and now_ns - times[0] > window_s * _NS_PER_S:
        times.popleft()
    return len(times)
