"""FeedConnection: the one session that counts, replaced by a younger one before the venue cuts it off.

In: the settings. Out: frames at the feed, without a gap over a replacement. The venue ends every connection after
24 hours; ours is replaced a little earlier: a second session is opened, its frames are held until the books have
reached its first diffs, and then it takes over. When that does not work out, the old session simply goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

from tickmesh.domain.errors import ConfigError
from tickmesh.observe.metrics import Metrics
from tickmesh.ports.gate import Gate
from tickmesh.settings.feed import FeedSettings
from tickmesh.settings.venue import VenueSettings
from tickmesh.venues.binance_usdm.codec_market import stream_names
from tickmesh.venues.binance_usdm.market_intake import MarketIntake
from tickmesh.venues.binance_usdm.market_overlap import Overlap
from tickmesh.venues.binance_usdm.market_session import MarketSession, Receiver

log = logging.getLogger("tickmesh.feed")

_LOOK_S = 0.02
_OVERLAP_S = 10.0
_RETRY_S = 60.0
_MAX_STREAMS = 1024  # of the venue, a connection
_STREAMS_A_SYMBOL = 4


class FeedConnection:
    """Owns the sessions. ``receiver`` gets what the current one brings.

    Raises:
        ConfigError: more symbols than one connection carries.
    """

    def __init__(
        self,
        keys: FeedSettings,
        venue: VenueSettings,
        intake: MarketIntake,
        receiver: Receiver,
        metrics: Metrics,
        gate: Gate,
    ) -> None:
        most = _MAX_STREAMS // _STREAMS_A_SYMBOL
        if len(venue.symbols) > most:
            raise ConfigError(
                f"one feed follows at most {most} symbols, TICKMESH_VENUE__SYMBOLS has {len(venue.symbols)}; "
                "share them out over several feeds"
            )
        self._keys, self._venue = keys, venue
        self._intake, self._receiver = intake, receiver
        self._gate = gate
        self._rollovers = metrics.counter("rollovers_total", "connections replaced before the venue cut them off")
        self._failed = metrics.counter("rollovers_failed_total", "replacements that did not work out")
        self.current = self._new(receiver)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        task = asyncio.create_task(self.current.run(), name="session")
        # Not all feeds of a cluster at the same moment.
        max_age_s = self._keys.connection_max_age_s * random.uniform(0.95, 1.0)
        look_again_s = 0.0
        try:
            while True:
                await asyncio.wait([task], timeout=max(min(max_age_s / 4, 5.0), look_again_s))
                if task.done():
                    task.result()
                look_again_s = 0.0
                age_s = (time.monotonic_ns() - self.current.connected_mono_ns) / 1e9
                if not self.current.connected or age_s < max_age_s:
                    continue
                successor = await self._replace(task)
                if successor is None:
                    look_again_s = _RETRY_S
                else:
                    task = successor
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _replace(self, old_task: asyncio.Task[None]) -> asyncio.Task[None] | None:
        """Open a second session and let it take over; None when it did not come to that."""
        old, overlap = self.current, Overlap(self._intake, self._keys.queue_frames)
        fresh = self._new(overlap)
        task = asyncio.create_task(fresh.run(), name="session")
        try:
            deadline = asyncio.get_running_loop().time() + _OVERLAP_S
            while not (overlap.connected and overlap.covered):
                if overlap.full or task.done():
                    break
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(_LOOK_S)
            # A symbol that was silent all the time has no first diff; both sessions know the same of it.
            if not overlap.connected:
                raise ConnectionError("no second connection")
            if overlap.hole and old.connected:
                raise ConnectionError(f"the books are behind its first diffs after {overlap.count} frames of it")
        except BaseException as error:  # whatever it was, the half-made connection does not outlive it
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not isinstance(error, ConnectionError):
                raise
            self._failed.inc()
            log.warning("the connection could not be replaced (%s); the old one goes on", error)
            return None
        self._take_over(old, fresh, overlap)
        old_task.cancel()
        await asyncio.gather(old_task, return_exceptions=True)
        return task

    def _take_over(self, old: MarketSession, fresh: MarketSession, overlap: Overlap) -> None:
        """In one go, without giving anybody a turn: the old one's frames are all in, then the new one's follow."""
        broken = not old.connected
        old.hand_over(_Muted())
        fresh.hand_over(self._receiver)
        self.current = fresh
        if broken:
            self._receiver.on_connected()
        for frames, mono_ns in overlap.reads:
            self._receiver.on_frames(frames, mono_ns)
        fresh.resume()
        self._rollovers.inc()
        log.info("a new connection took over after an overlap of %d frames", overlap.count)

    def _new(self, receiver: Receiver) -> MarketSession:
        keys = self._keys
        streams = stream_names(
            self._venue.symbols, keys.depth_stream, "bookTicker", keys.trade_stream, keys.mark_stream
        )
        return MarketSession(
            self._venue.stream_url,
            streams,
            receiver,
            first_s=keys.reconnect_first_s,
            base_s=keys.reconnect_base_s,
            max_s=keys.reconnect_max_s,
            ping_interval_s=keys.ping_interval_s,
            ping_timeout_s=keys.ping_timeout_s,
            gate=self._gate,
        )


class _Muted:
    """The receiver of a session that is on its way out."""

    def on_connected(self) -> None: ...

    def on_frames(self, frames: list[bytes], mono_ns: int) -> bool:
        return True

    def on_disconnected(self, reason: str) -> None: ...
