"""Positions of one symbol: fills in, signed lots, exact cost and realised profit out.

Profit by average cost depends on the order of fills, and fills arrive from the bus, the journal and the
venue in any order and more than once. The venue's trade id decides: it counts up per symbol, so trades are
kept sorted by it, a late one is inserted and what follows is booked again. Older than the window: refused
(reconciliation corrects the position). It knows no prices but those of fills.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

import msgspec

from tickmesh.domain.enums import PositionSide, Side
from tickmesh.domain.instrument import Instrument

ZERO = Decimal(0)
GRAIN = Decimal("0.00000001")
"""The venue's smallest unit of quote currency; a partial close takes a cost rounded to it out of the position."""

WINDOW = 128
"""Trades per symbol that a late one can still be put before; they are part of the saved state."""

Key = tuple[int, int]


class Verdict(StrEnum):
    """What became of a fill."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    TOO_OLD = "too old"
    UNKNOWN_SYMBOL = "unknown symbol"


class TradeLine(msgspec.Struct, frozen=True, array_like=True):
    """What booking needs of one fill; ``taker`` tells the two halves of a trade with ourselves apart."""

    trade_id: int
    taker: bool
    side: int
    position_side: PositionSide
    price_ticks: int
    qty_lots: int

    @property
    def key(self) -> Key:
        return (self.trade_id, int(self.taker))


class Leg(msgspec.Struct, array_like=True):
    """One position: signed lots, the quote value paid for them with the sign of the lots, and realised profit."""

    lots: int = 0
    cost: Decimal = ZERO
    realized: Decimal = ZERO

    def book(self, instrument: Instrument, side: int, ticks: int, lots: int) -> None:
        """Book a fill: first it closes what stands against it, the rest opens."""
        closing = min(lots, abs(self.lots)) if self.lots * side < 0 else 0
        if closing:
            held = abs(self.lots)
            part = self.cost if closing == held else (self.cost * closing / held).quantize(GRAIN, ROUND_HALF_EVEN)
            self.realized += -side * instrument.notional(ticks, closing) - part
            self.cost -= part
            self.lots += side * closing
        opening = lots - closing
        if opening:
            self.cost += side * instrument.notional(ticks, opening)
            self.lots += side * opening

    def entry_price(self, instrument: Instrument) -> Decimal:
        """Average price of what is held, to the venue's grain; 0 when flat."""
        return (self.cost / instrument.qty(self.lots)).quantize(GRAIN) if self.lots else ZERO


class SymbolState(msgspec.Struct, array_like=True):
    """The saved form of a SymbolBook: the legs before ``recent``, and the newest trades."""

    base: dict[PositionSide, Leg]
    folded: Key
    recent: list[TradeLine]


class SymbolBook:
    """All legs of one symbol: BOTH in one-way mode, LONG and SHORT in hedge mode."""

    def __init__(self, instrument: Instrument, *, window: int = WINDOW) -> None:
        self.instrument = instrument
        self.legs: dict[PositionSide, Leg] = {}
        self._base: dict[PositionSide, Leg] = {}
        self._folded: Key = (0, 0)
        self._keys: list[Key] = []
        self._recent: list[TradeLine] = []
        self._window = window

    @property
    def last_trade_id(self) -> int:
        """The highest trade id that is part of this state; 0 before the first."""
        return self._keys[-1][0] if self._keys else self._folded[0]

    @property
    def realized(self) -> Decimal:
        return sum((leg.realized for leg in self.legs.values()), ZERO)

    def leg(self, side: PositionSide) -> Leg:
        """The leg, flat on first use; the book owns it, do not change it."""
        return self.legs.setdefault(side, Leg())

    def apply(self, trade: TradeLine) -> Verdict:
        """Book a trade where its id puts it."""
        key = trade.key
        if key <= self._folded:
            return Verdict.TOO_OLD
        at = bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at] == key:
            return Verdict.DUPLICATE
        self._keys.insert(at, key)
        self._recent.insert(at, trade)
        if at == len(self._keys) - 1:
            self._book(self.legs, (trade,))
        else:
            self._rebuild()
        if len(self._keys) > self._window:
            self._fold(1)
        return Verdict.APPLIED

    def correct(self, side: PositionSide, lots: int, cost: Decimal, trade_id: int = 0) -> None:
        """Put a leg to what the venue says; realised profit stays. Trades up to ``trade_id`` are then part of it.

        A ``trade_id`` below our newest means that the venue counts anew (a test venue that was reset): we follow.
        """
        self._fold(len(self._keys))
        self._folded = (trade_id, 1) if trade_id else self._folded
        leg = self.leg(side)
        leg.lots, leg.cost = lots, cost
        self._base = _copy(self.legs)

    def state(self) -> SymbolState:
        """A copy of all that must survive."""
        return SymbolState(_copy(self._base), self._folded, list(self._recent))

    def load(self, state: SymbolState) -> None:
        self._base, self._folded = _copy(state.base), state.folded
        self._recent = sorted(state.recent, key=lambda trade: trade.key)
        self._keys = [trade.key for trade in self._recent]
        self._rebuild()

    def _fold(self, count: int) -> None:
        """Make the oldest ``count`` trades part of the base."""
        if count:
            self._book(self._base, self._recent[:count])
            self._folded = self._keys[count - 1]
            del self._recent[:count], self._keys[:count]

    def _rebuild(self) -> None:
        self.legs = _copy(self._base)
        self._book(self.legs, self._recent)

    def _book(self, legs: dict[PositionSide, Leg], trades: Iterable[TradeLine]) -> None:
        for trade in trades:
            leg = legs.setdefault(trade.position_side, Leg())
            leg.book(self.instrument, Side(trade.side), trade.price_ticks, trade.qty_lots)


def _copy(legs: dict[PositionSide, Leg]) -> dict[PositionSide, Leg]:
    return {side: Leg(leg.lots, leg.cost, leg.realized) for side, leg in legs.items()}
