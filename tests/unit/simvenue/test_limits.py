"""Request weight and order counts: what is counted, refused, banned, and when it starts anew."""

from __future__ import annotations

import pytest

from tickmesh.venues.simvenue.server.limits import FIRST_BAN_MS, Limits, Quota
from tickmesh.venues.simvenue.server.rest import WireError

QUOTA = Quota(weight_1m=100, orders_10s=3, orders_1m=5, ban_after=2)


def refused(limits: Limits, now_ms: int, weight: int = 1, address: str = "1.1.1.1") -> WireError:
    with pytest.raises(WireError) as caught:
        limits.charge(address, weight, now_ms, {})
    return caught.value


def test_weight_adds_up_within_a_minute_of_the_venues_clock_and_starts_anew_with_the_next() -> None:
    limits, headers = Limits(QUOTA), dict[str, str]()
    limits.charge("1.1.1.1", 60, 59_000, headers)
    limits.charge("1.1.1.1", 40, 59_999, headers)
    assert headers["X-MBX-USED-WEIGHT-1M"] == "100"
    limits.charge("1.1.1.1", 5, 60_000, headers)
    assert headers["X-MBX-USED-WEIGHT-1M"] == "5"


def test_beyond_the_weight_a_request_is_refused_with_429_and_the_seconds_to_wait() -> None:
    limits = Limits(QUOTA)
    limits.charge("1.1.1.1", 100, 20_000, {})
    error = refused(limits, 20_000)
    assert (error.status, error.code, error.headers["Retry-After"]) == (429, -1003, "40")
    limits.charge("2.2.2.2", 1, 20_000, {})
    limits.charge("1.1.1.1", 1, 60_000, {})


def test_who_goes_on_is_banned_with_418_each_time_for_longer() -> None:
    limits = Limits(QUOTA)
    now_ms = 0
    for round_ in range(3):
        limits.charge("1.1.1.1", 100, now_ms, {})
        assert [refused(limits, now_ms).status for _ in range(4)] == [429, 429, 418, 418]
        length_ms = FIRST_BAN_MS << round_
        assert refused(limits, now_ms + length_ms - 1).status == 418
        assert refused(limits, now_ms).headers["Retry-After"] == str(length_ms // 1000)
        now_ms += length_ms


def test_orders_are_counted_per_account_in_both_windows() -> None:
    limits, headers = Limits(QUOTA), dict[str, str]()
    limits.count_orders("a", 3, 1_000, headers)
    assert headers == {"X-MBX-ORDER-COUNT-10S": "3", "X-MBX-ORDER-COUNT-1M": "3"}
    with pytest.raises(WireError) as short:
        limits.check_orders("a", 9_500)
    assert (short.value.status, short.value.code, short.value.headers["Retry-After"]) == (429, -1015, "1")
    limits.check_orders("b", 9_500)
    limits.check_orders("a", 10_000)
    limits.count_orders("a", 2, 10_000, headers)
    assert headers == {"X-MBX-ORDER-COUNT-10S": "2", "X-MBX-ORDER-COUNT-1M": "5"}
    with pytest.raises(WireError, match="1 MINUTE"):
        limits.check_orders("a", 20_000)
    limits.check_orders("a", 60_000)
