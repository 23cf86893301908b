"""The pre-trade checks, one function each: a Candidate in, None (passes) or a Refusal out.

They compare and never change anything; ``pretrade.PreTrade`` runs all of them, in the order of ``CHECKS``,
and acts on the answer. A check that needs market data refuses when the data is missing or stale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tickmesh.domain.approval import Refusal
from tickmesh.domain.enums import OrderType, PositionSide, RiskState, Side, TimeInForce
from tickmesh.domain.messages import OrderIntent
from tickmesh.domain.subjects import token
from tickmesh.hotpath import Leg
from tickmesh.risk.compiled import CompiledLimits
from tickmesh.risk.limits import Limits
from tickmesh.risk.view import RiskView, SymbolView, bounded

FUTURE_TOLERANCE_NS = 1_000_000_000
"""How far ahead of our wall clock an intent may claim to be published; one machine or a disciplined clock."""

_PRICED = (OrderType.LIMIT, OrderType.STOP, OrderType.TAKE_PROFIT)


@dataclass(slots=True)
class Candidate:
    """A PLACE intent with everything the checks look at."""

    intent: OrderIntent
    client_order_id: str
    symbol: SymbolView
    leg: Leg
    bounds: CompiledLimits
    view: RiskView
    limits: Limits
    now_ns: int
    now_mono_ns: int
    buying: bool
    priced: bool
    conditional: bool
    worth_ticks: int
    shrinks: bool


Check = Callable[[Candidate], Refusal | None]


def make_candidate(
    intent: OrderIntent, client_order_id: str, symbol: SymbolView, bounds: CompiledLimits, view: RiskView,
    limits: Limits, now_ns: int, now_mono_ns: int,
) -> Candidate:  # fmt: skip
    """Gather what the checks need; works for the most absurd intent, judging is theirs."""
    buying = intent.side is Side.BUY
    kind = intent.order_type
    conditional = kind is not OrderType.LIMIT and kind is not OrderType.MARKET
    leg = symbol.leg(intent.position_side)
    lots, after = intent.qty_lots, leg.position_lots
    # What would be left of the position if every open order of this side and then this one filled.
    if buying:
        after += leg.open_buy_lots + lots
        shrinks = after <= 0 and intent.position_side is not PositionSide.LONG
    else:
        after -= leg.open_sell_lots + lots
        shrinks = after >= 0 and intent.position_side is not PositionSide.SHORT
    return Candidate(
        intent, client_order_id, symbol, leg, bounds, view, limits, now_ns, now_mono_ns, buying, kind in _PRICED,
        conditional, _worth_ticks(intent, symbol, limits, buying), shrinks,
    )  # fmt: skip


def _worth_ticks(intent: OrderIntent, symbol: SymbolView, limits: Limits, buying: bool) -> int:
    """The price that the order is valued at: the worst it can fill at, as far as that is known."""
    if intent.order_type is OrderType.LIMIT:
        return intent.price_ticks if buying else max(intent.price_ticks, symbol.bid_ticks)
    if intent.order_type is OrderType.MARKET:
        touch = symbol.ask_ticks if buying else symbol.bid_ticks
        worst = max(touch, symbol.mark_ticks)
        return worst + worst * limits.collar_bps // 10_000 + 1
    return max(intent.price_ticks, intent.stop_price_ticks, symbol.mark_ticks)


def freshness(c: Candidate) -> Refusal | None:
    """A late intent is never sent, nor one from the future."""
    age_ns = c.now_ns - c.intent.publish_ns
    if age_ns > c.intent.ttl_ns:
        return Refusal("expired", f"the intent is {age_ns // 1_000_000} ms old, its time to live was "
                                  f"{c.intent.ttl_ns // 1_000_000} ms")  # fmt: skip
    if age_ns < -FUTURE_TOLERANCE_NS:
        return Refusal("future", "the intent claims to come from the future; check the clocks of both machines")
    return None


def duplicate(c: Candidate) -> Refusal | None:
    """The same intent id is the same order; the same order too often at once is a runaway strategy (15c3-5)."""
    if c.intent.intent_id in c.view.seen or c.client_order_id in c.view.reservations:
        return Refusal("duplicate", f"intent {c.intent.intent_id} was seen already")
    intent = c.intent
    price, lots = bounded(intent.price_ticks or intent.stop_price_ticks), bounded(intent.qty_lots)
    if c.symbol.orders.alike(intent.strategy, intent.side, price, lots) >= c.limits.max_identical_open:
        return Refusal("identical", f"{c.limits.max_identical_open} identical orders of {intent.strategy} are open")
    return None


def halt_state(c: Candidate) -> Refusal | None:
    """HALTED lets nothing through, REDUCING only what shrinks a position."""
    view, intent = c.view, c.intent
    strategy = view.strategy_state.get(intent.strategy, RiskState.ACTIVE)
    for scope, state in (
        ("everything", view.overall), ("the account", view.account_state), ("the strategy", strategy),
        ("the symbol", c.symbol.state),
    ):  # fmt: skip
        if state is RiskState.HALTED:
            return Refusal("halted", f"{scope} is halted; a person must resume it")
        if state is RiskState.REDUCING and not c.shrinks:
            return Refusal("reducing", f"{scope} may only reduce positions")
    if intent.strategy in view.throttled:
        return Refusal("throttled", f"{intent.strategy} was shut by its execution throttle; a person must resume it")
    return None


def breakers(c: Candidate) -> Refusal | None:
    """An open breaker stops its scope: ``strategy.<name>``, ``symbol.<name>``, anything else stops all."""
    for name in sorted(c.view.open_breakers):  # a set's order differs between processes; a refusal must not
        scope, _, target = name.partition(".")
        if scope in ("strategy", "symbol") and target not in (token(c.intent.strategy), token(c.intent.symbol)):
            continue
        return Refusal("breaker", f"the circuit breaker {name} is open")
    return None


def unknown(c: Candidate) -> Refusal | None:
    """No new risk in a symbol while the venue has not said what became of an order there."""
    if c.symbol.unknown and not c.shrinks:
        return Refusal("unknown_pending", f"an order in {c.intent.symbol} is UNKNOWN; the venue is being asked")
    return None


def market_data(c: Candidate) -> Refusal | None:
    """A stale, empty, crossed or missing book, or a missing or old mark, is no basis for an order."""
    symbol, limits = c.symbol, c.limits
    if not symbol.book_mono_ns:
        return Refusal("no_book", f"no book of {c.intent.symbol} has arrived yet")
    if symbol.stale or c.now_mono_ns - symbol.book_mono_ns > limits.max_book_age_ms * 1_000_000:
        return Refusal("stale_book", f"the book of {c.intent.symbol} is stale")
    if symbol.bid_ticks <= 0 or symbol.ask_ticks <= 0 or symbol.bid_ticks >= symbol.ask_ticks:
        return Refusal("bad_book", f"the book of {c.intent.symbol} is empty on a side or crossed")
    if symbol.mark_ticks:
        if c.now_mono_ns - symbol.mark_mono_ns > limits.max_mark_age_ms * 1_000_000:
            return Refusal("stale_mark", f"the mark price of {c.intent.symbol} is stale")
    elif limits.require_mark:
        return Refusal("no_mark", f"no mark price of {c.intent.symbol} has arrived yet")
    return None


def form(c: Candidate) -> Refusal | None:
    """The fields agree with each other, with the instrument's state and with the account's position mode."""
    intent = c.intent
    if not c.bounds.trading:
        return Refusal("not_trading", f"{intent.symbol} is {c.bounds.instrument.status} at the venue")
    if intent.venue != c.bounds.instrument.venue or intent.account != c.view.account:
        return Refusal("wrong_account", f"this writer is for {c.view.account} at {c.bounds.instrument.venue}")
    if not intent.intent_id or not intent.strategy:
        return Refusal("no_identity", "an intent must name its id and its strategy")
    if (intent.position_side is PositionSide.BOTH) is c.view.hedge_mode:
        return Refusal(
            "position_side", f"position side {intent.position_side} does not fit the account's position mode"
        )
    if c.priced != (intent.price_ticks > 0) or (c.conditional != (intent.stop_price_ticks > 0)):
        return Refusal("fields", f"a {intent.order_type} order has missing or superfluous prices")
    if intent.time_in_force is TimeInForce.GTX and intent.order_type is OrderType.MARKET:
        return Refusal("fields", "a market order cannot be post-only")
    return None


def filters(c: Candidate) -> Refusal | None:
    """The venue's own filters: price range, quantity range, smallest value, PERCENT_PRICE around the mark."""
    intent, bounds = c.intent, c.bounds
    if c.priced and not bounds.min_ticks <= intent.price_ticks <= bounds.max_ticks:
        return Refusal("price_filter", f"price of {intent.price_ticks} ticks is outside the venue's range")
    if c.conditional and not bounds.min_ticks <= intent.stop_price_ticks <= bounds.max_ticks:
        return Refusal("price_filter", f"trigger of {intent.stop_price_ticks} ticks is outside the venue's range")
    low, high = bounds.min_lots, bounds.max_lots
    if not c.priced:
        low, high = bounds.market_min_lots, bounds.market_max_lots
    if not low <= intent.qty_lots <= high:
        return Refusal("qty_filter", f"quantity of {intent.qty_lots} lots is outside {low} to {high}")
    price = intent.price_ticks or intent.stop_price_ticks or c.symbol.ref_ticks
    if not intent.reduce_only and price * intent.qty_lots < bounds.min_notional_tl:
        return Refusal("min_notional", f"the order is worth less than {bounds.instrument.min_notional}")
    if intent.order_type is OrderType.LIMIT:
        symbol = c.symbol
        if c.buying and symbol.mark_high_ticks is not None and price > symbol.mark_high_ticks:
            return Refusal("percent_price", "the price is above the venue's band around the mark")
        if not c.buying and symbol.mark_low_ticks is not None and price < symbol.mark_low_ticks:
            return Refusal("percent_price", "the price is below the venue's band around the mark")
    return None


