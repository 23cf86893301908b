"""UnknownOrders: what became of an order whose request was not answered; asked until the venue has said it.

In: orders of the ledger that are UNKNOWN. Out: the venue's word in the ledger. It refuses to call an order absent
before several spaced questions, the venue's orders and its trades agree.
"""

from __future__ import annotations

import asyncio

from tickmesh.domain.enums import OrderState, Severity
from tickmesh.execution.ledger import OrderLedger
from tickmesh.execution.machine import OrderMachine
from tickmesh.services.execution_lists import MARGIN_MS, VenueLists
from tickmesh.services.execution_path import OrderPath
from tickmesh.services.notices import AlertFunction
from tickmesh.services.service import Service
from tickmesh.venues.binance_usdm.codec_trading import NOT_FOUND, Outcome, VenueCallError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

_LOOK_S = 0.1
_ASKING = 4
"""Most questions at a time: they pass an open breaker, so a silent venue must not be heaped up."""


class UnknownOrders:
    """One account's."""

    def __init__(
        self, service: Service, rest: BinanceUsdmRest, ledger: OrderLedger, path: OrderPath, lists: VenueLists,
        alert: AlertFunction,
    ) -> None:  # fmt: skip
        self._clock = service.clock
        self._settings = service.settings.execution
        self._rest = rest
        self._ledger = ledger
        self._path = path
        self._lists = lists
        self._alert = alert
        self._resolving: set[str] = set()
        self._asking = asyncio.Semaphore(_ASKING)

    async def follow(self) -> None:
        """Resolve whatever becomes UNKNOWN, for ever; nothing else that waits for the venue holds it up."""
        while True:
            self.watch()
            await asyncio.sleep(_LOOK_S)

    async def settled(self) -> None:
        """Wait until no order of ours may still trade and none is UNKNOWN; the caller bounds the wait."""
        while any(not order.external for order in self._ledger.open_of()):
            self.watch()
            self._path.flush()
            await asyncio.sleep(_LOOK_S)

    def watch(self) -> None:
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
                    self._ledger.advance(order, OrderState.REJECTED, self._clock.wall_ns(), reason, NOT_FOUND)
                    self._path.flush()
                wait_s = spacing
        finally:
            self._resolving.discard(client_id)

    async def _exists(self, order: OrderMachine) -> bool | None:
        """Whether the venue knows an UNKNOWN order, whose state is taken then; None when it does not say."""
        async with self._asking:
            if order.state is not OrderState.UNKNOWN:
                return True  # told by somebody else while this question waited for its turn
            await self._lists.afford(1)
            try:
                self._lists.take(await self._rest.query(order.symbol, order.client_order_id, urgent=True))
            except VenueCallError as error:
                self._lists.note(error)
                is_absent = error.code == NOT_FOUND and error.outcome is Outcome.REJECTED
                return False if is_absent else None
            return True

    async def _not_listed(self, order: OrderMachine) -> bool:
        """Whether neither the venue's orders since then nor its trades tell of it; takes their word when they do."""
        try:
            await self._lists.orders_since(order.symbol, order.created_ns // 1_000_000 - MARGIN_MS, urgent=True)
            if order.state is OrderState.UNKNOWN:
                async with self._lists.reading:
                    await self._lists.trades(order.symbol, urgent=True)
        except VenueCallError as error:
            self._lists.note(error)
            return False
        return order.state is OrderState.UNKNOWN
