"""FeedStandby: two feeds of one group run hot, one publishes; this is how the other one takes over without a gap.

In: the claim of the group, the trades that the publishing feed has put on the bus. Out: permission for our outlet to
publish. Until it has it, the outlet keeps what it would have said, and what was heard from the other feed is let go;
so what is left at a takeover is exactly what nobody has published. Decision record 0133.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from tickmesh.domain.errors import DependencyError, TickmeshError
from tickmesh.domain.messages import BookUpdate, Trade, decode
from tickmesh.ports import Subscription
from tickmesh.services.claim import Claim
from tickmesh.services.feed_outlet import Outlet
from tickmesh.services.service import Service

log = logging.getLogger("tickmesh.feed")

_FLOOR_S = 1.0
_LOOK_S = 0.1
_WARM_UP_NS = 30 * 10**9


class PublisherChangedError(TickmeshError):
    """Another feed publishes since we did; the host ends this one, and the next one is its standby."""

    def __init__(self, venue: str) -> None:
        super().__init__(f"another feed publishes {venue} since we did; starting over as its standby")
        self.venue = venue


class FeedStandby:
    """Of one feed. ``begin`` is called once, when it is our turn, after everything old was let go; ``hot`` tells
    whether our books are right."""

    def __init__(self, service: Service, outlet: Outlet, begin: Callable[[], None], hot: Callable[[], bool]) -> None:
        keys, venue = service.settings.feed, service.settings.venue.name
        self._service, self._outlet, self._begin, self._hot = service, outlet, begin, hot
        self._venue = venue
        self._heard: dict[str, int] = {}
        self._publishing = False
        self._listening: Subscription | None = None
        lock = Path(service.settings.local.data_dir) / "feed" / f"{venue}.{keys.group}.lock"
        self.claim = Claim(service, f"feed.{venue}.{keys.group}", lock, ttl_ms=keys.lease_ttl_ms)
        outlet.permitted = self._permitted
        self._gauge = service.metrics.gauge("publishing", "1 while this feed is the one that publishes")

    @property
    def publishing(self) -> bool:
        """Whether it is our turn."""
        return self._publishing

    async def start(self) -> None:
        """Listen, then contend; before the first frame of the venue is taken.

        Raises:
            ConfigError: the lock file cannot be written.
        """
        self._service.health.require("lease", "it is not known yet which feed publishes")
        self._listening = await self._service.bus.subscribe(f"md.trade.{self._venue}.*", self._on_trade)
        self.claim.start()

    async def run(self) -> None:
        """Wait for our turn, take it, and watch that it stays ours.

        Raises:
            PublisherChangedError: another feed has taken over from us.
        """
        await self.claim.settled.wait()
        if not self.claim.held.is_set():
            health, clock = self._service.health, self._service.clock
            log.info("another feed publishes; standing by")
            health.require("lease", "another feed publishes, and our books are not right yet")
            patient_until_ns = clock.mono_ns() + _WARM_UP_NS
            while not self.claim.held.is_set():
                self._outlet.let_go(self._heard)
                if self._hot():
                    await self.claim.announce()
                    health.satisfy("lease")  # from here on the publisher may be told to stop
                elif clock.mono_ns() > patient_until_ns:
                    health.satisfy("lease")  # a market that has fallen silent must not hold a roll-out up for ever
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self.claim.held.wait()
        await self._take_over()
        while True:
            await asyncio.sleep(_LOOK_S)
            if self.claim.overtaken:
                raise PublisherChangedError(self._venue)

    async def hand_over(self, leave: Callable[[], None]) -> None:
        """Let a hot feed publish from here on, if there is one; before our own connection to the venue ends, which
        would make every book stale for whoever listens. ``leave`` is called at the moment from which we are silent."""
        if not self._publishing:
            return
        successor = await self.claim.successor()
        if not successor:
            return
        self._outlet.flush()
        self._publishing = False
        leave()
        try:
            await self._service.bus.flush()
        except DependencyError as error:
            log.warning("%s", error)
        await self.claim.release()
        log.info("handed over to %s", successor)

    async def stop(self) -> None:
        """Let the other one publish; what we had to say has been said."""
        self._publishing = False
        await self.claim.release()

    async def _take_over(self) -> None:
        self._outlet.not_before(await self._published())
        self._outlet.let_go(self._heard, all_of_them=True)
        self._publishing = True
        self._gauge.set(1.0)
        self._begin()
        self._outlet.catch_up()
        self._service.health.satisfy("lease")
        log.info("publishing, epoch %d", self.claim.epoch)
        if self._listening is not None:
            with contextlib.suppress(DependencyError):
                await self._listening.unsubscribe()
        # A venue that began its numbers anew meanwhile must not be waited for.
        asyncio.get_running_loop().call_later(_FLOOR_S, self._outlet.not_before, {})

    async def _published(self) -> dict[str, int]:
        """How far the books are that consumers have; of no use when nobody was publishing."""
        if not self._heard:
            return {}
        try:
            async with asyncio.timeout(_LOOK_S):
                last = await self._service.bus.last_of_each("MD", f"md.book.{self._venue}.*")
            books = [decode(BookUpdate, payload) for _, payload, _ in last]
        except (DependencyError, TimeoutError, msgspec.MsgspecError) as error:
            log.warning("how far the books were published is not known: %s", error or "no answer in time")
            return {}
        return {book.symbol: book.update_id for book in books if not book.stale}

    def _permitted(self) -> bool:
        return self._publishing and self.claim.unopposed()

    def _on_trade(self, subject: str, payload: bytes) -> None:
        if self._publishing:
            return
        try:
            trade_id = decode(Trade, payload).trade_id
        except msgspec.MsgspecError:
            return  # whoever published it has said so
        # The newest, not the highest: a venue that begins its numbers anew begins ours anew.
        self._heard[subject] = trade_id