def collar(c: Candidate) -> Refusal | None:
    """No order reaches far through the touch or past the mark, nor lies absurdly far behind."""
    symbol, limits = c.symbol, c.limits
    mark = symbol.mark_ticks
    if c.conditional:
        if abs(c.intent.stop_price_ticks - symbol.ref_ticks) * 10_000 > symbol.ref_ticks * limits.passive_collar_bps:
            return Refusal("collar", f"the trigger is more than {limits.passive_collar_bps} bps from the mark")
        price = c.intent.price_ticks or c.intent.stop_price_ticks
        from_trigger = abs(price - c.intent.stop_price_ticks)
        if from_trigger * 10_000 > c.intent.stop_price_ticks * limits.mark_collar_bps:
            return Refusal("collar", f"the price is more than {limits.mark_collar_bps} bps from its trigger")
        return None
    touch, own_touch = (symbol.ask_ticks, symbol.bid_ticks) if c.buying else (symbol.bid_ticks, symbol.ask_ticks)
    price = c.intent.price_ticks or touch
    sign = 1 if c.buying else -1
    if (price - touch) * sign * 10_000 > touch * limits.collar_bps:
        return Refusal("collar", f"the price is more than {limits.collar_bps} bps through the touch")
    if mark and (price - mark) * sign * 10_000 > mark * limits.mark_collar_bps:
        return Refusal("collar", f"the price is more than {limits.mark_collar_bps} bps past the mark")
    if (own_touch - price) * sign * 10_000 > own_touch * limits.passive_collar_bps:
        return Refusal("collar", f"the price is more than {limits.passive_collar_bps} bps behind the touch")
    return None


