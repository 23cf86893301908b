"""Reconciliation of the account service: every few seconds the venue is asked, and what differs is put right.

A reading is taken while the account may be trading, so a difference is first explained: by fills that the
journal or the venue's trade list has, then by funding and transfers. Only what remains, between two equal
readings, is a mismatch: corrected to the venue, counted, alerted (docs/decisions/0073).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tickmesh.domain.enums import Severity
from tickmesh.domain.errors import DependencyError, NotFiniteError, OffGridError
from tickmesh.portfolio.portfolio import Portfolio
from tickmesh.portfolio.position import Verdict
from tickmesh.portfolio.reconcile import Difference, Reading, absorb, compare, correct
from tickmesh.services.account_venue import VenueReader
from tickmesh.services.notices import alert
from tickmesh.services.service import Service
from tickmesh.venues.binance_usdm.codec_trading import VenueCallError

log = logging.getLogger("tickmesh.account")

_SETTLE_S = (0.05, 0.1, 0.2)
_FIRST_RETRY_S = 0.25
_MAX_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Explained:
    """What remains after all explanations, the reading it is against, and how many fills we had then."""

    reading: Reading
    differences: list[Difference]
    fills: int


class Reconciler:
    """Keeps one portfolio equal to the venue."""

    def __init__(
        self, service: Service, portfolio: Portfolio, venue: VenueReader, changed: asyncio.Event,
        catch_up: Callable[[Portfolio], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._service = service
        self._portfolio = portfolio
        self._venue = venue
        self._changed = changed
        self._catch_up = catch_up
        self._first_ever = not portfolio.reconciled_ns
        self._terms_due_mono_ns = 0
        self.reconciled = False
        """Whether the venue has been asked with success since the start."""
        metrics = service.metrics
        self._done = metrics.counter("reconciliations_total", "times that the venue was compared with us")
        self._failed = metrics.counter("reconciliation_errors_total", "times that the venue did not answer")
        self._mismatches = metrics.counter("mismatches_total", "differences that were corrected to the venue")
        self._skipped = metrics.counter("reconciliations_skipped_total", "rounds left out to leave weight to orders")
        self._unsettled = metrics.counter("unsettled_total", "times that trading went on while the venue was read")

    async def run(self) -> None:
        """Reconcile for ever; a venue that is away is asked again, less and less often."""
        interval_s = self._service.settings.account.reconcile_interval_s
        wait_s = _FIRST_RETRY_S
        health = self._service.health
        while True:
            if pause_s := self._venue.wait_s:
                self._skipped.inc()
                await asyncio.sleep(min(pause_s, interval_s))
                continue
            try:
                await self.once()
            except (VenueCallError, DependencyError) as error:
                self._failed.inc()
                log.warning("cannot reconcile: %s", error)
                if isinstance(error, VenueCallError) and self._venue.on_error(error):
                    wait_s = _FIRST_RETRY_S
                health.require("venue", f"the account cannot be reconciled: {error}")
                asked_s = error.retry_after_s if isinstance(error, VenueCallError) else 0.0
                await asyncio.sleep(max(min(asked_s, _MAX_RETRY_S), wait_s))
                wait_s = min(wait_s * 2, _MAX_RETRY_S)
                continue
            except (NotFiniteError, OffGridError) as error:
                self._failed.inc()
                alert(self._service, Severity.CRITICAL, "bad_reading", f"the venue's account makes no sense: {error}")
                health.require("venue", f"the venue's account makes no sense: {error}")
                await asyncio.sleep(interval_s)
                continue
            health.satisfy("venue")
            wait_s = _FIRST_RETRY_S
            await asyncio.sleep(interval_s)

    async def once(self) -> None:
        """Compare once; correct what remains. Raises VenueCallError, DependencyError, NotFiniteError, OffGridError."""
        await self._venue.sync()
        await self._terms()
        await self._catch_up(self._portfolio)
        reading = await self._venue.read()
        differences = self._compare(reading)
        if differences:
            explained = await self._explain(reading, differences)
            if explained is None or not await self._correct(explained):
                self._unsettled.inc()
                return
            reading = explained.reading
        absorb(self._portfolio, reading)
        self._done.inc()
        if not self.reconciled:
            self.reconciled = True
            self._changed.set()

    def _compare(self, reading: Reading) -> list[Difference]:
        return compare(self._portfolio, reading, self._service.settings.account.wallet_tolerance)

    async def _terms(self) -> None:
        now_ns = self._service.clock.mono_ns()
        if now_ns < self._terms_due_mono_ns:
            return
        await self._venue.read_leverages()
        await self._read_income()
        self._terms_due_mono_ns = now_ns + int(self._service.settings.account.terms_interval_s * 1e9)

    async def _read_income(self) -> None:
        portfolio = self._portfolio
        first = not portfolio.reconciled_ns
        since_ms = portfolio.income_ms or self._service.clock.wall_ns() // 1_000_000 - 3_600_000
        for line in await self._venue.income_since(since_ms):
            identity = f"{line.incomeType}:{line.tranId}:{line.symbol}"
            if first:
                portfolio.skip_income(identity, line.time)
            elif portfolio.on_income(line.incomeType, line.asset, line.income, identity, line.time):
                self._changed.set()

    async def _explain(self, reading: Reading, differences: list[Difference]) -> _Explained | None:
        """Fetch what may explain the differences; cheap means first. None: the account went on trading each time.

        What is told as remaining was found between two equal readings with all trades fetched in between.
        """
        for attempt, settle_s in enumerate(_SETTLE_S):
            await asyncio.sleep(settle_s)  # first of all a fill may be on its way to us
            await self._catch_up(self._portfolio)
            if attempt:
                for symbol in sorted({d.name for d in differences if d.kind != "wallet"}):
                    await self._fetch_fills(symbol)
            fills = self._portfolio.fills
            again = await self._venue.read()
            differences = self._compare(again)
            settled = attempt and again.same_as(reading)
            if settled and any(d.kind == "wallet" for d in differences):
                await self._read_income()
                differences = self._compare(again)
            if not differences or (settled and fills == self._portfolio.fills):
                return _Explained(again, differences, fills)
            reading = again
        return None

    async def _fetch_fills(self, symbol: str) -> None:
        book = self._portfolio.books[symbol]
        if not book.last_trade_id:
            return  # nothing of ours is known here: the position is adopted, its history is not ours
        for fill in await self._venue.fills_after(book.instrument, book.last_trade_id):
            if self._portfolio.on_fill(fill) is Verdict.APPLIED:
                log.info("fill %d of %s came from the venue's trade list", fill.trade_id, symbol)
                self._changed.set()

    async def _correct(self, found: _Explained) -> bool:
        """Put what remains to the venue; False when the account traded meanwhile and nothing was done."""
        if not found.differences:
            return True
        symbols = sorted({d.name for d in found.differences if d.kind != "wallet"})
        last_ids = {symbol: await self._venue.last_trade_id(symbol) for symbol in symbols}
        again = await self._venue.read()
        if not again.same_as(found.reading) or self._portfolio.fills != found.fills:
            return False
        correct(self._portfolio, found.reading, found.differences, last_ids)
        self._changed.set()
        text = "; ".join(map(str, found.differences))
        if self._first_ever and not self.reconciled:
            log.info("taken over from the venue: %s", text)
            return True
        self._portfolio.mismatches += len(found.differences)
        self._mismatches.inc(len(found.differences))
        alert(
            self._service, Severity.WARNING, "reconciliation_mismatch",
            f"account {self._portfolio.account} differed from the venue and was corrected: {text}",
        )  # fmt: skip
        return True
