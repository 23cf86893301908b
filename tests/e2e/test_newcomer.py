"""What a newcomer does first: a keyboard, a small terminal, a strategy of one's own, a full disk."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import ROOT, Run, assert_sound

from tickmesh.runtime import servers
from tickmesh.runtime.room import LOW, MB
from tickmesh.runtime.table import SERVICES as ROWS
from tickmesh.settings.load import variable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Start = Callable[..., Run]

LINE = re.compile(r"^(\d\d:\d\d:\d\d) +BTCUSDT ([\d,.]+) (?:pos )?(\S+) ", re.M)
STRATEGY = (ROOT / "k8s" / "examples" / "market-making.yaml").read_text(encoding="utf-8")


class Keyboard:
    """A command at a terminal of 80 columns, as a person starts it."""

    def __init__(self, *command: str, cwd: Path) -> None:
        self.shown = ""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(cwd)
            os.environ |= {"COLUMNS": "80", "TERM": "xterm"}
            os.execvp(command[0], command)

    def read_until(self, text: str, timeout_s: float) -> None:
        """Show what comes until ``text`` has come; "" waits for the end."""
        deadline = time.monotonic() + timeout_s
        while not text or text not in self.shown:
            assert time.monotonic() < deadline, self.shown[-3000:]
            if not select.select([self._terminal], [], [], 0.2)[0]:
                continue
            try:
                found = os.read(self._terminal, 65536)
            except OSError:
                found = b""
            if not found:
                assert not text, f"ended without {text!r}: {self.shown[-3000:]}"
                return
            self.shown += re.sub(r"\x1b\[[0-9;]*m|\r", "", found.decode())

    def press_ctrl_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def end(self) -> int:
        """Wait for the end; its exit code, below 0 a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def kill(self) -> None:
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._pid).children(recursive=True):
                process.kill()
        with contextlib.suppress(OSError):
            os.close(self._terminal)


@pytest.mark.skipif(not (ROOT / ".venv" / ".installed").exists(), reason="`make run` would install first: `make test`")
def test_make_run_at_a_keyboard_prints_a_line_a_second_that_fits_and_ctrl_c_drains(tmp_path: Path) -> None:
    person = Keyboard("make", "run", f"ARGS=--free-ports --data-dir {tmp_path / 'data'}", cwd=ROOT)
    try:
        person.read_until("dashboard: http", 180)
        person.read_until(" | orders ", 60)
        time.sleep(8)
        person.press_ctrl_c()
        person.read_until("", 120)
        assert person.end() in (0, 2, 130, -2), person.shown
    finally:
        person.kill()
    lines = [line for line in person.shown.splitlines() if "BTCUSDT" in line]
    assert len(lines) >= 3
    for line in lines:
        assert len(line) <= 80, line
        assert re.search(
            r"BTCUSDT [\d,.]+( stale)? \S+ .*P&L \S+ .*orders \d+/\d+ .*(\d+/\d+ us|[\d.]+/[\d.]+ ms)", line
        )
    said = person.shown.splitlines()
    assert "stopping: cancelling open orders and draining" in person.shown
    assert any("state is kept in" in line for line in said)
    assert re.search(r"\d+ orders \(.*\), \d+ fills, P&L .*: 0 lost, 0 duplicated", person.shown), person.shown[-2000:]
    assert "Traceback" not in person.shown


def test_no_burst_of_lines_and_all_of_it_in_a_pipe(up: Start) -> None:
    run = up("--for", "10s")
    assert_sound(run.summary())
    clock = [found[0] for found in LINE.findall(run.output())]
    assert len(clock) >= 3
    assert max(Counter(clock).values()) <= 2, "half a second lies between two lines"
    last = [line for line in run.output().splitlines() if LINE.match(line)][-1]
    for part in (r"pos \S+", r"ETHUSDT", r"P&L [-+\d.]+", r"orders \d+ open of \d+", r"fills \d+", r"p99", r"0 gaps"):
        assert re.search(part, last), last


