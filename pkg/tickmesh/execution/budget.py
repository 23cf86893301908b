"""RateBudget: how many requests and orders the venue still takes, from its own headers and from other processes.

In come sent requests, header readings, refusals, and what other processes of the same address and account know; out
goes yes or no before a request, and what others should know. Cancels have a slice of the weight that nothing else may
use; only the venue's own "wait" stops them. No clock: monotonic time comes in, and its distance to the venue's time.
Source: Binance "USDS-M Futures", General Info, Limits (read 2024-12): counters per fixed minute and 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

_NS = 1_000_000_000
_LONGEST_WAIT_NS = 3 * 86_400 * _NS
"""The venue's longest ban is three days; a record that says more is wrong."""


class BudgetNews(msgspec.Struct, frozen=True, kw_only=True):
    """What one process knows. Times are the venue's, ns since 1970; counts are of the windows that hold ``at_ns``."""

    at_ns: int
    weight_1m: int = 0
    orders_10s: int = 0
    orders_1m: int = 0
    banned_until_ns: int = 0
    limited_until_ns: int = 0
    orders_until_ns: int = 0


@dataclass(slots=True)
class _Window:
    """A counter that the venue sets to zero with every fixed interval of its time."""

    limit: int
    length_ns: int
    used: int = 0
    number: int = -1

    def now(self, venue_ns: int) -> int:
        number = venue_ns // self.length_ns
        if number != self.number:
            self.used, self.number = 0, number
        return self.used

    def spend(self, amount: int, venue_ns: int) -> None:
        self.now(venue_ns)
        self.used += amount

    def read(self, used: int, venue_ns: int) -> None:
        """The venue's own count outweighs ours; one from before this window says nothing about it."""
        if venue_ns // self.length_ns >= self.number:
            self.now(venue_ns)
            self.used = used

    def hear(self, used: int, at_ns: int, venue_ns: int) -> None:
        """Another process's count: within a window counts only grow, so the larger one is the newer."""
        if at_ns // self.length_ns == venue_ns // self.length_ns:
            self.used = max(self.now(venue_ns), used)


class RateBudget:
    """The budget of one address (weight) and one account (orders)."""

    def __init__(self, weight_per_min: int, orders_per_10s: int, orders_per_min: int, cancel_reserve: float) -> None:
        self._weight = _Window(weight_per_min, 60 * _NS)
        self._orders_10s = _Window(orders_per_10s, 10 * _NS)
        self._orders_1m = _Window(orders_per_min, 60 * _NS)
        self._others_weight = int(weight_per_min * (1 - cancel_reserve))
        self._banned_until_ns = 0
        self._limited_until_ns = 0
        self._orders_until_ns = 0
        self.venue_ahead_ns = 0
        """The venue's time minus CLOCK_MONOTONIC; its intervals turn over by it."""

    def may_place(self, mono_ns: int) -> str:
        """Empty when an order may be sent, else the reason in one sentence."""
        if mono_ns < self._banned_until_ns or mono_ns < self._limited_until_ns or mono_ns < self._orders_until_ns:
            return "the venue told us to slow down and its waiting time has not passed"
        venue_ns = mono_ns + self.venue_ahead_ns
        if self._orders_10s.now(venue_ns) >= self._orders_10s.limit:
            return f"the venue's limit of {self._orders_10s.limit} orders in 10 s is used up"
        if self._orders_1m.now(venue_ns) >= self._orders_1m.limit:
            return f"the venue's limit of {self._orders_1m.limit} orders a minute is used up"
        if self._weight.now(venue_ns) >= self._others_weight:
            return "the request weight of this minute is used up but for the part kept for cancels"
        return ""

    def wait_for_query_s(self, weight: int, mono_ns: int) -> float:
        """0 when a query of ``weight`` may be sent now, else how long to wait before asking again."""
        until = max(self._banned_until_ns, self._limited_until_ns)
        if mono_ns < until:
            return (until - mono_ns) / _NS
        return 0.0 if self.weight_used(mono_ns) + weight <= self._others_weight else 1.0

    def wait_for_cancel_s(self, mono_ns: int) -> float:
        """0 unless the venue has stopped us: then how long a cancel must wait."""
        until = max(self._banned_until_ns, self._limited_until_ns)
        return max(0, until - mono_ns) / _NS

    def weight_used(self, mono_ns: int) -> int:
        """Request weight of this minute, as far as we know."""
        return self._weight.now(mono_ns + self.venue_ahead_ns)

    def placed(self, mono_ns: int) -> None:
        self._orders_10s.spend(1, mono_ns + self.venue_ahead_ns)
        self._orders_1m.spend(1, mono_ns + self.venue_ahead_ns)

    def spent(self, weight: int, mono_ns: int) -> None:
        self._weight.spend(weight, mono_ns + self.venue_ahead_ns)

    def read(self, weight_1m: int, orders_10s: int, orders_1m: int, mono_ns: int) -> None:
        """Take the headers of an answer; -1 where one was absent."""
        for window, used in ((self._weight, weight_1m), (self._orders_10s, orders_10s), (self._orders_1m, orders_1m)):
            if used >= 0:
                window.read(used, mono_ns + self.venue_ahead_ns)

    def limited(self, *, code: int, banned: bool, retry_after_s: float, mono_ns: int) -> None:
        """The venue refused for being too fast: 418 stops everything, -1015 orders only, 429 all but what waits."""
        until = mono_ns + int(retry_after_s * _NS)
        if banned:
            self._banned_until_ns = max(self._banned_until_ns, until)
        elif code == -1015:
            self._orders_until_ns = max(self._orders_until_ns, until)
        else:
            self._limited_until_ns = max(self._limited_until_ns, until)

    def news(self, mono_ns: int) -> BudgetNews:
        """What other processes should know."""
        ahead_ns = self.venue_ahead_ns
        at_ns = mono_ns + ahead_ns

        def until(own_ns: int) -> int:
            return own_ns + ahead_ns if own_ns > mono_ns else 0

        return BudgetNews(
            at_ns=at_ns, weight_1m=self._weight.now(at_ns), orders_10s=self._orders_10s.now(at_ns),
            orders_1m=self._orders_1m.now(at_ns), banned_until_ns=until(self._banned_until_ns),
            limited_until_ns=until(self._limited_until_ns), orders_until_ns=until(self._orders_until_ns),
        )  # fmt: skip

    def hear(self, news: BudgetNews, mono_ns: int, *, same_address: bool, same_account: bool) -> None:
        """Take over what another process knows; saying it twice, late or out of order changes nothing."""
        venue_ns = mono_ns + self.venue_ahead_ns

        def later(own_ns: int, told_ns: int) -> int:
            return max(own_ns, min(told_ns - self.venue_ahead_ns, mono_ns + _LONGEST_WAIT_NS))

        if same_address:
            self._weight.hear(news.weight_1m, news.at_ns, venue_ns)
            self._banned_until_ns = later(self._banned_until_ns, news.banned_until_ns)
            self._limited_until_ns = later(self._limited_until_ns, news.limited_until_ns)
        if same_account:
            self._orders_10s.hear(news.orders_10s, news.at_ns, venue_ns)
            self._orders_1m.hear(news.orders_1m, news.at_ns, venue_ns)
            self._orders_until_ns = later(self._orders_until_ns, news.orders_until_ns)
