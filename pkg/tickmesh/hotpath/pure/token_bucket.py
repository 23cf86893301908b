"""TokenBucket: so many actions a second with a bounded burst, in whole nanoseconds; time comes in.

In: an amount and the time. Out: yes or no, or how long to wait. It never drifts: instead of fractions of tokens it
keeps the time at which it will be full again (the generic cell rate algorithm). The specification of the native
twin.
"""

from __future__ import annotations

_MAX_NS = 2**62


class TokenBucket:
    """``capacity`` tokens at most, one more every ``interval_ns``. It starts full.

    Raises:
        ValueError: a capacity or an interval below one, or both so large that their product is no time any more.
    """

    __slots__ = ("_capacity_ns", "_full_at_ns", "_interval_ns")

    def __init__(self, capacity: int, interval_ns: int) -> None:
        if capacity < 1 or interval_ns < 1 or capacity * interval_ns >= _MAX_NS:
            raise ValueError(f"a bucket of {capacity} tokens, one each {interval_ns} ns, is not possible")
        self._interval_ns = interval_ns
        self._capacity_ns = capacity * interval_ns
        self._full_at_ns = -_MAX_NS

    def wait_ns(self, tokens: int, now_ns: int) -> int:
        """0 when ``tokens`` can be taken now, else how long until then; -1 for never: more than it can hold.

        Raises:
            ValueError: fewer than no tokens.
        """
        if tokens < 0:
            raise ValueError("tokens must not be negative")
        if tokens > self._capacity_ns // self._interval_ns:
            return -1
        full_at_ns = max(self._full_at_ns, now_ns) + tokens * self._interval_ns
        return max(0, full_at_ns - now_ns - self._capacity_ns)

    def take(self, tokens: int, now_ns: int) -> bool:
        """Take ``tokens`` if they are there; a clock that goes back gives none."""
        if self.wait_ns(tokens, now_ns) != 0:
            return False
        self._full_at_ns = max(self._full_at_ns, now_ns) + tokens * self._interval_ns
        return True
