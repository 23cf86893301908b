"""What the figures have to be: each goal with what one run measured of it, and whether that reaches it.

In: the results of one run. Out: a row per goal whose benchmarks all ran; a missed one is named as missed. Goals that
were asked for (issues 2, 3 and 4) stay whatever is measured; one that we propose in place of another says so. Ratios
compare medians of the same run, because machines differ several times over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tickmesh.runtime.bench.result import Result


@dataclass(frozen=True, slots=True)
class Goal:
    """``name`` (a quantile of it) at most, or at least, ``bound``; in its unit, or as a multiple of ``of``."""

    what: str
    name: str
    bound: float
    of: str = ""
    quantile: str = "p50"
    at_least: bool = False
    inverse: bool = False
    """Whether the ratio is that of ``of`` to ``name``: how many times faster."""
    proposed: bool = False


GOALS: tuple[Goal, ...] = (
    Goal("depth message, native: times faster than NautilusTrader's path", "depth_native", 100, of="depth_nautilus",
         at_least=True, inverse=True),
    Goal("depth message, native: share of a bare msgspec decode", "depth_native", 0.5, of="depth_msgspec_floor"),
    Goal("depth message, Python: times faster than NautilusTrader's path", "depth_pure", 1, of="depth_nautilus",
         at_least=True, inverse=True),
    Goal("depth message, Python: times faster than cryptofeed's path", "depth_pure", 1, of="depth_cryptofeed",
         at_least=True, inverse=True),
    Goal("the capture's natural mix on one core, Python", "mix_pure", 10_000, at_least=True),
    Goal("bookTicker message, native", "top_native", 1),
    Goal("trade message, native", "trade_native", 1),
    Goal("engine, tick in to signal out, native", "engine_native", 2),
    Goal("engine, tick in to signal out, native", "engine_native", 10, quantile="p99"),
    Goal("engine, tick in to signal out, Python", "engine_pure", 5),
    Goal("engine, tick in to signal out, Python", "engine_pure", 10, quantile="p99"),
    Goal("a bookTicker in, a signal out, Python: times a bare msgspec decode of a depth message", "engine_pure_top",
         1.25, of="depth_msgspec_floor", proposed=True),
    Goal("one level in, a signal out, Python: times the same", "engine_pure_level", 1.5, of="depth_msgspec_floor",
         proposed=True),
    Goal("ring hop, busy poll, across processes", "hop_ring", 2),
    Goal("tick to order over the ring: times two hops of raw NATS", "tick_to_order_ring", 0.2, of="hop_nats_raw"),
    Goal("the same, feed, strategy and execution fused and spinning", "tick_to_order_fused_spin_rehearsed", 0.2,
         of="hop_nats_raw"),
    Goal("tick to order over NATS: times two hops of raw NATS", "tick_to_order_nats", 1.5, of="hop_nats_raw"),
    Goal("tick to order over NATS, two cores", "tick_to_order_nats", 1_000),
    Goal("tick to order, fused, spinning, rehearsed: times its own work, alone and hot",
         "tick_to_order_fused_spin_rehearsed", 3, of="walk", proposed=True),
    Goal("tick to order over NATS: times two hops of raw NATS at a market's pace", "tick_to_order_nats", 8,
         of="hop_nats_raw_2ms", proposed=True),
    Goal("feed, whole service, at 10,000 messages a second", "feed_cpu_pct", 5),
    Goal("feed, whole service, us a message (1 % of a core): times the same decode", "feed_cpu_pct", 1.5,
         of="depth_msgspec_floor", proposed=True),
    Goal("allocations per message on the steady path, native", "allocations_native", 0),
    Goal("all pre-trade checks of an order, native", "pretrade_native", 2),
    Goal("all pre-trade checks of an order, Python", "pretrade_pure", 20),
    Goal("orders through the whole machine in one process", "orders_per_s", 2_000, at_least=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal against one run."""

    goal: Goal
    value: float
    unit: str

    @property
    def reached(self) -> bool:
        """Whether the measured value is where the goal wants it."""
        return self.value >= self.goal.bound if self.goal.at_least else self.value <= self.goal.bound

    def as_dict(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        goal = self.goal
        return {
            "what": goal.what, "name": goal.name, "of": goal.of, "quantile": goal.quantile,
            "bound": goal.bound, "at_least": goal.at_least, "value": self.value, "unit": self.unit,
            "reached": self.reached, "proposed": goal.proposed,
        }  # fmt: skip


def judge(results: Sequence[Result]) -> list[Verdict]:
    """Every goal that this run can be held to, in their order."""
    by_name = {r.name: r for r in results}
    found = []
    for goal in GOALS:
        mine, other = by_name.get(goal.name), by_name.get(goal.of)
        if mine is None or (goal.of and other is None):
            continue
        value = mine.p50 if goal.quantile == "p50" else mine.p99
        unit = mine.unit
        if other is not None:
            if not value or not other.p50:
                continue
            value, unit = round(other.p50 / value if goal.inverse else value / other.p50, 3), "times"
        found.append(Verdict(goal, value, unit))
    return found


def rows(verdicts: Sequence[Verdict]) -> list[str]:
    """Markdown: a table of the goals with what was measured."""
    return ["| goal | reach | measured | reached |", "|---|---|---:|---|", *map(_row, verdicts)]


def summary(verdicts: Sequence[Verdict]) -> str:
    """One sentence for the end of a run."""
    missed = [v for v in verdicts if not v.reached and not v.goal.proposed]
    names = ", ".join(dict.fromkeys(v.goal.name for v in missed))
    asked = sum(not v.goal.proposed for v in verdicts)
    return f"{asked - len(missed)} of {asked} goals reached" + (f"; missed: {names}" if missed else "")


def _row(verdict: Verdict) -> str:
    goal = verdict.goal
    what = f"proposed: {goal.what}" if goal.proposed else goal.what
    named = f"`{goal.name}`" + (f" / `{goal.of}`" if goal.of else "")
    median = "" if goal.quantile == "p50" else ", p99"
    bound = f"{'at least' if goal.at_least else 'at most'} {goal.bound:,g} {_unit(verdict)}".rstrip()
    answer = "yes" if verdict.reached else "**no**"
    return f"| {what} ({named}{median}) | {bound} | {verdict.value:,g} | {answer} |"


def _unit(verdict: Verdict) -> str:
    return "" if verdict.unit == "times" else verdict.unit
