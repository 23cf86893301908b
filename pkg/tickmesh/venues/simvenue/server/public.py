"""Public endpoints: time, exchangeInfo, depth, trades, candles, tickers, marks and funding.

In: a Call. Out: bodies as the venue documents them. It changes nothing. History starts with the venue: what happened
before it was started does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tickmesh.domain.enums import Side
from tickmesh.venues.simvenue.exchange.types import ZERO, PublicTrade
from tickmesh.venues.simvenue.server.candles import INTERVALS, Candle
from tickmesh.venues.simvenue.server.limits import Quota
from tickmesh.venues.simvenue.server.listing import exchange_info
from tickmesh.venues.simvenue.server.market_streams import agg_row, aggregate
from tickmesh.venues.simvenue.server.rest import Call, Endpoint, Security, WireError
from tickmesh.venues.simvenue.server.text import money, price_text, qty_text
from tickmesh.venues.simvenue.server.venue import Venue

DEPTH_LIMITS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}


class Public:
    """Handlers over one venue."""

    def __init__(self, venue: Venue, quota: Quota) -> None:
        self._venue, self._exchange, self._quota = venue, venue.exchange, quota

    def endpoints(self) -> list[Endpoint]:
        rows: list[tuple[str, Any, Any]] = [
            ("v1/ping", lambda _: {}, 1),
            ("v1/time", lambda call: {"serverTime": call.shown_ms}, 1),
            ("v1/exchangeInfo", self.info, 1),
            ("v1/depth", self.depth, lambda call: DEPTH_LIMITS.get(call.integer("limit", 500) or 500, 20)),
            ("v1/trades", self.trades, 5),
            ("v1/aggTrades", self.agg_trades, 20),
            ("v1/klines", self.klines, lambda call: 5 if (call.integer("limit", 500) or 500) > 499 else 2),
            ("v1/continuousKlines", self.klines, 5),
            ("v1/premiumIndex", self.each(self.premium_index), _each_weight(1, 10)),
            ("v1/fundingRate", self.funding_rate, 1),
            ("v1/fundingInfo", lambda _: [], 1),
            ("v1/ticker/24hr", self.each(self.ticker_day), _each_weight(1, 40)),
            ("v1/ticker/price", self.each(self.ticker_price), _each_weight(1, 2)),
            ("v2/ticker/price", self.each(self.ticker_price), _each_weight(1, 2)),
            ("v1/ticker/bookTicker", self.each(self.ticker_book), _each_weight(2, 5)),
            ("v1/openInterest", self.open_interest, 1),
        ]
        found = [Endpoint("GET", f"/fapi/{path}", handler, weight) for path, handler, weight in rows]
        return [*found, Endpoint("GET", "/fapi/v1/historicalTrades", self.trades, 20, Security.KEY)]

    def info(self, call: Call) -> object:
        return exchange_info(self._venue.instruments.values(), self._quota.listing(), call.shown_ms)

    def depth(self, call: Call) -> object:
        """During a replay the captured book, else the exchange's own."""
        symbol, limit = self._symbol(call), call.integer("limit", 500) or 500
        if limit not in DEPTH_LIMITS:
            raise WireError(-4021, f"'{limit}' is not valid depth limit.")
        if self._venue.replay and (captured := self._venue.captured_depth(symbol, limit)) is not None:
            return captured
        instrument, found = self._venue.instruments[symbol], self._exchange.depth(symbol, limit)
        body: dict[str, Any] = {"lastUpdateId": found.update_id, "E": call.shown_ms, "T": call.shown_ms}
        for name, levels in (("bids", found.bids), ("asks", found.asks)):
            body[name] = [(price_text(instrument, t), qty_text(instrument, q)) for t, q in levels]
        return body

    # -- trades and candles ---------------------------------------------------------------------------

    def trades(self, call: Call) -> object:
        symbol, limit, from_id = self._symbol(call), call.limit(500, 1000), call.integer("fromId")
        found = self._exchange.recent_trades(symbol)
        chosen = found[-limit:] if from_id is None else [t for t in found if t.trade_id >= from_id][:limit]
        return [self._trade(t) for t in chosen]

    def agg_trades(self, call: Call) -> object:
        symbol, limit, from_id = self._symbol(call), call.limit(500, 1000), call.integer("fromId")
        window = call.window()
        runs = [
            run
            for run in aggregate(self._exchange.recent_trades(symbol))
            if run[0].trade_id >= (from_id or 0) and window.has(run[0].time_ms)
        ]
        chosen = runs[-limit:] if from_id is None and not window.start_ms else runs[:limit]
        return [agg_row(self._venue.instruments[symbol], run) for run in chosen]

    def klines(self, call: Call) -> object:
        symbol = call.text("pair").upper() if "pair" in call.params else call.symbol()
        self._exchange.market_of(symbol)
        interval = call.text("interval")
        if interval not in INTERVALS:
            raise WireError(-1120, "Invalid interval.")
        window = call.window()
        candles = self._venue.streams.candles(symbol)
        found = candles.klines(interval, call.limit(500, 1500), window.start_ms, window.end_ms)
        return [candle.row(INTERVALS[interval]) for candle in found]

    # -- marks and tickers ----------------------------------------------------------------------------

    def each(self, one: Callable[[str, Call], object]) -> Callable[[Call], object]:
        """A handler that answers an object for one symbol and a list for all."""

        def handler(call: Call) -> object:
            symbol = call.optional_symbol()
            if symbol is None:
                return [one(name, call) for name in self._venue.instruments]
            self._exchange.market_of(symbol)
            return one(symbol, call)

        return handler

    def premium_index(self, symbol: str, call: Call) -> object:
        found = self._exchange.mark_price(symbol)
        return {
            "symbol": symbol,
            "markPrice": money(found.mark),
            "indexPrice": money(found.index),
            "estimatedSettlePrice": money(found.mark),
            "lastFundingRate": money(found.funding_rate),
            "interestRate": money(self._exchange.config.interest_rate),
            "nextFundingTime": found.next_funding_ms,
            "time": call.shown_ms,
        }

    def funding_rate(self, call: Call) -> object:
        """Fundings that this venue has charged, oldest first."""
        symbol, limit, window = call.optional_symbol(), call.limit(100, 1000), call.window()
        symbols = list(self._venue.instruments) if symbol is None else [symbol]
        lines = [line for name in symbols for line in self._exchange.funding(name, limit) if window.has(line.time_ms)]
        lines.sort(key=lambda line: line.time_ms)
        return [
            {
                "symbol": line.symbol,
                "fundingTime": line.time_ms,
                "fundingRate": money(line.rate),
                "markPrice": money(line.mark),
            }
            for line in (lines[:limit] if window.start_ms else lines[-limit:])
        ]

    def ticker_price(self, symbol: str, call: Call) -> object:
        market = self._exchange.market_of(symbol)
        last = price_text(market.instrument, market.last_ticks)
        return {"symbol": symbol, "price": last, "time": call.shown_ms}

    def ticker_book(self, symbol: str, call: Call) -> object:
        market = self._exchange.market_of(symbol)
        body: dict[str, Any] = {"symbol": symbol}
        for name, side in (("bid", Side.BUY), ("ask", Side.SELL)):
            ticks = market.book.best(side) or 0
            body[f"{name}Price"] = price_text(market.instrument, ticks)
            body[f"{name}Qty"] = qty_text(market.instrument, market.book.total(side, ticks))
        return {**body, "lastUpdateId": market.update_id, "time": call.shown_ms}

    def ticker_day(self, symbol: str, call: Call) -> object:
        """The last 24 hours, or what there is of them."""
        day: Candle | None = self._venue.streams.candles(symbol).day(call.now_ms)
        market = self._exchange.market_of(symbol)
        last = market.instrument.price(market.last_ticks)
        start = day.open if day else last
        volume, quote = (day.volume, day.quote) if day else (ZERO, ZERO)
        trades = self._exchange.recent_trades(symbol, 1)
        return {
            "symbol": symbol,
            "priceChange": f"{last - start:f}",
            "priceChangePercent": f"{(last - start) / start * 100:.3f}" if start else "0.000",
            "weightedAvgPrice": f"{quote / volume:.2f}" if volume else f"{last:f}",
            "lastPrice": f"{last:f}",
            "lastQty": qty_text(market.instrument, trades[-1].lots if trades else 0),
            "openPrice": f"{start:f}",
            "highPrice": f"{day.high if day else last:f}",
            "lowPrice": f"{day.low if day else last:f}",
            "volume": f"{volume:f}",
            "quoteVolume": f"{quote:f}",
            "openTime": day.open_ms if day else call.now_ms,
            "closeTime": call.shown_ms,
            "firstId": day.first_id if day else -1,
            "lastId": day.last_id if day else -1,
            "count": day.trades if day else 0,
        }

    def open_interest(self, call: Call) -> object:
        symbol = self._symbol(call)
        market = self._exchange.market_of(symbol)
        held = [
            p.lots
            for ledger in self._exchange.ledgers.values()
            for p in ledger.positions.values()
            if p.symbol == symbol
        ]
        longs = sum(max(0, lots) for lots in (*held, market.flow_lots))
        return {"symbol": symbol, "openInterest": qty_text(market.instrument, longs), "time": call.shown_ms}

    def _symbol(self, call: Call) -> str:
        symbol = call.symbol()
        self._exchange.market_of(symbol)
        return symbol

    def _trade(self, trade: PublicTrade) -> dict[str, Any]:
        instrument = self._venue.instruments[trade.symbol]
        quote: Decimal = instrument.notional(trade.ticks, trade.lots)
        return {
            "id": trade.trade_id,
            "price": price_text(instrument, trade.ticks),
            "qty": qty_text(instrument, trade.lots),
            "quoteQty": f"{quote:.2f}",
            "time": trade.time_ms,
            "isBuyerMaker": trade.buyer_is_maker,
        }


def _each_weight(one: int, every: int) -> Callable[[Call], int]:
    return lambda call: one if call.params.get("symbol") else every
