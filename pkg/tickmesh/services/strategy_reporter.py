"""Tells the operator, and whoever looks, how a strategy is: key ``report.<name>`` of the ``strategies`` bucket.

In: the desk of the pod that holds the lease. Out: a PodReport, written at once when something changed that somebody may
wait for (orders, position, mode, epoch), every two seconds for what moves all the time (P&L), and never more often than
twice a second. A standby writes nothing. A strategy that is gone takes its report along.
"""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal

import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.kube.status import PodReport
from tickmesh.ports import Bus, Clock
from tickmesh.services.claim import Claim
from tickmesh.services.strategy_memory import open_orders
from tickmesh.strategy.desk import Desk

log = logging.getLogger(__name__)

BUCKET = "strategies"
_LEAST_NS = 500_000_000
_SLOW_NS = 2_000_000_000
_SLOW_FIELDS = {"pnl": "", "last_signal_ns": 0, "written_ns": 0}


class Reporter:
    """Of one desk at a time; ``turn`` is called many times a second."""

    def __init__(self, bus: Bus, clock: Clock, instance: str) -> None:
        self._bus, self._clock, self._instance = bus, clock, instance
        self._told: PodReport | None = None
        self._told_mono_ns = 0
        self._signals = 0
        self._signal_ns = 0
        self._failed = False

    async def turn(self, desk: Desk, claim: Claim, mistake: str) -> None:
        """Write what is new, if it is time."""
        if desk.signals != self._signals:
            self._signals, self._signal_ns = desk.signals, self._clock.wall_ns()
        now = self._clock.mono_ns()
        if self._told is not None and now - self._told_mono_ns < _LEAST_NS:
            return
        report = self._report(desk, claim, mistake)
        if self._told is not None:
            quick = _without_slow(report) != _without_slow(self._told)
            slow = now - self._told_mono_ns >= _SLOW_NS and _without_time(report) != _without_time(self._told)
            if not quick and not slow:
                return
        await self._write(desk, report)

    async def gone(self, desk: Desk) -> None:
        """The strategy is no more."""
        self._told = None
        try:
            await (await self._bus.kv(BUCKET)).delete(f"report.{desk.plan.share.key(desk.name)}")
        except DependencyError as error:
            log.warning("the report of %s stays behind: %s", desk.name, error)

    async def _write(self, desk: Desk, report: PodReport) -> None:
        try:
            async with asyncio.timeout(1.0):
                bucket = await self._bus.kv(BUCKET)
                await bucket.put(f"report.{desk.plan.share.key(desk.name)}", msgspec.json.encode(report))
            self._told, self._told_mono_ns, self._failed = report, self._clock.mono_ns(), False
        except (DependencyError, TimeoutError) as error:
            self._told_mono_ns = self._clock.mono_ns()
            if not self._failed:
                log.warning("the report of %s cannot be written: %s", desk.name, error or "no answer")
            self._failed = True

    def _report(self, desk: Desk, claim: Claim, mistake: str) -> PodReport:
        ledger, share = desk.ledger, desk.plan.share
        positions, pnl = {}, Decimal(0)
        for symbol, held in ledger.holdings.items():
            if not share.takes(symbol):
                continue
            instrument = desk.instruments.get(symbol)
            if held.qty_lots:
                size = held.qty_lots * instrument.lot_size if instrument else Decimal(held.qty_lots)
                positions[symbol] = format(size.normalize(), "f")
            book = desk.books.get(symbol)
            pnl += held.realized_pnl + ledger.unrealized_pnl(symbol, book.mid_ticks if book else 0.0) - held.commission
        return PodReport(
            holder=self._instance, epoch=claim.epoch, generation=desk.plan.metadata.generation, mode=desk.mode.value,
            paused=desk.plan.spec.paused or desk.retired, halted=sorted(desk.halted), open_orders=open_orders(desk),
            positions=positions, pnl=format(pnl.quantize(Decimal("0.01")), "f"), last_signal_ns=self._signal_ns,
            last_error=desk.guard.last_error, disabled=desk.guard.disabled, written_ns=self._clock.wall_ns(),
            problem=mistake,
        )  # fmt: skip


def _without_slow(report: PodReport) -> PodReport:
    return msgspec.structs.replace(report, **_SLOW_FIELDS)


def _without_time(report: PodReport) -> PodReport:
    return msgspec.structs.replace(report, written_ns=0)
