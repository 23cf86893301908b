"""What happens to the whole when its supervisor, its terminal, several services at once or the disk go away."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import ROOT, SERVICES, Run, assert_sound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Start = Callable[..., Run]


def wait_until_gone(processes: list[psutil.Process], timeout_s: float = 10.0) -> None:
    _, alive = psutil.wait_procs(processes, timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    assert not alive, f"left behind: {alive}"


def test_a_killed_supervisor_leaves_no_process_and_the_next_run_starts_cleanly(up: Start) -> None:
    first = up()
    first.wait_for("dashboard:")
    time.sleep(3)
    children = psutil.Process(first.process.pid).children(recursive=True)
    assert len(children) >= len(SERVICES) + 3
    first.process.kill()
    first.process.wait()
    wait_until_gone(children)
    summary = up("--for", "8s").summary()
    assert_sound(summary)
    assert sum(summary["orders"].values()) > 0


def test_a_closed_terminal_drains(up: Start) -> None:
    run = up()
    run.wait_for("dashboard:")
    time.sleep(3)
    children = psutil.Process(run.process.pid).children(recursive=True)
    run.process.send_signal(signal.SIGHUP)
    assert_sound(run.summary(60))
    assert run.process.returncode == 0
    wait_until_gone(children)


def test_a_reader_that_has_enough_ends_it_and_nothing_is_left_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tickmesh.runtime.cli", "up", "--free-ports", "--data-dir", str(tmp_path / "data")]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT / "pkg")}
    )
    assert run.stdout is not None and run.stderr is not None
    try:
        while b"dashboard:" not in (line := run.stdout.readline()):
            assert line, run.stderr.read().decode()
        children = psutil.Process(run.pid).children(recursive=True)
        run.stdout.close()
        assert run.wait(60) == 0
        assert b"Traceback" not in run.stderr.read()
        wait_until_gone(children)
    finally:
        run.kill()
        run.wait()
        run.stderr.close()


def test_two_services_killed_at_once_lose_and_double_nothing(up: Start) -> None:
    run = up("--for", "15s")
    run.wait_for("dashboard:")
    time.sleep(4)
    children = run.children()
    for name in ("execution", "strategy"):
        children[name].kill()
    time.sleep(4)
    children = run.children()
    for name in ("simvenue", "nats"):
        children[name].kill()
    summary = run.summary()
    assert_sound(summary)
    assert {"execution", "strategy", "simvenue", "nats"} <= summary["restarts"].keys()


@pytest.mark.parametrize("victims", [("feed", "strategy", "execution"), ("simvenue",)])
def test_frozen_for_five_seconds_and_going_on_loses_and_doubles_nothing(up: Start, victims: tuple[str, ...]) -> None:
    run = up("--for", "15s")
    run.wait_for("dashboard:")
    time.sleep(3)
    children = run.children()
    for name in victims:
        children[name].suspend()
    time.sleep(5)
    for name in victims:
        children[name].resume()
    summary = run.summary()
    assert_sound(summary)
    assert sum(summary["orders"].values()) > 0
