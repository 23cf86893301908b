"""Benchmarks of the whole loop: ``tickmesh up`` as real processes, read from its own summary and from the kernel."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tickmesh.domain.errors import TickmeshError
from tickmesh.runtime.bench.result import Result

_RUN_S = 30
_FEED_RATE = 10_000


class LoopFailedError(TickmeshError):
    """A run of `tickmesh up` that cannot be measured: ``why`` is one sentence."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def run_up(*arguments: str, watch: Any = None, settings: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the whole system in a directory of its own; its summary. ``watch(process)`` is called every 0.5 s."""
    with tempfile.TemporaryDirectory(prefix="tickmesh-bench-") as home:
        command = [sys.executable, "-m", "tickmesh.runtime.cli", "up", "--json", "--free-ports", "--data-dir", home]
        log = Path(home) / "out"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *arguments], stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(settings or {})}
            )
            try:
                while process.poll() is None:
                    time.sleep(0.5)
                    if watch is not None:
                        watch(process)
            finally:
                _end(process)
        lines = log.read_text(errors="replace").strip().splitlines()
        try:
            summary: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError):
            raise LoopFailedError("tickmesh up ended without a summary: " + " | ".join(lines[-3:])) from None
        if "error" in summary:
            raise LoopFailedError(f"tickmesh up: {summary['error']}")
        return summary


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


@dataclass(frozen=True, slots=True)
class Way:
    """One way of running the loop: the command's arguments, settings in the environment, and what to call it."""

    name: str
    what: str
    arguments: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


WAYS = (
    Way("nats", "NATS", ("--transport", "nats")),
    Way("ring", "shared-memory ring, sleeping on a bell", ("--transport", "shm")),
    Way(
        "ring_yield",
        "shared-memory ring, the strategy yields instead of sleeping (strategy.ring_spin_us)",
        ("--transport", "shm"),
        (("TICKMESH_STRATEGY__RING_SPIN_US", "100000"),),
    ),
    Way("fused", "feed, strategy and execution in one process", ("--fused",)),
    Way("fused_spin", "one process that never sleeps", ("--fused",), (("TICKMESH_LOCAL__SPIN", "true"),)),
    Way(
        "fused_rehearsed",
        "one process that rehearses every millisecond (local.rehearse_ms)",
        ("--fused",),
        (("TICKMESH_LOCAL__REHEARSE_MS", "1"),),
    ),
    Way(
        "fused_spin_rehearsed",
        "one process that never sleeps and rehearses",
        ("--fused",),
        (("TICKMESH_LOCAL__SPIN", "true"), ("TICKMESH_LOCAL__REHEARSE_MS", "1")),
    ),
)
STAGES = ("in_feed", "to_strategy", "in_strategy", "to_execution", "in_checks", "to_socket")
_summaries: dict[str, dict[str, Any] | LoopFailedError] = {}


def stage_of(way: Way, stage: str) -> Result:
    """Median and p99 of one part of the way from tick to order, from the run that ``tick_to_order`` made."""
    measured = _summary(way)["order_path_us"][stage]
    what = f"of tick_to_order_{way.name}, the part {stage.replace('_', ' ')}"
    name = f"tick_to_order_{way.name}_{stage}"
    return Result(name, "us", round(measured["p50"], 1), round(measured["p99"], 1), int(measured["n"]), what)


def _summary(way: Way) -> dict[str, Any]:
    """One run of each way, however many lines are taken from it, and also when it failed."""
    if way.name not in _summaries:
        try:
            _summaries[way.name] = run_up("--for", f"{_RUN_S}s", *way.arguments, settings=dict(way.settings))
        except LoopFailedError as error:
            _summaries[way.name] = error
    found = _summaries[way.name]
    if isinstance(found, LoopFailedError):
        raise found
    return found


def tick_to_order(way: Way) -> Result:
    """From the frame's arrival in the feed to the order's bytes at the venue's socket, every order of the run."""
    name, summary = f"tick_to_order_{way.name}", _summary(way)
    if summary["lost"] or summary["duplicated"]:
        raise LoopFailedError(f"{name}: {summary['lost']} lost, {summary['duplicated']} duplicated")
    measured = summary["latency_us"]["tick_to_order"]
    if not measured["n"]:
        raise LoopFailedError(f"{name}: no order was sent in {_RUN_S} s")
    what = f"frame's arrival in feed to order's bytes at the venue's socket, every order; {way.what}"
    return Result(name, "us", round(measured["p50"], 1), round(measured["p99"], 1), int(measured["n"]), what)


class _FeedWatch:
    """CPU of the feed process between two looks, with the messages that it took meanwhile."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._last: tuple[float, float, float] | None = None
        self._feed: psutil.Process | None = None
        self._admin = ""

    def __call__(self, process: subprocess.Popen[bytes]) -> None:
        try:
            if self._feed is None:
                self._find(process)
            if self._feed is None:
                return
            cpu_s = _cpu_s(self._feed)
            with urllib.request.urlopen(f"{self._admin}/stats", timeout=1.0) as answer:
                stats = json.load(answer)
        except (psutil.Error, OSError, ValueError):
            return
        events = sum(v for k, v in stats["counters"].items() if k.partition("{")[0].endswith("events_total"))
        now = (time.monotonic(), cpu_s, events)
        if self._last is not None:
            passed = now[0] - self._last[0]
            self.samples.append(((now[2] - self._last[2]) / passed, 100 * (now[1] - self._last[1]) / passed))
        self._last = now

    def _find(self, process: subprocess.Popen[bytes]) -> None:
        for child in psutil.Process(process.pid).children():
            if child.cmdline()[-2:] == ["run", "feed"]:
                listening = [c.laddr.port for c in child.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
                if listening:
                    self._feed, self._admin = child, f"http://127.0.0.1:{listening[0]}"


def _cpu_s(process: psutil.Process) -> float:
    """Seconds of processor that ``process`` has had, to the nanosecond where the scheduler tells.

    The clock ticks that psutil reads are 10 ms: 2 % of a core in half a second.
    """
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    if not threads:
        times = process.cpu_times()
        return float(times.user + times.system)
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def feed_cpu(capture: Path, messages_per_s_of_capture: float) -> Result:
    """Per cent of a core that the whole feed process takes at 10,000 messages a second of the natural mix."""
    watch = _FeedWatch()
    speed = _FEED_RATE / messages_per_s_of_capture
    summary = run_up("--replay", str(capture), "--replay-speed", f"{speed:.3f}", watch=watch)
    if summary["gaps"]:
        raise LoopFailedError(f"feed_cpu_pct: {summary['gaps']} gaps")
    busy = sorted(cpu for rate, cpu in watch.samples if rate >= _FEED_RATE * 0.8)
    if not busy:
        most = max((rate for rate, _ in watch.samples), default=0.0)
        raise LoopFailedError(f"feed_cpu_pct: the feed reached only {most:.0f} messages a second")
    what = f"CPU of the whole feed process at {_FEED_RATE} messages a second of the natural mix"
    at99 = busy[min(len(busy) - 1, int(len(busy) * 0.99))]
    return Result("feed_cpu_pct", "% of a core", round(busy[len(busy) // 2], 1), round(at99, 1), len(busy), what)