def wait_until(claim: Callable[[], bool], said: Callable[[], str], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, said()
        time.sleep(0.2)


def test_a_second_run_holds_what_the_first_bought_and_a_strategy_file_is_followed_while_it_runs(
    up: Start, tmp_path: Path
) -> None:
    first = up("--for", "15s")
    before = first.summary()
    assert_sound(before)
    assert before["fills"] > 0
    live = tmp_path / "mine.yaml"
    live.write_text(STRATEGY.replace("mode: Live", "mode: Observation"), encoding="utf-8")
    second = up("--strategy", str(live))

    def line() -> str:
        found = [text for text in second.output().splitlines() if LINE.match(text)]
        return found[-1] if found else ""

    # Only observing, this run has no fill of its own: what is counted and held is the first run's.
    wait_until(lambda: f"fills {before['fills']} " in line(), second.output)
    kept = int(re.search(r"open of (\d+)", line())[1])  # type: ignore[index]
    assert kept >= sum(before["orders"].values())
    wait_until(lambda: held(line()) == held(last_line(first)), lambda: f"{last_line(first)}\n{line()}")
    time.sleep(3)
    assert f"orders 0 open of {kept} " in line()
    live.write_text(STRATEGY, encoding="utf-8")
    wait_until(lambda: int(re.search(r"open of (\d+)", line())[1]) > kept, second.output)  # type: ignore[index]
    second.process.terminate()
    after = second.summary()
    assert_sound(after)
    assert sum(after["orders"].values()) > 0


def last_line(run: Run) -> str:
    return [text for text in run.output().splitlines() if LINE.match(text)][-1]


def held(line: str) -> list[str]:
    return re.findall(r"(\w+) [\d,.]+(?: stale)? pos (\S+)", line)


@pytest.fixture
def busy_ports() -> dict[str, str]:
    """Settings with a free port for everything, for a run that is told nothing on its command line."""
    names = [f"{row.name}.admin_port" for row in ROWS] + ["gateway.port", "simvenue.port", "nats", "postgres", "redis"]
    chosen = dict(zip(names, servers.free_ports(len(names)), strict=True))
    urls = {
        "nats.url": f"nats://127.0.0.1:{chosen.pop('nats')}",
        "postgres.dsn": f"postgresql://tickmesh@127.0.0.1:{chosen.pop('postgres')}/tickmesh",
        "redis.url": f"redis://127.0.0.1:{chosen.pop('redis')}/0",
        "venue.rest_url": f"http://127.0.0.1:{chosen['simvenue.port']}",
        "venue.stream_url": f"ws://127.0.0.1:{chosen['simvenue.port']}",
    }
    return {variable(path): str(value) for path, value in {**chosen, **urls}.items()}


def refused(home: Path, environ: dict[str, str], *arguments: str) -> str:
    """The sentence that ends a start; nothing may be left behind."""
    command = [sys.executable, "-m", "tickmesh.runtime.cli", "up", "--data-dir", str(home / "data"), *arguments]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT / "pkg"), **environ}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    _, said = process.communicate(timeout=200)
    assert process.returncode == 2, said
    assert said.startswith("tickmesh: ") and said.count("\n") == 1, said
    left = [p for p in psutil.process_iter(["cmdline"]) if str(home / "data") in " ".join(p.info["cmdline"] or [])]
    assert left == []
    return said


@pytest.mark.parametrize("key", ["gateway.port", "simvenue.port", "feed.admin_port", "nats.url"])
def test_a_busy_port_ends_the_start_with_the_key_to_change(
    tmp_path: Path, busy_ports: dict[str, str], key: str
) -> None:
    port = int(busy_ports[variable(key)].rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        said = refused(tmp_path, busy_ports)
    assert re.search(rf"port {port} (of \w+ )?is busy; stop what uses it", said) and variable(key) in said, said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kind: Strategy\nmetadata: {name: a\n", r"mine.yaml:\d+: not YAML"),
        (
            STRATEGY.replace("# symbols: [BTCUSDT, ETHUSDT]", "symbols: [NOPEUSDT]"),
            "the feed does not follow NOPEUSDT; add",
        ),
        (STRATEGY.replace("entryPoint: market-making", "entryPoint: no-such"), "no-such"),
    ],
)
def test_a_broken_strategy_file_and_an_unknown_symbol_end_the_start_with_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    assert re.search(sentence, refused(tmp_path, {}, "--free-ports", "--strategy", str(file)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system of its own: run as root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """Something else takes the disk, but for ``leave`` bytes."""
    filler = place / f"filler-{leave}"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (free := os.statvfs(place).f_bavail * os.statvfs(place).f_frsize - leave) > 0:
            file.write(b"\0" * min(MB, free))
    return filler


def test_a_full_disk_is_told_loses_nothing_and_it_trades_on_when_there_is_room(small_disk: Path) -> None:
    run = Run(small_disk / "data", "--for", "90s")
    try:
        run.wait_for("dashboard:")
        wait_until(lambda: "fills 0" not in last_line_or(run, "fills 0"), run.output)
        little = fill(small_disk, LOW // 2)
        run.wait_for("MB left: free space there; when it is full nothing new can be recorded, and no order is sent")
        rest = fill(small_disk, 0)
        run.wait_for("disk: 0 MB left")
        time.sleep(5)
        for filler in (rest, little):
            filler.unlink()
        run.wait_for("has room again")
        run.wait_for("nats still refuses what comes, as it does after a full disk; starting it anew")
        counted = total(last_line(run))
        wait_until(lambda: total(last_line(run)) > counted + 5, lambda: run.output()[-4000:])
        summary = run.summary()
        assert_sound(summary)
        # A venue that cannot save what it would answer ends, as may a Postgres without room for its log; no other does.
        assert {"nats"} <= summary["restarts"].keys() <= {"nats", "simvenue", "postgres"}
    finally:
        run.kill_all()
    fill(small_disk, LOW // 2)
    assert "MB are free on the disk of" in refused(small_disk, {}, "--free-ports")


def last_line_or(run: Run, otherwise: str) -> str:
    return last_line(run) if LINE.search(run.output()) else otherwise


def total(line: str) -> int:
    found = re.search(r"open of (\d+)", line)
    assert found is not None, line
    return int(found[1])
