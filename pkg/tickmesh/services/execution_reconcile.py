"""Reconciler: what the venue knows, set against the ledger; at start, every few seconds, and after every gap.

In: REST answers. Out: facts into the ledger (its lists through ``execution_lists``), positions and balances into the
risk view. The venue is right; a position that has to be corrected again and again halts the account. What is UNKNOWN is
left to ``execution_unknown``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import TypeVar

from tickmesh.domain.enums import OrderState, PositionSide, Severity
from tickmesh.domain.errors import NotFiniteError, TickmeshError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import ZERO
from tickmesh.engine.effects import ViewEffects
from tickmesh.execution.ledger import OrderLedger, VenueFact, missing_fills
from tickmesh.execution.machine import OrderMachine, Report
from tickmesh.risk.view import RiskView
from tickmesh.services.execution_lists import MARGIN_MS, VenueLists
from tickmesh.services.execution_path import OrderPath
from tickmesh.services.execution_terms import AccountTerms
from tickmesh.services.notices import AlertFunction
from tickmesh.services.service import Service
from tickmesh.venues.binance_usdm.codec_trading import NOT_FOUND, Outcome, VenueCallError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_SETTLE_NS = 1_000_000_000
_RETRY_S = 1.0
_TAKE_OVER_TRIES = 40
_THOROUGH_EVERY = 12
"""Every so many rounds the trade lists and the venue's clock are read even when nothing seems to be missing."""


