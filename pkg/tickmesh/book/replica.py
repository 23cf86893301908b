"""BookReplica: one symbol's market in the feed: the L2 book, the faster top of book over it, and the features.

In: diffs, snapshots and tops in ticks and lots, with the venue's event time. Out: a BookUpdate when asked.
The top of book (bookTicker) is an overlay: it is shown while its update id is newer than the book's, and never
written into the book, so that a top that is lost or late cannot corrupt a level. The features run on the venue's
time, so that a replay gives the same numbers at any speed.
"""

from __future__ import annotations

from collections.abc import Sequence

from tickmesh.book.synchroniser import Diff, Outcome, Synchroniser
from tickmesh.domain.messages import BookUpdate
from tickmesh.hotpath.pure.book import Level
from tickmesh.hotpath.pure.features import OrderFlow, RealisedVolatility, imbalance, microprice_ticks


class BookReplica:
    """Owned by one task. ``pending`` counts changes since the last ``update``; ``silent`` is set from outside."""

    __slots__ = (
        "_depth",
        "_flow",
        "_top_ask",
        "_top_bid",
        "_top_id",
        "_volatility",
        "exchange_ns",
        "pending",
        "silent",
        "symbol",
        "synchroniser",
        "venue",
    )

    def __init__(
        self,
        venue: str,
        symbol: str,
        *,
        depth: int,
        flow_half_life_ns: int,
        volatility_interval_ns: int,
        volatility_half_life_ns: int,
    ) -> None:
        self.venue = venue
        self.symbol = symbol
        self.synchroniser = Synchroniser()
        self.pending = 0
        self.silent = False
        self.exchange_ns = 0
        self._depth = depth
        self._flow = OrderFlow(flow_half_life_ns)
        self._volatility = RealisedVolatility(volatility_interval_ns, volatility_half_life_ns)
        self._top_id = 0
        self._top_bid: Level = (0, 0)
        self._top_ask: Level = (0, 0)

    @property
    def stale(self) -> bool:
        """Whether the levels are only the last known ones."""
        return self.silent or not self.synchroniser.synchronised

    @property
    def behind_top(self) -> bool:
        """Whether the top of book knows of changes that no diff has brought yet."""
        return self._top_id > self.synchroniser.last_id

    def on_diff(self, diff: Diff, exchange_ns: int) -> Outcome:
        """Take a depth diff."""
        synchroniser = self.synchroniser
        outcome = synchroniser.on_diff(diff)
        if outcome is Outcome.APPLIED:
            self.exchange_ns = exchange_ns
            self.pending += 1
            if self._top_id <= synchroniser.last_id:
                book = synchroniser.book
                bid, ask = book.best_bid, book.best_ask
                if bid is not None and ask is not None:
                    self._flow.update(bid, ask, exchange_ns)
                    self._volatility.update((bid[0] + ask[0]) / 2, exchange_ns)
        elif outcome is Outcome.GAP:
            self._interrupt()
        return outcome

    def on_snapshot(
        self, last_update_id: int, bids: Sequence[Level], asks: Sequence[Level], exchange_ns: int = 0
    ) -> bool:
        """Take a REST snapshot; False when it is older than the diffs we hold: ask for another."""
        was = self.synchroniser.synchronised
        used = self.synchroniser.on_snapshot(last_update_id, bids, asks)
        if self.synchroniser.synchronised and not was:
            self.silent = False
            self.pending += 1
            self.exchange_ns = max(self.exchange_ns, exchange_ns)
        return used

    def on_top(self, update_id: int, bid: Level, ask: Level, exchange_ns: int) -> bool:
        """Take a top of book; False when it is not newer than what is known."""
        synchroniser = self.synchroniser
        if update_id <= self._top_id or not synchroniser.synchronised or update_id <= synchroniser.last_id:
            return False
        self._top_id, self._top_bid, self._top_ask = update_id, bid, ask
        self.exchange_ns = exchange_ns
        self.pending += 1
        if bid[1] and ask[1]:
            self._flow.update(bid, ask, exchange_ns)
            self._volatility.update((bid[0] + ask[0]) / 2, exchange_ns)
        return True

    def disconnect(self) -> None:
        """The stream broke off: stale until a snapshot and the diffs after it are in."""
        self.synchroniser.disconnect()
        self._interrupt()

    def levels(self) -> tuple[list[Level], list[Level]]:
        """Best levels of both sides with the newer top over them, at most ``depth`` each."""
        book, depth = self.synchroniser.book, self._depth
        bids, asks = book.bids(depth), book.asks(depth)
        if self._top_id > self.synchroniser.last_id:
            bids = _over(bids, self._top_bid, 1, depth)
            asks = _over(asks, self._top_ask, -1, depth)
        return bids, asks

    def update(self) -> BookUpdate:
        """The book as a message, unstamped; changes merged into it are counted in ``conflated``.

        A crossed book, which a sound one never is, is shown as stale.
        """
        bids, asks = self.levels()
        conflated = self.pending - 1 if self.pending > 1 else 0
        self.pending = 0
        crossed = bool(bids and asks) and bids[0][0] >= asks[0][0]
        return BookUpdate(
            exchange_ns=self.exchange_ns,
            venue=self.venue,
            symbol=self.symbol,
            update_id=max(self.synchroniser.last_id, self._top_id),
            bids=bids,
            asks=asks,
            imbalance=imbalance(bids, asks),
            microprice_ticks=microprice_ticks(bids, asks),
            order_flow_imbalance=self._flow.value,
            volatility_bps=self._volatility.value,
            conflated=conflated,
            stale=crossed or self.silent or not self.synchroniser.synchronised,
        )

    def _interrupt(self) -> None:
        self._top_id = 0
        self._flow.reset()
        self._volatility.reset()


def _over(levels: list[Level], top: Level, sign: int, depth: int) -> list[Level]:
    """``levels`` with ``top`` as their best: what lies before it is gone, by the venue's own word."""
    ticks, lots = top
    if not lots:
        return []  # the venue says that this side is empty
    if levels and levels[0][0] == ticks:
        levels[0] = top
        return levels
    edge = ticks * sign
    return [top, *(level for level in levels if level[0] * sign < edge)][:depth]
