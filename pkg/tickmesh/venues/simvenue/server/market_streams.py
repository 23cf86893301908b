"""Market streams: the exchange's events in, the venue's market data payloads out, by stream name.

It keeps the U/u/pu chain of each depth speed, the last best prices, mark prices, and candles. In a replay the
captured frames are sent instead of books and trades (``publish_flow`` False); marks and candles still come from here.
It reads no clock: ``now_ms`` is venue time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from tickmesh.domain.enums import Side
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.exchange.types import BookChanged, Event, MarkPriceChanged, PublicTrade
from tickmesh.venues.simvenue.server.candles import INTERVALS, Candles
from tickmesh.venues.simvenue.server.text import money, price_text, qty_text

SPEEDS_MS = {"@0ms": 50, "@100ms": 100, "": 250, "@250ms": 250, "@500ms": 500}
"""How often each speed is sent. ``0ms`` is not at once: the venue's own capture has 19 a second."""
PARTIAL = (5, 10, 20)
CANDLE_MS = 250
MARK_EVERY = 3
encode = msgspec.json.encode


class Sink(Protocol):
    """The hub as this module sees it."""

    def wanted(self, stream: str) -> bool: ...

    def send(self, stream: str, data: bytes) -> None: ...


class _Diff:
    """The chain of one depth stream: what changed since ``last_id``, the ``u`` that was sent last."""

    __slots__ = ("changes", "every_ms", "last_id", "stream")

    def __init__(self, stream: str, every_ms: int, last_id: int) -> None:
        self.stream, self.every_ms, self.last_id = stream, every_ms, last_id
        self.changes: dict[tuple[Side, int], int] = {}


