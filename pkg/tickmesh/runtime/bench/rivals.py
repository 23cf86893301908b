"""The same depth messages through the systems people use today, each by its own documented path.

A rival that is not installed raises ImportError; the suite then skips it by name. Each function returns a callable
that takes one frame's bytes and leaves an updated book behind with mid, spread and the imbalance of the best level
computed (ours computes more: ten levels, microprice, order flow, volatility; the rivals are spared that).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from tickmesh.runtime.bench.frames import Frames

Step = Callable[[bytes], object]


class _Depth(msgspec.Struct):
    e: str
    E: int
    T: int
    s: str
    U: int
    u: int
    pu: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _Message(msgspec.Struct):
    stream: str
    data: _Depth


def _combined(frames: Frames) -> bool:
    """Whether the capture is of a combined stream, whose messages are in an envelope."""
    return frames.depth[0].startswith(b'{"stream"')


def msgspec_floor(frames: Frames) -> Step:
    """A typed decode and nothing else: no book, no features."""
    return msgspec.json.Decoder(_Message if _combined(frames) else _Depth).decode


def memory_copy(_: Frames) -> Step:
    """The least that anybody can do with a message."""
    return bytearray


def cryptofeed(frames: Frames) -> Step:
    """cryptofeed's loop: yapic.json with Decimals into order_book.OrderBook (its Binance depth handler)."""
    from order_book import OrderBook
    from yapic import json

    book = OrderBook(max_depth=0)
    start = json.loads(frames.snapshot, parse_float=Decimal)
    for side, key in ((book.bids, "bids"), (book.asks, "asks")):
        for price, size in start[key]:
            side[Decimal(price)] = Decimal(size)
    zero, combined = Decimal(0), _combined(frames)

    def step(raw: bytes) -> object:
        message = json.loads(raw, parse_float=Decimal)
        if combined:
            message = message["data"]
        for side, key in ((book.bids, "b"), (book.asks, "a")):
            for price_text, size_text in message[key]:
                price, size = Decimal(price_text), Decimal(size_text)
                if size == zero:
                    if price in side:
                        del side[price]
                else:
                    side[price] = size
        bid, ask = book.bids.index(0), book.asks.index(0)
        return (bid[0] + ask[0]) / 2, ask[0] - bid[0], (bid[1] - ask[1]) / (bid[1] + ask[1])

    return step


def nautilus(frames: Frames) -> Step:
    """NautilusTrader's Python adapter: msgspec schema, one delta object per level, OrderBook.apply_deltas."""
    from nautilus_trader.adapters.binance.common.schemas.market import BinanceOrderBookData, BinanceOrderBookMsg
    from nautilus_trader.model.book import OrderBook
    from nautilus_trader.model.enums import BookType
    from nautilus_trader.model.identifiers import InstrumentId

    instrument_id = InstrumentId.from_str(f"{frames.instrument.symbol}-PERP.BINANCE")
    book = OrderBook(instrument_id, BookType.L2_MBP)
    start: Any = msgspec.json.decode(frames.snapshot)
    as_message = {"e": "", "E": 0, "s": "", "U": 0, "u": start["lastUpdateId"], "b": start["bids"], "a": start["asks"]}
    snapshot = msgspec.convert(as_message, BinanceOrderBookData)
    book.apply_deltas(snapshot.parse_to_order_book_deltas(instrument_id, ts_init=0, snapshot=True))
    combined = _combined(frames)
    decode = msgspec.json.Decoder(BinanceOrderBookMsg if combined else BinanceOrderBookData).decode

    def step(raw: bytes) -> object:
        message = decode(raw)
        deltas = (message.data if combined else message).parse_to_order_book_deltas(
            instrument_id=instrument_id, ts_init=0
        )
        book.apply_deltas(deltas)
        bids, asks = float(book.best_bid_size()), float(book.best_ask_size())
        return book.midpoint(), book.spread(), (bids - asks) / (bids + asks)

    return step


def hftbacktest(frames: Frames) -> tuple[Callable[[int], object], int]:
    """hftbacktest's native depth, fed with arrays of floats made beforehand: it is spared the JSON.

    Returns:
        A step that applies message number ``i``, and the number of messages.
    """
    import numba
    import numpy as np
    from hftbacktest import BUY_EVENT, DEPTH_EVENT, EXCH_EVENT, LOCAL_EVENT, SELL_EVENT, event_dtype
    from hftbacktest.binding import FuseMarketDepth_

    decode: Any = msgspec_floor(frames)
    depth = FuseMarketDepth_(float(frames.instrument.tick_size), float(frames.instrument.lot_size))
    rows: list[tuple[Any, ...]] = []
    edges = [0]
    kind = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT
    for raw in frames.depth:
        message = decode(raw)
        data = message.data if _combined(frames) else message
        at = data.T * 1_000_000
        for side, levels in ((BUY_EVENT, data.b), (SELL_EVENT, data.a)):
            rows += [(kind | side, at, at, float(p), float(q), 0, 0, 0.0) for p, q in levels]
        edges.append(len(rows))
    events = np.array(rows, event_dtype)

    @numba.njit  # type: ignore[untyped-decorator]
    def apply(book: Any, events: Any, low: int, high: int) -> None:
        for index in range(low, high):
            book.process_event(events, index, False)

    apply(depth, events, 0, 0)
    return lambda i: apply(depth, events, edges[i], edges[i + 1]), len(frames.depth)
