"""L2Book: price levels in ticks and lots, both sides sorted, best level in constant time.

It takes levels as they are and knows nothing of sequence numbers; ``tickmesh.book`` decides what may be applied.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

Level = tuple[int, int]


class L2Book:
    """Owned by one task; levels are (ticks, lots) with lots above zero."""

    __slots__ = ("_ask_lots", "_ask_ticks", "_bid_lots", "_bid_ticks")

    def __init__(self) -> None:
        # Both ascending: the best bid is the last of its list, the best ask the first of its own.
        self._bid_ticks: list[int] = []
        self._ask_ticks: list[int] = []
        self._bid_lots: dict[int, int] = {}
        self._ask_lots: dict[int, int] = {}

    def clear(self) -> None:
        """Forget every level."""
        self._bid_ticks.clear()
        self._ask_ticks.clear()
        self._bid_lots.clear()
        self._ask_lots.clear()

    def load(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Replace everything by a snapshot's levels; those without lots are skipped."""
        self._bid_lots = {t: q for t, q in bids if q > 0}
        self._ask_lots = {t: q for t, q in asks if q > 0}
        self._bid_ticks = sorted(self._bid_lots)
        self._ask_ticks = sorted(self._ask_lots)

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set the totals of many levels; 0 removes one."""
        for ticks, lots_of, levels in (
            (self._bid_ticks, self._bid_lots, bids),
            (self._ask_ticks, self._ask_lots, asks),
        ):
            for price, lots in levels:  # a call for each level would double the time of a message
                if lots > 0:
                    if price not in lots_of:
                        insort(ticks, price)
                    lots_of[price] = lots
                elif lots_of.pop(price, None) is not None:
                    del ticks[bisect_left(ticks, price)]

    def set_bid(self, ticks: int, lots: int) -> None:
        """Set the total of one bid level; 0 removes it."""
        self.apply(((ticks, lots),), ())

    def set_ask(self, ticks: int, lots: int) -> None:
        """Set the total of one ask level; 0 removes it."""
        self.apply((), ((ticks, lots),))

    @property
    def best_bid(self) -> Level | None:
        ticks = self._bid_ticks
        return (ticks[-1], self._bid_lots[ticks[-1]]) if ticks else None

    @property
    def best_ask(self) -> Level | None:
        ticks = self._ask_ticks
        return (ticks[0], self._ask_lots[ticks[0]]) if ticks else None

    @property
    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, which a sound book never is."""
        return bool(self._bid_ticks and self._ask_ticks and self._bid_ticks[-1] >= self._ask_ticks[0])

    def bids(self, count: int = 0) -> list[Level]:
        """The best ``count`` bids, best first; 0 for all."""
        lots = self._bid_lots
        chosen = self._bid_ticks[-count:] if count else self._bid_ticks
        return [(t, lots[t]) for t in reversed(chosen)]

    def asks(self, count: int = 0) -> list[Level]:
        """The best ``count`` asks, best first; 0 for all."""
        lots = self._ask_lots
        chosen = self._ask_ticks[:count] if count else self._ask_ticks
        return [(t, lots[t]) for t in chosen]

    def bids_below(self, ticks: int, count: int) -> list[Level]:
        """The best ``count`` bids below a price, best first."""
        lots, end = self._bid_lots, bisect_left(self._bid_ticks, ticks)
        return [(t, lots[t]) for t in reversed(self._bid_ticks[max(0, end - count) : end])]

    def asks_above(self, ticks: int, count: int) -> list[Level]:
        """The best ``count`` asks above a price, best first."""
        lots, start = self._ask_lots, bisect_right(self._ask_ticks, ticks)
        return [(t, lots[t]) for t in self._ask_ticks[start : start + count]]

    def bid_lots_below(self, ticks: int, count: int) -> int:
        """Lots of the best ``count`` bids below a price together."""
        end = bisect_left(self._bid_ticks, ticks)
        return sum(map(self._bid_lots.__getitem__, self._bid_ticks[max(0, end - count) : end]))

    def ask_lots_above(self, ticks: int, count: int) -> int:
        """Lots of the best ``count`` asks above a price together."""
        start = bisect_right(self._ask_ticks, ticks)
        return sum(map(self._ask_lots.__getitem__, self._ask_ticks[start : start + count]))

    def bid_lots(self, count: int) -> int:
        """Lots of the best ``count`` bids together."""
        return sum(map(self._bid_lots.__getitem__, self._bid_ticks[-count:] if count else ()))

    def ask_lots(self, count: int) -> int:
        """Lots of the best ``count`` asks together."""
        return sum(map(self._ask_lots.__getitem__, self._ask_ticks[:count]))

    def __len__(self) -> int:
        return len(self._bid_ticks) + len(self._ask_ticks)

    def checksum(self) -> int:
        """CRC-32 of all levels as ``ticks:lots,`` bids then asks, best first: equal books give equal sums."""
        text = "".join(f"{t}:{q}," for t, q in self.bids()) + "|" + "".join(f"{t}:{q}," for t, q in self.asks())
        return zlib.crc32(text.encode())
