"""`tickmesh bench` as a person runs it: real processes, real nats-server, one JSON line at the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tickmesh.runtime.bench.suite import NAMES

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data"))
CAPTURE = DATA / "binance-usdm" / "btcusdt_20240808.gz"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tickmesh.runtime.cli", "bench", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=150, check=False, env={"PYTHONPATH": str(ROOT / "pkg")}
    )


def test_hops_are_measured_between_processes_and_reported_as_json() -> None:
    done = bench("--json", "--only", "timer,hop_tcp,hop_nats_raw,hop_nats,hop_ring")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    results = {r["name"]: r for r in document["results"]}
    assert list(results) == ["timer", "hop_tcp", "hop_nats_raw", "hop_nats", "hop_ring"]
    for result in results.values():
        assert result["unit"] == "us"
        assert 0 < result["p50"] <= result["p99"]
        assert result["n"] >= 5_000


def test_an_unknown_benchmark_ends_with_one_sentence() -> None:
    done = bench("--only", "faster")
    assert done.returncode == 2
    assert done.stderr.startswith("tickmesh: there is no benchmark faster; there are ")
    assert len(done.stderr.splitlines()) == 1


CONTRACT = (
    "depth_native", "depth_pure", "depth_nautilus", "depth_cryptofeed", "depth_msgspec_floor", "top_native",
    "engine_native", "engine_pure", "hop_ring", "hop_nats", "hop_nats_raw", "hop_tcp", "tick_to_order_ring",
    "tick_to_order_nats", "feed_cpu_pct",
)  # fmt: skip


def test_the_benchmarks_that_were_promised_are_there() -> None:
    assert not set(CONTRACT) - set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.skipif(not CAPTURE.is_file(), reason=f"the capture {CAPTURE.name} is not there (TICKMESH_DATA)")
def test_the_engine_is_measured_from_tick_to_signal_on_real_messages() -> None:
    done = bench("--json", "--data", str(CAPTURE), "--only", "engine_pure,engine_pure_tick,engine_pure_signal")
    assert done.returncode == 0, done.stderr
    results = {r["name"]: r for r in json.loads(done.stdout.splitlines()[-1])["results"]}
    assert list(results) == ["engine_pure", "engine_pure_tick", "engine_pure_signal"]
    assert all(r["n"] > 10_000 and 0 < r["p50"] <= r["p99"] for r in results.values())
    assert results["engine_pure"]["n"] == results["engine_pure_signal"]["n"]
