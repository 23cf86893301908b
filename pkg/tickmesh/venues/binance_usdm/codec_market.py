"""Market streams and public REST answers of Binance USD-M as typed values; no I/O.

Source: Binance "USDS-M Futures" documentation, market streams, and the captures in ``../shared/data``.
A frame that is not what it should be raises MalformedFrameError; a retry does not help, skip it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from tickmesh.domain.errors import MalformedFrameError
from tickmesh.domain.instrument import Instrument
from tickmesh.hotpath.pure.binance_frames import (
    AggTradeFrame,
    BookTickerFrame,
    DepthFrame,
    KlineFrame,
    MarketFrame,
    MarkPriceFrame,
    Reply,
    TradeFrame,
    parse_frame,
)

__all__ = [
    "AggTradeFrame",
    "BookTickerFrame",
    "DepthFrame",
    "DepthSnapshot",
    "KlineFrame",
    "MarkPriceFrame",
    "MarketFrame",
    "Reply",
    "TradeFrame",
    "parse_depth_snapshot",
    "parse_exchange_info",
    "parse_frame",
]


class DepthSnapshot(msgspec.Struct):
    """``GET /fapi/v1/depth``."""

    lastUpdateId: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    E: int = 0
    T: int = 0


_snapshot = msgspec.json.Decoder(DepthSnapshot)


_MAX_URL_STREAMS = 200


def stream_names(symbols: Sequence[str], *kinds: str) -> list[str]:
    """``btcusdt@depth@0ms`` and so on: every kind of every symbol."""
    return [f"{symbol.lower()}@{kind}" for symbol in symbols for kind in kinds]


def stream_path(streams: Sequence[str]) -> tuple[str, list[bytes]]:
    """Path of a combined stream, and the SUBSCRIBE requests for what is too much for an address."""
    first, rest = streams[:_MAX_URL_STREAMS], streams[_MAX_URL_STREAMS:]
    requests = [
        msgspec.json.encode({"method": "SUBSCRIBE", "params": rest[i : i + _MAX_URL_STREAMS], "id": i + 1})
        for i in range(0, len(rest), _MAX_URL_STREAMS)
    ]
    return "/stream?streams=" + "/".join(first), requests


def parse_depth_snapshot(body: bytes) -> DepthSnapshot:
    """The REST snapshot."""
    try:
        return _snapshot.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedFrameError("depth snapshot", str(error)) from None


class _Symbol(msgspec.Struct):
    symbol: str
    baseAsset: str
    quoteAsset: str
    filters: list[dict[str, Any]]
    status: str = "TRADING"


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


def parse_exchange_info(body: bytes, venue: str) -> dict[str, Instrument]:
    """Every contract that ``GET /fapi/v1/exchangeInfo`` lists, by symbol."""
    try:
        info = msgspec.json.decode(body, type=_ExchangeInfo)
        return {row.symbol: _instrument(row, venue) for row in info.symbols}
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, InvalidOperation) as error:
        raise MalformedFrameError("exchangeInfo", str(error)) from None


def _instrument(row: _Symbol, venue: str) -> Instrument:
    filters = {f["filterType"]: f for f in row.filters}
    price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]

    def optional(kind: str, name: str) -> Decimal | None:
        text = filters.get(kind, {}).get(name)
        return Decimal(str(text)) if text is not None else None

    def count(kind: str) -> int | None:
        limit = filters.get(kind, {}).get("limit")
        return int(limit) if limit is not None else None

    return Instrument(
        venue=venue,
        symbol=row.symbol,
        base=row.baseAsset,
        quote=row.quoteAsset,
        status=row.status,
        tick_size=Decimal(price["tickSize"]),
        lot_size=Decimal(lot["stepSize"]),
        min_price=Decimal(price["minPrice"]),
        max_price=Decimal(price["maxPrice"]),
        min_qty=Decimal(lot["minQty"]),
        max_qty=Decimal(lot["maxQty"]),
        market_min_qty=optional("MARKET_LOT_SIZE", "minQty"),
        market_max_qty=optional("MARKET_LOT_SIZE", "maxQty"),
        min_notional=optional("MIN_NOTIONAL", "notional"),
        percent_price_up=optional("PERCENT_PRICE", "multiplierUp"),
        percent_price_down=optional("PERCENT_PRICE", "multiplierDown"),
        max_open_orders=count("MAX_NUM_ORDERS"),
        max_algo_orders=count("MAX_NUM_ALGO_ORDERS"),
    )