class _Symbol:
    """Stream state of one symbol."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.name = instrument.symbol.lower()
        self.diffs: dict[str, _Diff] = {}
        self.partial_ids: dict[str, int] = {}
        self.ticker: tuple[Any, ...] = ()
        self.marks = 0
        self.candles = Candles()


class MarketStreams:
    """Payloads for every listed symbol."""

    def __init__(
        self, exchange: Exchange, instruments: Iterable[Instrument], sink: Sink, *, publish_flow: bool
    ) -> None:
        self._exchange, self._sink, self._publish_flow = exchange, sink, publish_flow
        self._symbols = {i.symbol: _Symbol(i) for i in instruments}
        self._by_name = {state.name: state for state in self._symbols.values()}
        self._due: dict[int, int] = {}

    def candles(self, symbol: str) -> Candles:
        return self._symbols[symbol].candles

    def on_subscribed(self, stream: str) -> None:
        """The first listener of a stream: a depth chain starts at the book of now."""
        name, _, rest = stream.partition("@")
        state = self._by_name.get(name)
        if state is None or not self._publish_flow:
            return
        speed = rest.removeprefix("depth")
        if rest.startswith("depth") and speed in SPEEDS_MS:
            last_id = self._exchange.market_of(state.instrument.symbol).update_id
            state.diffs[stream] = _Diff(stream, SPEEDS_MS[speed], last_id)

    def on_events(self, events: list[Event], now_ms: int) -> None:
        """Takes one batch in order; what is due at once is sent before this returns."""
        books: dict[str, None] = {}
        trades: list[PublicTrade] = []
        for event in events:
            if isinstance(event, BookChanged):
                books[event.symbol] = None
                for diff in self._symbols[event.symbol].diffs.values():
                    diff.changes[event.side, event.ticks] = event.lots_total
            elif isinstance(event, PublicTrade):
                trades.append(event)
                state = self._symbols[event.symbol]
                state.candles.on_trade(
                    state.instrument.price(event.ticks), state.instrument.qty(event.lots), event, event.time_ms
                )
            elif isinstance(event, MarkPriceChanged):
                self._mark(event, now_ms)
        if self._publish_flow:
            self._trades(trades, now_ms)
            for symbol in books:
                self._book(self._symbols[symbol], now_ms)

    def tick(self, now_ms: int) -> None:
        """Sends the streams that go by the clock; call it every few tens of milliseconds."""
        for every_ms in (50, 100, 250, 500):
            if now_ms // every_ms == self._due.get(every_ms):
                continue
            self._due[every_ms] = now_ms // every_ms
            for state in self._symbols.values():
                self._timed(state, every_ms, now_ms)

    def _timed(self, state: _Symbol, every_ms: int, now_ms: int) -> None:
        if self._publish_flow:
            for diff in list(state.diffs.values()):
                if diff.every_ms == every_ms:
                    self._flush(state, diff, now_ms)
            for speed, ms in SPEEDS_MS.items():
                if ms == every_ms:
                    self._partials(state, speed, now_ms)
        if every_ms == CANDLE_MS:
            for interval in INTERVALS:
                stream = f"{state.name}@kline_{interval}"
                if self._sink.wanted(stream) and (found := state.candles.latest(interval)) is not None:
                    body = {"e": "kline", "E": now_ms, "s": state.instrument.symbol}
                    body["k"] = found.stream(state.instrument.symbol, interval, now_ms)
                    self._sink.send(stream, encode(body))

    # -- book -----------------------------------------------------------------------------------------

    def _book(self, state: _Symbol, now_ms: int) -> None:
        stream = f"{state.name}@bookTicker"
        if self._sink.wanted(stream) or self._sink.wanted("!bookTicker"):
            self._ticker(state, stream, now_ms)

    def _flush(self, state: _Symbol, diff: _Diff, now_ms: int) -> None:
        if not self._sink.wanted(diff.stream):
            del state.diffs[diff.stream]
            return
        if not diff.changes:
            return
        instrument, last_id = state.instrument, self._exchange.market_of(state.instrument.symbol).update_id
        levels: dict[Side, list[tuple[str, str]]] = {Side.BUY: [], Side.SELL: []}
        for (side, ticks), lots in diff.changes.items():
            levels[side].append((price_text(instrument, ticks), qty_text(instrument, lots)))
        body = _depth(state, now_ms, diff.last_id + 1, last_id, diff.last_id, levels[Side.BUY], levels[Side.SELL])
        diff.last_id = last_id
        diff.changes.clear()
        self._sink.send(diff.stream, encode(body))

    def _partials(self, state: _Symbol, speed: str, now_ms: int) -> None:
        for count in PARTIAL:
            stream = f"{state.name}@depth{count}{speed}"
            if not self._sink.wanted(stream):
                continue
            depth = self._exchange.depth(state.instrument.symbol, count)
            last_id = state.partial_ids.get(stream, depth.update_id - 1)
            if last_id == depth.update_id:
                continue
            state.partial_ids[stream] = depth.update_id
            sides = [
                [(price_text(state.instrument, t), qty_text(state.instrument, q)) for t, q in levels]
                for levels in (depth.bids, depth.asks)
            ]
            self._sink.send(stream, encode(_depth(state, now_ms, last_id + 1, depth.update_id, last_id, *sides)))

    def _ticker(self, state: _Symbol, stream: str, now_ms: int) -> None:
        market = self._exchange.market_of(state.instrument.symbol)
        bid, ask = market.book.best(Side.BUY), market.book.best(Side.SELL)
        if bid is None or ask is None:
            return
        best = (bid, market.book.total(Side.BUY, bid), ask, market.book.total(Side.SELL, ask))
        if best == state.ticker:
            return
        state.ticker = best
        instrument = state.instrument
        body = encode(
            {
                "e": "bookTicker",
                "u": market.update_id,
                "s": instrument.symbol,
                "b": price_text(instrument, bid),
                "B": qty_text(instrument, best[1]),
                "a": price_text(instrument, ask),
                "A": qty_text(instrument, best[3]),
                "T": now_ms,
                "E": now_ms,
            }
        )
        self._sink.send(stream, body)
        self._sink.send("!bookTicker", body)

    # -- trades and marks -----------------------------------------------------------------------------

    def _trades(self, trades: list[PublicTrade], now_ms: int) -> None:
        for trade in trades:
            state = self._symbols[trade.symbol]
            stream = f"{state.name}@trade"
            if self._sink.wanted(stream):
                self._sink.send(stream, encode(_trade(state.instrument, trade, now_ms)))
        for run in aggregate(trades):
            state = self._symbols[run[0].symbol]
            stream = f"{state.name}@aggTrade"
            if self._sink.wanted(stream):
                body = {"e": "aggTrade", "E": now_ms, "s": state.instrument.symbol, **agg_row(state.instrument, run)}
                self._sink.send(stream, encode(body))

    def _mark(self, event: MarkPriceChanged, now_ms: int) -> None:
        found = event.price
        state = self._symbols[found.symbol]
        state.marks += 1
        body: Callable[[], bytes] = lambda: encode(  # noqa: E731 - encoded only when somebody listens
            {
                "e": "markPriceUpdate",
                "E": now_ms,
                "s": found.symbol,
                "p": money(found.mark),
                "i": money(found.index),
                "P": money(found.mark),
                "r": money(found.funding_rate),
                "T": found.next_funding_ms,
            }
        )
        streams = [f"{state.name}@markPrice@1s"]
        if state.marks % MARK_EVERY == 1:
            streams.append(f"{state.name}@markPrice")
        for stream in streams:
            if self._sink.wanted(stream):
                self._sink.send(stream, body())
        for stream in ("!markPrice@arr@1s", "!markPrice@arr"):
            if self._sink.wanted(stream):
                self._sink.send(stream, b"[" + body() + b"]")


def aggregate(trades: Iterable[PublicTrade]) -> list[list[PublicTrade]]:
    """Runs of trades with the same symbol, price, direction and time."""
    runs: list[list[PublicTrade]] = []
    key: tuple[Any, ...] = ()
    for trade in trades:
        this = (trade.symbol, trade.ticks, trade.buyer_is_maker, trade.time_ms)
        if this == key:
            runs[-1].append(trade)
        else:
            runs.append([trade])
            key = this
    return runs


def agg_row(instrument: Instrument, run: list[PublicTrade]) -> dict[str, Any]:
    """An aggregate trade; its id is its first trade's id, which survives a restart without a second counter."""
    return {
        "a": run[0].trade_id,
        "p": price_text(instrument, run[0].ticks),
        "q": qty_text(instrument, sum(trade.lots for trade in run)),
        "f": run[0].trade_id,
        "l": run[-1].trade_id,
        "T": run[0].time_ms,
        "m": run[0].buyer_is_maker,
    }


def _trade(instrument: Instrument, trade: PublicTrade, now_ms: int) -> dict[str, Any]:
    return {
        "e": "trade",
        "E": now_ms,
        "T": trade.time_ms,
        "s": trade.symbol,
        "t": trade.trade_id,
        "p": price_text(instrument, trade.ticks),
        "q": qty_text(instrument, trade.lots),
        "X": "MARKET",
        "m": trade.buyer_is_maker,
    }


def _depth(state: _Symbol, now_ms: int, first: int, last: int, previous: int, bids: Any, asks: Any) -> dict[str, Any]:
    return {
        "e": "depthUpdate",
        "E": now_ms,
        "T": now_ms,
        "s": state.instrument.symbol,
        "U": first,
        "u": last,
        "pu": previous,
        "b": bids,
        "a": asks,
    }
