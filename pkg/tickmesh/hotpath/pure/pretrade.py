"""PreTradeKernel: the arithmetic of the pre-trade checks of one symbol; integers in, the order's worth out.

In: the bounds once, then an order and the state of its symbol and account. Out: that it is reserved, else the number of
the check that failed. It knows no sentences, and nothing of what a halt still lets through: ``risk.checks`` does, is
asked whenever the answer here is not "reserved", and is the rule book; this is its fast yes. The specification of the
native twin.

The native half counts in 64 bits (prices, quantities, times) and 128 (values). An argument that does not fit is an
OverflowError there, a result that does not is ``UNSURE``: never a yes, and the caller asks ``risk.checks``.
"""

from __future__ import annotations

from tickmesh.domain.enums import OrderType, PositionSide, RiskState, Side, TimeInForce
from tickmesh.hotpath.pure.open_orders import BOTH, LEGS, LONG, SHORT
from tickmesh.hotpath.pure.risk_state import AccountRisk, RateWindow, SymbolRisk

LIMIT, MARKET, PRICED_TRIGGER, MARKET_TRIGGER = range(4)
"""Kinds of orders: a trigger is a stop or a take-profit."""

(
    UNSURE, FRESHNESS, REDUCING, FORM, MARKET_DATA, FILTERS, UNKNOWN, COLLAR, ORDER_SIZE, REDUCE_ONLY, POSITION,
    ACCOUNT, SELF_TRADE, MESSAGE_RATE, NOT_PLAIN, IDENTICAL,
) = range(-1, -17, -1)  # fmt: skip
"""Answers of ``check`` other than a worth, in the order in which it looks for them; ``reserve`` has two more."""

RESERVED, RESERVED_LAST = range(2)
"""Answers of ``reserve`` to an order that passes; the last one is the last that the throttle allows for now."""

NO_LIMIT = 2**63 - 1
_MAX = 2**127 - 1
_KINDS = {
    OrderType.LIMIT: LIMIT,
    OrderType.MARKET: MARKET,
    OrderType.STOP: PRICED_TRIGGER,
    OrderType.TAKE_PROFIT: PRICED_TRIGGER,
    OrderType.STOP_MARKET: MARKET_TRIGGER,
    OrderType.TAKE_PROFIT_MARKET: MARKET_TRIGGER,
}
_FUTURE_NS = 1_000_000_000
_SECOND_NS, _MINUTE_NS = 1_000_000_000, 60_000_000_000


