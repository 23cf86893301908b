"""``tickmesh simulate``: many seeds, or one seed looked at closely.

In: how many seeds from which on. Out: one line a failure with its shrunk plan, and at the end one object: ``seeds``,
``failures`` (each with its seed and the broken invariant) and ``faults`` by kind. A failing seed fails again, alone.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from typing import Any

import msgspec

from tickmesh.domain.errors import ConfigError
from tickmesh.runtime.simulation.drama import Outcome, play
from tickmesh.runtime.simulation.plan import Plan, draw

_SHRINK_RUNS = 60
_SHOWN = 60


class Failure(msgspec.Struct, frozen=True):
    """A seed that broke a promise; ``needs`` are the faults that suffice, by their numbers in the plan."""

    seed: int
    invariant: str
    detail: str
    needs: list[int]
    plan: list[str]
    trace: list[str]


class Report(msgspec.Struct, kw_only=True):
    """The one object that a run ends with."""

    seeds: int
    first_seed: int
    failures: list[Failure]
    faults: dict[str, int]
    orders: int = 0
    fills: int = 0
    lives: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0


def main(arguments: argparse.Namespace) -> int:
    """0 when every promise held, 1 when one was broken."""
    logging.disable(logging.CRITICAL)
    if arguments.seed is not None:
        return look(arguments.seed, arguments.steps, arguments.only)
    if arguments.seeds < 1:
        raise ConfigError("--seeds must be 1 or more")
    report = run_seeds(arguments.first_seed, arguments.seeds, arguments.jobs or os.cpu_count() or 1)
    for failure in report.failures:
        print(describe(failure))
    print(
        f"{report.seeds} seeds from {report.first_seed}: {len(report.failures)} broke a promise; "
        f"{report.orders} orders, {report.fills} fills, {report.lives} lives of the service, "
        f"{sum(report.faults.values())} faults, "
        f"{report.virtual_s / 3600:.1f} h played in {report.real_s:.0f} s"
    )
    if arguments.json:
        print(msgspec.json.encode(report).decode())
    return 1 if report.failures else 0


def look(seed: int, steps: int, only: str) -> int:
    """Play one seed and print everything that happened."""
    plan = draw(seed)
    if only:
        try:
            plan = plan.only({int(number) for number in only.split(",")})
        except ValueError:
            raise ConfigError(f"--only takes numbers of faults, separated by commas; found {only!r}") from None
    outcome = play(plan, keep_trace=True, steps=steps)
    for fault in plan.faults:
        print(fault)
    for line in outcome.trace:
        print(line)
    ending = outcome.detail or "all promises held"
    print(f"seed {seed}: {outcome.steps} steps, fingerprint {outcome.fingerprint}: {ending}")
    return 1 if outcome.broken else 0


def run_seeds(first: int, count: int, jobs: int = 1) -> Report:
    """Play ``count`` seeds; failures come back shrunk."""
    started = time.monotonic()
    report = Report(seeds=count, first_seed=first, failures=[], faults={})
    faults: Counter[str] = Counter()
    seeds = range(first, first + count)
    if jobs <= 1 or count < 4:
        results: Any = map(run_seed, seeds)
        pool = None
    else:
        pool = multiprocessing.get_context("spawn").Pool(min(jobs, count), _quiet)
        results = pool.imap(run_seed, seeds, chunksize=4)
    try:
        for outcome, failure in results:
            faults.update(outcome.faults)
            report.orders += outcome.orders
            report.fills += outcome.fills
            report.lives += outcome.lives
            report.steps += outcome.steps
            report.virtual_s += outcome.virtual_s
            if failure is not None:
                report.failures.append(failure)
                print(f"seed {failure.seed}: {failure.detail}", file=sys.stderr)
    finally:
        if pool is not None:
            pool.terminate()
            pool.join()
    report.faults = dict(sorted(faults.items()))
    report.real_s = round(time.monotonic() - started, 1)
    return report


def run_seed(seed: int) -> tuple[Outcome, Failure | None]:
    """One seed; a failure is shrunk to the faults that it takes."""
    outcome = play(draw(seed))
    outcome.trace, plan, outcome.plan = [], outcome.plan or draw(seed), None
    if not outcome.broken:
        return outcome, None
    smallest, trace, detail = shrink(plan, outcome.broken)
    failure = Failure(
        seed, outcome.broken, detail or outcome.detail, [f.number for f in smallest.faults],
        [str(f) for f in smallest.faults] + (["with a standby"] if smallest.standby else []), trace[-_SHOWN:],
    )  # fmt: skip
    return outcome, failure


def shrink(plan: Plan, broken: str) -> tuple[Plan, list[str], str]:
    """Leave out faults while the same promise still breaks; returns the smallest plan, its trace and what broke."""
    best = play(plan)
    runs = 0
    size = max(1, len(plan.faults) // 2)
    while runs < _SHRINK_RUNS:
        numbers = [f.number for f in plan.faults]
        smaller = False
        for start in range(0, len(numbers), size):
            candidate = plan.without(set(numbers[start : start + size]))
            runs += 1
            found = play(candidate)
            if found.broken == broken:
                plan, best, smaller = candidate, found, True
                break
            if runs >= _SHRINK_RUNS:
                break
        if not smaller:
            if size == 1:
                break
            size = max(1, size // 2)
    return plan, best.trace, best.detail


def describe(failure: Failure) -> str:
    """For a person: what broke, what it takes, the last moments, and how to see it again."""
    only = ",".join(str(number) for number in sorted(failure.needs))
    lines = [f"seed {failure.seed} broke {failure.invariant}", f"  {failure.detail}", "  it takes:"]
    lines += [f"    {fault}" for fault in failure.plan] or ["    no fault at all"]
    lines += ["  the end of it:", *(f"    {line}" for line in failure.trace)]
    again = f"tickmesh simulate --seed {failure.seed}" + (f" --only {only}" if only else "")
    return "\n".join([*lines, f"  again: {again}"])


def _quiet() -> None:
    logging.disable(logging.CRITICAL)
