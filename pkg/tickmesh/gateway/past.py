"""Past: one sample a second of P&L and prices, so that a page that opens now already has a chart."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from tickmesh.gateway.view import History, PriceView

_SAMPLES = 900
_MAX_SYMBOLS = 200


class Past:
    """The newest fifteen minutes."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float | None, dict[str, float]]] = deque(maxlen=_SAMPLES)

    def add(self, now_ns: int, pnl: Decimal | None, prices: dict[str, PriceView]) -> None:
        """Floats are good enough for a line of pixels; nothing is computed from them."""
        mids = {symbol: float(price.mid) for symbol, price in list(prices.items())[:_MAX_SYMBOLS]}
        self._samples.append((now_ns // 1_000_000, None if pnl is None else float(pnl), mids))

    def view(self) -> History:
        symbols = sorted({symbol for _, _, mids in self._samples for symbol in mids})
        return History(
            at_ms=[at for at, _, _ in self._samples],
            pnl=[pnl for _, pnl, _ in self._samples],
            mid={symbol: [mids.get(symbol) for _, _, mids in self._samples] for symbol in symbols},
        )