class PreTradeKernel:
    """Bounds of one symbol in ticks, lots, tick-lots and atto (10**-18 of the quote currency).

    ``margin_numerator / margin_denominator`` is the share of the equity that margins may take. Values of
    ``NO_LIMIT`` mean none.

    Raises:
        OverflowError: a bound that does not fit 64 bits, or 128 for values.
    """

    __slots__ = (
        "_collar_bps", "_margin_use", "_mark_collar_bps", "_market_lots", "_max_book_ns", "_max_exposure",
        "_max_identical", "_max_leverage", "_max_mark_ns", "_max_open", "_max_order_tl", "_max_position_lots",
        "_max_position_tl", "_min_notional_tl", "_own_max_lots", "_passive_bps", "_require_mark", "_resting_lots",
        "_ticks", "_unit",
    )  # fmt: skip

    def __init__(
        self, *, min_ticks: int, max_ticks: int, min_lots: int, max_lots: int, market_min_lots: int,
        market_max_lots: int, own_max_lots: int, max_position_lots: int, min_notional_tl: int, max_order_tl: int,
        max_position_tl: int, max_open_orders: int, max_identical_open: int, collar_bps: int, mark_collar_bps: int,
        passive_collar_bps: int, max_book_age_ns: int, max_mark_age_ns: int, require_mark: bool, unit_atto: int,
        max_exposure_atto: int, max_leverage: int, margin_numerator: int, margin_denominator: int,
    ) -> None:  # fmt: skip
        _fits(
            NO_LIMIT, min_ticks, max_ticks, min_lots, max_lots, market_min_lots, market_max_lots, own_max_lots,
            max_position_lots, max_open_orders, max_identical_open, collar_bps, mark_collar_bps, passive_collar_bps,
            max_book_age_ns, max_mark_age_ns, max_leverage,
        )  # fmt: skip
        _fits(
            _MAX, min_notional_tl, max_order_tl, max_position_tl, unit_atto, max_exposure_atto, margin_numerator,
            margin_denominator,
        )  # fmt: skip
        self._ticks = min_ticks, max_ticks
        self._resting_lots = min_lots, max_lots
        self._market_lots = market_min_lots, market_max_lots
        self._own_max_lots, self._max_position_lots = own_max_lots, max_position_lots
        self._min_notional_tl, self._max_order_tl, self._max_position_tl = (
            min_notional_tl,
            max_order_tl,
            max_position_tl,
        )
        self._max_open, self._max_identical = max_open_orders, max_identical_open
        self._collar_bps, self._mark_collar_bps, self._passive_bps = collar_bps, mark_collar_bps, passive_collar_bps
        self._max_book_ns, self._max_mark_ns = max_book_age_ns, max_mark_age_ns
        self._require_mark = require_mark
        self._unit, self._max_exposure, self._max_leverage = unit_atto, max_exposure_atto, max_leverage
        self._margin_use = margin_numerator, margin_denominator

    def check(
        self, kind: int, buying: bool, price: int, stop: int, lots: int, post_only: bool, reduce_only: bool, leg: int,
        hedge: bool, reducing: bool, age_ns: int, ttl_ns: int, now_mono_ns: int, bid: int, ask: int,
        book_mono_ns: int, stale: bool, mark: int, mark_mono_ns: int, mark_low: int, mark_high: int, ref: int,
        leverage: int, open_orders: int, unknown: bool, position: int, open_buy: int, open_sell: int,
        open_buy_tl: int, open_sell_tl: int, resting: int, exposure: int, margin: int, equity: int, available: int,
        balances: bool, second_mono_ns: int, minute_mono_ns: int,
    ) -> int:  # fmt: skip
        """The worth in ticks of an order that passes, else one of the negative answers.

        Args:
            kind, leg: one of the constants above.
            hedge: whether the account holds long and short positions apart.
            reducing: whether positions may only shrink.
            age_ns: since the intent was published, on the wall clock.
            mark_low, mark_high: the venue's band around the mark; 0 and ``NO_LIMIT`` for none.
            position: signed lots of the leg; ``open_*`` the orders open against it, in lots and tick-lots.
            resting: the nearest price of our own orders on the other side, 0 for none.
            exposure, margin, equity, available: in atto; ``balances`` says whether the last two are known.
            second_mono_ns, minute_mono_ns: when the oldest message of a full window left, else ``NEVER_NS``.
        """
        if age_ns > ttl_ns or age_ns < -_FUTURE_NS:
            return FRESHNESS
        conditional, priced = kind >= PRICED_TRIGGER, kind in (LIMIT, PRICED_TRIGGER)
        if buying:
            shrinks = position + open_buy + lots <= 0 and leg != LONG
        else:
            shrinks = position - open_sell - lots >= 0 and leg != SHORT
        if reducing and not shrinks:
            return REDUCING
        if (leg == BOTH) is hedge or priced != (price > 0) or conditional != (stop > 0):
            return FORM
        if post_only and kind == MARKET:
            return FORM
        if not book_mono_ns or stale or now_mono_ns - book_mono_ns > self._max_book_ns or not 0 < bid < ask:
            return MARKET_DATA
        if now_mono_ns - mark_mono_ns > self._max_mark_ns if mark else self._require_mark:
            return MARKET_DATA
        if not self._filters(kind, buying, price, stop, lots, reduce_only, ref, mark_low, mark_high):
            return FILTERS
        if unknown and not shrinks:
            return UNKNOWN
        worth = self._worth(kind, buying, price, stop, bid, ask, mark)
        if not self._collar(kind, buying, price, stop, bid, ask, mark, ref):
            return COLLAR
        if lots > self._own_max_lots or worth * lots > self._max_order_tl or open_orders >= self._max_open:
            return ORDER_SIZE
        closing = (leg == LONG and not buying) or (leg == SHORT and buying)
        if (reduce_only or closing) and not shrinks:
            return REDUCE_ONLY
        if not shrinks:
            held, own_lots, own_tl = position, open_buy, open_buy_tl
            if not buying:
                held, own_lots, own_tl = -position, open_sell, open_sell_tl
            worst_tl = held * ref + max(own_tl + lots * worth, (own_lots + lots) * ref)
            if held + own_lots + lots > self._max_position_lots or worst_tl > self._max_position_tl:
                return POSITION
            buys_tl, sells_tl = max(open_buy_tl, open_buy * ref), max(open_sell_tl, open_sell * ref)
            now_tl = max(position * ref + buys_tl, sells_tl - position * ref, 0)
            added = max(0, worst_tl - now_tl)
            if not self._account(added, leverage, exposure, margin, equity, available, balances):
                return ACCOUNT
        if resting and not conditional and (not priced or (price >= resting if buying else price <= resting)):
            return SELF_TRADE
        if now_mono_ns - second_mono_ns < _SECOND_NS or now_mono_ns - minute_mono_ns < _MINUTE_NS:
            return MESSAGE_RATE
        return worth

    def reserve(
        self, symbol: SymbolRisk, account: AccountRisk, throttle: RateWindow, client_order_id: str, intent_id: str,
        strategy: str, order_type: OrderType, side: Side, price: int, stop: int, lots: int, time_in_force: TimeInForce,
        reduce_only: bool, position_side: PositionSide, age_ns: int, ttl_ns: int, now_mono_ns: int,
    ) -> int:  # fmt: skip
        """``check`` against what is kept of the symbol and the account; an order that passes is reserved at once.

        Then its lots are open, it is one of the symbol's ``orders``, its exposure and margin count, its ids are known,
        and it is a message of the account's windows and of ``throttle``, its strategy's. With any answer below 0
        nothing has changed; ``NOT_PLAIN`` is for whatever is halted, stopped, throttled, seen or without a name.
        """
        if not strategy or not intent_id or self._stopped(symbol, account, strategy):
            return NOT_PLAIN
        if intent_id in account.seen or client_order_id in account.reservations:
            return NOT_PLAIN
        kind, leg, buying, orders = _KINDS[order_type], LEGS[position_side], side is Side.BUY, symbol.orders
        if orders.alike(strategy, side, price or stop, lots) >= self._max_identical:
            return IDENTICAL
        held = symbol.leg_of(leg)
        low, high = symbol.mark_low_ticks, symbol.mark_high_ticks
        equity, available = account.equity_atto, account.available_atto
        worth = self.check(
            kind, buying, price, stop, lots, time_in_force is TimeInForce.GTX, reduce_only, leg, account.hedge_mode,
            False, age_ns, ttl_ns, now_mono_ns,
            symbol.bid_ticks, symbol.ask_ticks, symbol.book_mono_ns, symbol.stale, symbol.mark_ticks,
            symbol.mark_mono_ns, low or 0, NO_LIMIT if high is None else high, symbol.ref_ticks, symbol.leverage,
            len(orders), bool(symbol.unknown), held.position_lots, held.open_buy_lots, held.open_sell_lots,
            held.open_buy_tick_lots, held.open_sell_tick_lots, orders.nearest(-side), account.exposure_atto,
            account.margin_atto, equity or 0, available or 0, equity is not None and available is not None,
            account.messages_second.oldest_mono_ns, account.messages_minute.oldest_mono_ns,
        )  # fmt: skip
        if worth < 0:
            return worth
        held.open(side, lots, worth)
        # What waits for its trigger rests in no book.
        orders.add(client_order_id, strategy, side, leg, price or stop, lots, worth, 0 if stop else price)
        account.refresh(symbol)
        for window in (account.messages_second, account.messages_minute, throttle):
            window.note(now_mono_ns)
        account.reservations[client_order_id] = symbol
        account.seen.add(intent_id)
        return RESERVED_LAST if throttle.full(now_mono_ns) else RESERVED

    def _stopped(self, symbol: SymbolRisk, account: AccountRisk, strategy: str) -> bool:
        active = RiskState.ACTIVE
        return bool(
            account.open_breakers
            or account.overall is not active
            or account.account_state is not active
            or symbol.state is not active
            or strategy in account.throttled
            or account.strategy_state.get(strategy, active) is not active
        )

    def _worth(self, kind: int, buying: bool, price: int, stop: int, bid: int, ask: int, mark: int) -> int:
        """The worst price that the order can fill at, as far as that is known."""
        if kind == LIMIT:
            return price if buying else max(price, bid)
        if kind == MARKET:
            worst = max(ask if buying else bid, mark)
            return worst + worst * self._collar_bps // 10_000 + 1
        return max(price, stop, mark)

    def _filters(
        self, kind: int, buying: bool, price: int, stop: int, lots: int, reduce_only: bool, ref: int, low: int,
        high: int,
    ) -> bool:  # fmt: skip
        least, most = self._ticks
        priced = kind in (LIMIT, PRICED_TRIGGER)
        if (priced and not least <= price <= most) or (kind >= PRICED_TRIGGER and not least <= stop <= most):
            return False
        fewest, largest = self._resting_lots if priced else self._market_lots
        if not fewest <= lots <= largest:
            return False
        if not reduce_only and (price or stop or ref) * lots < self._min_notional_tl:
            return False
        return kind != LIMIT or (price <= high if buying else price >= low)

    def _collar(self, kind: int, buying: bool, price: int, stop: int, bid: int, ask: int, mark: int, ref: int) -> bool:
        if kind >= PRICED_TRIGGER:
            if abs(stop - ref) * 10_000 > ref * self._passive_bps:
                return False
            return abs((price or stop) - stop) * 10_000 <= stop * self._mark_collar_bps
        sign, touch, own_touch = (1, ask, bid) if buying else (-1, bid, ask)
        price = price or touch
        if (price - touch) * sign * 10_000 > touch * self._collar_bps:
            return False
        if mark and (price - mark) * sign * 10_000 > mark * self._mark_collar_bps:
            return False
        return (own_touch - price) * sign * 10_000 <= own_touch * self._passive_bps

    def _account(
        self, added_tl: int, leverage: int, exposure: int, margin: int, equity: int, available: int, balances: bool
    ) -> bool:
        """Whether the account can carry ``added_tl`` more at risk."""
        added = added_tl * self._unit
        if exposure + added > self._max_exposure or leverage > self._max_leverage or not balances:
            return False
        needed = -(-added // leverage)
        numerator, denominator = self._margin_use
        return needed <= available and (margin + needed) * denominator <= equity * numerator


def _fits(most: int, *numbers: int) -> None:
    for number in numbers:
        if not 0 <= number <= most:
            raise OverflowError(f"{number} is no bound of a pre-trade check")
