"""Filters and limits of one symbol as integers on its grid, so that a check on the hot path is a comparison.

In come an Instrument (the venue's filters) and Limits (ours); the tighter one wins where both bound the same.
Bounds are rounded towards refusing: a maximum down, a minimum up.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from tickmesh.domain.instrument import Instrument
from tickmesh.risk.limits import Limits, SymbolLimits
from tickmesh.risk.view import ATTO

UNBOUNDED = 1 << 200
_NO_LIMITS = SymbolLimits()


@dataclass(frozen=True, slots=True)
class CompiledLimits:
    """Bounds of one symbol in ticks, lots and tick-lots (price in ticks times lots)."""

    instrument: Instrument
    trading: bool
    min_ticks: int
    max_ticks: int
    min_lots: int
    max_lots: int
    market_min_lots: int
    market_max_lots: int
    own_max_lots: int
    max_position_lots: int
    min_notional_tl: int
    max_order_tl: int
    max_position_tl: int
    max_open_orders: int
    max_exposure_atto: int
    margin_use: tuple[int, int]
    """The share of the equity that margins may take, as an exact quotient."""


def compile_limits(instrument: Instrument, limits: Limits) -> CompiledLimits:
    """The bounds of ``instrument`` under ``limits``."""
    own = limits.symbols.get(instrument.symbol, _NO_LIMITS)
    tick, lot = instrument.tick_size, instrument.lot_size
    min_lots, max_lots = _least(instrument.min_qty, lot), _most(instrument.max_qty, lot)
    open_orders = own.max_open_orders if own.max_open_orders is not None else limits.max_open_orders
    if instrument.max_open_orders is not None:
        open_orders = min(open_orders, instrument.max_open_orders)
    return CompiledLimits(
        instrument=instrument,
        trading=instrument.status == "TRADING",
        min_ticks=_least(instrument.min_price, tick),
        max_ticks=_most(instrument.max_price, tick),
        min_lots=min_lots,
        max_lots=max_lots,
        market_min_lots=_least(instrument.market_min_qty, lot) if instrument.market_min_qty else min_lots,
        market_max_lots=_most(instrument.market_max_qty, lot) if instrument.market_max_qty else max_lots,
        own_max_lots=_most(own.max_order_qty, lot),
        max_position_lots=_most(own.max_position_qty, lot),
        min_notional_tl=_least(instrument.min_notional, tick * lot),
        max_order_tl=_most(_first(own.max_order_notional, limits.max_order_notional), tick * lot),
        max_position_tl=_most(_first(own.max_position_notional, limits.max_position_notional), tick * lot),
        max_open_orders=open_orders,
        max_exposure_atto=int(limits.max_exposure_notional * ATTO),
        margin_use=limits.max_margin_use.as_integer_ratio(),
    )


def _first(own: Decimal | None, general: Decimal) -> Decimal:
    return general if own is None else own


def _least(bound: Decimal | None, step: Decimal) -> int:
    """At least 1: a price or quantity of nothing is never sent."""
    return 1 if bound is None else max(1, int((bound / step).to_integral_value(ROUND_CEILING)))


def _most(bound: Decimal | None, step: Decimal) -> int:
    return UNBOUNDED if bound is None else int((bound / step).to_integral_value(ROUND_FLOOR))
