"""Runs `tickmesh up` as a person would and reads what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ("nats", "postgres", "valkey")
SERVICES = ("simvenue", "feed", "strategy", "execution", "account", "risk", "recorder", "gateway")


class Run:
    """A `tickmesh up --json` in its own session; its output is kept for the message of a failure."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self.log = data_dir / "up.out"
        command = [sys.executable, "-m", "tickmesh.runtime.cli", "up", "--free-ports", "--data-dir", str(data_dir)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--json", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT / "pkg")},
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, timeout_s: float = 120.0) -> None:
        """Wait until ``text`` was printed."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output():
            assert self.process.poll() is None, self.output()[-4000:]
            assert time.monotonic() < deadline, f"{text!r} did not appear:\n{self.output()[-4000:]}"
            time.sleep(0.1)

    def children(self) -> dict[str, psutil.Process]:
        """The supervised processes by name."""
        found: dict[str, psutil.Process] = {}
        for process in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                found[words[-1] if words[-2:-1] == ["run"] else Path(words[0]).name.split("-")[0]] = process
        return found

    def halves(self) -> dict[str, set[str]]:
        """By process, which half of the hot path its log says that it started on, in each of its lives."""
        logs = (self.data_dir / "logs").glob("*.log")
        found = {log.stem: set(re.findall(r"hot path: (\w+)", log.read_text(errors="replace"))) for log in logs}
        return {name: halves for name, halves in found.items() if halves}

    def summary(self, timeout_s: float = 200.0) -> dict[str, Any]:
        """Wait for its end; the JSON of its last line."""
        self.process.wait(timeout_s)
        lines = self.output().strip().splitlines()
        assert lines and lines[-1].startswith("{"), self.output()[-4000:]
        result: dict[str, Any] = json.loads(lines[-1])
        assert "error" not in result, f"{result['error']}\n{self.output()[-3000:]}"
        return result

    def kill_all(self) -> None:
        """Leave nothing behind, whatever happened."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        self.process.kill()
        self.process.wait()


def assert_sound(summary: dict[str, Any]) -> None:
    """Nothing lost, nothing doubled, nothing left open."""
    assert summary["lost"] == 0, summary["differences"]
    assert summary["duplicated"] == 0, summary["differences"]
    left_open = {"UNKNOWN", "SUBMITTED", "PARTIALLY_FILLED", "PENDING_SUBMIT", "NEW", "VALIDATING"}
    assert not left_open & summary["orders"].keys(), summary["orders"]
