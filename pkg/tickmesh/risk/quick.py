"""The fast yes: an intent against the state, by the hot path's kernel; anything but a plain yes is left to the checks.

In: an intent and the view. Out: yes, and then the order that every check of ``risk.checks`` lets pass is reserved; or
no for "ask the checks", and then nothing has changed (they say which one refuses and why, and decide what the kernel
cannot count). Names, halts and sets are compared here, numbers compared and counted in ``hotpath.PreTradeKernel``.
"""

from __future__ import annotations

from typing import Final

from tickmesh.domain.enums import OrderType, PositionSide, RiskState, Side, TimeInForce
from tickmesh.domain.messages import OrderIntent
from tickmesh.hotpath import PreTradeKernel, RateWindow
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
from tickmesh.risk.view import Reservation, RiskView, SymbolView

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


def reserve_if_plain(
    kernel: PreTradeKernel, intent: OrderIntent, client_order_id: str, symbol: SymbolView, bounds: CompiledLimits,
    view: RiskView, limits: Limits, now_ns: int, now_mono_ns: int, throttle: RateWindow,
) -> bool:  # fmt: skip
    """Whether the order passed every check, and is reserved; otherwise nothing has changed."""
    strategy = intent.strategy
    side = intent.side
    buying = side is _BUY
    price, stop, lots = intent.price_ticks, intent.stop_price_ticks, intent.qty_lots
    identity = (strategy, intent.symbol, side, price or stop, lots)
    alike = view.identical.get(identity, 0)
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
        or intent.intent_id in view.seen_intents
        or client_order_id in view.reservations
        or alike >= limits.max_identical_open
    ):
        return False
    position_side = intent.position_side
    leg = BOTH if position_side is _BOTH else LONG if position_side is _LONG else SHORT
    others = symbol.resting[_SELL if buying else _BUY]
    resting = (min(others.values()) if buying else max(others.values())) if others else 0
    kind = intent.order_type
    try:
        worth = kernel.reserve(
            symbol, view, throttle, LIMIT if kind is _LIMIT else _KINDS[kind], buying, price, stop, lots,
            intent.time_in_force is _POST_ONLY, intent.reduce_only, leg, now_ns - intent.publish_ns, intent.ttl_ns,
            now_mono_ns, bool(symbol.unknown), resting,
        )  # fmt: skip
    except OverflowError:
        return False
    if worth < 0:
        return False
    # From here on as RiskView.reserve does it; the numbers are counted.
    resting_ticks = 0 if stop else price
    view.identical[identity] = alike + 1
    view.reservations[client_order_id] = Reservation(
        client_order_id, intent.symbol, strategy, side, position_side, worth, resting_ticks, lots, identity
    )
    if resting_ticks:
        symbol.resting[side][client_order_id] = resting_ticks
    return True
