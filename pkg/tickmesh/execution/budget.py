"""RateBudget: how many requests and orders the venue still takes, from its own headers.

In come sent requests, header readings and refusals; out goes yes or no before a request. Cancels have a slice
of the weight that nothing else may use; only a ban stops them. No clock: monotonic time comes in.
Source: Binance "USDS-M Futures", General Info, Limits (read 2024-12): counters per fixed minute and 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass

_NS = 1_000_000_000


@dataclass(slots=True)
class _Window:
    """A counter that the venue resets at fixed intervals; ours ages out after one interval at the latest."""

    limit: int
    length_ns: int
    used: int = 0
    since_ns: int = 0

    def now(self, mono_ns: int) -> int:
        if mono_ns - self.since_ns >= self.length_ns:
            self.used, self.since_ns = 0, mono_ns
        return self.used

    def spend(self, amount: int, mono_ns: int) -> None:
        self.now(mono_ns)
        self.used += amount

    def read(self, used: int, mono_ns: int) -> None:
        """The venue's own count; one lower than ours means that its interval has turned over."""
        if used < self.now(mono_ns):
            self.since_ns = mono_ns
        self.used = used


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

    def may_place(self, mono_ns: int) -> str:
        """Empty when an order may be sent, else the reason in one sentence."""
        if mono_ns < max(self._banned_until_ns, self._limited_until_ns, self._orders_until_ns):
            return "the venue told us to slow down and its waiting time has not passed"
        if self._orders_10s.now(mono_ns) >= self._orders_10s.limit:
            return f"the venue's limit of {self._orders_10s.limit} orders in 10 s is used up"
        if self._orders_1m.now(mono_ns) >= self._orders_1m.limit:
            return f"the venue's limit of {self._orders_1m.limit} orders a minute is used up"
        if self._weight.now(mono_ns) >= self._others_weight:
            return "the request weight of this minute is used up but for the part kept for cancels"
        return ""

    def wait_for_query_s(self, weight: int, mono_ns: int) -> float:
        """0 when a query of ``weight`` may be sent now, else how long to wait before asking again."""
        until = max(self._banned_until_ns, self._limited_until_ns)
        if mono_ns < until:
            return (until - mono_ns) / _NS
        return 0.0 if self._weight.now(mono_ns) + weight <= self._others_weight else 1.0

    def wait_for_cancel_s(self, mono_ns: int) -> float:
        """0 unless the venue has stopped us: then how long a cancel must wait."""
        until = max(self._banned_until_ns, self._limited_until_ns)
        return max(0, until - mono_ns) / _NS

    def placed(self, mono_ns: int) -> None:
        self._orders_10s.spend(1, mono_ns)
        self._orders_1m.spend(1, mono_ns)

    def spent(self, weight: int, mono_ns: int) -> None:
        self._weight.spend(weight, mono_ns)

    def read(self, weight_1m: int, orders_10s: int, orders_1m: int, mono_ns: int) -> None:
        """Take the headers of an answer; -1 where one was absent."""
        for window, used in ((self._weight, weight_1m), (self._orders_10s, orders_10s), (self._orders_1m, orders_1m)):
            if used >= 0:
                window.read(used, mono_ns)

    def limited(self, *, code: int, banned: bool, retry_after_s: float, mono_ns: int) -> None:
        """The venue refused for being too fast: 418 stops everything, -1015 orders only, 429 all but what waits."""
        until = mono_ns + int(retry_after_s * _NS)
        if banned:
            self._banned_until_ns = max(self._banned_until_ns, until)
        elif code == -1015:
            self._orders_until_ns = max(self._orders_until_ns, until)
        else:
            self._limited_until_ns = max(self._limited_until_ns, until)
