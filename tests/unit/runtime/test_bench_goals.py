"""A run is held to the goals of the issues: a value on the wrong side of a bound is a missed goal, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tickmesh.runtime.bench.goals import GOALS, judge, rows, summary
from tickmesh.runtime.bench.result import Result
from tickmesh.runtime.bench.suite import NAMES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"


def result(name: str, p50: float, p99: float = 0.0, unit: str = "us") -> Result:
    return Result(name, unit, p50, p99 or p50, 100, "for a test")


def test_every_goal_is_about_a_benchmark_that_there_is() -> None:
    assert {g.name for g in GOALS} | {g.of for g in GOALS if g.of} <= set(NAMES)


@pytest.mark.parametrize(
    ("name", "value", "of", "reached"),
    [
        ("pretrade_native", 2.0, None, True),
        ("pretrade_native", 2.1, None, False),
        ("orders_per_s", 2_000, None, True),
        ("orders_per_s", 1_999, None, False),
        ("depth_native", 1.0, ("depth_nautilus", 100.0), True),
        ("depth_native", 1.0, ("depth_nautilus", 99.0), False),
        ("tick_to_order_nats", 150.0, ("hop_nats_raw", 100.0), True),
        ("tick_to_order_nats", 151.0, ("hop_nats_raw", 100.0), False),
    ],
)
def test_a_goal_is_reached_at_its_bound_and_not_beyond(
    name: str, value: float, of: tuple[str, float] | None, reached: bool
) -> None:
    results = [result(name, value), *([result(*of)] if of else [])]
    (verdict,) = (v for v in judge(results) if v.goal.name == name and bool(v.goal.of) == bool(of))
    assert verdict.reached is reached
    assert (rows([verdict])[-1].endswith("| yes |"), "**no**" in rows([verdict])[-1]) == (reached, not reached)


def test_a_goal_without_its_figures_is_not_judged() -> None:
    assert judge([]) == []
    assert [v.goal.name for v in judge([result("depth_native", 1.0)])] == []


def test_both_quantiles_of_a_goal_count_and_the_summary_names_what_is_missed_once() -> None:
    verdicts = judge([result("engine_pure", 6.0, 160.0), result("hop_ring", 1.0)])
    assert [(v.goal.name, v.goal.quantile, v.reached) for v in verdicts] == [
        ("engine_pure", "p50", False), ("engine_pure", "p99", False), ("hop_ring", "p50", True),
    ]  # fmt: skip
    assert summary(verdicts) == "1 of 3 goals reached; missed: engine_pure"


def test_the_page_shows_every_goal_that_was_asked_for() -> None:
    block = PAGE.read_text().partition("<!-- bench:goals -->")[2].partition("<!-- /bench:goals -->")[0]
    missing = [g.name for g in GOALS if not g.proposed and f"(`{g.name}`" not in block]
    assert not missing, f"run `tickmesh bench --write docs/benchmarks.md`: the page lacks {missing}"
