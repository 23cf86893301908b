"""Histogram: durations in ns, counted in buckets that are at most 1/128 wide; mergeable, bounded, no floats.

In: whole numbers, one call each. Out: counts and percentiles. Buckets are those of an HDR histogram with two
significant digits: exact up to 255, then 128 to each power of two. Values below 0 count as 0, those above
``LARGEST`` as ``LARGEST``. The specification of the native twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

LARGEST = 2**46 - 1
"""About 19 hours in ns."""
BUCKETS = (46 - 8 << 7) + 256


def bucket_of(value: int) -> int:
    """Number of the bucket that counts ``value``."""
    shift = max(value.bit_length() - 8, 0)
    return (shift << 7) + (value >> shift)


def highest_in(bucket: int) -> int:
    """The largest value that the bucket counts."""
    shift = max((bucket >> 7) - 1, 0)
    return (bucket - (shift << 7) + 1 << shift) - 1


class Histogram:
    """Owned by one task; merge copies of it to see several processes as one."""

    __slots__ = ("_counts", "count", "max", "sum")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.count = 0
        self.sum = 0
        self.max = 0

    def record(self, value: int) -> None:
        """Count one value."""
        value = min(max(value, 0), LARGEST)
        self._counts[bucket_of(value)] += 1
        self.count += 1
        self.sum += value
        if value > self.max:
            self.max = value

    def percentile(self, percent: float) -> int:
        """The smallest bucket's highest value that ``percent`` of the values do not exceed; 0 when there are none."""
        wanted = max(1, ceil(percent / 100.0 * self.count))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(highest_in(bucket), self.max)
        return 0 if not self.count else self.max

    def merge(self, counts: Sequence[tuple[int, int]], total: int, largest: int) -> None:
        """Add what another one's ``counts``, ``sum`` and ``max`` say.

        Raises:
            ValueError: there is no such bucket, or a count is negative; nothing was added.
        """
        if any(not 0 <= bucket < BUCKETS or count < 0 for bucket, count in counts):
            raise ValueError("these are not the counts of such a histogram")
        for bucket, count in counts:
            self._counts[bucket] += count
            self.count += count
        self.sum += total
        self.max = max(self.max, largest)

    def counts(self) -> list[tuple[int, int]]:
        """(bucket, count) of those that counted anything: what to send to be merged elsewhere."""
        return [(bucket, count) for bucket, count in enumerate(self._counts) if count]

    def clear(self) -> None:
        """Begin again."""
        self._counts = [0] * BUCKETS
        self.count = self.sum = self.max = 0
