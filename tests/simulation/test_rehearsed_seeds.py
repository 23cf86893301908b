"""A rehearsal leaves no trace: with walks at arbitrary moments everything happens as it does without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tickmesh.runtime.simulation.drama import Outcome, play
from tickmesh.runtime.simulation.plan import draw
from tickmesh.services.rehearsal import Rehearsal
from tickmesh.settings import load


@pytest.fixture(scope="module")
def rehearsal() -> Iterator[Rehearsal]:
    logging.disable(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    stage = Rehearsal.open(load({}))
    try:
        yield loop.run_until_complete(stage.__aenter__())
    finally:
        loop.run_until_complete(stage.__aexit__(None, None, None))
        loop.close()
        logging.disable(logging.NOTSET)


def played_with_walks(seed: int, rehearsal: Rehearsal, chance: float) -> tuple[Outcome, int]:
    random, walks = Random(seed), 0

    def after_step() -> None:
        nonlocal walks
        if random.random() < chance:
            walks += bool(rehearsal.once())

    return play(draw(seed), after_step=after_step), walks


@given(seed=st.integers(min_value=0, max_value=10_000), chance=st.sampled_from([0.002, 0.02]))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_trace_and_state_of_the_execution_service_are_the_same_with_walks_between_its_callbacks(
    rehearsal: Rehearsal, seed: int, chance: float
) -> None:
    without = play(draw(seed))
    rehearsed, walks = played_with_walks(seed, rehearsal, chance)
    assert walks > 0, "nothing was rehearsed"
    assert (rehearsed.fingerprint, rehearsed.steps) == (without.fingerprint, without.steps)
    assert rehearsed == without