def order_size(c: Candidate) -> Refusal | None:
    """Our own bounds on one order's quantity and value."""
    if c.intent.qty_lots > c.bounds.own_max_lots:
        return Refusal("max_order_qty", f"{c.intent.qty_lots} lots exceed the order limit of {c.bounds.own_max_lots}")
    if c.worth_ticks * c.intent.qty_lots > c.bounds.max_order_tl:
        return Refusal("max_order_notional", "the order is worth more than the limit of one order")
    if len(c.symbol.orders) >= c.bounds.max_open_orders:
        return Refusal("max_open_orders", f"{c.bounds.max_open_orders} orders of {c.intent.symbol} are open")
    return None


def reduce_only(c: Candidate) -> Refusal | None:
    """An order that claims to shrink a position must be able to; in hedge mode a closing order is one."""
    side = c.intent.position_side
    closing = (side is PositionSide.LONG and not c.buying) or (side is PositionSide.SHORT and c.buying)
    if (c.intent.reduce_only or closing) and not c.shrinks:
        return Refusal("reduce_only", "there is no such position left to reduce beside the orders that are open")
    return None


def position(c: Candidate) -> Refusal | None:
    """The worst position that this order and all open ones can make stays within the symbol's limits."""
    if c.shrinks:
        return None
    leg, lots, ref = c.leg, c.intent.qty_lots, c.symbol.ref_ticks
    if c.buying:
        worst_lots = leg.position_lots + leg.open_buy_lots + lots
        opened_tl = max(leg.open_buy_tick_lots + lots * c.worth_ticks, (leg.open_buy_lots + lots) * ref)
        worst_tl = leg.position_lots * ref + opened_tl
    else:
        worst_lots = -leg.position_lots + leg.open_sell_lots + lots
        opened_tl = max(leg.open_sell_tick_lots + lots * c.worth_ticks, (leg.open_sell_lots + lots) * ref)
        worst_tl = -leg.position_lots * ref + opened_tl
    if worst_lots > c.bounds.max_position_lots:
        return Refusal("max_position_qty", f"the position could reach {worst_lots} lots, past its limit")
    if worst_tl > c.bounds.max_position_tl:
        return Refusal("max_position_notional", f"the position in {c.intent.symbol} could grow past its limit")
    added = max(0, worst_tl - leg.worst_tick_lots(ref)) * c.symbol.unit_atto
    return _account(c, added)


