"""`tickmesh bench` as a person runs it: real processes, real nats-server, one JSON line at the end."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


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
