"""Reconnects hurry a little, then wait longer and longer, and all streams are asked for exactly once."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.venues.binance_usdm.codec_market import stream_names, stream_path
from tickmesh.venues.binance_usdm.market_session import backoff_s


def test_waits_are_a_few_quick_ones_and_then_one_second_doubling_to_sixty() -> None:
    waits = [backoff_s(n, 0.1, 1.0, 60.0, 0.0) for n in range(13)]
    assert [round(w, 6) for w in waits] == [0.1, 0.2, 0.4, 0.8, 1, 2, 4, 8, 16, 32, 60, 60, 60]


@given(st.integers(0, 10**6), st.floats(0, 5), st.floats(0.01, 10), st.floats(10, 100), st.floats(0, 1))
def test_a_wait_is_never_negative_nor_longer_than_the_longest(
    attempt: int, first: float, base: float, most: float, jitter: float
) -> None:
    assert 0 <= backoff_s(attempt, first, base, most, jitter) <= most


def test_jitter_spreads_waits_by_at_most_a_tenth() -> None:
    assert backoff_s(5, 0.1, 1.0, 60.0, 1.0) == backoff_s(5, 0.1, 1.0, 60.0, 0.0) * 1.1


@given(st.integers(1, 256), st.integers(1, 4))
def test_every_stream_is_named_once_in_the_address_or_in_a_request(symbols: int, kinds: int) -> None:
    names = stream_names([f"S{n}" for n in range(symbols)], *(f"kind{k}" for k in range(kinds)))
    path, requests = stream_path(names)
    asked = path.removeprefix("/stream?streams=").split("/")
    parsed = [json.loads(request) for request in requests]
    for request in parsed:
        assert request["method"] == "SUBSCRIBE"
        asked += request["params"]
    assert asked == names
    assert len({request["id"] for request in parsed}) == len(parsed)
    assert len(parsed) <= 5, "the venue takes ten messages a second, pongs included"
    assert len(path) < 8000