def _account(c: Candidate, added_atto: int) -> Refusal | None:
    """The account's exposure and margin with ``added_atto`` of quote currency more at risk."""
    view, limits = c.view, c.limits
    if view.exposure_atto + added_atto > c.bounds.max_exposure_atto:
        return Refusal("max_exposure", "the account's exposure could grow past its limit")
    if c.symbol.leverage > limits.max_leverage:
        return Refusal("max_leverage", f"{c.intent.symbol} is set to leverage {c.symbol.leverage} at the venue")
    if view.equity_atto is None or view.available_atto is None:
        return Refusal("no_balance", "the balances of the account are not known yet")
    margin = -(-added_atto // c.symbol.leverage)
    if margin > view.available_atto:
        return Refusal("margin", "the available balance does not cover the margin of this order")
    numerator, denominator = c.bounds.margin_use
    if (view.margin_atto + margin) * denominator > view.equity_atto * numerator:
        return Refusal("margin", "positions and open orders would use more than the allowed share of the equity")
    return None


def self_trade(c: Candidate) -> Refusal | None:
    """No order crosses one of our own that rests in the book."""
    if c.conditional:
        return None
    resting = c.symbol.orders.nearest(c.intent.side.opposite)
    if not resting:
        return None
    if not c.priced:
        return Refusal("self_trade", "a market order could trade with our own resting order")
    price = c.intent.price_ticks
    if price >= resting if c.buying else price <= resting:
        return Refusal("self_trade", "the order would trade with our own resting order")
    return None


def message_rate(c: Candidate) -> Refusal | None:
    """Bounds on messages a second and a minute; cancels do not count, their budget is their own."""
    if c.view.messages_second.full(c.now_mono_ns) or c.view.messages_minute.full(c.now_mono_ns):
        return Refusal("message_rate", "too many orders in a short time; the strategy must slow down")
    return None


CHECKS: tuple[Check, ...] = (
    duplicate, freshness, halt_state, breakers, form, market_data, filters, unknown, collar, order_size,
    reduce_only, position, self_trade, message_rate,
)  # fmt: skip
"""Every check in the order in which it runs: identity first, so that a redelivery is never called late."""
