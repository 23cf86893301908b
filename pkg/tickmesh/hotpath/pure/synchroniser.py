"""Synchroniser: diffs and snapshots in, a book out that is either right or says that it is not.

Binance USD-M rules ("How to manage a local order book correctly"): diffs are buffered until a snapshot is
there; those with ``u`` below its lastUpdateId are dropped; the first one applied has
``U <= lastUpdateId <= u`` (ids skip numbers between diffs, so ``pu <= lastUpdateId <= u`` says the same and
also holds for a snapshot taken between two of them); from then on each ``pu`` equals the ``u`` before it,
else start again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from tickmesh.hotpath.pure.book import L2Book, Level

MAX_BUFFERED = 2_000


class Diff(NamedTuple):
    """One depth update; levels in ticks and lots, 0 lots removes a level."""

    first_id: int
    last_id: int
    previous_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]


class Outcome(Enum):
    """What became of a diff."""

    APPLIED = "applied"
    BUFFERED = "buffered"
    OLD = "old"
    GAP = "gap"


_APPLIED = Outcome.APPLIED  # an enum's member takes a while to look up


class Synchroniser:
    """The book of one symbol with its sequence. Ask ``needs_snapshot``; a gap clears ``synchronised``."""

    __slots__ = (
        "_buffer",
        "_snapshot_id",
        "_waiting_for_first",
        "book",
        "gaps",
        "last_id",
        "overflows",
        "synchronised",
    )

    def __init__(self) -> None:
        self.book = L2Book()
        self.synchronised = False
        self.last_id = 0
        self.gaps = 0
        self.overflows = 0
        self._buffer: deque[Diff] = deque()  # bounded by MAX_BUFFERED
        self._waiting_for_first = False
        self._snapshot_id = 0

    @property
    def needs_snapshot(self) -> bool:
        """Whether only a snapshot can help: we have none, or a gap made it useless."""
        return not self.synchronised and not self._waiting_for_first

    @property
    def buffered(self) -> int:
        """Diffs that wait for a snapshot."""
        return len(self._buffer)

    def disconnect(self) -> None:
        """The stream broke: what comes next is not a continuation. Levels stay as the last known ones."""
        self.synchronised = False
        self._waiting_for_first = False
        self._buffer.clear()

    def on_diff(self, diff: Diff) -> Outcome:
        """Apply, buffer, drop, or find a gap (counted; the diff then is the first of the new buffer)."""
        if self.synchronised:
            _, last_id, previous_id, bids, asks = diff
            if previous_id == self.last_id:
                self.book.apply(bids, asks)
                self.last_id = last_id
                return _APPLIED
            if last_id <= self.last_id:
                return Outcome.OLD
            self._lose(diff)
            return Outcome.GAP
        if self._waiting_for_first:
            return self._first(diff)
        self._keep(diff)
        return Outcome.BUFFERED

    def on_snapshot(self, last_update_id: int, bids: Sequence[Level], asks: Sequence[Level]) -> bool:
        """Start from a snapshot and the buffered diffs; False when it is older than what is buffered: ask again.

        True means that the snapshot is in use; ``synchronised`` follows with the first diff that fits.
        """
        if self.synchronised:
            return True  # a late second answer; what we have is newer
        usable = deque(d for d in self._buffer if d.last_id >= last_update_id)
        if usable and usable[0].first_id > last_update_id and usable[0].previous_id > last_update_id:
            return False
        self._buffer.clear()
        self.book.load(bids, asks)
        self._snapshot_id = self.last_id = last_update_id
        self._waiting_for_first = True
        for diff in usable:
            self.on_diff(diff)
        return True

    def _first(self, diff: Diff) -> Outcome:
        if diff.last_id < self._snapshot_id:
            return Outcome.OLD
        if diff.first_id > self._snapshot_id and diff.previous_id > self._snapshot_id:
            self._lose(diff)
            return Outcome.GAP
        self._waiting_for_first = False
        self.synchronised = True
        self._apply(diff)
        return Outcome.APPLIED

    def _apply(self, diff: Diff) -> None:
        self.book.apply(diff.bids, diff.asks)
        self.last_id = diff.last_id

    def _lose(self, diff: Diff) -> None:
        self.gaps += 1
        self.synchronised = False
        self._waiting_for_first = False
        self._buffer.clear()
        self._keep(diff)

    def _keep(self, diff: Diff) -> None:
        if len(self._buffer) >= MAX_BUFFERED:
            # No snapshot for that long: the oldest would only make the next one "too old".
            self._buffer.popleft()
            self.overflows += 1
        self._buffer.append(diff)
