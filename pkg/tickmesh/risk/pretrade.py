"""PreTrade: an intent in, an ApprovedOrder (the only maker of it) or a Refusal out.

Approving reserves: the order's exposure, its intent id and its message count are in the RiskView before the
caller sees the answer, so two intents in a row can never pass on the same room. It sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from tickmesh.domain.approval import ApprovedOrder, Refusal
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import OrderIntent
from tickmesh.risk.checks import CHECKS, Candidate, Check, make_candidate
from tickmesh.risk.compiled import CompiledLimits, compile_limits
from tickmesh.risk.limits import Limits
from tickmesh.risk.view import RateWindow, Reservation, RiskView

_NS_PER_S = 1_000_000_000


class PreTrade:
    """All checks before anything leaves, under limits that may change at any time."""

    def __init__(
        self, instruments: Mapping[str, Instrument], limits: Limits, *, checks: tuple[Check, ...] = CHECKS
    ) -> None:
        self._checks = checks
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

    def set_instrument(self, instrument: Instrument) -> None:
        """Take over changed filters or a changed status of a symbol."""
        self._instruments[instrument.symbol] = instrument
        self._bounds[instrument.symbol] = compile_limits(instrument, self._limits)

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
        candidate = make_candidate(
            intent, client_order_id(intent.strategy, intent.intent_id), symbol, bounds, view, limits, now_ns,
            now_mono_ns,
        )  # fmt: skip
        for check in self._checks:
            refusal = check(candidate)
            if refusal is not None:
                return refusal
        return self._reserve(candidate)

    def _reserve(self, c: Candidate) -> ApprovedOrder:
        intent, view = c.intent, c.view
        # A conditional order rests nowhere until it triggers; IOC and FOK never rest, but until the venue has
        # answered an own order on the other side could meet them.
        resting_ticks = 0 if c.conditional else intent.price_ticks
        view.reserve(
            Reservation(
                c.client_order_id, intent.symbol, intent.strategy, intent.side, intent.position_side, c.worth_ticks,
                resting_ticks, intent.qty_lots, c.identity,
            )
        )  # fmt: skip
        view.note_intent(intent.intent_id)
        view.messages_second.note(c.now_mono_ns)
        view.messages_minute.note(c.now_mono_ns)
        self._throttle(c)
        return ApprovedOrder(intent, c.client_order_id, c.now_mono_ns)

    def _throttle(self, c: Candidate) -> None:
        """Count the order against its strategy; the last allowed one shuts it (``view.throttled``) for a person."""
        limits, strategy = c.limits, c.intent.strategy
        window = c.view.strategy_orders.get(strategy)
        window_ns = limits.throttle_window_s * _NS_PER_S
        if window is None or window.size != limits.throttle_orders or window.window_ns != window_ns:
            old = window.times if window is not None else ()
            window = RateWindow(limits.throttle_orders, window_ns)
            window.times.extend(old)
            c.view.strategy_orders[strategy] = window
        window.note(c.now_mono_ns)
        if window.full(c.now_mono_ns):
            c.view.throttled.add(strategy)


def _resized(window: RateWindow, size: int) -> RateWindow:
    fresh = RateWindow(size, window.window_ns)
    fresh.times.extend(window.times)
    return fresh
