"""The day's start and the highest equity: what daily P&L and drawdown are measured from.

In come equity and wall time, and money that was moved in or out (which is no profit). Days are UTC, as the
venue's. It is saved as it is: a restart must not forget a peak, or a halt by drawdown would be undone by it.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

ZERO = Decimal(0)
DAY_NS = 86_400_000_000_000


class DayBook(msgspec.Struct):
    """``day`` counts UTC days since 1970; -1 before the first equity."""

    day: int = -1
    start_equity: Decimal = ZERO
    day_peak: Decimal = ZERO
    peak: Decimal = ZERO

    def on_equity(self, equity: Decimal, now_ns: int) -> bool:
        """Note the equity; returns whether something that must be saved changed. A clock set back starts no new day."""
        day = now_ns // DAY_NS
        before = (self.day, self.day_peak, self.peak)
        if day > self.day:
            self.peak = equity if self.day < 0 else max(self.peak, equity)
            self.day, self.start_equity, self.day_peak = day, equity, equity
        self.day_peak = max(self.day_peak, equity)
        self.peak = max(self.peak, equity)
        return before != (self.day, self.day_peak, self.peak)

    def on_transfer(self, amount: Decimal) -> None:
        """Money came in (or, negative, went out): the marks move with it."""
        if self.day >= 0:
            self.start_equity += amount
            self.day_peak += amount
            self.peak += amount

    def daily_pnl(self, equity: Decimal) -> Decimal:
        return equity - self.start_equity if self.day >= 0 else ZERO

    def daily_drawdown(self, equity: Decimal) -> Decimal:
        """Fall from the day's highest equity as a share of it."""
        return _fall(self.day_peak, equity)

    def drawdown(self, equity: Decimal) -> Decimal:
        """Fall from the highest equity ever as a share of it."""
        return _fall(self.peak, equity)


def _fall(peak: Decimal, equity: Decimal) -> Decimal:
    return max(ZERO, (peak - equity) / peak).quantize(Decimal("0.00000001")) if peak > 0 else ZERO