class Reconciler:
    """Keeps one account's ledger and risk view equal to the venue."""

    def __init__(
        self, service: Service, rest: BinanceUsdmRest, ledger: OrderLedger, view: RiskView, effects: ViewEffects,
        path: OrderPath, lists: VenueLists, instruments: dict[str, Instrument], alert: AlertFunction,
        odd: Callable[[str, str, str], None], halt: Callable[[str], None], terms: AccountTerms,
    ) -> None:  # fmt: skip
        self._service = service
        self._clock = service.clock
        self._settings = service.settings.execution
        self._rest = rest
        self._ledger = ledger
        self._view = view
        self._effects = effects
        self._path = path
        self._lists = lists
        self._instruments = instruments
        self._alert = alert
        self._odd = odd
        self._halt = halt
        self.terms = terms
        self._absent: dict[str, int] = defaultdict(int)
        self._differed: dict[tuple[str, str], int] = defaultdict(int)
        self._corrections = 0
        self._rounds = 0
        m = service.metrics
        self._runs = m.counter("reconciliations_total", "comparisons with the venue that were completed")
        self._failures = m.counter("reconciliation_failures_total", "comparisons that the venue did not let us finish")
        self._mismatches = m.counter("reconciliation_mismatches_total", "positions corrected to the venue's")

    async def start(self, newest_ns: int, oldest_ns: int) -> None:
        """Bring everything up to date, retrying until the venue answers.

        Args:
            newest_ns: wall time of the journal's newest line, 0 for an empty journal.
            oldest_ns: wall time of its oldest line.
        """
        now_ms = self._clock.wall_ns() // 1_000_000
        # A former life read the whole list at least this long before its last line; what an open order misses from
        # earlier is asked for by the order.
        thorough_ms = int(_THOROUGH_EVERY * self._settings.reconcile_s * 1000)
        self._lists.since_ms = max(oldest_ns // 1_000_000, newest_ns // 1_000_000 - thorough_ms) or now_ms
        self._lists.since_ms -= MARGIN_MS
        for order in self._ledger.open.values():
            if order.symbol in self._view.symbols:
                self._effects.adopt(order)
        await self._until_done(self._rest.sync_time)
        await self._until_done(self.terms.position_mode)
        await self._until_done(self.terms.symbols)
        await self._until_done(self.balances)
        for symbol in self._symbols():
            if newest_ns:
                await self._until_done(partial(self._lists.orders_since, symbol, newest_ns // 1_000_000 - MARGIN_MS))
            await self._until_done(partial(self.sweep, symbol, at_start=True))
        await self._until_done(self._take_over_positions)

    async def _take_over_positions(self) -> None:
        """The venue's positions as ours, read at a moment when no fill was on its way. Raises VenueCallError.

        A fill that the venue never lists does not hold up the start for ever: later comparisons correct what it moved.
        """
        for _ in range(_TAKE_OVER_TRIES):
            fills = self._effects.fills
            theirs = await self._listed_positions()
            for symbol in self._symbols():
                async with self._lists.reading:
                    await self._lists.trades(symbol)  # what traded before the positions were read is in this list
            if fills == self._effects.fills and self._lists.all_fills_are_here:
                break
            await asyncio.sleep(_RETRY_S / 4)
        else:
            missing = ", ".join(sorted(missing_fills(self._ledger.open.values())))
            self._alert(Severity.CRITICAL, "fills-missing", f"the venue reports fills that it does not list: {missing}")
        for symbol, view in self._view.symbols.items():
            for side in ("LONG", "SHORT") if self._view.hedge_mode else ("BOTH",):
                # The venue leaves out what is flat; fills that the start read back have moved ours.
                lots, entry = theirs.get((symbol, side), (0, None))
                if lots or view.leg(PositionSide(side)).position_lots:
                    self._view.set_position(symbol, lots, PositionSide(side), entry)

    async def run(self) -> None:
        """Compare for ever."""
        while True:
            await asyncio.sleep(self._settings.reconcile_s)
            try:
                self._rounds += 1
                if self._rounds % _THOROUGH_EVERY == 0:
                    await self._rest.sync_time()
                    await self._lists.afford(30)
                    await self.terms.position_mode()
                await self.set_clock()
                await self.once()
                self._runs.inc()
            except VenueCallError as error:
                self._lists.note(error)
                self._failures.inc()
                log.warning("reconciliation: %s", error)

    async def once(self) -> None:
        """One full comparison. Raises VenueCallError."""
        for symbol in self._symbols():
            await self.sweep(symbol, trades=self._rounds % _THOROUGH_EVERY == 0)
        await self._lists.afford(5)
        await self.terms.symbols()
        await self.balances()
        await self.positions()

    async def set_clock(self) -> None:
        """Measure the venue's clock again if it refused a timestamp; it would refuse all. Raises VenueCallError."""
        if self._rest.clock_is_off:
            log.warning("the venue refuses our timestamps; measuring its clock again")
            await self._lists.afford(1)
            await self._rest.sync_time()

    async def after_gap(self) -> None:
        """The user stream was away: everything that it would have said. Raises VenueCallError."""
        for symbol in self._symbols():
            await self.sweep(symbol)

    async def fetch_missing_fills(self) -> None:
        """Ask for trades where the venue reported more filled than came. Raises VenueCallError."""
        for symbol in missing_fills(self._ledger.open.values()):
            if symbol in self._instruments:
                async with self._lists.reading:
                    await self._lists.trades(symbol)

    # One symbol.

    async def sweep(self, symbol: str, *, trades: bool = True, at_start: bool = False) -> None:
        """Open orders of one symbol, and its trades when asked to or when fills are missing. Raises VenueCallError."""
        async with self._lists.reading:
            asked_mono = self._clock.mono_ns()
            await self._lists.afford(1)
            listed = await self._rest.open_orders(symbol)
            for order in listed:
                self._lists.take(order, or_fail=at_start)
            await self._lists.afford(1)
            names = {o.clientOrderId for o in listed} | await self._path.algos.open(symbol)
            for mine in self._ledger.open_of(symbol=symbol):
                if mine.client_order_id in names or mine.state is OrderState.UNKNOWN:
                    continue
                recent = mine.stamps.sent_mono_ns > asked_mono - _SETTLE_NS
                if at_start or not (recent or self._path.awaits_answer(mine.client_order_id)):
                    await self._ask(mine)
            if trades or symbol in missing_fills(self._ledger.open.values()):
                await self._lists.trades(symbol)
            self._path.flush()

    async def _ask(self, order: OrderMachine) -> None:
        """An order that we hold to be open and that the venue does not list."""
        client_id = order.client_order_id
        await self._lists.afford(1)
        try:
            if order.waits_for_trigger:
                await self._path.algos.ask(order)
            else:
                self._lists.take(await self._rest.query(order.symbol, client_id))
            self._absent.pop(client_id, None)
        except VenueCallError as error:
            if error.code != NOT_FOUND:
                raise
            if not order.venue_order_id:
                self._ledger.advance(order, OrderState.UNKNOWN, self._clock.wall_ns(), error.message, error.code)
                return
            self._absent[client_id] += 1
            if self._absent[client_id] < self._settings.unknown_queries:
                return
            # It was there and is gone from the venue's history: it cannot trade any more.
            self._absent.pop(client_id)
            self._alert(
                Severity.WARNING, "order-vanished", f"the venue no longer knows {client_id}; it counts as expired"
            )
            gone = Report(
                order.venue_order_id, OrderState.EXPIRED, order.cum_lots, order.average_price, order.update_ms
            )
            self._ledger.on_fact(
                VenueFact(symbol=order.symbol, client_order_id=client_id, report=gone), self._clock.wall_ns()
            )

    # The account.

    async def balances(self) -> None:
        """Equity and what is available. Raises VenueCallError."""
        await self._lists.afford(5)
        account = await self._rest.account()
        try:
            self._view.on_balances(account.totalMarginBalance, account.availableBalance)
        except NotFiniteError as error:
            self._alert(Severity.CRITICAL, "balance", str(error))

    async def _listed_positions(self) -> dict[tuple[str, str], tuple[int, Decimal]]:
        """Lots and entry price by symbol and side, flat ones left out.

        Raises:
            VenueCallError: the venue did not answer, or a position makes no sense: then none is believed.
        """
        await self._lists.afford(5)
        theirs: dict[tuple[str, str], tuple[int, Decimal]] = {}
        for p in await self._rest.positions():
            instrument = self._instruments.get(p.symbol)
            try:
                if instrument is None:
                    self._view.set_foreign_exposure(p.symbol, p.notional)
                else:
                    theirs[(p.symbol, p.positionSide)] = (instrument.to_lots(p.positionAmt), p.entryPrice)
            except (TickmeshError, ValueError) as error:
                text = f"a position that makes no sense ({error}): {p}"
                self._odd(p.symbol, "", text)
                raise VenueCallError(Outcome.UNKNOWN, text) from error
        return theirs

    async def positions(self) -> None:
        """Compare positions; a difference seen twice running, and not a missed fill, is corrected.

        Raises:
            VenueCallError: the venue did not answer.
        """
        fills = self._effects.fills
        theirs = await self._listed_positions()
        for symbol in self._symbols():
            if self._differs(symbol, theirs):
                async with self._lists.reading:
                    await self._lists.trades(symbol)  # a fill that nobody told us of is the usual reason
        if fills != self._effects.fills or not self._lists.all_fills_are_here:
            return  # something traded while we asked: the two are not of one moment
        corrected = False
        for symbol, view in self._view.symbols.items():
            for side in ("LONG", "SHORT") if self._view.hedge_mode else ("BOTH",):
                mine, (venue, _) = view.leg(PositionSide(side)).position_lots, theirs.get((symbol, side), (0, ZERO))
                if mine == venue:
                    self._differed.pop((symbol, side), None)
                    continue
                self._differed[(symbol, side)] += 1
                if self._differed[(symbol, side)] >= 2:
                    corrected = True
                    self._correct(symbol, side, mine, venue)
        if not corrected and not self._differed:
            self._corrections = 0

    def _differs(self, symbol: str, theirs: dict[tuple[str, str], tuple[int, Decimal]]) -> bool:
        view = self._view.symbols[symbol]
        return any(
            view.leg(PositionSide(side)).position_lots != theirs.get((symbol, side), (0, ZERO))[0]
            for side in (("LONG", "SHORT") if self._view.hedge_mode else ("BOTH",))
        )

    def _correct(self, symbol: str, side: str, mine: int, venue: int) -> None:
        self._mismatches.inc()
        self._corrections += 1
        self._differed.pop((symbol, side))
        self._view.set_position(symbol, venue, PositionSide(side))
        text = f"position {symbol} {side} was {mine} lots here and {venue} at the venue; the venue's is used"
        self._alert(Severity.CRITICAL, "position-mismatch", text)
        if self._corrections >= self._settings.mismatch_halt:
            self._halt(text)

    # Shared.

    def _symbols(self) -> list[str]:
        return [s for s in self._instruments if s in self._view.symbols]

    async def _until_done(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat until the venue answers; only for reads, which are safe to repeat."""
        while True:
            try:
                await self.set_clock()
                result = await work()
            except VenueCallError as error:
                self._lists.note(error)
                self._service.health.require("venue", f"the venue does not answer: {error}")
                log.warning("start-up: %s; trying again", error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._service.health.satisfy("venue")
                return result
