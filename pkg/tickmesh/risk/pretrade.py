"""PreTrade: an intent in, an ApprovedOrder (the only maker of it) or a Refusal out.

Approving reserves: the order's exposure, its intent id and its message count are in the RiskView before the
caller sees the answer, so two intents in a row can never pass on the same room. It sends nothing.

Most intents pass, and ``quick`` sees that with the hot path's kernel. Whatever it does not see as a plain yes goes
through the checks one by one: only they refuse, and they are the rule book (decision 0114).
"""

from __future__ import annotations

from collections.abc import Mapping

from tickmesh.domain.approval import ApprovedOrder, Refusal
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, OrderType
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import OrderIntent
from tickmesh.hotpath import PreTradeKernel
from tickmesh.risk.checks import CHECKS, Check, make_candidate
from tickmesh.risk.compiled import CompiledLimits, compile_limits
from tickmesh.risk.limits import Limits
from tickmesh.risk.quick import make_kernel, worth_if_plain
from tickmesh.risk.view import RateWindow, Reservation, RiskView, SymbolView

_NS_PER_S = 1_000_000_000


class PreTrade:
    """All checks before anything leaves, under limits that may change at any time."""

    def __init__(
        self, instruments: Mapping[str, Instrument], limits: Limits, *, checks: tuple[Check, ...] = CHECKS,
        kernel: type[PreTradeKernel] | None = PreTradeKernel,
    ) -> None:  # fmt: skip
        """``kernel`` is either half's; None leaves everything to ``checks``, as do other ones than ours."""
        self._checks = checks
        self._kind = kernel if checks is CHECKS else None
        self._kernels: dict[tuple[str, bool], PreTradeKernel | None] = {}
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
        self._kernels.clear()

    def set_instrument(self, instrument: Instrument) -> None:
        """Take over changed filters or a changed status of a symbol."""
        self._instruments[instrument.symbol] = instrument
        self._bounds[instrument.symbol] = compile_limits(instrument, self._limits)
        self._kernels.clear()

    def approve(self, intent: OrderIntent, view: RiskView, now_ns: int, now_mono_ns: int) -> ApprovedOrder | Refusal:
        """Judge ``intent``; cancels always pass.

        Args:
            intent: from the bus, unchecked.
            view: changed only when the answer is an ApprovedOrder to PLACE: the order is then reserved in it.
            now_ns: wall clock, comparable with ``intent.publish_ns``.
            now_mono_ns: CLOCK_MONOTONIC, comparable with the book's ``receive_mono_ns``.
        """
        if intent.action is not IntentAction.PLACE:
            return ApprovedOrder(intent, intent.target_client_order_id, now_mono_ns)
        bounds, symbol = self._bounds.get(intent.symbol), view.symbols.get(intent.symbol)
        if bounds is None or symbol is None:
            return Refusal("unknown_symbol", f"{intent.symbol} is not a symbol of this account; see venue.symbols")
        limits = self._limits
        if view.messages_second.size != limits.max_messages_per_s:
            view.messages_second = _resized(view.messages_second, limits.max_messages_per_s)
        if view.messages_minute.size != limits.max_messages_per_min:
            view.messages_minute = _resized(view.messages_minute, limits.max_messages_per_min)
        order_id = client_order_id(intent.strategy, intent.intent_id)
        kernel = self._kernel(symbol, view.hedge_mode)
        if kernel is not None:
            worth = worth_if_plain(kernel, intent, order_id, symbol, bounds, view, limits, now_ns, now_mono_ns)
            if worth is not None:
                self.quick += 1
                return self._reserve(intent, order_id, view, worth, now_mono_ns)
        candidate = make_candidate(intent, order_id, symbol, bounds, view, limits, now_ns, now_mono_ns)
        for check in self._checks:
            refusal = check(candidate)
            if refusal is not None:
                return refusal
        return self._reserve(intent, order_id, view, candidate.worth_ticks, now_mono_ns)

    def _kernel(self, symbol: SymbolView, hedge_mode: bool) -> PreTradeKernel | None:
        name = symbol.instrument.symbol
        try:
            return self._kernels[name, hedge_mode]
        except KeyError:
            made = None
            if self._kind is not None:
                made = make_kernel(
                    self._bounds[name], self._limits, hedge_mode=hedge_mode, unit_atto=symbol.unit_atto, kind=self._kind
                )
            self._kernels[name, hedge_mode] = made
            return made

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

    def _reserve(
        self, intent: OrderIntent, order_id: str, view: RiskView, worth_ticks: int, now_mono_ns: int
    ) -> ApprovedOrder:
        # A conditional order rests nowhere until it triggers; IOC and FOK never rest, but until the venue has
        # answered an own order on the other side could meet them.
        side, stop_ticks = intent.side, intent.stop_price_ticks
        resting_ticks = 0 if stop_ticks else intent.price_ticks
        identity = (intent.strategy, intent.symbol, side, intent.price_ticks or stop_ticks, intent.qty_lots)
        view.reserve(
            Reservation(
                order_id, intent.symbol, intent.strategy, side, intent.position_side, worth_ticks, resting_ticks,
                intent.qty_lots, identity,
            )
        )  # fmt: skip
        view.note_intent(intent.intent_id)
        view.messages_second.note(now_mono_ns)
        view.messages_minute.note(now_mono_ns)
        self._throttle(intent.strategy, view, now_mono_ns)
        return ApprovedOrder(intent, order_id, now_mono_ns)

    def _throttle(self, strategy: str, view: RiskView, now_mono_ns: int) -> None:
        """Count the order against its strategy; the last allowed one shuts it (``view.throttled``) for a person."""
        limits = self._limits
        window = view.strategy_orders.get(strategy)
        window_ns = limits.throttle_window_s * _NS_PER_S
        if window is None or window.size != limits.throttle_orders or window.window_ns != window_ns:
            old = window.times if window is not None else ()
            window = RateWindow(limits.throttle_orders, window_ns)
            window.times.extend(old)
            view.strategy_orders[strategy] = window
        window.note(now_mono_ns)
        if window.full(now_mono_ns):
            view.throttled.add(strategy)


def _resized(window: RateWindow, size: int) -> RateWindow:
    fresh = RateWindow(size, window.window_ns)
    fresh.times.extend(window.times)
    return fresh
