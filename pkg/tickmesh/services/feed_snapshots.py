"""FeedSnapshots: what the feed asks the venue over REST: the listing at the start, a snapshot when a book needs one.

In: markets that need a snapshot. Out: snapshots in the intake, instruments on the bus. Everything here is a read and
is repeated until it works, with growing pauses or as long as the venue says; it never gives up and never hurries.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from tickmesh.domain.errors import ConfigError, DependencyError, MalformedFrameError, TickmeshError
from tickmesh.domain.instrument import Instrument
from tickmesh.services.instruments import publish_instrument
from tickmesh.services.service import Service
from tickmesh.venues.binance_usdm.codec_market import DepthSnapshot
from tickmesh.venues.binance_usdm.market_intake import Market
from tickmesh.venues.binance_usdm.market_rest import MarketRest, VenueRefusedError
from tickmesh.venues.binance_usdm.market_session import backoff_s

log = logging.getLogger("tickmesh.feed")

_FIRST_DIFF_S = 0.2
_AT_ONCE = 4
_LISTING_PAUSE_S = 30.0
_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1000, 20))  # of a depth request, by the levels asked for at most


class FeedSnapshots:
    """``use`` hands a snapshot over and returns whether it could be used."""

    def __init__(self, service: Service, rest: MarketRest, use: Callable[[Market, DepthSnapshot], bool]) -> None:
        self._service = service
        self._keys = service.settings.feed
        self._rest = rest
        self._use = use
        self._wanted: dict[str, asyncio.Event] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)  # a reconnect must not fetch fifty books in one burst
        weight = next(cost for levels, cost in _WEIGHTS if self._keys.snapshot_limit <= levels)
        self._budget = _Budget(self._keys.snapshot_weight_per_min / weight)
        self._look_at_listing = asyncio.Event()
        self._resyncs = service.metrics.counter("resyncs_total", "snapshots put to use")

    def want(self, symbol: str) -> None:
        """Ask for a snapshot of ``symbol``; asking twice is asking once."""
        self._wanted.setdefault(symbol, asyncio.Event()).set()

    async def instruments(self) -> dict[str, Instrument]:
        """What the venue lists of our symbols, put on the bus; waits for both as long as it takes.

        Raises:
            ConfigError: a configured symbol is not listed.
        """
        service, attempt = self._service, 0
        venue, symbols = service.settings.venue.name, service.settings.venue.symbols
        while True:
            try:
                listed = await self._rest.instruments(venue)
                unknown = [symbol for symbol in symbols if symbol not in listed]
                if unknown:
                    some = ", ".join(sorted(listed)[:8]) + (" ..." if len(listed) > 8 else "")
                    raise ConfigError(
                        f"{venue} does not list {', '.join(unknown)}; correct TICKMESH_VENUE__SYMBOLS (it lists {some})"
                    )
                found = {symbol: listed[symbol] for symbol in symbols}
                for instrument in found.values():
                    await publish_instrument(service.bus, instrument)
                service.health.satisfy("venue")
                return found
            except (DependencyError, MalformedFrameError) as error:
                wait_s = self._wait_s(attempt, error)
                attempt += 1
                service.health.require("venue", str(error))
                log.warning("%s; trying again in %.1f s", error, wait_s)
                await asyncio.sleep(wait_s)

    async def follow(self, market: Market) -> None:
        """Fetch a snapshot of this market whenever it is wanted, until cancelled."""
        wanted, replica = self._wanted.setdefault(market.symbol, asyncio.Event()), market.replica
        attempt = 0
        while True:
            await wanted.wait()
            wanted.clear()
            # A snapshot that is older than the stream's first diff is of no use: let one come first, if one comes.
            await _until(lambda: replica.buffered > 0, _FIRST_DIFF_S)
            while replica.needs_snapshot:
                try:
                    async with self._slots:
                        await self._budget.spend()
                        snapshot = await self._rest.depth(market.symbol, self._keys.snapshot_limit)
                    self._resyncs.value += self._use(market, snapshot)
                    if not replica.needs_snapshot:
                        attempt = 0
                        break
                    # Older than what we hold, as from a venue's cache, or there was a gap meanwhile.
                    wait_s = max(self._keys.snapshot_interval_s, self._wait_s(attempt))
                    attempt += 1
                except (DependencyError, MalformedFrameError) as error:
                    wait_s = self._wait_s(attempt, error)
                    attempt += 1
                    if isinstance(error, MalformedFrameError):
                        self._look_at_listing.set()  # off the grid: perhaps there is another one now
                    log.warning("%s: no snapshot (%s); trying again in %.1f s", market.symbol, error, wait_s)
                await asyncio.sleep(wait_s)
            await asyncio.sleep(self._keys.snapshot_interval_s)

    async def watch_listing(self, instruments: dict[str, Instrument]) -> None:
        """Look at the listing now and then, and put what changed on the bus, until cancelled.

        Raises:
            DependencyError: a grid changed; everything in ticks and lots has to begin anew, with a new start.
        """
        service, known = self._service, dict(instruments)
        venue = service.settings.venue.name
        while True:
            try:
                async with asyncio.timeout(self._keys.listing_interval_s):
                    await self._look_at_listing.wait()
            except TimeoutError:
                pass
            try:
                listed = await self._rest.instruments(venue)
                for symbol, old in known.items():
                    new = listed.get(symbol)
                    if new is None:
                        log.error("%s does not list %s any more", venue, symbol)
                        continue
                    if new != old:
                        await publish_instrument(service.bus, new)
                        log.warning("%s changed its listing of %s", venue, symbol)
                        known[symbol] = new
                        _same_grid(old, new)
            except VenueRefusedError as error:
                log.warning("no listing: %s", error)
                await asyncio.sleep(error.retry_after_s)
            except MalformedFrameError as error:
                log.warning("no listing: %s", error)
            except GridChangedError:
                raise
            except DependencyError as error:
                log.warning("no listing: %s", error)
            await asyncio.sleep(min(_LISTING_PAUSE_S, self._keys.listing_interval_s))
            self._look_at_listing.clear()

    def _wait_s(self, attempt: int, error: TickmeshError | None = None) -> float:
        asked_s = error.retry_after_s if isinstance(error, VenueRefusedError) else 0.0
        keys = self._keys
        wait_s = backoff_s(
            attempt, keys.reconnect_first_s, keys.reconnect_base_s, keys.reconnect_max_s, random.random()
        )
        return max(asked_s, wait_s)


class GridChangedError(DependencyError):
    """The venue has another tick or lot size for a symbol than before; a new start takes it up."""


def _same_grid(old: Instrument, new: Instrument) -> None:
    if (old.tick_size, old.lot_size) != (new.tick_size, new.lot_size):
        raise GridChangedError(
            "venue",
            f"the grid of {new.symbol} changed from {old.tick_size} and {old.lot_size} to {new.tick_size} and "
            f"{new.lot_size}; starting anew with it",
        )


class _Budget:
    """Requests a minute: half of them may come at once, the others evenly; so no minute ever has more."""

    def __init__(self, per_minute: float) -> None:
        self._burst = max(1.0, per_minute / 2)
        self._per_s = per_minute / 2 / 60
        self._left = self._burst
        self._at_s = 0.0

    async def spend(self) -> None:
        """Take one, waiting until it is there."""
        while True:
            now_s = asyncio.get_running_loop().time()
            self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s) if self._at_s else self._left
            self._at_s = now_s
            if self._left >= 1.0:
                self._left -= 1.0
                return
            await asyncio.sleep((1.0 - self._left) / self._per_s)


async def _until(holds: Callable[[], bool], timeout_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not holds() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.005)
