"""Features of a book: numbers that strategies use, computed once in the feed.

In: levels in ticks and lots, best first, and times in ns. Out: floats, which are signals and never money.
An empty side gives 0.0, the neutral value; it knows nothing of staleness. The order of the operations is part of
the specification: the native twin gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt

Level = tuple[int, int]
_ALWAYS_NS = -(2**63)


def imbalance(bids: Sequence[Level], asks: Sequence[Level]) -> float:
    """(bid - ask) / (bid + ask) over the lots of the levels given; in [-1, 1]."""
    bid = ask = 0
    for level in bids:
        bid += level[1]
    for level in asks:
        ask += level[1]
    total = bid + ask
    return (bid - ask) / total if total else 0.0


def microprice_ticks(bids: Sequence[Level], asks: Sequence[Level]) -> float:
    """Mid weighted by the other side's size at the best level; the mid of one side alone does not exist: 0.0."""
    if not bids or not asks:
        return 0.0
    bid, bid_lots = bids[0]
    ask, ask_lots = asks[0]
    return (bid * ask_lots + ask * bid_lots) / (bid_lots + ask_lots)


class OrderFlow:
    """Order-flow imbalance of the best level (Cont, Kukanov, Stoikov 2014), decayed exponentially.

    Each change of the best level adds the lots that arrived at or improved the bid, minus those that left it,
    and the mirror of that for the ask. ``value`` is in lots: above zero buyers push. Half of it is forgotten in
    ``half_life_ns``.
    """

    __slots__ = ("_ask", "_ask_lots", "_at_ns", "_bid", "_bid_lots", "_rate", "value")

    def __init__(self, half_life_ns: int) -> None:
        self._rate = log(2) / half_life_ns
        self._bid = self._bid_lots = self._ask = self._ask_lots = self._at_ns = 0
        self.value = 0.0

    def reset(self) -> None:
        """The book was interrupted: the next level is a beginning, not a change."""
        self._at_ns = 0
        self.value = 0.0

    def update(self, bid: Level, ask: Level, now_ns: int) -> float:
        """Account for the best levels as they are now; returns ``value``."""
        b, bq = bid
        a, aq = ask
        if self._at_ns:
            flow = 0
            if b != self._bid or bq != self._bid_lots:
                flow = (bq if b >= self._bid else 0) - (self._bid_lots if b <= self._bid else 0)
            if a != self._ask or aq != self._ask_lots:
                flow -= (aq if a <= self._ask else 0) - (self._ask_lots if a >= self._ask else 0)
            passed = now_ns - self._at_ns
            value = self.value * exp(-self._rate * passed) if passed > 0 else self.value
            self.value = value + flow
        self._bid, self._bid_lots, self._ask, self._ask_lots = b, bq, a, aq
        if now_ns > self._at_ns:
            self._at_ns = now_ns
        return self.value


class RealisedVolatility:
    """Root of the mean squared log return of the mid over ``interval_ns``, in basis points per interval.

    Returns are taken at a fixed pace, so that the bid-ask bounce of single updates does not count; the mean
    is exponential with ``half_life_ns``. A pause of several intervals counts as one return spread over them.
    """

    __slots__ = ("_decay", "_interval_ns", "_last_mid", "_variance", "due_ns", "value")

    def __init__(self, interval_ns: int, half_life_ns: int) -> None:
        self._interval_ns = interval_ns
        self._decay = 0.5 ** (interval_ns / half_life_ns)
        self._last_mid = 0.0
        self.due_ns = _ALWAYS_NS
        """No update before this changes anything."""
        self._variance = 0.0
        self.value = 0.0

    def reset(self) -> None:
        """The book was interrupted: no return is taken across the hole."""
        self._last_mid = 0.0
        self.due_ns = _ALWAYS_NS

    def update(self, mid: float, now_ns: int) -> float:
        """Account for the mid as it is now; returns ``value``."""
        if mid <= 0.0:
            return self.value
        if self._last_mid == 0.0:
            self._last_mid = mid
            self.due_ns = now_ns + self._interval_ns
        elif now_ns >= self.due_ns:
            intervals = 1 + (now_ns - self.due_ns) // self._interval_ns
            change = log(mid / self._last_mid)
            squared = change * change / intervals  # a product, not pow(): the native twin must give the same bits
            keep = self._decay**intervals
            self._variance = self._variance * keep + squared * (1.0 - keep)
            self._last_mid = mid
            self.due_ns += intervals * self._interval_ns
            self.value = 10_000.0 * sqrt(self._variance)
        return self.value
