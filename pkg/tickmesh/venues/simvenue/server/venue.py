"""Venue: the exchange, its streams and its clock as one object; every call that changes something ends in ``commit``.

In: calls of the REST handlers, the flow and the timers, all in one thread. Out: events, first to the store (so that
what a client has seen survives a kill), then to the listeners. It opens no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.server.bodies import Bodies
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.faults import Faults, same_stream
from tickmesh.venues.simvenue.server.hub import Hub
from tickmesh.venues.simvenue.server.market_streams import MarketStreams
from tickmesh.venues.simvenue.server.store import Store
from tickmesh.venues.simvenue.server.user_streams import UserStreams


class Venue:
    """One simulated venue.

    Args:
        replay: captured frames are the market data; the exchange's own book changes are not sent.
    """

    def __init__(
        self,
        exchange: Exchange,
        instruments: Mapping[str, Instrument],
        hub: Hub,
        clock: VenueClock,
        store: Store,
        faults: Faults,
        *,
        replay: bool,
    ) -> None:
        self.exchange, self.instruments, self.hub, self.store = exchange, dict(instruments), hub, store
        self.clock, self.replay = clock, replay
        self.bodies = Bodies(self.instruments, clock)
        self.streams = MarketStreams(exchange, self.instruments.values(), hub, publish_flow=not replay)
        self.users = UserStreams(self.instruments, hub, clock)
        self.users.load(store.listen_keys())
        self.users.on_changed = store.save_listen_key
        self.captured_depth: Callable[[str, int], bytes | None] = lambda _symbol, _limit: None
        self.faults = faults
        faults.cut_streams = lambda pattern: hub.cut_streams(lambda stream: same_stream(pattern, stream))
        faults.release = hub.write
        faults.expire_listen_keys = self.users.expire_all
        faults.on_streams = lambda any_on: setattr(hub, "faults", faults if any_on else None)
        self.failure: DependencyError | None = None
        hub.on_pending = self.commit
        hub.on_subscribed = self.streams.on_subscribed

    def commit(self) -> None:
        """Save and send what the last calls have changed.

        Raises:
            DependencyError: it cannot be saved. Nothing was sent, and nothing will be any more: the venue must stop.
        """
        if self.failure is not None:
            raise self.failure
        events = self.exchange.drain_events()
        try:
            self.store.save(self.exchange.drain_changes())
        except DependencyError as error:
            self.failure = error
            raise
        if events:
            self.users.on_events(events)
            self.streams.on_events(events, self.clock.shown_ms())

    def tick(self) -> None:
        """Run the timers that are due; call it every few tens of milliseconds."""
        self.faults.tick()
        now_ms = self.clock.now_ms()
        self.exchange.advance(now_ms)
        self.users.tick(now_ms)
        self.commit()
        self.streams.tick(self.clock.shown_ms())
