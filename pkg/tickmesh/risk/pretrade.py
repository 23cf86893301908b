"""PreTrade: an intent in, an ApprovedOrder (the only maker of it) or a Refusal out.

Approving reserves: the order's exposure, its intent id and its message count are in the RiskView before the
caller sees the answer, so two intents in a row can never pass on the same room. It sends nothing.

Most intents pass, and a ``Lane`` sees that with the hot path's kernel. Whatever it does not see as a plain yes goes
through the checks one by one: only they refuse, and they are the rule book (decision 0114).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tickmesh.domain.approval import ApprovedOrder, Refusal
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, OrderType
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import OrderIntent
from tickmesh.hotpath import PreTradeKernel, RateWindow
from tickmesh.hotpath.pure.pretrade import RESERVED, RESERVED_LAST, UNSURE
from tickmesh.risk.checks import CHECKS, Check, make_candidate
from tickmesh.risk.compiled import CompiledLimits, compile_limits
from tickmesh.risk.lane import Lane, make_lane
from tickmesh.risk.limits import Limits
from tickmesh.risk.view import RiskView

_NS_PER_S = 1_000_000_000
_PLACE: Final = IntentAction.PLACE


class PreTrade:
    """All checks before anything leaves, under limits that may change at any time."""

    def __init__(
        self, instruments: Mapping[str, Instrument], limits: Limits, *, checks: tuple[Check, ...] = CHECKS,
        kernel: type[PreTradeKernel] | None = PreTradeKernel,
    ) -> None:  # fmt: skip
        """``kernel`` is either half's; None leaves everything to ``checks``, as do other ones than ours."""
        self._checks = checks
        self._kind = kernel if checks is CHECKS else None
        self._lanes: dict[str, Lane] = {}
        self._fitted: RiskView | None = None
        self.quick = 0
        self._instruments = dict(instruments)
        self._limits = limits
        self._bounds: dict[str, CompiledLimits] = {}
        self.set_limits(limits)

    @property
    def limits(self) -> Limits:
        return self._limits

    def set_limits(self, limits: Limits) -> None:
        """Use ``limits`` (validated by ``limits.parse`` or ``limits.check``) from the next intent on."""
        self._limits = limits
        self._bounds = {symbol: compile_limits(i, limits) for symbol, i in self._instruments.items()}
        self._fitted = None

    def set_instrument(self, instrument: Instrument) -> None:
        """Take over changed filters or a changed status of a symbol."""
        self._instruments[instrument.symbol] = instrument
        self._bounds[instrument.symbol] = compile_limits(instrument, self._limits)
        self._fitted = None

    def approve(self, intent: OrderIntent, view: RiskView, now_ns: int, now_mono_ns: int) -> ApprovedOrder | Refusal:
        """Judge ``intent``; cancels always pass.

        Args:
            intent: from the bus, unchecked.
            view: changed only when the answer is an ApprovedOrder to PLACE: the order is then reserved in it.
            now_ns: wall clock, comparable with ``intent.publish_ns``.
            now_mono_ns: CLOCK_MONOTONIC, comparable with the book's ``receive_mono_ns``.
        """
        if intent.action is not _PLACE:
            return ApprovedOrder(intent, intent.target_client_order_id, now_mono_ns)
        if self._fitted is not view:
            self.fit(view)
        lane = self._lanes.get(intent.symbol)
        if lane is None:
            return Refusal("unknown_symbol", f"{intent.symbol} is not a symbol of this account; see venue.symbols")
        strategy = intent.strategy
        order_id = client_order_id(strategy, intent.intent_id)
        throttle = view.strategy_orders.get(strategy) or self._new_throttle()
        answer = UNSURE
        if lane.reserve is not None and intent.account == view.account and intent.venue == lane.venue:
            try:
                answer = lane.reserve(
                    lane.symbol, view, throttle, order_id, intent.intent_id, strategy, intent.order_type, intent.side,
                    intent.price_ticks, intent.stop_price_ticks, intent.qty_lots, intent.time_in_force,
                    intent.reduce_only, intent.position_side, now_ns - intent.publish_ns, intent.ttl_ns, now_mono_ns,
                )  # fmt: skip
            except OverflowError:
                pass  # a number that the kernel cannot count with: the checks do
        if answer >= 0:
            self.quick += 1
        else:
            checked = self._check(intent, order_id, lane, view, now_ns, now_mono_ns, throttle)
            if isinstance(checked, Refusal):
                return checked
            answer = checked
        view.strategy_orders[strategy] = throttle
        if answer == RESERVED_LAST:  # a person must reopen it
            view.throttled.add(strategy)
        return ApprovedOrder(intent, order_id, now_mono_ns)

    def _check(
        self, intent: OrderIntent, order_id: str, lane: Lane, view: RiskView, now_ns: int, now_mono_ns: int,
        throttle: RateWindow,
    ) -> Refusal | int:  # fmt: skip
        """Ask every check, and reserve when none refuses; the answer is then that of the kernel."""
        candidate = make_candidate(intent, order_id, lane.symbol, lane.bounds, view, self._limits, now_ns, now_mono_ns)
        for check in self._checks:
            refusal = check(candidate)
            if refusal is not None:
                return refusal
        self._reserve(intent, order_id, view, candidate.worth_ticks)
        for window in (view.messages_second, view.messages_minute, throttle):
            window.note(now_mono_ns)
        view.seen.add(intent.intent_id)
        return RESERVED_LAST if throttle.full(now_mono_ns) else RESERVED

    def fit(self, view: RiskView) -> None:
        """Begin with a view, limits or filters that are new: windows and lanes get their bounds."""
        limits, seconds = self._limits, self._limits.throttle_window_s * _NS_PER_S
        view.messages_second = view.messages_second.resized(limits.max_messages_per_s, _NS_PER_S)
        view.messages_minute = view.messages_minute.resized(limits.max_messages_per_min, 60 * _NS_PER_S)
        for strategy, window in view.strategy_orders.items():
            view.strategy_orders[strategy] = window.resized(limits.throttle_orders, seconds)
        self._lanes = {
            name: make_lane(view.symbols[name], bounds, limits, self._kind)
            for name, bounds in self._bounds.items()
            if name in view.symbols
        }
        self._fitted = view

    def _new_throttle(self) -> RateWindow:
        return RateWindow(self._limits.throttle_orders, self._limits.throttle_window_s * _NS_PER_S)

    def exit_lots(self, symbol: str, held_lots: int) -> int:
        """How much of a position one market order may close."""
        bounds = self._bounds.get(symbol)
        return min(held_lots, bounds.market_max_lots or held_lots) if bounds is not None else held_lots

    def approve_exit(self, intent: OrderIntent, held_lots: int, now_mono_ns: int) -> ApprovedOrder | Refusal:
        """Judge the emergency stop's closing order, which passes halts, breakers and prices: it can only shrink.

        Args:
            intent: a reduce-only market order.
            held_lots: what the venue says is held there, negative when short.
        """
        closes = intent.side < 0 < held_lots or held_lots < 0 < intent.side
        if intent.order_type is not OrderType.MARKET or not intent.reduce_only or not closes:
            return Refusal("no_exit", f"{intent.intent_id} is no order that only closes a position")
        if not 0 < intent.qty_lots <= abs(held_lots):
            return Refusal("no_exit", f"{intent.qty_lots} lots are more than the {abs(held_lots)} that are held")
        if intent.symbol not in self._instruments:
            return Refusal("unknown_symbol", f"{intent.symbol} is not a symbol of this account; see venue.symbols")
        return ApprovedOrder(intent, client_order_id(intent.strategy, intent.intent_id), now_mono_ns)

    def _reserve(self, intent: OrderIntent, order_id: str, view: RiskView, worth_ticks: int) -> None:
        # A conditional order rests nowhere until it triggers; IOC and FOK never rest, but until the venue has
        # answered an own order on the other side could meet them.
        stop_ticks = intent.stop_price_ticks
        view.reserve(
            order_id, intent.symbol, intent.strategy, intent.side, intent.price_ticks or stop_ticks, intent.qty_lots,
            position_side=intent.position_side, worth_ticks=worth_ticks, resting=not stop_ticks,
        )  # fmt: skip
