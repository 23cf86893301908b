"""Drama: one seed from the first start to the last comparison.

In: a Plan. Out: an Outcome. The execution service in it is the real one; feed, strategies, supervisor and the people
who halt and resume are played. At the end the faults are over, everything is cancelled, and what we hold of orders,
fills and positions must be what the venue holds.
"""

from __future__ import annotations

import random as global_random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tickmesh.runtime.simulation.ending import Ending
from tickmesh.runtime.simulation.faults import Faults
from tickmesh.runtime.simulation.pens import Pens
from tickmesh.runtime.simulation.plan import Plan
from tickmesh.runtime.simulation.stage import HEALED_NS, START_NS, Stage
from tickmesh.runtime.simulation.world import InvariantError, S


@dataclass(slots=True)
class Outcome:
    """How a run ended. ``broken`` is the invariant's name, empty when every promise held."""

    seed: int
    broken: str = ""
    detail: str = ""
    plan: Plan | None = None
    faults: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    fills: int = 0
    lives: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    fingerprint: str = ""
    trace: list[str] = field(default_factory=list)


def play(
    plan: Plan, *, keep_trace: bool = False, steps: int = 0, after_step: Callable[[], None] = lambda: None
) -> Outcome:
    """Run one plan to the end, or for so many steps; ``after_step`` is called between any two."""
    global_random.seed(plan.seed)
    stage = Stage(plan, keep_trace=keep_trace)
    stage.world.after_step = after_step
    pens = Pens(stage)
    faults, outcome = Faults(stage, pens), Outcome(plan.seed, plan=plan)
    try:
        stage.prepare()
        pens.begin()
        faults.begin()
        for name in stage.machines:
            stage.start(name)
        if steps:
            for _ in range(steps):
                if not stage.world.step(HEALED_NS):
                    break
        else:
            stage.world.run(HEALED_NS)
            ending = Ending(stage, pens)
            ending.heal()
            ending.compare()
    except InvariantError as error:
        outcome.broken, outcome.detail = error.name, str(error)
        stage.world.note(f"BROKEN {error}")
    finally:
        stage.close()
    world = stage.world
    outcome.faults = faults.struck + Counter(stage.venue.faults_hit)
    outcome.orders, outcome.fills = len(stage.watch.venue_orders), len(stage.venue.trades())
    outcome.lives, outcome.steps, outcome.fingerprint = stage.lived.total(), world.steps, world.fingerprint
    outcome.virtual_s = (world.now_ns - START_NS) / S
    outcome.trace = list(world.trace)
    return outcome
