"""The fast yes: an intent against the state, by the hot path's kernel; anything but a plain yes is left to the checks.

In: an intent and the view. Out: the worth in ticks of an order that every check of ``risk.checks`` lets pass, or None
for "ask the checks" (they say which one refuses and why, and decide what the kernel cannot count). It never refuses
and never changes anything. Names, halts and sets are compared here, numbers in ``hotpath.PreTradeKernel``.
"""

from __future__ import annotations

from typing import Final

from tickmesh.domain.enums import OrderType, PositionSide, RiskState, Side, TimeInForce
from tickmesh.domain.messages import OrderIntent
from tickmesh.hotpath import PreTradeKernel
from tickmesh.hotpath.pure.pretrade import (
    BOTH,
    LIMIT,
    LONG,
    MARKET,
    MARKET_TRIGGER,
    NO_LIMIT,
    PRICED_TRIGGER,
    SHORT,
)
from tickmesh.risk.compiled import CompiledLimits
from tickmesh.risk.limits import Limits
from tickmesh.risk.view import RiskView, SymbolView

# Members of enumerations as constants: looking one up through its class costs ten times as much.
_ACTIVE: Final = RiskState.ACTIVE
_BUY: Final = Side.BUY
_SELL: Final = Side.SELL
_BOTH: Final = PositionSide.BOTH
_LONG: Final = PositionSide.LONG
_LIMIT: Final = OrderType.LIMIT
_POST_ONLY: Final = TimeInForce.GTX
_KINDS = {
    OrderType.MARKET: MARKET,
    OrderType.STOP: PRICED_TRIGGER,
    OrderType.TAKE_PROFIT: PRICED_TRIGGER,
    OrderType.STOP_MARKET: MARKET_TRIGGER,
    OrderType.TAKE_PROFIT_MARKET: MARKET_TRIGGER,
}
_WIDEST = (1 << 127) - 1


def make_kernel(
    bounds: CompiledLimits, limits: Limits, *, hedge_mode: bool, unit_atto: int, kind: type[PreTradeKernel]
) -> PreTradeKernel | None:
    """The kernel of one symbol; None for bounds that it cannot count with: the checks then judge every order."""

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
            collar_bps=limits.collar_bps,
            mark_collar_bps=limits.mark_collar_bps,
            passive_collar_bps=limits.passive_collar_bps,
            max_book_age_ns=limits.max_book_age_ms * 1_000_000,
            max_mark_age_ns=limits.max_mark_age_ms * 1_000_000,
            require_mark=limits.require_mark,
            hedge_mode=hedge_mode,
            unit_atto=unit_atto,
            max_exposure_atto=value(bounds.max_exposure_atto),
            max_leverage=small(limits.max_leverage),
            margin_numerator=numerator,
            margin_denominator=denominator,
        )
    except OverflowError:
        return None


def worth_if_plain(
    kernel: PreTradeKernel, intent: OrderIntent, client_order_id: str, symbol: SymbolView, bounds: CompiledLimits,
    view: RiskView, limits: Limits, now_ns: int, now_mono_ns: int,
) -> int | None:  # fmt: skip
    """The worth in ticks of an order that passes every check, else None."""
    strategy = intent.strategy
    side = intent.side
    buying = side is _BUY
    identity = (strategy, intent.symbol, side, intent.price_ticks or intent.stop_price_ticks, intent.qty_lots)
    if (
        view.open_breakers
        or strategy in view.throttled
        or view.overall is not _ACTIVE
        or view.account_state is not _ACTIVE
        or symbol.state is not _ACTIVE
        or view.strategy_state.get(strategy, _ACTIVE) is not _ACTIVE
        or not bounds.trading
        or intent.account != view.account
        or intent.venue != bounds.instrument.venue
        or not strategy
        or not intent.intent_id
        or view.seen(intent.intent_id)
        or client_order_id in view.reservations
        or view.identical.get(identity, 0) >= limits.max_identical_open
    ):
        return None
    position_side = intent.position_side
    if position_side is _BOTH:
        leg, which = symbol.both, BOTH
    elif position_side is _LONG:
        leg, which = symbol.long, LONG
    else:
        leg, which = symbol.short, SHORT
    others = symbol.resting[_SELL if buying else _BUY]
    resting = (min(others.values()) if buying else max(others.values())) if others else 0
    kind, high, equity = intent.order_type, symbol.mark_high_ticks, view.equity_atto
    try:
        worth = kernel.check(
            LIMIT if kind is _LIMIT else _KINDS[kind], buying, intent.price_ticks, intent.stop_price_ticks,
            intent.qty_lots, intent.time_in_force is _POST_ONLY, intent.reduce_only, which, False,
            now_ns - intent.publish_ns, intent.ttl_ns, now_mono_ns, symbol.bid_ticks, symbol.ask_ticks,
            symbol.book_mono_ns, symbol.stale, symbol.mark_ticks, symbol.mark_mono_ns, symbol.mark_low_ticks or 0,
            NO_LIMIT if high is None else high, symbol.ref_ticks, symbol.leverage, symbol.open_orders,
            bool(symbol.unknown), leg.position_lots, leg.open_buy_lots, leg.open_sell_lots, leg.open_buy_tick_lots,
            leg.open_sell_tick_lots, resting, view.exposure_atto, view.margin_atto, equity or 0,
            view.available_atto or 0, equity is not None and view.available_atto is not None,
            view.messages_second.oldest_mono_ns, view.messages_minute.oldest_mono_ns,
        )  # fmt: skip
    except OverflowError:
        return None
    return worth if worth >= 0 else None
