"""LeanSignal: which side of the touch a leaning book speaks for; the decision kernel of the scalping strategy.

In: a replica, or the numbers of a book update. Out: one integer: the bid's ticks to buy there, minus the ask's ticks
to sell there, 0 for nothing. Nothing comes of a book that is stale, crossed, wide or undecided. The specification of
the native kernel.
"""

from __future__ import annotations

from tickmesh.hotpath.pure.replica import BookReplica


class LeanSignal:
    """``lean`` is the imbalance that the last decision looked at, in [-1, 1]."""

    __slots__ = ("_max_spread_ticks", "_min_lean", "lean")

    def __init__(self, min_lean: float, max_spread_ticks: int) -> None:
        self._min_lean = min_lean
        self._max_spread_ticks = max_spread_ticks
        self.lean = 0.0

    def decide(self, lean: float, bid_ticks: int, ask_ticks: int) -> int:
        """The decision for a book with these best prices."""
        self.lean = lean
        spread = ask_ticks - bid_ticks
        if abs(lean) < self._min_lean or spread <= 0 or spread > self._max_spread_ticks:
            return 0
        return bid_ticks if lean > 0 else -ask_ticks

    def of(self, replica: BookReplica) -> int:
        """The decision for what ``replica`` shows now."""
        bid, ask, bid_lots, ask_lots = replica.touch()
        if not bid_lots or not ask_lots or replica.stale:
            self.lean = 0.0
            return 0
        return self.decide((bid_lots - ask_lots) / (bid_lots + ask_lots), bid[0], ask[0])
