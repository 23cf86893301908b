"""VenueLists: the venue's lists of orders and trades, read to their end and taken into the ledger.

In: pages of REST lists. Out: facts and trades in the ledger; what makes no sense is told as odd, left out and asked for
again. It compares nothing and judges no order: that is the reconciler's, and ``execution_unknown``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tickmesh.domain.client_order_id import is_ours
from tickmesh.domain.errors import TickmeshError
from tickmesh.domain.instrument import Instrument
from tickmesh.execution.budget import RateBudget
from tickmesh.execution.ledger import OrderLedger, missing_fills
from tickmesh.execution.machine import OrderMachine
from tickmesh.ports import Clock
from tickmesh.services.execution_path import OrderPath
from tickmesh.venues.binance_usdm.codec_trading import Outcome, VenueCallError, VenueOrder, VenueTrade
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.binance_usdm.translate_trading import fact_of_order, trade_of_list

log = logging.getLogger(__name__)

MARGIN_MS = 60_000
"""How much earlier than seems enough a list is asked for: clocks differ, and what was sent may arrive late."""
_PAGE = 1000
_VENUE_LISTS_MS = 6 * 86_400_000
"""The venue lists a week from the time that is asked for; with a day to spare."""
_WORTH_TELLING_S = 0.5
_LEFT_OUT_TRIES = 60
"""How often a trade that makes no sense is asked for again, before what it moved is corrected instead."""


class VenueLists:
    """One account's. Who calls ``trades`` holds ``reading``: two readers of one list would take its lines twice."""

    def __init__(
        self, rest: BinanceUsdmRest, ledger: OrderLedger, path: OrderPath, budget: RateBudget, clock: Clock,
        instruments: dict[str, Instrument], odd: Callable[[str, str, str], None],
    ) -> None:  # fmt: skip
        self._rest = rest
        self._ledger = ledger
        self._path = path
        self._budget = budget
        self._clock = clock
        self._instruments = instruments
        self._odd = odd
        self.reading = asyncio.Lock()
        self.since_ms = 0
        """Venue time from which on trades are asked for while no list was read to its end yet."""
        self._listed: dict[str, int] = {}
        """By symbol, the newest trade of the venue's list as it was last read to its end: what is older is known."""
        self._left_out: dict[str, int] = {}
        """By symbol, how often its list had a trade that made no sense and is still to be counted."""

    @property
    def all_fills_are_here(self) -> bool:
        """Whether no fill is known to be on its way: what it moves would count twice, taken over and then told."""
        return not missing_fills(self._ledger.open.values()) and not self._left_out

    async def trades(self, symbol: str, *, urgent: bool = False) -> None:
        """Every trade since the list was last read to its end, and what is still missing of single orders.

        Not since the newest trade that we know: the stream may have brought that one and lost any number before it.
        """
        from_id = self._listed.get(symbol)
        if from_id is None and self._clock.wall_ns() // 1_000_000 - self.since_ms > _VENUE_LISTS_MS:
            from_id = self._ledger.last_trade_id.get(symbol)
        while True:
            await self.afford(5)
            page = await self._rest.user_trades(
                symbol,
                from_id=from_id,
                start_time_ms=None if from_id is not None else self.since_ms,
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
                await self.afford(5)
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
                await self.afford(1)
                order = self.take(await self._rest.query_by_venue_id(symbol, line.orderId, urgent=urgent))
            if order is None:
                left_out = left_out or line.id
            else:
                self._ledger.on_trade(trade, order, self._clock.wall_ns())
        self._path.flush()
        return left_out

    async def orders_since(self, symbol: str, start_ms: int, *, urgent: bool = False) -> None:
        """Everything sent since, whatever became of it: what a former life did not live to journal."""
        start_ms = max(start_ms, self._clock.wall_ns() // 1_000_000 - _VENUE_LISTS_MS)
        order_id: int | None = None
        while True:
            await self.afford(5)
            page = await self._rest.all_orders(
                symbol, order_id=order_id, start_time_ms=None if order_id is not None else start_ms, limit=_PAGE,
                urgent=urgent,
            )  # fmt: skip
            for order in page:
                if order.clientOrderId in self._ledger.orders or is_ours(order.clientOrderId):
                    self.take(order, or_fail=True)
            self._path.flush()
            if len(page) < _PAGE:
                return
            order_id = page[-1].orderId + 1

    def take(self, order: VenueOrder, *, or_fail: bool = False) -> OrderMachine | None:
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

    async def afford(self, weight: int) -> None:
        """Wait until the budget has ``weight`` to spare for questions."""
        told = False
        while wait_s := self._budget.wait_for_query_s(weight, self._clock.mono_ns()):
            if wait_s > _WORTH_TELLING_S and not told:
                told = True
                log.info("the request weight of this address is used up; the next question waits %.0f s for it", wait_s)
            await asyncio.sleep(min(wait_s, 5.0))

    def note(self, error: VenueCallError) -> None:
        """What a question that failed says of our pace."""
        if error.outcome is Outcome.RATE_LIMITED:
            self._path.note_limited(error)
