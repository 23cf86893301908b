"""Market data frames of Binance USD-M: bytes in, typed values with prices and quantities as text out; no I/O.

The specification of the native parser. Source: Binance "USDS-M Futures" documentation, market streams, and the
captures in ``../shared/data``. A frame that is not what it should be raises MalformedFrameError; a retry does not
help, skip it. Fields may come in any order, with any white space, and with others between them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from tickmesh.domain.errors import MalformedFrameError

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An update or trade id; bounded, so that both twins refuse the same numbers."""

Millis = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]
"""Milliseconds since 1970, to the year 2255: nanoseconds still fit 63 bits."""


class DepthFrame(msgspec.Struct, tag_field="e", tag="depthUpdate"):
    """``<symbol>@depth``; levels are (price, quantity) as text."""

    E: Millis
    T: Millis
    s: str
    U: Id
    u: Id
    pu: Id
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class BookTickerFrame(msgspec.Struct, tag_field="e", tag="bookTicker"):
    """``<symbol>@bookTicker``."""

    u: Id
    s: str
    b: str
    B: str
    a: str
    A: str
    T: Millis
    E: Millis


class TradeFrame(msgspec.Struct, tag_field="e", tag="trade"):
    """``<symbol>@trade``; ``m`` is true when the buyer was the maker. ``X`` is NA for insurance fund trades."""

    E: Millis
    T: Millis
    s: str
    t: Id
    p: str
    q: str
    m: bool
    X: str = ""


class AggTradeFrame(msgspec.Struct, tag_field="e", tag="aggTrade"):
    """``<symbol>@aggTrade``."""

    E: Millis
    s: str
    a: Id
    p: str
    q: str
    f: Id
    l: Id  # noqa: E741 - the venue's own name
    T: Millis
    m: bool


class MarkPriceFrame(msgspec.Struct, tag_field="e", tag="markPriceUpdate"):
    """``<symbol>@markPrice``."""

    E: Millis
    s: str
    p: str
    r: str
    T: Millis
    i: str = "0"


class KlineFrame(msgspec.Struct, tag_field="e", tag="kline"):
    """``<symbol>@kline_<interval>``; carried, not used on the hot path."""

    E: Millis
    s: str
    k: dict[str, Any]


MarketFrame = DepthFrame | BookTickerFrame | TradeFrame | AggTradeFrame | MarkPriceFrame | KlineFrame


class _Combined(msgspec.Struct):
    stream: str
    data: MarketFrame


class Reply(msgspec.Struct):
    """Answer to SUBSCRIBE and its like; ``error`` is there when it was refused."""

    id: int | str | None
    result: Any = None
    error: dict[str, Any] | None = None


_combined = msgspec.json.Decoder(_Combined)
_raw: msgspec.json.Decoder[MarketFrame] = msgspec.json.Decoder(MarketFrame)
_reply = msgspec.json.Decoder(Reply)


def parse_frame(frame: bytes) -> MarketFrame | Reply:
    """One frame of a combined (``/stream``) or raw (``/ws``) market stream."""
    try:
        if frame.startswith(b'{"stream"'):
            return _combined.decode(frame).data
        if frame.startswith(b'{"e"'):
            return _raw.decode(frame)
        return _any_order(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedFrameError("frame", str(error) or type(error).__name__) from None


def _any_order(frame: bytes) -> MarketFrame | Reply:
    keys = msgspec.json.decode(frame, type=dict[str, msgspec.Raw])
    if "data" in keys:
        return _raw.decode(keys["data"])
    return _raw.decode(frame) if "e" in keys else _reply.decode(frame)
