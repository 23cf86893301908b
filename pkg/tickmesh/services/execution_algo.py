"""AlgoOrders: conditional orders that only the venue's algo service knows until they trigger.

In: its list of open ones, its answers about single ones. Out: facts into the ledger, under the algo id as a negative
number; when one triggers, the order that it became is asked for by its own id. It places none: whoever did, they may
trade on our account, so they count, and an emergency stop cancels them. See docs/decisions/0210.
"""

from __future__ import annotations

from collections.abc import Callable

from tickmesh.domain.errors import TickmeshError
from tickmesh.domain.instrument import Instrument
from tickmesh.execution.ledger import OrderLedger
from tickmesh.execution.machine import OrderMachine
from tickmesh.ports import Clock
from tickmesh.venues.binance_usdm.codec_trading import VenueAlgoOrder, VenueCallError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.binance_usdm.translate_trading import fact_of_algo, fact_of_order

_NOT_OPEN = -2011


class AlgoOrders:
    """One account's."""

    def __init__(
        self, rest: BinanceUsdmRest, ledger: OrderLedger, instruments: dict[str, Instrument], clock: Clock
    ) -> None:
        self._rest = rest
        self._ledger = ledger
        self._instruments = instruments
        self._clock = clock
        self.on_odd: Callable[[str, str, str], None] = lambda symbol, client_id, text: None
        """Called with an order that makes no sense: symbol, client id, what it said."""

    async def open(self, symbol: str) -> set[str]:
        """Adopt what waits for its trigger in ``symbol``; the client ids. Raises VenueCallError."""
        listed = await self._rest.open_algo_orders(symbol)
        for order in listed:
            self._take(order)
        return {order.clientAlgoId for order in listed}

    async def ask(self, order: OrderMachine, *, urgent: bool = False) -> None:
        """What became of one; ``urgent`` passes an open breaker. Raises VenueCallError; -2013 when nobody knows it."""
        found = await self._rest.query_algo(order.client_order_id, urgent=urgent)
        if found.actualOrderId.isdigit() and int(found.actualOrderId):
            became = await self._rest.query_by_venue_id(order.symbol, int(found.actualOrderId), urgent=urgent)
            self._ledger.on_fact(fact_of_order(became, self._instruments[order.symbol]), self._clock.wall_ns())
        self._take(found)

    async def cancel(self, order: OrderMachine) -> None:
        """Cancel one, and take over what it is then; -2011 means only to ask. Raises VenueCallError."""
        try:
            await self._rest.cancel_algo(order.client_order_id)
        except VenueCallError as error:
            if error.code != _NOT_OPEN:
                raise
        await self.ask(order, urgent=True)

    def _take(self, order: VenueAlgoOrder) -> None:
        try:
            fact = fact_of_algo(order, self._instruments[order.symbol])
        except (TickmeshError, KeyError, ValueError) as error:
            text = f"a conditional order that makes no sense ({error}): {order}"
            self.on_odd(order.symbol, order.clientAlgoId, text)
            return
        self._ledger.on_fact(fact, self._clock.wall_ns())
