"""The disk under the state is asked for room; what is said is said once, and nats is started anew when it must be."""

import shutil
from pathlib import Path

import pytest

from tickmesh.domain.errors import ConfigError
from tickmesh.runtime import room
from tickmesh.runtime.room import LEAST_TO_START, LOW, MB, Room, Sight

REFUSED = "[1] [ERR] JetStream failed to store a msg on stream '$G > INTENTS': write 1.blk: no space left on device\n"


class Disk:
    """A disk whose room a test sets."""

    def __init__(self, tmp_path: Path) -> None:
        self.free = 10 * LOW
        self.log = tmp_path / "nats.log"
        self.room = Room(tmp_path, self.log, lambda _: self.free)

    def look(self, free: int) -> Sight:
        self.free = free
        return self.room.look()

    def nats_says(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(text)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_the_room_is_that_of_the_operating_system(tmp_path: Path) -> None:
    assert abs(room.free_bytes(tmp_path) - shutil.disk_usage(tmp_path).free) < 200 * MB


def test_without_room_the_start_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room.demand_room(tmp_path)
    monkeypatch.setattr(room, "free_bytes", lambda _: LEAST_TO_START - 1)
    with pytest.raises(ConfigError, match=r"only 127 MB are free on the disk of .*; free space there or choose"):
        room.demand_room(tmp_path)


def test_little_room_is_said_once_and_shown_as_long_as_it_lasts(disk: Disk) -> None:
    assert disk.look(10 * LOW) == Sight()
    first = disk.look(3 * MB)
    assert "has 3 MB left: free space there" in first.sentence and first.trouble == "disk: 3 MB left"
    assert disk.look(2 * MB) == Sight("", "disk: 2 MB left")
    assert "room again" in disk.look(LOW).sentence
    assert disk.look(LOW) == Sight()
    assert disk.look(LOW - 1).sentence, "the next time is news again"


def test_nats_is_started_anew_when_it_refuses_although_there_is_room(disk: Disk) -> None:
    disk.nats_says(REFUSED)
    assert not disk.look(10 * LOW).restart_nats, "of an earlier run"
    disk.look(0)
    disk.nats_says(REFUSED)
    assert not disk.look(10 * LOW).restart_nats, "it was refused while the disk was full"
    assert not disk.look(10 * LOW).restart_nats
    disk.nats_says("[1] [INF] all is well\n" + REFUSED)
    assert disk.look(10 * LOW).restart_nats
    disk.nats_says(REFUSED)
    assert not disk.look(10 * LOW).restart_nats, "once is enough"
