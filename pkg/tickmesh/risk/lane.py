"""Lane: the fast yes of one symbol, by the hot path's kernel; anything but a plain yes is left to the checks.

In: filters and limits as integers. Out: ``reserve``, the call that judges an order against the view and, when every
check of ``risk.checks`` lets it pass, reserves it. Any other answer means "ask the checks", and nothing has changed:
they say which one refuses and why, and decide what the kernel cannot count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tickmesh.hotpath import PreTradeKernel
from tickmesh.hotpath.pure.pretrade import NO_LIMIT
from tickmesh.risk.compiled import CompiledLimits
from tickmesh.risk.limits import Limits
from tickmesh.risk.view import SymbolView

_WIDEST = (1 << 127) - 1


@dataclass(slots=True)
class Lane:
    """What the orders of one symbol are judged by; ``reserve`` is None when only the checks can do it."""

    symbol: SymbolView
    bounds: CompiledLimits
    venue: str
    reserve: Callable[..., int] | None
    """``PreTradeKernel.reserve``."""


def make_lane(symbol: SymbolView, bounds: CompiledLimits, limits: Limits, kind: type[PreTradeKernel] | None) -> Lane:
    """The lane of one symbol with kernels of ``kind``, None for none."""
    kernel = _make_kernel(bounds, limits, symbol.unit_atto, kind) if kind is not None and bounds.trading else None
    return Lane(symbol, bounds, bounds.instrument.venue, kernel.reserve if kernel is not None else None)


def _make_kernel(
    bounds: CompiledLimits, limits: Limits, unit_atto: int, kind: type[PreTradeKernel]
) -> PreTradeKernel | None:
    """None for bounds that a kernel cannot count with: the checks then judge every order."""

    def small(bound: int) -> int:
        return min(bound, NO_LIMIT)

    def value(bound: int) -> int:
        return min(bound, _WIDEST)

    numerator, denominator = bounds.margin_use
    try:
        return kind(
            min_ticks=bounds.min_ticks,
            max_ticks=small(bounds.max_ticks),
            min_lots=bounds.min_lots,
            max_lots=small(bounds.max_lots),
            market_min_lots=bounds.market_min_lots,
            market_max_lots=small(bounds.market_max_lots),
            own_max_lots=small(bounds.own_max_lots),
            max_position_lots=small(bounds.max_position_lots),
            min_notional_tl=bounds.min_notional_tl,
            max_order_tl=value(bounds.max_order_tl),
            max_position_tl=value(bounds.max_position_tl),
            max_open_orders=small(bounds.max_open_orders),
            max_identical_open=small(limits.max_identical_open),
            collar_bps=limits.collar_bps,
            mark_collar_bps=limits.mark_collar_bps,
            passive_collar_bps=limits.passive_collar_bps,
            max_book_age_ns=limits.max_book_age_ms * 1_000_000,
            max_mark_age_ns=limits.max_mark_age_ms * 1_000_000,
            require_mark=limits.require_mark,
            unit_atto=unit_atto,
            max_exposure_atto=value(bounds.max_exposure_atto),
            max_leverage=small(limits.max_leverage),
            margin_numerator=numerator,
            margin_denominator=denominator,
        )
    except OverflowError:
        return None
