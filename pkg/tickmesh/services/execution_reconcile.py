"""Reconciler: what the venue knows, set against the ledger; at start, every few seconds, and after every gap.

In: REST lists and queries. Out: facts and trades into the ledger, positions and balances into the risk view,
verdicts on UNKNOWN orders. The venue is right; a position that has to be corrected again and again halts the
account. It refuses to call an order absent before several spaced questions, the venue's orders and its trades agree.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import TypeVar

from tickmesh.domain.client_order_id import is_ours
from tickmesh.domain.enums import OrderState, PositionSide, Severity
from tickmesh.domain.errors import NotFiniteError, TickmeshError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import ZERO
from tickmesh.engine.effects import ViewEffects
from tickmesh.execution.budget import RateBudget
from tickmesh.execution.ledger import OrderLedger, VenueFact, missing_fills
from tickmesh.execution.machine import OrderMachine, Report
from tickmesh.risk.view import RiskView
from tickmesh.services.execution_path import OrderPath
from tickmesh.services.execution_terms import AccountTerms
from tickmesh.services.service import Service
from tickmesh.venues.binance_usdm.codec_trading import Outcome, VenueCallError, VenueOrder, VenueTrade
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.binance_usdm.translate_trading import fact_of_order, trade_of_list

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_NOT_FOUND = -2013
_MARGIN_MS = 60_000
_PAGE = 1000
_VENUE_LISTS_MS = 6 * 86_400_000
"""The venue lists a week from the time that is asked for; with a day to spare."""
_SETTLE_NS = 1_000_000_000
_RETRY_S = 1.0
_TAKE_OVER_TRIES = 40
_LOOK_S = 0.1
_LEFT_OUT_TRIES = 60
"""How often a trade that makes no sense is asked for again, before what it moved is corrected instead."""
_ASKING = 4
"""Most questions for UNKNOWN orders at a time: they pass an open breaker, so a silent venue must not be heaped up."""
_THOROUGH_EVERY = 12
"""Every so many rounds the trade lists and the venue's clock are read even when nothing seems to be missing."""

AlertFunction = Callable[[Severity, str, str], None]


