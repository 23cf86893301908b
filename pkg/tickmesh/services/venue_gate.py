"""VenueGate: what stands before every REST call to the venue: the circuit breaker and the budget of this address.

In: calls about to be made and what became of them. Out: permission, or a VenueCallError (NOT_SENT) with the time to
wait. Cancels and the dead-man switch pass an open breaker; the venue's own "wait" (429, 418) stops everything, for all
processes of the address, because the ban that follows would stop the cancels for longer.
"""

from __future__ import annotations

from tickmesh.execution.budget import RateBudget
from tickmesh.ports import Clock
from tickmesh.risk.breaker import BreakerConfig
from tickmesh.services.breakers import BreakerGate
from tickmesh.services.venue_budget import SharedBudget
from tickmesh.venues.binance_usdm.codec_trading import Outcome, VenueCallError
from tickmesh.venues.binance_usdm.rest import CallKind, Usage

READING = BreakerConfig(failures=5, window_ns=30_000_000_000, open_ns=5_000_000_000, probes=1)
"""Of a process that only reads: an open breaker spares the venue and is seen, and stops no trading."""
_AUTHENTICATION = frozenset({-1022, -2014, -2015})
"""Signature or key refused: no answer to the request, and none will come until somebody acts."""


def is_fault(error: VenueCallError) -> bool:
    """Whether the venue failed us; an answer that says no, whatever the reason, is none."""
    if error.outcome is Outcome.RATE_LIMITED:
        return False
    return error.outcome is not Outcome.REJECTED or error.status == 401 or error.code in _AUTHENTICATION


class VenueGate:
    """One per REST client; also its ``venues.binance_usdm.rest.CallGate``."""

    def __init__(self, clock: Clock, breaker: BreakerGate, shared: SharedBudget) -> None:
        self._mono_ns = clock.mono_ns
        self._breaker = breaker
        self._shared = shared
        self._budget: RateBudget = shared.budget
        self._read_ns = 0

    def permit(self, kind: CallKind, weight: int) -> int | None:
        """A ticket for ``done``; None for what passes without one.

        Raises:
            VenueCallError: NOT_SENT, with ``retry_after_s``.
        """
        now_ns = self._mono_ns()
        wait_s = self._budget.wait_for_cancel_s(now_ns)
        if wait_s:
            text = f"not sent: the venue told this address to wait, {wait_s:.1f} s are left"
            raise VenueCallError(Outcome.NOT_SENT, text, retry_after_s=wait_s)
        ticket = None
        if kind is CallKind.READ:
            pause_s = self._budget.wait_for_query_s(weight, now_ns)
            if pause_s:
                text = "not sent: what is left of this minute's request weight is kept for cancels"
                raise VenueCallError(Outcome.NOT_SENT, text, retry_after_s=pause_s)
            ticket = self._breaker.enter()
            if ticket is None:
                breaker = self._breaker.breaker
                raise VenueCallError(
                    Outcome.NOT_SENT, f"not sent: the circuit breaker {breaker.name} is open: {breaker.reason}"
                )
        self._budget.spent(weight, now_ns)
        return ticket

    def done(self, ticket: int | None, usage: Usage, error: VenueCallError | None) -> None:
        """Note the headers and the result."""
        if usage.read_mono_ns > self._read_ns:
            self._read_ns = usage.read_mono_ns
            self._budget.read(usage.weight_1m, usage.orders_10s, usage.orders_1m, usage.read_mono_ns)
        if error is not None and error.outcome is Outcome.RATE_LIMITED:
            self._budget.limited(
                code=error.code, banned=error.banned, retry_after_s=error.retry_after_s, mono_ns=self._mono_ns()
            )
            self._shared.tell_now()
        if ticket is None:
            if not self._breaker.closed:
                return  # a cancel, or an order from before: no probe
            ticket = self._breaker.enter()
        if ticket is None:
            return
        if error is None or (error.outcome is Outcome.REJECTED and not is_fault(error)):
            self._breaker.success(ticket)
        elif is_fault(error):
            self._breaker.failure(ticket, error.message)
        else:
            self._breaker.neutral(ticket)

    def dropped(self, ticket: int | None) -> None:
        """The call was given up before it had a result."""
        if ticket is not None:
            self._breaker.neutral(ticket)
