"""PlainOrders: approved orders as the bytes of their requests, by the hot path's half, as far as they are plain.

In: an ApprovedOrder and its instrument. Out: the same bytes that ``translate_trading.place_parameters`` and the general
way of ``rest`` make, or None for an order that only they can write (conditional, market, hedge mode, odd texts).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.enums import OrderType, PositionSide, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.hotpath import OrderRequests

_LIMIT: Final = OrderType.LIMIT
_BOTH: Final = PositionSide.BOTH
_BUY: Final = Side.BUY
_MOST_DIGITS = 12


class PlainOrders:
    """Orders of one account; instruments are learned as they come, and anew when one was replaced."""

    def __init__(
        self, secret: bytes, before: bytes, tail: bytes, after: bytes, kind: type[OrderRequests] = OrderRequests
    ) -> None:
        """``kind`` is either half's."""
        self._requests = kind(secret, before, tail, after)
        self._known: dict[str, tuple[Instrument, int]] = {}

    def request(self, approved: ApprovedOrder, instrument: Instrument, now_ms: int) -> bytes | None:
        """The bytes, with ``now_ms`` (the venue's clock) as their time; None for an order that is not plain."""
        intent = approved.intent
        if intent.order_type is not _LIMIT or intent.stop_price_ticks or intent.position_side is not _BOTH:
            return None
        known = self._known.get(intent.symbol)
        if known is None or known[0] is not instrument:
            known = self._known[intent.symbol] = (instrument, self._add(instrument))
        number = known[1]
        if number < 0:
            return None
        try:
            return self._requests.limit(
                number, intent.side is _BUY, intent.qty_lots, intent.price_ticks, approved.client_order_id,
                intent.time_in_force, intent.reduce_only, now_ms,
            )  # fmt: skip
        except (ValueError, OverflowError):
            return None

    def _add(self, instrument: Instrument) -> int:
        """The number of an instrument, -1 for one whose steps or name are not plain."""
        tick, lot = _step(instrument.tick_size), _step(instrument.lot_size)
        if tick is None or lot is None:
            return -1
        try:
            return self._requests.add(instrument.symbol, *tick, *lot)
        except ValueError:
            return -1


def _step(step: Decimal) -> tuple[int, int] | None:
    """Coefficient and decimals of a step, written as it is written; None when it has too many digits."""
    sign, digits, exponent = step.as_tuple()
    if sign or not isinstance(exponent, int) or len(digits) + max(exponent, 0) > _MOST_DIGITS:
        return None
    coefficient = int("".join(map(str, digits)))
    return coefficient * 10 ** max(exponent, 0), max(-exponent, 0)
