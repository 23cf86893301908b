"""Histogram and token bucket: equal in both halves, and right by an independent count."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tickmesh import hotpath
from tickmesh.hotpath.pure import histogram, token_bucket

HALVES: list[Any] = [half for half in (hotpath.native,) if half is not None]
value = st.integers(-10, 300) | st.integers(0, 10**6) | st.integers(0, 2**48)
percent = st.sampled_from([0.0, 1.0, 50.0, 95.0, 99.0, 99.9, 100.0]) | st.floats(0, 100)


def histograms() -> list[Any]:
    return [histogram.Histogram(), *(half.Histogram() for half in HALVES)]


@given(st.lists(value, max_size=200), st.lists(value, max_size=50), percent)
def test_histograms_are_equal_and_within_a_bucket_of_the_truth(
    values: list[int], others: list[int], wanted: float
) -> None:
    answers = []
    for made, other in zip(histograms(), histograms(), strict=True):
        for v in values:
            made.record(v)
        for v in others:
            other.record(v)
        made.merge(other.counts(), other.sum, other.max)
        answers.append((made.count, made.sum, made.max, made.counts(), made.percentile(wanted)))
        found = made.percentile(wanted)
        truth = sorted(min(max(v, 0), histogram.LARGEST) for v in [*values, *others])
        if truth:
            rank = max(1, -(-int(wanted * len(truth) * 10**6) // 10**8)) if wanted == int(wanted) else None
            if rank is not None:
                exact = truth[rank - 1]
                assert exact <= found <= exact + exact // 128
            assert made.percentile(100.0) == truth[-1] == made.max
        else:
            assert found == 0
    assert answers.count(answers[0]) == len(answers)


@given(st.integers(0, histogram.LARGEST))
def test_a_bucket_holds_its_value_and_is_at_most_one_128th_wide(number: int) -> None:
    bucket = histogram.bucket_of(number)
    assert 0 <= bucket < histogram.BUCKETS
    low = histogram.highest_in(bucket - 1) + 1 if bucket else 0
    assert low <= number <= histogram.highest_in(bucket)
    assert histogram.highest_in(bucket) - low <= number // 128


@pytest.mark.parametrize("counts", [[(-1, 1)], [(histogram.BUCKETS, 1)], [(0, -1)], [(3, 1), (9, -5)]])
def test_foreign_counts_are_refused_whole(counts: list[tuple[int, int]]) -> None:
    for made in histograms():
        with pytest.raises(ValueError, match="not the counts"):
            made.merge(counts, 0, 0)
        assert made.count == 0 and made.counts() == []


steps = st.lists(st.tuples(st.integers(0, 6), st.integers(-50, 200)), max_size=60)


@given(st.integers(1, 5), st.integers(1, 100), steps)
@example(2, 43, [(0, -1), (2, 0), (2, 86)])
def test_a_bucket_never_gives_more_than_its_rate_and_its_burst(
    capacity: int, interval_ns: int, moves: list[tuple[int, int]]
) -> None:
    buckets = [token_bucket.TokenBucket(capacity, interval_ns)]
    buckets += [half.TokenBucket(capacity, interval_ns) for half in HALVES]
    now_ns = newest_ns = oldest_ns = 1_000
    given_out = 0
    for tokens, passed in moves:
        now_ns += passed
        newest_ns, oldest_ns = max(newest_ns, now_ns), min(oldest_ns, now_ns)  # the clock may go back
        waits = [bucket.wait_ns(tokens, now_ns) for bucket in buckets]
        taken = [bucket.take(tokens, now_ns) for bucket in buckets]
        assert waits.count(waits[0]) == len(waits) and taken.count(taken[0]) == len(taken)
        assert taken[0] is (waits[0] == 0)
        given_out += tokens if taken[0] else 0
        assert given_out * interval_ns <= capacity * interval_ns + (newest_ns - oldest_ns)
        if waits[0] > 0:
            later = buckets[0].wait_ns(tokens, now_ns + waits[0])
            assert later == 0 and buckets[0].wait_ns(tokens, now_ns + waits[0] - 1) == 1
        elif tokens > capacity:
            assert waits[0] == -1


@pytest.mark.parametrize(("capacity", "interval_ns"), [(0, 1), (1, 0), (-1, 5), (2**40, 2**40)])
def test_impossible_buckets_are_refused_alike(capacity: int, interval_ns: int) -> None:
    for kind in (token_bucket.TokenBucket, *(half.TokenBucket for half in HALVES)):
        with pytest.raises(ValueError, match="is not possible"):
            kind(capacity, interval_ns)
