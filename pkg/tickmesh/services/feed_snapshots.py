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


class FeedSnapshots:
    """``use`` hands a snapshot over and returns whether it could be used."""

    def __init__(self, service: Service, rest: MarketRest, use: Callable[[Market, DepthSnapshot], bool]) -> None:
        self._service = service
        self._keys = service.settings.feed
        self._rest = rest
        self._use = use
        self._wanted: dict[str, asyncio.Event] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)  # a reconnect must not fetch fifty books in one burst
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
                        snapshot = await self._rest.depth(market.symbol, self._keys.snapshot_limit)
                    used = self._use(market, snapshot)
                    attempt = 0
                    self._resyncs.value += used
                    if not replica.needs_snapshot:
                        break
                    wait_s = self._keys.snapshot_interval_s
                except (DependencyError, MalformedFrameError) as error:
                    wait_s = self._wait_s(attempt, error)
                    attempt += 1
                    log.warning("%s: no snapshot (%s); trying again in %.1f s", market.symbol, error, wait_s)
                await asyncio.sleep(wait_s)
            await asyncio.sleep(self._keys.snapshot_interval_s)

    def _wait_s(self, attempt: int, error: TickmeshError) -> float:
        asked_s = error.retry_after_s if isinstance(error, VenueRefusedError) else 0.0
        keys = self._keys
        wait_s = backoff_s(
            attempt, keys.reconnect_first_s, keys.reconnect_base_s, keys.reconnect_max_s, random.random()
        )
        return max(asked_s, wait_s)


async def _until(holds: Callable[[], bool], timeout_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not holds() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.005)
