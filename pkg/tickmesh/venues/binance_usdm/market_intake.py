"""MarketIntake: the venue's market frames become book replicas, trades and mark prices; no I/O, no clock.

In: frames with the time of their arrival, depth snapshots, connects and disconnects. Out: calls on a ``Sink``:
trades, a mark price, a market whose book changed, a market that needs a snapshot, a frame that is malformed. It
refuses frames that are not what they should be (counted, skipped) and never repairs or invents anything: a depth
frame that was skipped is a hole that the next one's ``pu`` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from tickmesh import hotpath
from tickmesh.book.trade_chain import TradeChain, Verdict
from tickmesh.domain.errors import MalformedFrameError, NotFiniteError, OffGridError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import MarkPrice
from tickmesh.hotpath import GAP, OLD, OTHER, TRADE, BookReplica
from tickmesh.venues.binance_usdm.codec_market import (
    AggTradeFrame,
    BookTickerFrame,
    DepthFrame,
    DepthSnapshot,
    KlineFrame,
    MarkPriceFrame,
    Reply,
    TradeFrame,
    parse_frame,
)

_MS = 1_000_000
_VENUES_FAULTS = (MalformedFrameError, OffGridError, NotFiniteError)


class Market:
    """One symbol: its grids, its replica and its chain of trades. ``arrived_mono_ns`` belongs to the oldest change
    that was not published yet, ``seen_mono_ns`` to the newest frame of any kind, ``depth_mono_ns`` to the newest
    depth frame that was applied."""

    __slots__ = (
        "arrived_mono_ns",
        "chain",
        "depth_mono_ns",
        "dirty",
        "instrument",
        "lots",
        "mark_ns",
        "replica",
        "seen_mono_ns",
        "symbol",
        "ticks",
    )

    def __init__(self, instrument: Instrument, replica: BookReplica) -> None:
        self.instrument = instrument
        self.symbol = instrument.symbol
        self.replica = replica
        self.chain = TradeChain()
        self.ticks = replica.prices.units
        self.lots = replica.quantities.units
        self.dirty = False
        self.arrived_mono_ns = 0
        self.seen_mono_ns = 0
        self.depth_mono_ns = 0
        self.mark_ns = 0


class Sink(Protocol):
    """Who takes what comes out; called in the middle of a batch, must not raise."""

    def on_trades(self, market: Market, first_id: int, mono_ns: int) -> None:
        """``market.replica`` has kept trades, numbered from ``first_id`` on; take them with ``encode_trades``."""
        ...

    def on_mark(self, mark: MarkPrice, mono_ns: int) -> None: ...

    def on_dirty(self, market: Market) -> None:
        """Its book changed for the first time since the last ``market.replica.update()``."""
        ...

    def on_gap(self, market: Market) -> None: ...

    def on_needs_snapshot(self, market: Market) -> None: ...

    def on_malformed(self, error: Exception, frame: bytes) -> None: ...


class MarketIntake:
    """Owned by one task. ``events`` counts the well-formed market frames of our symbols."""

    def __init__(
        self,
        venue: str,
        markets: Mapping[str, Market],
        sink: Sink,
        *,
        hot_market: Callable[[], hotpath.Market] = hotpath.Market,
    ) -> None:
        """``hot_market`` makes the half that the markets' replicas belong to."""
        self.markets: dict[str, Market] = {}
        self.events = 0
        self.other_symbols = 0
        self.missing_trades = 0
        self.duplicate_trades = 0
        self.late_trades = 0
        self._venue = venue
        self._sink = sink
        self._hot = hot_market()
        self._numbered: list[Market] = []
        self._take: dict[type[Any], Callable[[Any, Market, int], None]] = {
            AggTradeFrame: self._agg_trade,
            MarkPriceFrame: self._mark,
            TradeFrame: self._booking,
            DepthFrame: _nothing,
            BookTickerFrame: _nothing,
            KlineFrame: _nothing,
        }
        for market in markets.values():
            self.add(market)

    def add(self, market: Market) -> None:
        """Follow a symbol."""
        number = self._hot.add(market.replica)
        self.markets[market.symbol] = market
        self._numbered[number:] = [market, *self._numbered[number + 1 :]]

    def on_frames(self, frames: list[bytes], mono_ns: int) -> None:
        """Take frames that arrived at ``mono_ns``, in their order.

        The hot path takes all that is plain in one go; what is not comes back here one by one (decision 0240).
        """
        hot, at, end = self._hot, 0, len(frames)
        while at < end:
            began, failed = at, None
            try:
                at = hot.run(frames, began)
            except Exception as error:  # judged in _refuse
                at, failed = max(began, hot.at), error
            self.events += at - began
            for number, changed, applied, trades in hot.touched():
                self._touched(self._numbered[number], changed, applied, trades, mono_ns)
            if failed is not None:
                self._refuse(failed, frames[at], mono_ns)
            elif at < end:
                self._judge(frames[at], mono_ns)
            at += 1

    def _touched(self, market: Market, changed: bool, applied: bool, trades: int, mono_ns: int) -> None:
        """Plain frames of this market are in."""
        market.seen_mono_ns = mono_ns
        if trades:
            chain = market.chain
            first_id = chain.last_id + 1
            chain.last_id += trades
            self._sink.on_trades(market, first_id, mono_ns)
        if applied:
            market.depth_mono_ns = mono_ns
        if changed and not market.dirty:
            self._changed(market, mono_ns)

    def _judge(self, frame: bytes, mono_ns: int) -> None:
        """A frame that is not plain."""
        hot = self._hot
        try:
            if hot.outcome == OTHER:
                other = self._rest(frame, mono_ns)
                if other is None:
                    return
                market = other
            else:
                market = self._numbered[hot.last]
                self._taken(hot.outcome, market, mono_ns)
        except Exception as error:  # judged in _refuse
            self._refuse(error, frame, mono_ns)
            return
        self.events += 1
        market.seen_mono_ns = mono_ns

    def _refuse(self, error: Exception, frame: bytes, mono_ns: int) -> None:
        """A malformed frame is skipped. A mistake of ours with one frame must not end the market data of every symbol:
        it is reported in the same way, and the book that it may have left half changed is begun again."""
        self._sink.on_malformed(error, frame)
        if not isinstance(error, _VENUES_FAULTS) and self._hot.last >= 0:
            self.restart(self._numbered[self._hot.last], mono_ns)

    def _taken(self, outcome: int, market: Market, mono_ns: int) -> None:
        if outcome == TRADE:
            if self._accept(market, market.replica.trade_id):
                self._trade(market, mono_ns)
        elif outcome == GAP:
            self._changed(market, mono_ns)
            self._sink.on_gap(market)
            self._sink.on_needs_snapshot(market)
        elif outcome == OLD and market.replica.silent:
            # It speaks again, but only of the past: its numbers began anew while we were not looking.
            self.restart(market, mono_ns)

    def _rest(self, frame: bytes, mono_ns: int) -> Market | None:
        """What is not for the hot path; returns the market of a well-formed frame."""
        message = parse_frame(frame)
        if isinstance(message, Reply):
            if message.error is not None:
                raise MalformedFrameError("subscription", f"the venue refused it: {message.error}")
            return None
        market = self.markets.get(message.s)
        if market is None:
            self.other_symbols += 1
            return None
        self._take[type(message)](message, market, mono_ns)
        return market

    def on_snapshot(self, market: Market, snapshot: DepthSnapshot, mono_ns: int) -> bool:
        """Take a REST answer; False when it is older than what is buffered: ask again.

        Raises:
            MalformedFrameError: a level is off the grid or negative.
        """
        ticks, lots = market.ticks, market.lots
        try:
            bids = [(ticks(p), lots(q)) for p, q in snapshot.bids]
            asks = [(ticks(p), lots(q)) for p, q in snapshot.asks]
        except (OffGridError, NotFiniteError) as error:
            raise MalformedFrameError("depth snapshot", str(error)) from error
        replica = market.replica
        was = replica.synchronised
        used = replica.on_snapshot(snapshot.lastUpdateId, bids, asks, snapshot.E * _MS)
        if replica.synchronised and not was:
            self._changed(market, mono_ns)
        if replica.needs_snapshot:
            self._sink.on_needs_snapshot(market)
        return used

    def on_connected(self) -> None:
        """A new connection: every book needs a snapshot."""
        for market in self.markets.values():
            self._sink.on_needs_snapshot(market)

    def on_disconnected(self, mono_ns: int) -> None:
        """The stream broke off: every book is stale until a snapshot and the diffs after it are in."""
        for market in self.markets.values():
            market.chain.reset()
            market.mark_ns = 0
            if not market.replica.stale:
                market.replica.disconnect()
                self._changed(market, mono_ns)
            else:
                market.replica.disconnect()

    def restart(self, market: Market, mono_ns: int) -> None:
        """Distrust the book: stale now, and a snapshot is asked for."""
        market.replica.disconnect()
        self._changed(market, mono_ns)
        self._sink.on_needs_snapshot(market)

    def watch(self, mono_ns: int, stale_after_ns: int) -> int:
        """Mark what has fallen silent; call it a few times per ``stale_after_ns``. Returns how many books are stale.

        Silent is a symbol without any frame, and one whose top of book moves on while its depth stream stands
        still: that book is begun again.
        """
        stale = 0
        for market in self.markets.values():
            replica = market.replica
            if replica.synchronised:
                oldest_ns = mono_ns - stale_after_ns
                if market.seen_mono_ns < oldest_ns and not replica.silent:
                    replica.silent = True
                    self._changed(market, mono_ns)
                elif market.depth_mono_ns < oldest_ns and replica.behind_top:
                    self.restart(market, mono_ns)
            stale += replica.stale
        return stale

    def _changed(self, market: Market, mono_ns: int) -> None:
        if not market.dirty:
            market.dirty = True
            market.arrived_mono_ns = mono_ns
            self._sink.on_dirty(market)

    def _booking(self, m: TradeFrame, market: Market, mono_ns: int) -> None:
        """An insurance fund or ADL booking: part of the numbering, not of the market."""
        self._accept(market, m.t)

    def _agg_trade(self, m: AggTradeFrame, market: Market, mono_ns: int) -> None:
        ticks, lots = market.ticks(m.p), market.lots(m.q)
        if not ticks or not lots:
            raise NotFiniteError("price and quantity of a trade", f"{m.p} and {m.q}")
        if self._accept(market, m.a):
            market.replica.on_trade(m.a, ticks, lots, -1 if m.m else 1, m.E * _MS)
            self._trade(market, mono_ns)

    def _trade(self, market: Market, mono_ns: int) -> None:
        """Hand on the replica's last trade alone."""
        market.replica.keep_trade()
        self._sink.on_trades(market, market.replica.trade_id, mono_ns)

    def _accept(self, market: Market, trade_id: int) -> bool:
        chain = market.chain
        if trade_id == chain.last_id + 1:
            chain.last_id = trade_id
            market.replica.next_trade = trade_id + 1
            return True
        missing = chain.missing_total
        verdict = chain.take(trade_id)
        market.replica.next_trade = chain.last_id + 1
        self.missing_trades += chain.missing_total - missing
        if verdict is Verdict.LATE:
            self.late_trades += 1
        elif verdict is Verdict.DUPLICATE:
            self.duplicate_trades += 1
            return False
        return True

    def _mark(self, m: MarkPriceFrame, market: Market, mono_ns: int) -> None:
        exchange_ns = m.E * _MS
        if exchange_ns <= market.mark_ns:
            return  # the same one again, as in the overlap of two connections
        mark = MarkPrice(
            exchange_ns=exchange_ns,
            venue=self._venue,
            symbol=market.symbol,
            mark_price=_number("mark price", m.p, above=True),
            index_price=_number("index price", m.i or "0"),
            funding_rate=_number("funding rate", m.r or "0"),  # the venue sends "" for a delivery contract
            next_funding_ns=m.T * _MS,
        )
        market.mark_ns = exchange_ns
        self._sink.on_mark(mark, mono_ns)


def _nothing(message: object, market: Market, mono_ns: int) -> None:
    """Carried by the venue, not used here."""


def _number(what: str, text: str, *, above: bool = False) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise NotFiniteError(what, text[:40]) from None
    if not value.is_finite() or (above and value <= 0):
        raise NotFiniteError(what, text[:40])
    return value
