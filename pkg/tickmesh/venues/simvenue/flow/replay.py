"""The replayed book and the pure step of a replay: a record in, calls on the exchange out, and the depth answer.

Before the captured snapshot's place in the stream the full book is unknown. ``depth`` then answers the captured
snapshot itself, although its id is still ahead: a client that follows the venue's rules drops the diffs up to it and
joins where the chain passes it, which ends in the same book as ``rebuild_book``. Afterwards it answers the book as
of the last diff sent, whose ``u`` is the next diff's ``pu``. It does no I/O and reads no clock.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import msgspec

from tickmesh.domain.enums import Side
from tickmesh.domain.errors import TickmeshError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.capture import Kind, Record, Snapshot, decode_diff
from tickmesh.venues.simvenue.flow.ports import FlowExchange

FULL_DEPTH = 1000


class _TradeData(msgspec.Struct):
    p: str
    q: str
    m: bool


class _Trade(msgspec.Struct):
    data: _TradeData


_wrapped_trade = msgspec.json.Decoder(_Trade)
_bare_trade = msgspec.json.Decoder(_TradeData)


class ReplayBook:
    """One symbol's replayed book in the venue's own texts, by price."""

    def __init__(self, instrument: Instrument, snapshots: list[Snapshot], exchange: FlowExchange) -> None:
        self._instrument = instrument
        self._snapshots = sorted(snapshots, key=lambda s: s.lastUpdateId)
        self._exchange = exchange
        self._bids: dict[Decimal, str] = {}
        self._asks: dict[Decimal, str] = {}
        self.last_id = -1
        self.chained = False
        self.counts: Counter[str] = Counter()

    def apply(self, record: Record, now_ns: int) -> None:
        """Takes a record that was just sent; what cannot be read is counted under ``refused`` and skipped."""
        try:
            if record.kind is Kind.DEPTH:
                self._diff(record.raw, now_ns)
            elif record.kind in (Kind.TRADE, Kind.AGG_TRADE):
                self._trade(record.raw, now_ns)
        except (msgspec.MsgspecError, TickmeshError, ArithmeticError):
            self.counts["refused"] += 1

    def depth(self, limit: int = FULL_DEPTH) -> bytes | None:
        """The REST depth answer that is valid now, None without any snapshot. The full limit means every level."""
        if not self.chained:
            return msgspec.json.encode(self._snapshots[0]) if self._snapshots else None
        top = None if limit >= FULL_DEPTH else limit
        bids = sorted(self._bids, reverse=True)[:top]
        asks = sorted(self._asks)[:top]
        return msgspec.json.encode(
            Snapshot(self.last_id, [(str(p), self._bids[p]) for p in bids], [(str(p), self._asks[p]) for p in asks])
        )

    def _diff(self, raw: bytes, now_ns: int) -> None:
        diff = decode_diff(raw)
        if self.chained and diff.previous_id != self.last_id:
            if diff.last_id <= self.last_id:
                self.counts["stale"] += 1
                return
            self.counts["gaps"] += 1
            self.chained = False
        if not self.chained and not self._join(diff.previous_id, diff.last_id, now_ns):
            self.counts["unchained"] += 1
            return
        self.last_id = diff.last_id
        changes: list[tuple[Side, int, int]] = []
        for side, book, levels in ((Side.BUY, self._bids, diff.bids), (Side.SELL, self._asks, diff.asks)):
            for price, qty in levels:
                self._set(book, price, qty)
                changes.append((side, self._instrument.to_ticks(price), self._instrument.to_lots(qty)))
        self._exchange.replay_depth(self._instrument.symbol, changes, diff.last_id, now_ns)

    def _join(self, previous_id: int, last_id: int, now_ns: int) -> bool:
        while self._snapshots and self._snapshots[0].lastUpdateId < previous_id:
            self._snapshots.pop(0)
        if not self._snapshots or last_id <= self._snapshots[0].lastUpdateId:
            return False
        found, self.chained = self._snapshots[0], True
        self._bids.clear()
        self._asks.clear()
        for book, levels in ((self._bids, found.bids), (self._asks, found.asks)):
            for price, qty in levels:
                self._set(book, price, qty)
        self._exchange.replay_snapshot(
            self._instrument.symbol, self._units(found.bids), self._units(found.asks), found.lastUpdateId, now_ns
        )
        return True

    def _trade(self, raw: bytes, now_ns: int) -> None:
        trade = _wrapped_trade.decode(raw).data if b'"data"' in raw[:200] else _bare_trade.decode(raw)
        grid, taker = self._instrument, Side.SELL if trade.m else Side.BUY
        self._exchange.replay_trade(grid.symbol, grid.to_ticks(trade.p), grid.to_lots(trade.q), taker, now_ns)

    def _units(self, levels: list[tuple[str, str]]) -> list[tuple[int, int]]:
        return [(self._instrument.to_ticks(p), self._instrument.to_lots(q)) for p, q in levels]

    def _set(self, book: dict[Decimal, str], price: str, qty: str) -> None:
        if Decimal(qty):
            book[Decimal(price)] = qty
        else:
            book.pop(Decimal(price), None)
