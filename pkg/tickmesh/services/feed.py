"""feed pod: the venue's market streams and snapshots in; books with features, trades and mark prices out.

In: frames of the venue's combined stream, depth snapshots over REST. Out: ``md.book``, ``md.trade`` and ``md.mark``
on the bus and, with the shm transport, in the ring; the venue's instruments in the ``config`` bucket; the whole book
at ``GET /book/{symbol}``. A book that is not known to be right is published as stale; it never guesses a level.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from tickmesh.bus.nats import NatsBus
from tickmesh.bus.ring import RingWriter
from tickmesh.domain.errors import DependencyError, MalformedFrameError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import MarkPrice
from tickmesh.hotpath import BookReplica
from tickmesh.observe.admin import json_response
from tickmesh.services.feed_connection import FeedConnection
from tickmesh.services.feed_guards import FeedGuards
from tickmesh.services.feed_outlet import Outlet
from tickmesh.services.feed_snapshots import FeedSnapshots
from tickmesh.services.feed_standby import FeedStandby
from tickmesh.services.service import Service
from tickmesh.settings.feed import FeedSettings
from tickmesh.venues.binance_usdm.codec_market import DepthSnapshot
from tickmesh.venues.binance_usdm.market_intake import Market, MarketIntake
from tickmesh.venues.binance_usdm.market_rest import MarketRest

log = logging.getLogger("tickmesh.feed")

_WATCH_S = 0.1
_SHOWN_BYTES = 160


async def run(service: Service) -> None:
    """Follow the configured symbols until told to stop."""
    feed = Feed(service)
    service.admin.add_get("/book/{symbol}", feed.show_book)
    service.health.require("books", "no depth snapshot is in use yet")
    try:
        await feed.run()
    finally:
        feed.close_ring()


class Feed:
    """One life of the service: what the session calls (Receiver) and what the intake calls (Sink)."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._keys: FeedSettings = service.settings.feed
        self._venue = service.settings.venue.name
        self._bus = service.bus if isinstance(service.bus, NatsBus) else None
        self._mono_ns = service.clock.mono_ns
        metrics = service.metrics
        self._events = metrics.counter("events_total", "well-formed market frames of our symbols")
        self._gaps = metrics.counter("gaps_total", "holes found in a depth sequence")
        self._connects = metrics.counter("connects_total", "connections made to the market stream")
        self._disconnects = metrics.counter("disconnects_total", "connections lost")
        self._paused = metrics.counter("reading_paused_total", "times that the socket was left unread for being behind")
        self._missing = metrics.counter("trades_missing_total", "trade ids that the venue's stream jumped over")
        self._late = metrics.counter("trades_late_total", "trades that came after a later one")
        self._duplicates = metrics.counter("trades_duplicate_total", "trades that came twice and were dropped")
        self._foreign = metrics.counter("other_symbols_total", "frames of symbols that we did not ask for")
        self._queue_gauge = metrics.gauge("queue_frames", "frames that wait to be handled")
        self._stale_gauge = metrics.gauge("books_stale", "books that are not right now")
        self._queue: deque[tuple[list[bytes], int]] = deque()  # bounded: the socket is left unread
        self._queued = 0
        self._batch, self._queue_frames = self._keys.batch_frames, self._keys.queue_frames
        self._scheduled = False
        self._malformed_kinds: set[str] = set()
        self._ring: RingWriter | None = None
        self._snapshots: FeedSnapshots | None = None
        self._connection: FeedConnection | None = None
        self._intake = MarketIntake(self._venue, {}, self)
        self._outlet = Outlet(
            self._venue,
            service.bus,
            service.clock,
            metrics,
            queue_trades=self._keys.queue_trades,
            epoch=service.clock.wall_ns(),
        )
        self._standby = FeedStandby(service, self._outlet, self._begin, self._hot)

    async def run(self) -> None:
        """Connect, follow, drain; publish when it is our turn."""
        await self._standby.start()
        try:
            await self._follow()
        finally:
            self.close_ring()
            await self._standby.stop()

    def _begin(self) -> None:
        """It is our turn to publish."""
        settings = self._service.settings
        if settings.local.transport == "shm":
            self._ring = RingWriter(
                settings.local.data_dir, slots=self._keys.ring_slots, slot_bytes=self._keys.ring_slot_bytes
            )
            self._outlet.join(self._ring)

    def _leave(self) -> None:
        """A successor publishes from here on; it goes on with the ring where we leave it."""
        if self._ring is not None:
            self._outlet.ring = None
            self._ring.leave()
            self._ring = None

    def _hot(self) -> bool:
        """Whether every book is right."""
        return bool(self._intake.markets) and not any(m.replica.stale for m in self._intake.markets.values())

    async def _follow(self) -> None:
        service, settings = self._service, self._service.settings
        async with MarketRest(settings.venue.rest_url, timeout_s=self._keys.rest_timeout_s) as rest:
            guards = FeedGuards(service, rest)
            snapshots = self._snapshots = FeedSnapshots(service, rest, self._on_snapshot)
            instruments = await self._until_stopping(snapshots.instruments())
            if instruments is None:
                return
            for instrument in instruments.values():
                self._intake.add(self._market(instrument))
            connection = self._connection = FeedConnection(
                self._keys, settings.venue, self._intake, self, service.metrics, guards.stream
            )
            gc.collect()
            gc.freeze()  # what start-up made stays; a full collection over it would hold up the market for 20 ms
            service.health.set_started()
            log.info("following %s of %s", ", ".join(instruments), self._venue)
            await self._work_until_stopping(
                connection.run(),
                self._standby.run(),
                guards.run(),
                self._watch(),
                snapshots.watch_listing(instruments),
                *(snapshots.follow(m) for m in self._intake.markets.values()),
            )
        await self._drain()

    def close_ring(self) -> None:
        """Nobody follows: remove the ring, so that its readers know."""
        if self._ring is not None:
            self._outlet.ring = None
            self._ring.close()
            self._ring = None

    # -- the session's side -----------------------------------------------------------------------------

    def on_connected(self) -> None:
        self._connects.inc()
        self._intake.on_connected()

    def on_frames(self, frames: list[bytes], mono_ns: int) -> bool:
        """Handle what a read of the socket brought, or queue it behind what is queued; False when there is too much."""
        self._queue.append((frames, mono_ns))
        self._queued += len(frames)
        if not self._scheduled:
            self._work()
        if self._queued >= self._queue_frames:
            self._paused.value += 1
            return False
        return True

    def on_disconnected(self, reason: str) -> None:
        self._disconnects.inc()
        self._work_off()
        self._intake.on_disconnected(self._mono_ns())
        self._outlet.flush()

    def _work(self) -> None:
        """Handle a batch of frames in order of arrival, publish, and come back for the rest after everybody else."""
        queue, bus, left = self._queue, self._bus, self._batch
        self._scheduled = False
        if bus is not None:
            bus.hold()
        self._outlet.begin()
        try:
            while queue and left > 0:
                frames, mono_ns = queue.popleft()
                if len(frames) > left:
                    queue.appendleft((frames[left:], mono_ns))
                    frames = frames[:left]
                left -= len(frames)
                self._queued -= len(frames)
                self._intake.on_frames(frames, mono_ns)
            self._outlet.flush()
        finally:
            self._outlet.end()
            if bus is not None:
                bus.release()
        if queue:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._work)
        connection = self._connection
        if connection is not None and connection.current.paused and self._queued < self._queue_frames // 2:
            connection.current.resume()

    def _work_off(self) -> None:
        queue, self._queued = self._queue, 0
        while queue:
            self._intake.on_frames(*queue.popleft())

    # -- the intake's side ------------------------------------------------------------------------------

    def on_trades(self, market: Market, first_id: int, mono_ns: int) -> None:
        self._outlet.trades(market, first_id, mono_ns)

    def on_mark(self, mark: MarkPrice, mono_ns: int) -> None:
        self._outlet.mark(mark, mono_ns)

    def on_dirty(self, market: Market) -> None:
        self._outlet.dirty(market)

    def on_gap(self, market: Market) -> None:
        self._gaps.inc()
        last_id = market.replica.last_id
        log.warning("%s: gap in the depth sequence after %d; asking for a snapshot", market.symbol, last_id)

    def on_needs_snapshot(self, market: Market) -> None:
        if self._snapshots is not None:
            self._snapshots.want(market.symbol)

    def on_malformed(self, error: Exception, frame: bytes) -> None:
        kind = error.kind if isinstance(error, MalformedFrameError) else type(error).__name__
        self._service.metrics.counter("malformed_total", "frames that were not what they should be", kind=kind).inc()
        if kind not in self._malformed_kinds:
            self._malformed_kinds.add(kind)
            # The log's formatter masks what looks like a secret.
            shown = frame[:_SHOWN_BYTES].decode(errors="backslashreplace")
            log.error("skipped a frame (%s); more of this kind are only counted: %s", error, shown)

    def _on_snapshot(self, market: Market, snapshot: DepthSnapshot) -> bool:
        self._work_off()  # diffs that wait in our own queue belong before it
        used = self._intake.on_snapshot(market, snapshot, self._mono_ns())
        self._outlet.flush()
        return used

    # -- tasks ------------------------------------------------------------------------------------------

    def _market(self, instrument: Instrument) -> Market:
        keys = self._keys
        replica = BookReplica(
            self._venue,
            instrument.symbol,
            tick_size=instrument.tick_size,
            lot_size=instrument.lot_size,
            depth=keys.book_depth,
            flow_half_life_ns=keys.flow_half_life_ms * 1_000_000,
            volatility_interval_ns=keys.volatility_interval_ms * 1_000_000,
            volatility_half_life_ns=int(keys.volatility_half_life_s * 1e9),
        )
        return Market(instrument, replica)

    async def _watch(self) -> None:
        """Housekeeping: silence, counters, readiness, and what waited for the bus."""
        health, markets = self._service.health, self._intake.markets
        stale_after_ns = int(self._keys.stale_after_s * 1e9)
        while True:
            await asyncio.sleep(_WATCH_S)
            stale = self._intake.watch(self._mono_ns(), stale_after_ns)
            self._outlet.catch_up()
            if not self._scheduled:
                self._outlet.flush()
            self._outlet.resync_clocks()
            self._count()
            self._stale_gauge.set(stale)
            without = [s for s, m in markets.items() if m.replica.needs_snapshot]
            if without:
                health.require("books", f"no depth snapshot is in use for {', '.join(without)}")
            else:
                health.satisfy("books")
            if not stale and self._connection is not None:
                self._connection.current.healthy()

    def _count(self) -> None:
        intake = self._intake
        self._events.value = intake.events
        self._missing.value, self._late.value = intake.missing_trades, intake.late_trades
        self._duplicates.value, self._foreign.value = intake.duplicate_trades, intake.other_symbols
        self._queue_gauge.set(self._queued)

    async def _drain(self) -> None:
        """Hand over what is left, for a bounded time; a feed that stands by has nothing to say."""
        if not self._standby.publishing:
            return
        self._work_off()
        self._outlet.flush()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._keys.drain_s
        while self._outlet.waiting and loop.time() < deadline:
            await asyncio.sleep(0.02)
            self._outlet.catch_up()
        self._count()
        if self._outlet.waiting:
            log.error("%d messages are left that the bus did not take", self._outlet.waiting)
        try:
            await self._service.bus.flush()
        except DependencyError as error:
            log.warning("%s", error)

    async def _work_until_stopping(self, *work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` until the service is told to stop; what fails ends the service."""
        tasks = [asyncio.create_task(one) for one in work]
        stop = asyncio.create_task(self._service.stopping.wait())
        try:
            await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            await self._standby.hand_over(self._leave)
        finally:
            for pending in (stop, *tasks):
                pending.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)

    async def _until_stopping(self, work: Coroutine[Any, Any, dict[str, Instrument]]) -> dict[str, Instrument] | None:
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._service.stopping.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stop.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    # -- admin ------------------------------------------------------------------------------------------

    async def show_book(self, request: web.Request) -> web.StreamResponse:
        """``GET /book/{symbol}?depth=N``: exact decimals as text, best first; depth 0 is the whole book."""
        symbol = request.match_info["symbol"].upper()
        market = self._intake.markets.get(symbol)
        if market is None:
            return json_response({"error": f"this feed does not follow {symbol[:40]}"}, status=404)
        text = request.query.get("depth", "20")
        if not text.isascii() or not text.isdecimal() or len(text) > 6:
            return json_response({"error": "depth must be a whole number, 0 for the whole book"}, status=400)
        replica, grid = market.replica, market.instrument
        depth = int(text)
        return json_response(
            {
                "venue": self._venue,
                "symbol": market.symbol,
                "update_id": replica.last_id,
                "stale": replica.stale,
                "bids": [[str(grid.price(t)), str(grid.qty(q))] for t, q in replica.bids(depth)],
                "asks": [[str(grid.price(t)), str(grid.qty(q))] for t, q in replica.asks(depth)],
            }
        )
