"""feed pod: the venue's market streams and snapshots in; books with features, trades and mark prices out.

In: frames of the venue's combined stream, depth snapshots over REST. Out: ``md.book``, ``md.trade`` and ``md.mark``
on the bus and, with the shm transport, in the ring; the venue's instruments in the ``config`` bucket; the whole book
at ``GET /book/{symbol}``. A book that is not known to be right is published as stale; it never guesses a level.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from tickmesh.book.replica import BookReplica
from tickmesh.bus.ring import RingWriter
from tickmesh.domain.errors import ConfigError, DependencyError, MalformedFrameError, TickmeshError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import MarkPrice, Trade
from tickmesh.observe.admin import json_response
from tickmesh.services.feed_outlet import Outlet
from tickmesh.services.instruments import publish_instrument
from tickmesh.services.service import Service
from tickmesh.settings.feed import FeedSettings
from tickmesh.venues.binance_usdm.codec_market import stream_names
from tickmesh.venues.binance_usdm.market_intake import Market, MarketIntake
from tickmesh.venues.binance_usdm.market_rest import MarketRest, VenueRefusedError
from tickmesh.venues.binance_usdm.market_session import MarketSession, backoff_s

log = logging.getLogger("tickmesh.feed")

_WATCH_S = 0.1
_BACKOFF_MAX_S = 60.0
_MASKED_BYTES = 160


async def run(service: Service) -> None:
    """Follow the configured symbols until told to stop."""
    feed = Feed(service)
    service.admin.add_get("/book/{symbol}", feed.show_book)
    service.health.require("books", "no depth snapshot is in use yet")
    try:
        await feed.run()
    finally:
        feed.close()


class Feed:
    """One life of the service: what the session calls (Receiver) and what the intake calls (Sink)."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._keys: FeedSettings = service.settings.feed
        self._venue = service.settings.venue.name
        self._mono_ns = service.clock.mono_ns
        metrics = service.metrics
        self._events = metrics.counter("events_total", "well-formed market frames of our symbols")
        self._gaps = metrics.counter("gaps_total", "holes found in a depth sequence")
        self._resyncs = metrics.counter("resyncs_total", "snapshots put to use")
        self._connects = metrics.counter("connects_total", "connections made to the market stream")
        self._disconnects = metrics.counter("disconnects_total", "connections lost")
        self._paused = metrics.counter(
            "reading_paused_total", "times that the socket was not read because we were behind"
        )
        self._missing = metrics.counter("trades_missing_total", "trade ids that the venue's stream jumped over")
        self._duplicates = metrics.counter("trades_duplicate_total", "trades that came twice and were dropped")
        self._queue_gauge = metrics.gauge("queue_frames", "frames that wait to be handled")
        self._stale_gauge = metrics.gauge("books_stale", "books that are not right now")
        self._queue: deque[tuple[bytes, int]] = deque()
        self._scheduled = False
        self._malformed_kinds: set[str] = set()
        self._wanted: dict[str, asyncio.Event] = {}
        self._ring: RingWriter | None = None
        self._intake = MarketIntake(self._venue, {}, self)
        self._outlet = Outlet(
            self._venue,
            service.bus,
            service.clock,
            metrics,
            ring=None,
            queue_trades=self._keys.queue_trades,
            epoch=service.clock.wall_ns(),
        )

    async def run(self) -> None:
        service, keys = self._service, self._keys
        if service.settings.local.transport == "shm":
            self._ring = RingWriter(
                service.settings.local.data_dir, slots=keys.ring_slots, slot_bytes=keys.ring_slot_bytes
            )
            self._outlet.ring = self._ring
        async with MarketRest(service.settings.venue.rest_url, timeout_s=keys.rest_timeout_s) as rest:
            instruments = await self._until_stopping(self._instruments(rest))
            if instruments is None:
                return
            for instrument in instruments.values():
                self._intake.markets[instrument.symbol] = self._market(instrument)
                self._wanted[instrument.symbol] = asyncio.Event()
            self._session = self._new_session()
            tasks = [asyncio.create_task(self._session.run(), name="session")]
            tasks += [
                asyncio.create_task(self._snapshots(m, rest), name=f"snapshots:{s}")
                for s, m in self._intake.markets.items()
            ]
            tasks += [asyncio.create_task(self._watch(), name="watch")]
            try:
                service.health.set_started()
                log.info("following %s of %s", ", ".join(instruments), self._venue)
                stop = asyncio.create_task(service.stopping.wait())
                await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await self._drain()

    def close(self) -> None:
        """Give back what the operating system lent us."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    # -- the session's side -----------------------------------------------------------------------------

    def on_connected(self) -> None:
        self._connects.inc()
        self._intake.on_connected()

    def on_frame(self, frame: bytes, mono_ns: int, last: bool) -> bool:
        queue = self._queue
        queue.append((frame, mono_ns))
        if last and not self._scheduled:
            self._work()
        if len(queue) >= self._keys.queue_frames:
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
        queue, take = self._queue, self._intake.on_frame
        for _ in range(min(len(queue), self._keys.batch_frames)):
            frame, mono_ns = queue.popleft()
            take(frame, mono_ns)
        self._outlet.flush()
        self._scheduled = bool(queue)
        if queue:
            asyncio.get_running_loop().call_soon(self._work)
        if self._session.paused and len(queue) < self._keys.queue_frames // 2:
            self._session.resume()

    def _work_off(self) -> None:
        queue, take = self._queue, self._intake.on_frame
        while queue:
            take(*queue.popleft())

    # -- the intake's side ------------------------------------------------------------------------------

    def on_trade(self, trade: Trade) -> None:
        self._outlet.trade(trade)

    def on_mark(self, mark: MarkPrice) -> None:
        self._outlet.mark(mark, self._mono_ns())

    def on_dirty(self, market: Market) -> None:
        self._outlet.dirty(market)

    def on_gap(self, market: Market) -> None:
        self._gaps.inc()
        log.warning(
            "%s: gap in the depth sequence after %d; asking for a snapshot",
            market.symbol,
            market.replica.synchroniser.last_id,
        )

    def on_needs_snapshot(self, market: Market) -> None:
        self._wanted[market.symbol].set()

    def on_malformed(self, error: Exception, frame: bytes) -> None:
        kind = error.kind if isinstance(error, MalformedFrameError) else type(error).__name__
        self._service.metrics.counter("malformed_total", "frames that were not what they should be", kind=kind).inc()
        if kind not in self._malformed_kinds:
            self._malformed_kinds.add(kind)
            shown = frame[:_MASKED_BYTES].decode(errors="backslashreplace")
            log.error("skipped a frame (%s); more of this kind are only counted: %s", error, shown)

    # -- tasks ------------------------------------------------------------------------------------------

    def _new_session(self) -> MarketSession:
        keys, venue = self._keys, self._service.settings.venue
        return MarketSession(
            venue.stream_url,
            stream_names(
                list(self._intake.markets), keys.depth_stream, "bookTicker", keys.trade_stream, keys.mark_stream
            ),
            self,
            first_s=keys.reconnect_first_s,
            base_s=keys.reconnect_base_s,
            max_s=keys.reconnect_max_s,
            ping_interval_s=keys.ping_interval_s,
            ping_timeout_s=keys.ping_timeout_s,
        )

    def _market(self, instrument: Instrument) -> Market:
        keys = self._keys
        return Market(
            instrument,
            BookReplica(
                self._venue,
                instrument.symbol,
                depth=keys.book_depth,
                flow_half_life_ns=keys.flow_half_life_ms * 1_000_000,
                volatility_interval_ns=keys.volatility_interval_ms * 1_000_000,
                volatility_half_life_ns=int(keys.volatility_half_life_s * 1e9),
            ),
        )

    async def _instruments(self, rest: MarketRest) -> dict[str, Instrument]:
        """What the venue lists of our symbols, published; waits for the venue and the bus as long as it takes."""
        attempt = 0
        while True:
            try:
                listed = await rest.instruments(self._venue)
                symbols = self._service.settings.venue.symbols
                unknown = [symbol for symbol in symbols if symbol not in listed]
                if unknown:
                    raise ConfigError(
                        f"{self._venue} does not list {', '.join(unknown)}; correct TICKMESH_VENUE__SYMBOLS "
                        f"(it lists {', '.join(sorted(listed)[:8])}{' ...' if len(listed) > 8 else ''})"
                    )
                found = {symbol: listed[symbol] for symbol in symbols}
                for instrument in found.values():
                    await publish_instrument(self._service.bus, instrument)
                return found
            except (DependencyError, MalformedFrameError) as error:
                wait_s = self._wait_s(attempt, error)
                self._service.health.require("venue", str(error))
                log.warning("%s; trying again in %.1f s", error, wait_s)
                attempt += 1
                await asyncio.sleep(wait_s)
            else:
                self._service.health.satisfy("venue")

    async def _snapshots(self, market: Market, rest: MarketRest) -> None:
        """Fetch a snapshot whenever the book needs one."""
        wanted, synchroniser, attempt = self._wanted[market.symbol], market.replica.synchroniser, 0
        while True:
            await wanted.wait()
            wanted.clear()
            while synchroniser.needs_snapshot:
                try:
                    snapshot = await rest.depth(market.symbol, self._keys.snapshot_limit)
                    used = self._intake.on_snapshot(market, snapshot, self._mono_ns())
                    self._outlet.flush()
                    self._resyncs.value += used
                    attempt = 0
                    if not synchroniser.needs_snapshot:
                        break
                    wait_s = self._keys.snapshot_interval_s
                except (DependencyError, MalformedFrameError) as error:
                    wait_s = self._wait_s(attempt, error)
                    attempt += 1
                    log.warning("%s: no snapshot (%s); trying again in %.1f s", market.symbol, error, wait_s)
                await asyncio.sleep(wait_s)
            await asyncio.sleep(self._keys.snapshot_interval_s)

    async def _watch(self) -> None:
        """Housekeeping: silence, counters, readiness, and what waited for the bus."""
        health, markets = self._service.health, self._intake.markets
        stale_after_ns = int(self._keys.stale_after_s * 1e9)
        while True:
            await asyncio.sleep(_WATCH_S)
            stale = self._intake.watch(self._mono_ns(), stale_after_ns)
            self._outlet.flush()
            self._outlet.resync_clocks()
            self.count()
            self._stale_gauge.set(stale)
            without = [s for s, m in markets.items() if m.replica.synchroniser.needs_snapshot]
            if without:
                health.require("books", f"no depth snapshot is in use for {', '.join(without)}")
            else:
                health.satisfy("books")
            if not stale:
                self._session.healthy()

    def count(self) -> None:
        """Bring the metrics up to date."""
        intake = self._intake
        self._events.value = intake.events
        self._missing.value = intake.missing_trades
        self._duplicates.value = intake.duplicate_trades
        self._queue_gauge.set(len(self._queue))

    async def _drain(self) -> None:
        """Hand over what is left, for a bounded time."""
        self._work_off()
        self._outlet.flush()
        deadline = asyncio.get_running_loop().time() + self._keys.drain_s
        while self._outlet.waiting and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
            self._outlet.flush()
        self.count()
        if self._outlet.waiting:
            log.error("%d messages are left that the bus did not take", self._outlet.waiting)
        try:
            await self._service.bus.flush()
        except DependencyError as error:
            log.warning("%s", error)

    async def _until_stopping(self, work: Coroutine[Any, Any, dict[str, Instrument]]) -> dict[str, Instrument] | None:
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._service.stopping.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stop.cancel()

    def _wait_s(self, attempt: int, error: TickmeshError) -> float:
        asked_s = error.retry_after_s if isinstance(error, VenueRefusedError) else 0.0
        keys = self._keys
        wait_s = backoff_s(
            attempt, keys.reconnect_first_s, keys.reconnect_base_s, keys.reconnect_max_s, random.random()
        )
        return max(asked_s, wait_s)

    # -- admin ------------------------------------------------------------------------------------------

    async def show_book(self, request: web.Request) -> web.StreamResponse:
        """``GET /book/{symbol}?depth=N``: exact decimals as text, best first; depth 0 is the whole book."""
        market = self._intake.markets.get(request.match_info["symbol"].upper())
        if market is None:
            return json_response({"error": f"this feed does not follow {request.match_info['symbol']}"}, status=404)
        text = request.query.get("depth", "20")
        if not text.isdecimal() or len(text) > 6:
            return json_response({"error": "depth must be a whole number, 0 for the whole book"}, status=400)
        replica, grid = market.replica, market.instrument
        book, depth = replica.synchroniser.book, int(text)
        return json_response(
            {
                "venue": self._venue,
                "symbol": market.symbol,
                "update_id": replica.synchroniser.last_id,
                "stale": replica.stale,
                "bids": [[str(grid.price(t)), str(grid.qty(q))] for t, q in book.bids(depth)],
                "asks": [[str(grid.price(t)), str(grid.qty(q))] for t, q in book.asks(depth)],
            }
        )
