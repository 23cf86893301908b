"""What the pre-trade kernel looks at and changes: one account's numbers, halts and ids, and those of its symbols.

In: book tops, marks, open orders, message times, states, from ``risk.view``, which has the rules around them.
Out: the worst-case exposure and margin, kept as sums. It knows no limit. The specification of the native classes of
the same names, which hold prices, lots and times in 64 bits and values in 128: ``risk.view`` lets in nothing larger.

Units: ``tick_lots`` is price in ticks times lots; ``atto`` is quote currency times 10**18.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tickmesh.domain.enums import RiskState
from tickmesh.hotpath.pure.open_orders import BOTH, LONG, OpenOrders, RecentIds

MOST_ATTO = 2**110
"""An exposure that is worth more counts as this, which is more than any limit: 10**15 of quote currency."""

SEEN_INTENTS = 200_000
"""So many intent ids are remembered."""

NEVER_NS = -(2**62)
"""Long before any time of CLOCK_MONOTONIC."""


class Leg:
    """One position (BOTH, LONG or SHORT) and the open orders against it; ``position_lots`` is signed."""

    __slots__ = ("open_buy_lots", "open_buy_tick_lots", "open_sell_lots", "open_sell_tick_lots", "position_lots")

    def __init__(self) -> None:
        self.position_lots = 0
        self.open_buy_lots = self.open_sell_lots = 0
        self.open_buy_tick_lots = self.open_sell_tick_lots = 0

    def worst_tick_lots(self, ref_ticks: int) -> int:
        """The largest value the position can reach at ``ref_ticks`` whatever subset of the open orders fills."""
        held = self.position_lots * ref_ticks
        long = held + max(self.open_buy_tick_lots, self.open_buy_lots * ref_ticks)
        short = max(self.open_sell_tick_lots, self.open_sell_lots * ref_ticks) - held
        return max(long, short, 0)

    def open(self, side: int, lots: int, worth_ticks: int) -> None:
        """Add open lots (negative: take away) of the side of that sign."""
        if side > 0:
            self.open_buy_lots += lots
            self.open_buy_tick_lots += lots * worth_ticks
        else:
            self.open_sell_lots += lots
            self.open_sell_tick_lots += lots * worth_ticks


class RateWindow:
    """The times of the last ``size`` messages; full and young means too fast."""

    __slots__ = ("_times", "size", "window_ns")

    def __init__(self, size: int, window_ns: int, _times: Iterable[int] = ()) -> None:
        self.size = size
        self.window_ns = window_ns
        self._times: deque[int] = deque(_times)

    def full(self, now_mono_ns: int) -> bool:
        """Whether one more would be too many."""
        return now_mono_ns - self.oldest_mono_ns < self.window_ns

    @property
    def oldest_mono_ns(self) -> int:
        """When the oldest of the last ``size`` messages left; ``NEVER_NS`` when there were not so many."""
        return self._times[-self.size] if len(self._times) >= self.size else NEVER_NS

    def note(self, now_mono_ns: int) -> None:
        """One more message."""
        self._times.append(now_mono_ns)
        while len(self._times) > self.size:
            self._times.popleft()

    def resized(self, size: int, window_ns: int) -> RateWindow:
        """The same messages under another bound."""
        return RateWindow(size, window_ns, self._times)


class SymbolRisk:
    """One symbol. A mark of 0 is missing, so is a book at time 0; ``ref_ticks`` is what positions are valued at.

    While ``unknown``, the ids of orders of which the venue has not said what became, is not empty, nothing adds risk.
    """

    __slots__ = (
        "ask_ticks", "bid_ticks", "book_mono_ns", "both", "exposure_atto", "leverage", "long", "margin_atto",
        "mark_high_ticks", "mark_low_ticks", "mark_mono_ns", "mark_ticks", "orders", "ref_ticks", "short", "stale",
        "state", "unit_atto", "unknown",
    )  # fmt: skip

    def __init__(self) -> None:
        self.unit_atto = 1
        self.bid_ticks = self.ask_ticks = self.book_mono_ns = 0
        self.stale = True
        self.mark_ticks = self.mark_mono_ns = self.ref_ticks = 0
        self.mark_low_ticks: int | None = None
        self.mark_high_ticks: int | None = None
        self.leverage = 1
        self.both, self.long, self.short = Leg(), Leg(), Leg()
        self.orders = OpenOrders()
        self.exposure_atto = self.margin_atto = 0
        self.state = RiskState.ACTIVE
        self.unknown: set[str] = set()

    def leg_of(self, number: int) -> Leg:
        """The position BOTH, LONG or SHORT, which orders are open against."""
        return self.both if number == BOTH else self.long if number == LONG else self.short


class AccountRisk:
    """The sums over all symbols, the balances (None: not known), the message windows, what is halted, and known ids.

    ``strategy_state`` has the strategies that were ever halted; ``reservations`` says for the client order id of every
    open order which symbol's it is.
    """

    __slots__ = (
        "account_state", "available_atto", "equity_atto", "exposure_atto", "hedge_mode", "margin_atto",
        "messages_minute", "messages_second", "open_breakers", "overall", "reservations", "seen", "strategy_state",
        "throttled",
    )  # fmt: skip

    def __init__(self) -> None:
        self.overall = self.account_state = RiskState.ACTIVE
        self.strategy_state: dict[str, RiskState] = {}
        self.open_breakers: set[str] = set()
        self.throttled: set[str] = set()
        self.reservations: dict[str, SymbolRisk] = {}
        self.seen = RecentIds(SEEN_INTENTS)
        self.hedge_mode = False
        self.equity_atto: int | None = None
        self.available_atto: int | None = None
        self.exposure_atto = self.margin_atto = 0
        self.messages_second = RateWindow(1, 1_000_000_000)
        self.messages_minute = RateWindow(1, 60_000_000_000)

    def refresh(self, symbol: SymbolRisk) -> None:
        """Bring the sums up to date with ``symbol``."""
        ref = symbol.ref_ticks
        worst = symbol.both.worst_tick_lots(ref)
        if self.hedge_mode:
            worst += symbol.long.worst_tick_lots(ref) + symbol.short.worst_tick_lots(ref)
        exposure = min(worst * symbol.unit_atto, MOST_ATTO)
        margin = exposure // symbol.leverage
        self.exposure_atto += exposure - symbol.exposure_atto
        self.margin_atto += margin - symbol.margin_atto
        symbol.exposure_atto, symbol.margin_atto = exposure, margin
