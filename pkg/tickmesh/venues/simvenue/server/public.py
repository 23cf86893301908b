"""Public endpoints: time, exchangeInfo, depth, trades, candles, tickers, marks and funding.

In: a Call. Out: bodies as the venue documents them. It changes nothing.
"""

from __future__ import annotations

from typing import Any

from tickmesh.venues.simvenue.server.limits import Quota
from tickmesh.venues.simvenue.server.listing import exchange_info
from tickmesh.venues.simvenue.server.rest import Call, Endpoint, WireError
from tickmesh.venues.simvenue.server.text import price_text, qty_text
from tickmesh.venues.simvenue.server.venue import Venue

DEPTH_LIMITS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}


class Public:
    """Handlers over one venue."""

    def __init__(self, venue: Venue, quota: Quota) -> None:
        self._venue, self._exchange, self._quota = venue, venue.exchange, quota

    def endpoints(self) -> list[Endpoint]:
        rows: list[tuple[str, Any, Any]] = [
            ("ping", self.ping, 1),
            ("time", self.time, 1),
            ("exchangeInfo", self.info, 1),
            ("depth", self.depth, lambda call: DEPTH_LIMITS.get(call.integer("limit", 500) or 500, 20)),
        ]
        return [Endpoint("GET", f"/fapi/v1/{name}", handler, weight) for name, handler, weight in rows]

    def ping(self, _: Call) -> object:
        return {}

    def time(self, call: Call) -> object:
        return {"serverTime": call.shown_ms}

    def info(self, call: Call) -> object:
        return exchange_info(self._venue.instruments.values(), self._quota.listing(), call.shown_ms)

    def depth(self, call: Call) -> object:
        """During a replay the captured book, else the exchange's own."""
        symbol, limit = call.symbol(), call.integer("limit", 500) or 500
        self._exchange.market_of(symbol)
        if limit not in DEPTH_LIMITS:
            raise WireError(-4021, f"'{limit}' is not valid depth limit.")
        if self._venue.replay and (captured := self._venue.captured_depth(symbol, limit)) is not None:
            return captured
        instrument, found = self._venue.instruments[symbol], self._exchange.depth(symbol, limit)
        body: dict[str, Any] = {"lastUpdateId": found.update_id, "E": call.shown_ms, "T": call.shown_ms}
        for name, levels in (("bids", found.bids), ("asks", found.asks)):
            body[name] = [(price_text(instrument, t), qty_text(instrument, q)) for t, q in levels]
        return body
