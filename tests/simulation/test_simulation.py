"""No order is ever lost or doubled, whatever fails: seeds of failure played against the real order path.

TICKMESH_SEEDS sets how many (default 300), TICKMESH_FIRST_SEED the first; a failure prints its seed, the faults that it
takes and the end of its trace.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from tickmesh.runtime.simulation.command import describe, run_seeds
from tickmesh.runtime.simulation.drama import play
from tickmesh.runtime.simulation.plan import draw

SEEDS = int(os.environ.get("TICKMESH_SEEDS", "300"))
FIRST = int(os.environ.get("TICKMESH_FIRST_SEED", "0"))


@pytest.fixture(autouse=True)
def quiet() -> object:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(1800)
def test_every_promise_holds_under_every_seed() -> None:
    report = run_seeds(FIRST, SEEDS, os.cpu_count() or 1)
    print(f"seeds {FIRST} to {FIRST + SEEDS - 1}, faults {report.faults}")
    assert not report.failures, "\n\n".join(describe(failure) for failure in report.failures)
    assert report.orders > 20 * SEEDS and report.fills > 10 * SEEDS, "too little happened to prove anything"


@pytest.mark.parametrize("seed", [4, 12, 26])
def test_a_seed_plays_the_same_twice(seed: int) -> None:
    first, second = play(draw(seed)), play(draw(seed))
    assert first.trace == second.trace
    assert (first.fingerprint, first.steps) == (second.fingerprint, second.steps)


def test_a_seed_plays_the_same_in_any_process() -> None:
    """Sets are walked in another order in each process: nothing that happens may depend on it."""
    command = [sys.executable, "-m", "tickmesh.runtime.cli", "simulate", "--seed", "7"]
    runs = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": chaos}, capture_output=True, text=True, timeout=120
        )
        for chaos in ("1", "2")
    ]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr + runs[1].stderr
    assert runs[0].stdout.splitlines()[-1] == runs[1].stdout.splitlines()[-1]
