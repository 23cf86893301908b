"""What an order must look like: parameters, grid and exchangeInfo filters in, ticks and lots or a VenueError out.

It sees the request and one market; it knows neither accounts nor margin.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from tickmesh.domain.enums import OrderType, Side, TimeInForce
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.market import Market
from tickmesh.venues.simvenue.exchange.types import PlaceRequest

CLIENT_ID = re.compile(r"[\.A-Z\:/a-z0-9_-]{1,36}")
PRICED = (OrderType.LIMIT, OrderType.STOP, OrderType.TAKE_PROFIT)
CONDITIONAL = (OrderType.STOP, OrderType.STOP_MARKET, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_MARKET)

PRICE_PLACES = 2
"""The venue's pricePrecision is at least this, whatever the tick."""


class Checked(msgspec.Struct, frozen=True):
    """A request on the grid; 0 stands for a price that the type does not have."""

    price_ticks: int
    stop_ticks: int
    lots: int
    time_in_force: TimeInForce


def check(request: PlaceRequest, market: Market) -> Checked:
    """Parameters and filters, in the order in which the venue complains. Raises VenueError."""
    instrument = market.instrument
    if instrument.status != "TRADING":
        raise VenueError(-4140)
    if request.client_order_id and not CLIENT_ID.fullmatch(request.client_order_id):
        raise VenueError(-4015)
    priced, conditional = request.type in PRICED, request.type in CONDITIONAL
    if priced and request.price is None:
        raise VenueError(-1102, "price")
    if not priced and request.price is not None and request.type is OrderType.MARKET:
        raise VenueError(-1106, "price")
    if request.type is OrderType.LIMIT and request.time_in_force is None:
        raise VenueError(-1102, "timeInForce")
    if conditional and request.stop_price is None:
        raise VenueError(-1102, "stopPrice")
    if request.close_position:
        if request.type not in (OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET):
            raise VenueError(-1106, "closePosition")
        if request.quantity is not None:
            raise VenueError(-1106, "quantity")
        if request.reduce_only:
            raise VenueError(-1106, "reduceOnly")
    elif request.quantity is None:
        raise VenueError(-1102, "quantity")
    price_ticks = price_on_grid(request.price, market) if priced and request.price is not None else 0
    stop_ticks = price_on_grid(request.stop_price, market) if conditional and request.stop_price is not None else 0
    lots = 0 if request.quantity is None else qty_on_grid(request.quantity, market, market_order=not priced)
    if priced:
        check_percent_price(request.side, price_ticks, market)
    closing = request.reduce_only or request.close_position
    if not closing:
        check_notional(market, price_ticks or stop_ticks, lots)
    return Checked(price_ticks, stop_ticks, lots, request.time_in_force or TimeInForce.GTC)


def price_on_grid(price: Decimal, market: Market) -> int:
    """Ticks of a price. Raises -4013, -1111 or -4014."""
    instrument = market.instrument
    if not price.is_finite() or price <= 0 or (instrument.min_price is not None and price < instrument.min_price):
        raise VenueError(-4013)
    if instrument.max_price is not None and price > instrument.max_price:
        raise VenueError(-4016)
    return _units(price, instrument.tick_size, -4014, PRICE_PLACES)


def qty_on_grid(quantity: Decimal, market: Market, *, market_order: bool) -> int:
    """Lots of a quantity. Raises -4003, -4004, -4005, -1111 or -4023."""
    instrument = market.instrument
    if not quantity.is_finite() or quantity <= 0:
        raise VenueError(-4003)
    least = (instrument.market_min_qty if market_order else None) or instrument.min_qty
    most = (instrument.market_max_qty if market_order else None) or instrument.max_qty
    lots = _units(quantity, instrument.lot_size, -4023)
    if least is not None and quantity < least:
        raise VenueError(-4004)
    if most is not None and quantity > most:
        raise VenueError(-4005)
    return lots


def check_percent_price(side: Side, ticks: int, market: Market) -> None:
    """A buy may not be far above the mark nor a sell far below. Raises -4016 or -4024."""
    band = market.price_band()
    if band is None:
        return
    if side is Side.BUY and ticks > band[1]:
        raise VenueError(-4016)
    if side is Side.SELL and ticks < band[0]:
        raise VenueError(-4024)


def check_notional(market: Market, ticks: int, lots: int) -> None:
    """Raises -4164 when the order's value is below the minimum; a market order is valued at the mark."""
    instrument = market.instrument
    least = instrument.min_notional
    if least is None:
        return
    price = instrument.price(ticks) if ticks else market.reference()
    if price and price * instrument.qty(lots) < least:
        raise VenueError(-4164, least)


def _units(value: Decimal, step: Decimal, off_grid: int, least_places: int = 0) -> int:
    exponent, step_exponent = value.normalize().as_tuple().exponent, step.normalize().as_tuple().exponent
    assert isinstance(exponent, int) and isinstance(step_exponent, int)  # finite, checked before
    if exponent < min(-least_places, step_exponent):
        raise VenueError(-1111)
    units, rest = divmod(value, step)
    if rest:
        raise VenueError(off_grid)
    return int(units)
