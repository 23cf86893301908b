"""The lease between real processes over a real nats-server: stopped, killed, handed over, cut off."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TTL_MS = 400


class Cluster:
    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start_nats()

    def start_nats(self) -> None:
        beside = Path(sys.executable).parent / "nats-server"
        program = str(beside) if beside.exists() else shutil.which("nats-server")
        assert program, "nats-server is not installed"
        arguments = [
            "-a",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-js",
            "-sd",
            str(self.home / "js"),
            "-l",
            str(self.home / "l"),
        ]
        self.nats = subprocess.Popen([program, *arguments])
        self.processes.append(self.nats)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("nats-server did not start")

    def contender(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "tests/integration/lease_holder.py")]
        process = subprocess.Popen(
            [*command, f"nats://127.0.0.1:{self.port}", name, str(TTL_MS), str(self.home / name)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "pkg")},
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def acts(self, name: str) -> list[tuple[int, int]]:
        path = self.home / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(a), int(e)) for a, e in (line.split() for line in lines if line.count(" ") == 1)]

    def wait_for_act(self, name: str, after_ns: int = 0, timeout_s: float = 20) -> tuple[int, int]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = [act for act in self.acts(name) if act[0] > after_ns]
            if found:
                return found[0]
            time.sleep(0.01)
        raise AssertionError(f"{name} did not act within {timeout_s} s")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def assert_never_two(acts: dict[str, list[tuple[int, int]]]) -> None:
    """No epoch has two holders, and once a higher epoch has acted, no lower one acts."""
    everything = sorted((at, epoch, name) for name, listed in acts.items() for at, epoch in listed)
    highest, owner = 0, {}
    for at, epoch, name in everything:
        assert epoch >= highest, f"{name} acted under epoch {epoch} at {at}, after epoch {highest}"
        assert owner.setdefault(epoch, name) == name
        highest = epoch


def test_a_stopped_holder_is_replaced_and_does_nothing_when_it_wakes_up(cluster: Cluster) -> None:
    a = cluster.contender("a")
    cluster.wait_for_act("a")
    cluster.contender("b")
    a.send_signal(signal.SIGSTOP)
    stopped = time.monotonic_ns()
    _, epoch = cluster.wait_for_act("b", stopped)
    assert epoch == 2
    a.send_signal(signal.SIGCONT)
    time.sleep(1.0)
    assert_never_two({name: cluster.acts(name) for name in "ab"})


def test_a_killed_holder_is_replaced_after_its_time_to_live(cluster: Cluster) -> None:
    a = cluster.contender("a")
    cluster.wait_for_act("a")
    cluster.contender("b")
    a.kill()
    killed = time.monotonic_ns()
    at, epoch = cluster.wait_for_act("b", killed)
    assert epoch == 2
    assert at - cluster.acts("a")[-1][0] >= TTL_MS // 2 * 1_000_000
    assert_never_two({name: cluster.acts(name) for name in "ab"})


def test_a_holder_that_goes_hands_over_without_the_wait(cluster: Cluster) -> None:
    a = cluster.contender("a")
    cluster.wait_for_act("a")
    cluster.contender("b")
    asked = time.monotonic_ns()
    a.send_signal(signal.SIGTERM)
    cluster.wait_for_act("b", asked)
    a.wait(20)
    assert cluster.acts("b")[0][1] == 2
    assert_never_two({name: cluster.acts(name) for name in "ab"})


def test_without_the_bucket_the_holder_stops_by_itself_and_one_goes_on_when_it_is_back(cluster: Cluster) -> None:
    cluster.contender("a")
    cluster.wait_for_act("a")
    cluster.contender("b")
    cluster.nats.kill()
    cluster.nats.wait()
    cut = time.monotonic_ns()
    time.sleep(1.5)
    late = [at for name in "ab" for at, _ in cluster.acts(name) if at > cut + TTL_MS * 1_000_000]
    assert late == []
    cluster.start_nats()
    back = time.monotonic_ns()
    deadline = time.monotonic() + 20
    while not any(at > back for name in "ab" for at, _ in cluster.acts(name)):
        assert time.monotonic() < deadline, "nobody took the lease again"
        time.sleep(0.05)
    time.sleep(0.5)
    assert_never_two({name: cluster.acts(name) for name in "ab"})
