"""TradeChain: the numbering of a symbol's public trades, so that a lost one is known and a doubled one is dropped.

In: trade ids in order of arrival. Out: a verdict on each. A trade that comes late is not a duplicate: ids that were
jumped over are remembered (a bounded number of them) and accepted once.
"""

from __future__ import annotations

from enum import Enum

MAX_REMEMBERED = 10_000


class Verdict(Enum):
    """What a trade id is: the next or a later one, one that was missing until now, or one seen before."""

    NEW = "new"
    LATE = "late"
    DUPLICATE = "duplicate"


class TradeChain:
    """One symbol's ids. ``missing_total`` counts the ids that were jumped over, come late or not."""

    __slots__ = ("_missing", "_resumed", "last_id", "missing_total")

    def __init__(self) -> None:
        self.last_id = -1
        self.missing_total = 0
        self._missing: dict[int, None] = {}
        self._resumed = False

    def reset(self) -> None:
        """The stream broke off: what was missing stays missing, and the venue may have begun its numbers anew."""
        self._missing.clear()
        self._resumed = True

    def take(self, trade_id: int) -> Verdict:
        """Account for one trade."""
        last = self.last_id
        resumed, self._resumed = self._resumed, False
        if trade_id > last or resumed:
            if 0 <= last < trade_id:
                self._jump(last + 1, trade_id)
            self.last_id = trade_id
            return Verdict.NEW
        if trade_id in self._missing:
            del self._missing[trade_id]
            return Verdict.LATE
        return Verdict.DUPLICATE

    def _jump(self, first: int, end: int) -> None:
        self.missing_total += end - first
        missing = self._missing
        for trade_id in range(max(first, end - MAX_REMEMBERED), end):
            missing[trade_id] = None
        while len(missing) > MAX_REMEMBERED:
            del missing[next(iter(missing))]
