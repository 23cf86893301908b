"""Venue: the exchange, its streams and its clock as one object; every call that changes something ends in ``commit``.

In: calls of the REST handlers, the flow and the timers, all in one thread. Out: events, first to the store (so that
what a client has seen survives a kill), then to the listeners. It opens no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.exchange.types import Event, ExchangeState
from tickmesh.venues.simvenue.server.hub import Hub
from tickmesh.venues.simvenue.server.market_streams import MarketStreams

NS_PER_MS = 1_000_000


class Venue:
    """One simulated venue.

    Args:
        replay: captured frames are the market data; the exchange's own book changes are not sent.
        wall_ns: the wall clock. Venue time is this plus ``clock_offset_ms``.
    """

    def __init__(
        self,
        exchange: Exchange,
        instruments: Mapping[str, Instrument],
        hub: Hub,
        *,
        replay: bool,
        wall_ns: Callable[[], int],
    ) -> None:
        self.exchange, self.instruments, self.hub, self.replay = exchange, dict(instruments), hub, replay
        self.streams = MarketStreams(exchange, self.instruments.values(), hub, publish_flow=not replay)
        self.clock_offset_ms = 0
        self.captured_depth: Callable[[str, int], bytes | None] = lambda _symbol, _limit: None
        self.save: Callable[[ExchangeState], None] = lambda _: None
        self.on_user_events: Callable[[list[Event]], None] = lambda _: None
        self._wall_ns = wall_ns
        hub.on_pending = self.commit
        hub.on_subscribed = self.streams.on_subscribed

    def now_ms(self) -> int:
        """Venue time."""
        return self._wall_ns() // NS_PER_MS + self.clock_offset_ms

    def commit(self) -> None:
        """Save and send what the last calls have changed."""
        events = self.exchange.drain_events()
        self.save(self.exchange.drain_changes())
        if events:
            self.on_user_events(events)
            self.streams.on_events(events, self.now_ms())

    def tick(self) -> None:
        """Run the timers that are due; call it every few tens of milliseconds."""
        now_ms = self.now_ms()
        self.exchange.advance(now_ms)
        self.commit()
        self.streams.tick(now_ms)
