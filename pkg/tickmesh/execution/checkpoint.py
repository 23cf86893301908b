"""Checkpoint: from which line on the journal must be read at a start.

In come stored lines and the ledger; out goes a line before which everything is settled and older than the horizon
of deduplication. It never moves past the first line of an order that is still open. Pure; time comes in.
"""

from __future__ import annotations

from collections import deque

import msgspec

from tickmesh.domain.messages import FillEvent, OrderEvent
from tickmesh.execution.ledger import OrderLedger

_MARK_EVERY = 60
"""Marks within a horizon: the checkpoint lags it by at most a sixtieth."""
_MOST_MARKS = 1000
"""Marks that are kept while an order rests and holds the checkpoint back; more are thinned out, every second one."""


class Checkpoint(msgspec.Struct, frozen=True):
    """Read the journal from ``seq``; every trade up to ``trades[symbol]`` stands before it."""

    seq: int = 1
    oldest_ns: int = 0
    trades: dict[str, int] = msgspec.field(default_factory=dict)


class CheckpointKeeper:
    """Follows one journal."""

    def __init__(self, horizon_s: float, start: Checkpoint) -> None:
        self._horizon_ns = int(horizon_s * 1e9)
        self._current = start
        self._first_line: dict[str, int] = {}
        self._trades = dict(start.trades)
        self._marks: deque[tuple[int, Checkpoint]] = deque()  # bounded by _MOST_MARKS

    def note(self, message: OrderEvent | FillEvent, seq: int) -> None:
        """A line is stored (or was read back) as ``seq``."""
        if not self._marks or message.publish_ns - self._marks[-1][0] > self._horizon_ns // _MARK_EVERY:
            mark = Checkpoint(seq, message.publish_ns, dict(self._trades))
            self._marks.append((message.publish_ns, mark))
            if len(self._marks) > _MOST_MARKS:
                self._marks = deque([marked for place, marked in enumerate(self._marks) if place % 2 == 0])
        if isinstance(message, FillEvent):
            self._trades[message.symbol] = max(self._trades.get(message.symbol, 0), message.trade_id)
        elif not message.anomaly:
            self._first_line.setdefault(message.client_order_id, seq)

    def advance(self, ledger: OrderLedger, now_ns: int) -> Checkpoint:
        """The newest checkpoint that is safe now."""
        for client_id in [c for c in self._first_line if c not in ledger.open]:
            del self._first_line[client_id]
        first_open = min(self._first_line.values(), default=None)
        while self._marks and now_ns - self._marks[0][0] > self._horizon_ns:
            mark = self._marks[0][1]
            if first_open is not None and mark.seq > first_open:
                break
            self._current = mark
            self._marks.popleft()
        return self._current
