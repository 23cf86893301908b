"""The strategy-level risk filter: how much of a wished order its strategy may place.

In: side, price and quantity of a wish, the strategy's ledger, its limits. Out: the lots that fit and, when that is
fewer than wished, one sentence. Cancels are not its business: they always pass. Risk proper checks again behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from tickmesh.domain.enums import Side
from tickmesh.domain.instrument import Instrument
from tickmesh.strategy.ledger import Ledger
from tickmesh.strategy.resource import Limits

_SECOND_NS = 1_000_000_000


class Verdict(NamedTuple):
    """``qty_lots`` 0 is a refusal; ``reason`` says which limit cut the order."""

    qty_lots: int
    reason: str = ""


class _Bounds(NamedTuple):
    """Limits and venue filters of one symbol as integers; ``*_tick_lots`` are values in ticks times lots."""

    max_lots: int
    max_tick_lots: int
    min_lots: int
    min_tick_lots: int


class LimitFilter:
    """Limits of one strategy; ``limits`` may be replaced while it works, its recent history stays."""

    def __init__(self, limits: Limits, instruments: Iterable[Instrument] = ()) -> None:
        """``instruments`` are those whose first order should not have to wait for their numbers."""
        self._limits = limits
        self._bounds: dict[str, _Bounds] = {}
        self._last_mono_ns: dict[tuple[str, Side], int] = {}
        self._recent: deque[int] = deque(maxlen=10_000)
        for instrument in instruments:
            self._of(instrument)

    @property
    def limits(self) -> Limits:
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._bounds = {}

    def _of(self, instrument: Instrument) -> _Bounds:
        bounds = self._bounds.get(instrument.symbol)
        if bounds is None:
            unit = instrument.tick_size * instrument.lot_size
            bounds = self._bounds[instrument.symbol] = _Bounds(
                int(self._limits.max_position / instrument.lot_size),
                int(self._limits.max_order_notional / unit),
                _ceil((instrument.min_qty or Decimal(0)) / instrument.lot_size),
                _ceil((instrument.min_notional or Decimal(0)) / unit),
            )
        return bounds

    def check(
        self,
        ledger: Ledger,
        instrument: Instrument,
        side: Side,
        price_ticks: int,
        qty_lots: int,
        *,
        now_mono_ns: int,
        reducing: bool = False,
        cool_down_factor: int = 1,
    ) -> Verdict:
        """Lots that may be placed now.

        Whatever subset of the open orders fills, in whatever order, the position stays within the limit: the
        worst case is that all of one side fill and none of the other. ``reducing`` allows only what shrinks the
        position, open orders of the same side included; such orders need not keep the cool-down.
        ``cool_down_factor`` stretches it while market data arrives late.
        """
        symbol, limits = instrument.symbol, self._limits
        bounds = self._bounds.get(symbol) or self._of(instrument)
        if qty_lots <= 0 or price_ticks <= 0:
            return Verdict(0, "a signal needs a quantity and a price")
        if len(ledger.orders) >= limits.max_open_orders:
            return Verdict(0, f"maxOpenOrders {limits.max_open_orders} reached")
        exposed = side * ledger.qty_lots(symbol)
        if ledger.orders:
            exposed += ledger.open_lots(symbol, side)
        room, limit = bounds.max_lots - exposed, "position"
        if reducing:
            room, limit = min(room, -exposed), "reducing"
        else:
            cooling = limits.cool_down_ms * 1_000_000 * cool_down_factor
            last = self._last_mono_ns.get((symbol, side))
            if last is not None and now_mono_ns - last < cooling:
                return Verdict(0, f"coolDownMs {limits.cool_down_ms * cool_down_factor} is not over")
        if self._rate(now_mono_ns) >= limits.max_orders_per_second:
            return Verdict(0, f"maxOrdersPerSecond {limits.max_orders_per_second} reached")
        by_value = bounds.max_tick_lots // price_ticks
        if by_value < room:
            room, limit = by_value, "value"
        allowed = min(qty_lots, max(room, 0))
        least = max(1, bounds.min_lots, -(-bounds.min_tick_lots // price_ticks))
        if least <= allowed == qty_lots:
            return Verdict(allowed)
        if limit == "value":
            reason = f"maxOrderNotional {limits.max_order_notional} allows {by_value} lots"
        elif limit == "reducing":
            reason = f"only {max(-exposed, 0)} lots reduce the position"
        else:
            reason = f"maxPosition {limits.max_position} leaves {max(room, 0)} lots"
        if allowed < least and not (reducing and allowed > 0):
            return Verdict(0, reason if allowed < qty_lots else f"the venue takes {least} lots at least")
        return Verdict(allowed, reason if allowed < qty_lots else "")

    def ready(self, symbol: str, side: Side, now_mono_ns: int, cool_down_factor: int = 1) -> bool:
        """Whether pace alone would let an order through now."""
        cooling = self.limits.cool_down_ms * 1_000_000 * cool_down_factor
        last = self._last_mono_ns.get((symbol, side))
        if last is not None and now_mono_ns - last < cooling:
            return False
        return self._rate(now_mono_ns) < self.limits.max_orders_per_second

    def placed(self, symbol: str, side: Side, now_mono_ns: int) -> None:
        """Note that an order left."""
        self._last_mono_ns[symbol, side] = now_mono_ns
        self._recent.append(now_mono_ns)

    def _rate(self, now_mono_ns: int) -> int:
        while self._recent and now_mono_ns - self._recent[0] >= _SECOND_NS:
            self._recent.popleft()
        return len(self._recent)


def _ceil(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))
