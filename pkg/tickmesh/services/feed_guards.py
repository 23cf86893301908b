"""FeedGuards: the feed's circuit breakers and its share of the venue's request weight.

In: results of snapshots and connections. Out: gates for the REST client and the market session. An open breaker of the
stream parts from the venue; the books are stale then, and what reads them degrades as it does in any silence.
"""

from __future__ import annotations

import asyncio

from tickmesh.risk.breaker import BreakerConfig
from tickmesh.services.breakers import NATS, BreakerBoard, BreakerGate
from tickmesh.services.service import Service
from tickmesh.services.venue_budget import SharedBudget, budget_of
from tickmesh.services.venue_gate import READING, VenueGate
from tickmesh.venues.binance_usdm.market_rest import MarketRest

_STREAM = BreakerConfig(failures=8, window_ns=30_000_000_000, open_ns=2_000_000_000, probes=1)
"""Reconnecting has a backoff of its own; eight lost connections in 30 s are a venue that does not keep any."""


class FeedGuards:
    """Of one feed process; ``run`` beside it."""

    def __init__(self, service: Service, rest: MarketRest) -> None:
        self._board = board = BreakerBoard(service)
        board.add("bus-feed", NATS, target="bus", probe=lambda: service.bus.connected)
        self.stream: BreakerGate = board.gate(board.add("venue-websocket-feed", _STREAM, target="venue-websocket"))
        breaker = board.add("venue-rest-feed", READING, target="venue-rest")
        self._budget = SharedBudget(service, service.settings.venue.account, budget_of(service.settings))
        rest.gate = VenueGate(service.clock, board.gate(breaker), self._budget)

    async def run(self) -> None:
        """Keep both current, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._board.run())
            group.create_task(self._budget.run())