class Reconciler:
    """Keeps one account's ledger and risk view equal to the venue."""

    def __init__(
        self, service: Service, rest: BinanceUsdmRest, ledger: OrderLedger, view: RiskView, effects: ViewEffects,
        path: OrderPath, budget: RateBudget, instruments: dict[str, Instrument], alert: AlertFunction,
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
        self._budget = budget
        self._instruments = instruments
        self._alert = alert
        self._odd = odd
        self._halt = halt
        self.terms = terms
        self._resolving: set[str] = set()
        self._asking = asyncio.Semaphore(_ASKING)
        self._absent: dict[str, int] = defaultdict(int)
        self._differed: dict[tuple[str, str], int] = defaultdict(int)
        self._corrections = 0
        self._rounds = 0
        self._sweeping = asyncio.Lock()
        self._listed: dict[str, int] = {}
        """By symbol, the newest trade of the venue's list as it was last read to its end: what is older is known."""
        self._left_out: dict[str, int] = {}
        """By symbol, how often its list had a trade that made no sense and is still to be counted."""
        self.trades_since_ms = 0
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
        self.trades_since_ms = max(oldest_ns // 1_000_000, newest_ns // 1_000_000 - thorough_ms) or now_ms
        self.trades_since_ms -= _MARGIN_MS
        for order in self._ledger.open.values():
            if order.symbol in self._view.symbols:
                self._effects.adopt(order)
        await self._until_done(self._rest.sync_time)
        await self._until_done(self.terms.position_mode)
        await self._until_done(self.terms.symbols)
        await self._until_done(self.balances)
        for symbol in self._symbols():
            if newest_ns:
                await self._until_done(partial(self._orders_since, symbol, newest_ns // 1_000_000 - _MARGIN_MS))
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
                async with self._sweeping:
                    await self._trades(symbol)  # what traded before the positions were read is in this list
            if fills == self._effects.fills and self._all_fills_are_here():
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
                    await self._afford(30)
                    await self.terms.position_mode()
                await self.set_clock()
                await self.once()
                self._runs.inc()
            except VenueCallError as error:
                self._note(error)
                self._failures.inc()
                log.warning("reconciliation: %s", error)

    async def once(self) -> None:
        """One full comparison. Raises VenueCallError."""
        for symbol in self._symbols():
            await self.sweep(symbol, trades=self._rounds % _THOROUGH_EVERY == 0)
        await self._afford(5)
        await self.terms.symbols()
        await self.balances()
        await self.positions()

    async def set_clock(self) -> None:
        """Measure the venue's clock again if it refused a timestamp; it would refuse all. Raises VenueCallError."""
        if self._rest.clock_is_off:
            log.warning("the venue refuses our timestamps; measuring its clock again")
            await self._afford(1)
            await self._rest.sync_time()

    async def after_gap(self) -> None:
        """The user stream was away: everything that it would have said. Raises VenueCallError."""
        for symbol in self._symbols():
            await self.sweep(symbol)

    async def fetch_missing_fills(self) -> None:
        """Ask for trades where the venue reported more filled than came. Raises VenueCallError."""
        for symbol in missing_fills(self._ledger.open.values()):
            if symbol in self._instruments:
                async with self._sweeping:
                    await self._trades(symbol)

    # One symbol.

    async def sweep(self, symbol: str, *, trades: bool = True, at_start: bool = False) -> None:
        """Open orders of one symbol, and its trades when asked to or when fills are missing. Raises VenueCallError."""
        async with self._sweeping:
            asked_mono = self._clock.mono_ns()
            await self._afford(1)
            listed = await self._rest.open_orders(symbol)
            for order in listed:
                self._take(order, or_fail=at_start)
            await self._afford(1)
            names = {o.clientOrderId for o in listed} | await self._path.algos.open(symbol)
            for mine in self._ledger.open_of(symbol=symbol):
                if mine.client_order_id in names or mine.state is OrderState.UNKNOWN:
                    continue
                recent = mine.stamps.sent_mono_ns > asked_mono - _SETTLE_NS
                if at_start or not (recent or self._path.awaits_answer(mine.client_order_id)):
                    await self._ask(mine)
            if trades or symbol in missing_fills(self._ledger.open.values()):
                await self._trades(symbol)
            self._path.flush()

    async def _ask(self, order: OrderMachine) -> None:
        """An order that we hold to be open and that the venue does not list."""
        client_id = order.client_order_id
        await self._afford(1)
        try:
            if order.waits_for_trigger:
                await self._path.algos.ask(order)
            else:
                self._take(await self._rest.query(order.symbol, client_id))
            self._absent.pop(client_id, None)
        except VenueCallError as error:
            if error.code != _NOT_FOUND:
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

    async def _trades(self, symbol: str, *, urgent: bool = False) -> None:
        """Every trade since the list was last read to its end, and what is still missing of single orders.

        Not since the newest trade that we know: the stream may have brought that one and lost any number before it.
        """
        from_id = self._listed.get(symbol)
        if from_id is None and self._clock.wall_ns() // 1_000_000 - self.trades_since_ms > _VENUE_LISTS_MS:
            from_id = self._ledger.last_trade_id.get(symbol)
        while True:
            await self._afford(5)
            page = await self._rest.user_trades(
                symbol,
                from_id=from_id,
                start_time_ms=None if from_id is not None else self.trades_since_ms,
                limit=_PAGE,
                urgent=urgent,
            )
            left_out = await self._join(symbol, page, urgent=urgent)
            if page:
                self._listed[symbol] = self._read_to(symbol, page, left_out)
            if len(page) < _PAGE:
                break
            from_id = page[-1].id + 1
        for order in [o for o in self._ledger.open.values() if o.symbol == symbol and o.missing_lots]:
            if order.venue_order_id:
                await self._afford(5)
                page = await self._rest.user_trades(symbol, order_id=order.venue_order_id, limit=_PAGE, urgent=urgent)
                await self._join(symbol, page, urgent=urgent)

    def _read_to(self, symbol: str, page: list[VenueTrade], left_out: int) -> int:
        """Up to which trade the list counts as read: what made no sense is asked for again, not for ever."""
        tries = self._left_out.pop(symbol, 0) + 1
        if not left_out or len(page) == _PAGE or tries > _LEFT_OUT_TRIES:
            return page[-1].id
        self._left_out[symbol] = tries
        return left_out

    async def _join(self, symbol: str, page: list[VenueTrade], *, urgent: bool) -> int:
        """Take what we do not know of these trades, and the orders of strangers among them.

        Returns:
            The id of the first that makes no sense, or whose order makes none; 0 without one.

        Raises:
            VenueCallError: the venue did not answer.
        """
        instrument, left_out = self._instruments[symbol], 0
        for line in page:
            if self._ledger.knows_trade(symbol, line.id):
                continue
            try:
                trade = trade_of_list(line, instrument)
            except (TickmeshError, KeyError, ValueError) as error:
                self._odd(symbol, "", f"a trade that makes no sense ({error}): {line}")
                left_out = left_out or line.id
                continue
            order = self._ledger.order_of_trade(trade)
            if order is None:
                await self._afford(1)
                order = self._take(await self._rest.query_by_venue_id(symbol, line.orderId, urgent=urgent))
            if order is None:
                left_out = left_out or line.id
            else:
                self._ledger.on_trade(trade, order, self._clock.wall_ns())
        self._path.flush()
        return left_out

    async def _orders_since(self, symbol: str, start_ms: int, *, urgent: bool = False) -> None:
        """Everything sent since, whatever became of it: what a former life did not live to journal."""
        start_ms = max(start_ms, self._clock.wall_ns() // 1_000_000 - _VENUE_LISTS_MS)
        order_id: int | None = None
        while True:
            await self._afford(5)
            page = await self._rest.all_orders(
                symbol, order_id=order_id, start_time_ms=None if order_id is not None else start_ms, limit=_PAGE,
                urgent=urgent,
            )  # fmt: skip
            for order in page:
                if order.clientOrderId in self._ledger.orders or is_ours(order.clientOrderId):
                    self._take(order, or_fail=True)
            self._path.flush()
            if len(page) < _PAGE:
                return
            order_id = page[-1].orderId + 1

    def _take(self, order: VenueOrder, *, or_fail: bool = False) -> OrderMachine | None:
        """Take over what the venue says of an order; None when it makes no sense.

        Raises:
            VenueCallError: it makes none, and ``or_fail``: who leaves it out may not know of an order that can trade.
        """
        try:
            fact = fact_of_order(order, self._instruments[order.symbol])
        except (TickmeshError, KeyError, ValueError) as error:
            text = f"an order that makes no sense ({error}): {order}"
            self._odd(order.symbol, order.clientOrderId, text)
            if or_fail:
                raise VenueCallError(Outcome.UNKNOWN, text) from error
            return None
        found = self._ledger.on_fact(fact, self._clock.wall_ns())
        self._path.flush()
        return found

    # UNKNOWN.

    async def follow_unknown(self) -> None:
        """Resolve whatever becomes UNKNOWN, for ever; nothing else that waits for the venue holds it up."""
        while True:
            self.watch_unknown()
            await asyncio.sleep(_LOOK_S)

    async def settled(self) -> None:
        """Wait until no order of ours may still trade and none is UNKNOWN; the caller bounds the wait."""
        while any(not order.external for order in self._ledger.open_of()):
            self.watch_unknown()
            self._path.flush()
            await asyncio.sleep(_LOOK_S)

    def watch_unknown(self) -> None:
        """Start asking for every order that is UNKNOWN and not asked for yet."""
        for client_id, order in self._ledger.open.items():
            if order.state is OrderState.UNKNOWN and client_id not in self._resolving:
                self._resolving.add(client_id)
                self._path.spawn(self._resolve(order))

    async def _resolve(self, order: OrderMachine) -> None:
        """Ask until the venue has said what became of it.

        The wait grows only between answers of "not found", which must be spaced; a venue that is silent is asked
        steadily and past its breaker, so that the first moment it answers again is used.
        """
        spacing = self._settings.unknown_spacing_s
        client_id, wait_s, misses = order.client_order_id, spacing / 8, 0
        self._alert(Severity.WARNING, "order-unknown", f"{client_id} is UNKNOWN ({order.reason}); asking the venue")
        try:
            while order.state is OrderState.UNKNOWN:
                await asyncio.sleep(wait_s)
                found = await self._exists(order)
                if found is not False:
                    wait_s, misses = spacing, 0 if found else misses
                    continue
                misses += 1
                wait_s = min(max(wait_s * 2, spacing), spacing * 8)
                if misses < self._settings.unknown_queries:
                    continue
                if await self._not_listed(order):
                    reason = f"the venue has no such order: {misses} queries, its orders and its trades agree"
                    self._ledger.advance(order, OrderState.REJECTED, self._clock.wall_ns(), reason, _NOT_FOUND)
                    self._path.flush()
                wait_s = spacing
        finally:
            self._resolving.discard(client_id)

    async def _exists(self, order: OrderMachine) -> bool | None:
        """Whether the venue knows an UNKNOWN order, whose state is taken then; None when it does not say."""
        async with self._asking:
            if order.state is not OrderState.UNKNOWN:
                return True  # told by somebody else while this question waited for its turn
            await self._afford(1)
            try:
                self._take(await self._rest.query(order.symbol, order.client_order_id, urgent=True))
            except VenueCallError as error:
                self._note(error)
                is_absent = error.code == _NOT_FOUND and error.outcome is Outcome.REJECTED
                return False if is_absent else None
            return True

    async def _not_listed(self, order: OrderMachine) -> bool:
        """Whether neither the venue's orders since then nor its trades tell of it; takes their word when they do."""
        try:
            await self._orders_since(order.symbol, order.created_ns // 1_000_000 - _MARGIN_MS, urgent=True)
            if order.state is OrderState.UNKNOWN:
                async with self._sweeping:
                    await self._trades(order.symbol, urgent=True)
        except VenueCallError as error:
            self._note(error)
            return False
        return order.state is OrderState.UNKNOWN

    # The account.

    async def balances(self) -> None:
        """Equity and what is available. Raises VenueCallError."""
        await self._afford(5)
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
        await self._afford(5)
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
                async with self._sweeping:
                    await self._trades(symbol)  # a fill that nobody told us of is the usual reason
        if fills != self._effects.fills or not self._all_fills_are_here():
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

    def _all_fills_are_here(self) -> bool:
        """Whether no fill is known to be on its way: what it moves would count twice, taken over and then told."""
        return not missing_fills(self._ledger.open.values()) and not self._left_out

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

    async def _afford(self, weight: int) -> None:
        while wait_s := self._budget.wait_for_query_s(weight, self._clock.mono_ns()):
            await asyncio.sleep(min(wait_s, 5.0))

    def _note(self, error: VenueCallError) -> None:
        if error.outcome is Outcome.RATE_LIMITED:
            self._path.note_limited(error)

    async def _until_done(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat until the venue answers; only for reads, which are safe to repeat."""
        while True:
            try:
                await self.set_clock()
                result = await work()
            except VenueCallError as error:
                self._note(error)
                self._service.health.require("venue", f"the venue does not answer: {error}")
                log.warning("start-up: %s; trying again", error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._service.health.satisfy("venue")
                return result
