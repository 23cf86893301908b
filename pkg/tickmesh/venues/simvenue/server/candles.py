"""Candles of one symbol: trades in, klines of any interval out. Only one-minute candles are kept.

A candle exists from the first trade on; there is no history from before the venue started.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tickmesh.venues.simvenue.exchange.types import PublicTrade

MINUTE_MS = 60_000
_DAY_MS = 1440 * MINUTE_MS
INTERVALS = {
    **{f"{n}m": n * MINUTE_MS for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 60 * MINUTE_MS for n in (1, 2, 4, 6, 8, 12)},
    "1d": _DAY_MS,
    "3d": 3 * _DAY_MS,
    "1w": 7 * _DAY_MS,
}
KEPT_MINUTES = 2 * 1440


@dataclass(slots=True)
class Candle:
    """Prices in quote units, volumes in base and quote units; ``first_id``/``last_id`` are trade ids."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote: Decimal
    trades: int
    taker_volume: Decimal
    taker_quote: Decimal
    first_id: int
    last_id: int

    def merge(self, later: Candle) -> None:
        """Add a later candle to this one."""
        self.high, self.low, self.close = max(self.high, later.high), min(self.low, later.low), later.close
        self.volume += later.volume
        self.quote += later.quote
        self.trades += later.trades
        self.taker_volume += later.taker_volume
        self.taker_quote += later.taker_quote
        self.last_id = later.last_id

    def row(self, length_ms: int) -> list[Any]:
        """A row of GET klines."""
        prices = [f"{p:f}" for p in (self.open, self.high, self.low, self.close)]
        volumes = [f"{self.taker_volume:f}", f"{self.taker_quote:f}", "0"]
        end_ms = self.open_ms + length_ms - 1
        return [self.open_ms, *prices, f"{self.volume:f}", end_ms, f"{self.quote:f}", self.trades, *volumes]

    def stream(self, symbol: str, interval: str, now_ms: int) -> dict[str, Any]:
        """The ``k`` part of a kline event."""
        end_ms = self.open_ms + INTERVALS[interval] - 1
        return {
            "t": self.open_ms,
            "T": end_ms,
            "s": symbol,
            "i": interval,
            "f": self.first_id,
            "L": self.last_id,
            "o": f"{self.open:f}",
            "c": f"{self.close:f}",
            "h": f"{self.high:f}",
            "l": f"{self.low:f}",
            "v": f"{self.volume:f}",
            "n": self.trades,
            "x": now_ms > end_ms,
            "q": f"{self.quote:f}",
            "V": f"{self.taker_volume:f}",
            "Q": f"{self.taker_quote:f}",
            "B": "0",
        }


class Candles:
    """The last two days of one symbol."""

    def __init__(self) -> None:
        self.minutes: deque[Candle] = deque(maxlen=KEPT_MINUTES)

    def on_trade(self, price: Decimal, qty: Decimal, trade: PublicTrade, time_ms: int) -> None:
        """Book a trade into its minute."""
        open_ms, zero = time_ms - time_ms % MINUTE_MS, Decimal(0)
        quote = price * qty
        bought, bought_quote = (zero, zero) if trade.buyer_is_maker else (qty, quote)
        ids = trade.trade_id
        new = Candle(open_ms, price, price, price, price, qty, quote, 1, bought, bought_quote, ids, ids)
        if self.minutes and self.minutes[-1].open_ms >= open_ms:
            self.minutes[-1].merge(new)
        else:
            self.minutes.append(new)

    def klines(self, interval: str, limit: int, start_ms: int = 0, end_ms: int | None = None) -> list[Candle]:
        """The newest ``limit`` candles in order (the first ones from ``start_ms`` on, when it is given)."""
        length = INTERVALS[interval]
        found: list[Candle] = []
        for minute in self.minutes:
            open_ms = minute.open_ms - minute.open_ms % length
            if open_ms < start_ms or (end_ms is not None and open_ms > end_ms):
                continue
            if found and found[-1].open_ms == open_ms:
                found[-1].merge(minute)
            else:
                found.append(Candle(open_ms, *_rest(minute)))
        return found[:limit] if start_ms else found[-limit:]

    def latest(self, interval: str) -> Candle | None:
        """The running candle, None before the first trade."""
        if not self.minutes:
            return None
        length = INTERVALS[interval]
        open_ms = self.minutes[-1].open_ms - self.minutes[-1].open_ms % length
        merged: Candle | None = None
        parts = []
        for minute in reversed(self.minutes):
            if minute.open_ms < open_ms:
                break
            parts.append(minute)
        for minute in reversed(parts):
            if merged is None:
                merged = Candle(open_ms, *_rest(minute))
            else:
                merged.merge(minute)
        return merged

    def day(self, now_ms: int) -> Candle | None:
        """The last 24 hours as one candle."""
        merged: Candle | None = None
        for minute in self.minutes:
            if minute.open_ms < now_ms - _DAY_MS:
                continue
            if merged is None:
                merged = Candle(minute.open_ms, *_rest(minute))
            else:
                merged.merge(minute)
        return merged


def _rest(c: Candle) -> tuple[Any, ...]:
    ends = (c.first_id, c.last_id)
    return (c.open, c.high, c.low, c.close, c.volume, c.quote, c.trades, c.taker_volume, c.taker_quote, *ends)
