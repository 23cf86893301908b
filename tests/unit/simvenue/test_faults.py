"""Which requests and frames a fault strikes, how often, how long, and what it does to them."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from tickmesh.domain.errors import ConfigError
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.faults import Faults


class World:
    """Faults on a clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.clock = VenueClock(lambda: 1_000_000_000)
        self.faults = Faults(self.clock, Random(1), lambda: self.now_s)
        self.released: list[tuple[object, bytes]] = []
        self.faults.release = lambda outlet, frame: self.released.append((outlet, frame))

    def on(self, **fault: object) -> int:
        return self.faults.add(msgspec.json.encode(fault)).id

    def sent(self, count: int, stream: str = "btcusdt@trade") -> list[bytes]:
        """What arrives of ``count`` frames on one connection, without delays."""
        return [f for n in range(count) for f in self.faults.frames(stream, b"%d" % n, "one")[0]]


def test_without_faults_a_request_costs_nothing_and_a_frame_passes() -> None:
    world = World()
    assert world.faults.plan("GET", "/fapi/v1/time") is None
    assert world.sent(3) == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "drop", "count": 1}, [b"1", b"2", b"3"]),
        ({"kind": "duplicate", "count": 1}, [b"0", b"0", b"1", b"2", b"3"]),
        ({"kind": "reorder", "count": 1}, [b"1", b"0", b"2", b"3"]),
        ({"kind": "reorder", "count": 2}, [b"1", b"0", b"3", b"2"]),
        ({"kind": "drop", "stream": "ethusdt@*"}, [b"0", b"1", b"2", b"3"]),
        ({"kind": "drop", "stream": "btcusdt@*"}, []),
        ({"kind": "drop", "stream": "user"}, [b"0", b"1", b"2", b"3"]),
    ],
)
def test_frames_are_dropped_doubled_and_swapped(fault: dict[str, object], expected: list[bytes]) -> None:
    world = World()
    world.on(target="stream", **fault)
    assert world.sent(4) == expected


def test_a_held_frame_is_released_when_the_fault_is_switched_off() -> None:
    world = World()
    world.on(kind="reorder", count=1)
    assert world.sent(1) == []
    assert world.faults.remove(None) == 1
    assert world.released == [("one", b"0")]


def test_user_streams_are_told_from_market_streams() -> None:
    world = World()
    world.on(kind="drop", target="stream", stream="user")
    assert world.sent(2, "A" * 64) == [] and world.sent(1, "!bookTicker") == [b"0"]


def test_probability_strikes_about_so_often_and_repeats_with_the_seed() -> None:
    counts = []
    for _ in range(2):
        world = World()
        world.on(kind="drop", target="stream", probability=0.3)
        counts.append(len(world.sent(1000)))
    assert counts[0] == counts[1] and 600 < counts[0] < 800


def test_requests_match_by_method_and_path_and_a_count_runs_out() -> None:
    world = World()
    world.on(kind="delay", method="POST", path="/fapi/*/order", delay_ms=5, count=2)
    plans = [world.faults.plan(m, p) for m, p in (("GET", "/fapi/v1/order"), ("POST", "/fapi/v1/leverage"))]
    assert all(plan is not None and plan.delay_ms == 0 for plan in plans)
    assert [getattr(world.faults.plan("POST", "/fapi/v1/order"), "delay_ms", 0) for _ in range(3)] == [5, 5, 0]
    assert world.faults.listing() == []


def test_a_fault_ends_after_its_time() -> None:
    world = World()
    world.on(kind="maintenance", for_s=10)
    assert world.faults.in_maintenance
    world.now_s = 10.0
    world.faults.tick()
    assert not world.faults.in_maintenance and world.faults.plan("GET", "/") is None


def test_clock_offsets_shift_what_is_shown_and_only_that() -> None:
    world = World()
    world.on(kind="clock_offset", offset_ms=-2500)
    assert (world.clock.now_ms(), world.clock.shown_ms()) == (1000, -1500)
    world.faults.remove(None)
    assert world.clock.shown_ms() == 1000


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b'{"kind":"earthquake"}',
        b'{"kind":"drop","delay":3}',
        b'{"kind":"duplicate","target":"rest"}',
        b'{"kind":"drop","probability":0}',
        b'{"kind":"drop","count":-1}',
    ],
)
def test_what_is_no_fault_is_refused_and_changes_nothing(body: bytes) -> None:
    world = World()
    with pytest.raises(ConfigError):
        world.faults.add(body)
    assert world.faults.listing() == []
