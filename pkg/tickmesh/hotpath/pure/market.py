"""Market: the frames of a venue connection, straight into the replicas of its symbols.

In: a frame's bytes. Out: one of the outcomes below, and ``last`` says whose it was. What
is no depth, bookTicker or trade frame of a symbol that was added is OTHER: parse it with the venue's codec. A
frame is read to its end before anything is changed: one that is malformed or off the grid raises and leaves every
book as it was. The specification of the native market.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tickmesh.domain.enums import Side
from tickmesh.domain.errors import NotFiniteError
from tickmesh.hotpath.pure.binance_frames import BookTickerFrame, DepthFrame, TradeFrame, parse_frame
from tickmesh.hotpath.pure.book import Level
from tickmesh.hotpath.pure.grid import Grid
from tickmesh.hotpath.pure.replica import BookReplica
from tickmesh.hotpath.pure.synchroniser import Diff, Outcome

OTHER, APPLIED, BUFFERED, OLD, GAP, TOP, TOP_OLD, TRADE = range(8)
"""What became of a frame; plain integers, because they are compared for every frame."""

_APPLIED = Outcome.APPLIED  # an enum's member takes a while to look up and to hash
_tuple = tuple.__new__  # and a named tuple's own constructor, which is a Python function, to call
_PLAIN = (TOP, APPLIED, TOP_OLD)
_OUTCOMES = {Outcome.APPLIED: APPLIED, Outcome.BUFFERED: BUFFERED, Outcome.OLD: OLD, Outcome.GAP: GAP}


class DepthRead(NamedTuple):
    """A depth frame in ticks and lots."""

    symbol: str
    exchange_ns: int
    diff: Diff


class TopRead(NamedTuple):
    """A bookTicker frame in ticks and lots."""

    symbol: str
    exchange_ns: int
    update_id: int
    bid: Level
    ask: Level


class TradeRead(NamedTuple):
    """A trade frame in ticks and lots."""

    symbol: str
    exchange_ns: int
    trade_id: int
    ticks: int
    lots: int
    taker_side: Side


def read(frame: bytes, grids: dict[str, tuple[Grid, Grid]]) -> DepthRead | TopRead | TradeRead | None:
    """A frame of a known symbol, by its grids of price and quantity; None for any other valid frame.

    ``exchange_ns`` is the venue's event time (``E``). Trades that are no trades in the book
    (``X`` is NA: insurance fund, auto-deleveraging) are None.

    Raises:
        MalformedFrameError: the frame is not what it should be.
        OffGridError: a price or quantity is no whole number of steps.
        NotFiniteError: a trade without a price or a quantity.
    """
    found: Any = parse_frame(frame)
    kind = type(found)
    if kind is not BookTickerFrame and kind is not DepthFrame and kind is not TradeFrame:
        return None
    symbol = found.s
    known = grids.get(symbol)
    if known is None:
        return None
    prices, quantities = known[0].known, known[1].known
    exchange_ns = found.E * 1_000_000
    if kind is BookTickerFrame:
        bid, ask = (prices[found.b], quantities[found.B]), (prices[found.a], quantities[found.A])
        return _tuple(TopRead, (symbol, exchange_ns, found.u, bid, ask))
    if kind is DepthFrame:
        bids = [(prices[p], quantities[q]) for p, q in found.b] if found.b else []
        asks = [(prices[p], quantities[q]) for p, q in found.a] if found.a else []
        return _tuple(DepthRead, (symbol, exchange_ns, _tuple(Diff, (found.U, found.u, found.pu, bids, asks))))
    if found.X not in ("", "MARKET"):
        return None
    ticks, lots = prices[found.p], quantities[found.q]
    if not ticks or not lots:
        raise NotFiniteError("price and quantity of a trade", f"{found.p} and {found.q}")
    return TradeRead(symbol, exchange_ns, found.t, ticks, lots, Side.SELL if found.m else Side.BUY)


class Market:
    """All symbols of one connection. ``last`` is the number of the one the last frame belonged to, -1 for OTHER.

    ``at`` is where ``run`` stands in its frames and ``outcome`` what became of the frame there.
    """

    def __init__(self) -> None:
        self.last = -1
        self.at = 0
        self.outcome = OTHER
        self._touched: dict[int, list[int]] = {}
        self._replicas: list[BookReplica] = []
        self._numbers: dict[str, int] = {}
        self._grids: dict[str, tuple[Grid, Grid]] = {}

    def add(self, replica: BookReplica) -> int:
        """Follow a symbol; returns its number, from 0. Adding it again replaces it under the same number."""
        symbol = replica.symbol
        self._grids[symbol] = (replica.prices, replica.quantities)
        number = self._numbers.setdefault(symbol, len(self._replicas))
        self._replicas[number:] = [replica, *self._replicas[number + 1 :]]
        return number

    def on_frame(self, frame: bytes) -> int:
        """Take one frame; returns its outcome. Raises what ``read`` raises, and then nothing has changed."""
        self.last = -1
        found = read(frame, self._grids)
        if found is None:
            return OTHER
        number = self._numbers[found.symbol]
        replica = self._replicas[number]
        self.last = number
        if isinstance(found, TopRead):
            _, exchange_ns, update_id, bid, ask = found
            return TOP if replica.on_top(update_id, bid, ask, exchange_ns) else TOP_OLD
        if isinstance(found, DepthRead):
            outcome = replica.on_diff(found.diff, found.exchange_ns)
            return APPLIED if outcome is _APPLIED else _OUTCOMES[outcome]
        replica.on_trade(found.trade_id, found.ticks, found.lots, found.taker_side, found.exchange_ns)
        return TRADE

    def run(self, frames: list[bytes], start: int) -> int:
        """Take frames from ``start`` on as ``on_frame`` does, as long as nobody need be asked about them.

        That is tops, applied diffs, and trades that are the next ones of their symbol (``BookReplica.next_trade``):
        these are kept for ``BookReplica.encode_trades``. The frame at which it stops is taken, too, its ``outcome`` is
        the caller's to judge, and ``touched`` does not tell of it. Returns its index, the number of frames when there
        was none. Raises what ``on_frame`` raises, for the frame at ``at``.
        """
        on_frame, touched = self.on_frame, self._touched
        for self.at in range(start, len(frames)):
            outcome = on_frame(frames[self.at])
            number = self.last
            traded = outcome == TRADE and self._replicas[number].keep_next_trade()
            if not traded and outcome not in _PLAIN:
                self.outcome = outcome
                return self.at
            told = touched.get(number)
            if told is None:
                told = touched[number] = [False, False, 0]
            if traded:
                told[2] += 1
            elif outcome != TOP_OLD:
                told[0] = True
                told[1] |= outcome == APPLIED
        self.at = len(frames)
        return self.at

    def touched(self) -> list[tuple[int, bool, bool, int]]:
        """What ``run`` did since this was asked before: (number, its book changed, a diff was applied, its trades).

        In the order of each symbol's first frame.
        """
        told = [
            (number, bool(changed), bool(applied), trades)
            for number, (changed, applied, trades) in self._touched.items()
        ]
        self._touched.clear()
        return told
