"""Instrument: one tradable contract, its grid, and exact conversions between text, ticks and lots.

On the hot path a price is an integer number of ticks and a quantity an integer number of lots.
Decimal appears at the edges only; nothing here rounds silently.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tickmesh.domain.errors import OffGridError

Number = Decimal | str | int


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """A contract as its venue lists it.

    Prices are in quote currency, quantities in base currency. Filter fields keep the venue's own
    meaning (Binance USD-M ``exchangeInfo``); ``None`` means that the venue sets no such bound.
    """

    venue: str
    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    status: str = "TRADING"
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    min_qty: Decimal | None = None
    max_qty: Decimal | None = None
    market_min_qty: Decimal | None = None
    market_max_qty: Decimal | None = None
    min_notional: Decimal | None = None
    percent_price_up: Decimal | None = None
    percent_price_down: Decimal | None = None
    max_open_orders: int | None = None
    max_algo_orders: int | None = None

    def to_ticks(self, price: Number) -> int:
        """Price to ticks. Raises OffGridError when it is not on the grid."""
        return _to_units(price, self.tick_size, "price", self.symbol)

    def to_lots(self, qty: Number) -> int:
        """Quantity to lots. Raises OffGridError when it is not on the grid."""
        return _to_units(qty, self.lot_size, "quantity", self.symbol)

    def price(self, ticks: int) -> Decimal:
        """Ticks to a price with the grid's own number of decimals."""
        return ticks * self.tick_size

    def qty(self, lots: int) -> Decimal:
        """Lots to a quantity with the grid's own number of decimals."""
        return lots * self.lot_size

    def notional(self, ticks: int, lots: int) -> Decimal:
        """Value in quote currency of ``lots`` at ``ticks``, exact."""
        return ticks * self.tick_size * lots * self.lot_size


def _to_units(value: Number, step: Decimal, what: str, symbol: str) -> int:
    exact = value if isinstance(value, Decimal) else Decimal(value)
    if not exact.is_finite():
        raise OffGridError(what, value, step, symbol)
    units, rest = divmod(exact, step)
    if rest:
        raise OffGridError(what, value, step, symbol)
    return int(units)
