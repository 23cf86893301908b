"""What the simulated venue lists: symbols or a capture's grids in, instruments and the exchangeInfo body out.

Well-known contracts get their real grid, others a generic one; filters that a capture does not name get sensible
bounds. It does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.filters import PRICE_PLACES

VENUE = "binance"
_QUOTES = ("USDT", "USDC", "BUSD")
_GRIDS = {
    "BTCUSDT": ("0.10", "0.001", "100"),
    "ETHUSDT": ("0.01", "0.001", "20"),
    "BNBUSDT": ("0.010", "0.01", "5"),
    "SOLUSDT": ("0.0100", "0.01", "5"),
    "XRPUSDT": ("0.0001", "0.1", "5"),
    "DOGEUSDT": ("0.000010", "1", "5"),
}
_GENERIC = ("0.0010", "0.01", "5")
_ORDER_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"]


def instruments_for(symbols: Iterable[str]) -> dict[str, Instrument]:
    """Instruments of the synthetic market. Raises ConfigError for a name that is no USD-margined contract."""
    found = {}
    for symbol in symbols:
        quote = next((q for q in _QUOTES if symbol.endswith(q) and symbol != q), None)
        if quote is None:
            raise ConfigError(f"venue.symbols: {symbol} is not quoted in USDT or USDC; the simulated venue has no such")
        tick, lot, notional = _GRIDS.get(symbol, _GENERIC)
        found[symbol] = complete(
            Instrument(
                venue=VENUE,
                symbol=symbol,
                base=symbol.removesuffix(quote),
                quote=quote,
                tick_size=Decimal(tick),
                lot_size=Decimal(lot),
                min_notional=Decimal(notional),
            )
        )
    return found


def complete(instrument: Instrument) -> Instrument:
    """Gives every filter that is still open a bound, so that exchangeInfo has them all."""
    tick, lot = instrument.tick_size, instrument.lot_size
    wanted = {
        "min_price": tick,
        "max_price": tick * 50_000_000,
        "min_qty": lot,
        "max_qty": lot * 1_000_000,
        "market_min_qty": lot,
        "market_max_qty": lot * 120_000,
        "min_notional": Decimal(5),
        "percent_price_up": Decimal("1.0500"),
        "percent_price_down": Decimal("0.9500"),
        "max_open_orders": 200,
        "max_algo_orders": 10,
    }
    missing = {name: value for name, value in wanted.items() if getattr(instrument, name) is None}
    return msgspec.structs.replace(instrument, **missing)


def exchange_info(instruments: Iterable[Instrument], rate_limits: list[dict[str, Any]], now_ms: int) -> dict[str, Any]:
    """Body of GET /fapi/v1/exchangeInfo."""
    rows = [_symbol(i) for i in instruments]
    assets = sorted({row["marginAsset"] for row in rows})
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": rate_limits,
        "exchangeFilters": [],
        "assets": [{"asset": a, "marginAvailable": True, "autoAssetExchange": "-10000"} for a in assets],
        "symbols": rows,
    }


def _places(step: Decimal) -> int:
    return max(0, -int(step.normalize().as_tuple().exponent))


def _symbol(i: Instrument) -> dict[str, Any]:
    return {
        "symbol": i.symbol,
        "pair": i.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": i.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": i.base,
        "quoteAsset": i.quote,
        "marginAsset": i.quote,
        "pricePrecision": max(PRICE_PLACES, _places(i.tick_size)),
        "quantityPrecision": _places(i.lot_size),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": _filters(i),
        "orderTypes": _ORDER_TYPES,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def _filters(i: Instrument) -> list[dict[str, Any]]:
    def text(value: Decimal | None) -> str:
        return f"{value:f}"

    lot = text(i.lot_size)
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": text(i.min_price),
            "maxPrice": text(i.max_price),
            "tickSize": text(i.tick_size),
        },
        {"filterType": "LOT_SIZE", "minQty": text(i.min_qty), "maxQty": text(i.max_qty), "stepSize": lot},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": text(i.market_min_qty),
            "maxQty": text(i.market_max_qty),
            "stepSize": lot,
        },
        {"filterType": "MAX_NUM_ORDERS", "limit": i.max_open_orders},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": i.max_algo_orders},
        {"filterType": "MIN_NOTIONAL", "notional": text(i.min_notional)},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": text(i.percent_price_up),
            "multiplierDown": text(i.percent_price_down),
            "multiplierDecimal": "4",
        },
    ]
