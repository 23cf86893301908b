"""A person's commands on the whole running system: a halt holds through the gateway's death, a resume trades again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import browser as browsers

sys.path.insert(0, str(Path(__file__).parent))
from harness import ROOT, Run, assert_sound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started = Run(tmp_path / "data")
    yield started
    if started.process.poll() is None:
        started.kill_all()


def tickmesh(*words: str) -> tuple[int, str]:
    """One command, as a shell runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "tickmesh.runtime.cli", *words],
        capture_output=True, text=True, timeout=30, env={"PYTHONPATH": str(ROOT / "pkg")}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def status(url: str) -> dict[str, Any]:
    code, said = tickmesh("status", "--json", "--url", url)
    live: dict[str, Any] = json.loads(said) if code == 0 else {}
    return live


def until(url: str, claim: Callable[[dict[str, Any]], bool], timeout_s: float = 40.0) -> dict[str, Any]:
    """Wait until a picture fulfils the claim."""
    deadline = time.monotonic() + timeout_s
    while True:
        live = status(url)
        if live and claim(live):
            return live
        assert time.monotonic() < deadline, live
        time.sleep(0.2)


def total(live: dict[str, Any]) -> int:
    return sum(live["orders"]["by_state"].values())


def test_a_halt_stops_the_loop_survives_the_gateway_and_two_steps_resume_it(run: Run) -> None:
    run.wait_for("dashboard:")
    found = re.search(r"dashboard: (\S+)", run.output())
    assert found is not None
    url = found[1]
    before = until(url, lambda live: total(live) > 5 and live["fills"] > 0)
    assert {"feed", "tick_to_order", "venue_ack"} <= {n for n, q in before["latency_us"].items() if q["n"]}

    code, said = tickmesh("halt", "--reason", "drill", "--actor", "ann", "--url", url)
    assert (code, "everything is halted" in said) == (0, True), said
    halted = until(url, lambda live: bool(live["halts"]) and live["orders"]["open"] == 0)
    time.sleep(3)
    later = status(url)
    # Intents that were on their way may still be recorded as refused; nothing reaches the venue.
    sent = ("SUBMITTED", "PARTIALLY_FILLED", "FILLED", "CANCELED")
    assert [later["orders"]["by_state"].get(s, 0) for s in sent] == [
        halted["orders"]["by_state"].get(s, 0) for s in sent
    ]

    run.children()["gateway"].kill()
    back = until(url, lambda live: live["services"].get("gateway", {}).get("ready", False) and bool(live["halts"]))
    assert [(h["scope"], h["state"], h["actor"]) for h in back["halts"]] == [("all", "HALTED", "ann")]
    assert back["fills"] == later["fills"]
    assert back["positions"] != [] or later["positions"] == []

    code, said = tickmesh("resume", "--actor", "ann", "--url", url)
    word = re.search(r"--confirm (\w+)", said)
    assert code == 3, said
    assert word is not None
    assert tickmesh("resume", "--actor", "ann", "--url", url, "--confirm", word[1])[0] == 0
    resumed = until(url, lambda live: not live["halts"] and live["fills"] > later["fills"])
    assert total(resumed) > total(later)

    run.process.terminate()
    assert_sound(run.summary())


@pytest.mark.skipif(browsers.find() is None, reason="no Chromium on this machine: install chromium")
async def test_the_page_shows_the_running_loop(run: Run) -> None:
    run.wait_for("dashboard:")
    found = re.search(r"dashboard: (\S+)", run.output())
    assert found is not None
    chromium = browsers.find()
    assert chromium is not None
    async with browsers.open_browser(chromium) as tab:
        await tab.go(found[1])
        await tab.until("document.getElementById('link').textContent === 'live'")
        await tab.until("Number(document.getElementById('fills').textContent) > 0", 40)
        await tab.until("document.querySelectorAll('#services li').length >= 9", 20)
        await tab.until("document.querySelectorAll('#services li.bad').length === 0", 30)
        await tab.until("/[1-9].* events.s · 0 gaps/.test(document.getElementById('pulse').textContent)", 20)
        assert tab.problems == []
