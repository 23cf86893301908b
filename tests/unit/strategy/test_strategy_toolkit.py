"""Means of irregular series, and the way to a target position."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import MS, S

from tickmesh.domain.enums import Urgency
from tickmesh.strategy.interface import Position
from tickmesh.strategy.toolkit import Decaying, towards


def test_after_one_half_life_the_mean_is_half_way_however_often_it_is_asked() -> None:
    for step in (S, 100 * MS, MS):
        series = Decaying(1.0)
        series.update(0.0, S)
        for at in range(S + step, 2 * S + 1, step):
            series.update(10.0, at)
        assert series.mean == pytest.approx(5.0, rel=1e-9)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(-S, 10 * S)), min_size=1, max_size=50))
def test_the_mean_stays_within_what_was_seen_and_the_variance_is_never_negative(
    values: list[tuple[float, int]],
) -> None:
    series, at = Decaying(0.5), S
    for value, step in values:
        at += step
        series.update(value, max(at, 1))
        assert series.variance >= 0
    seen = [v for v, _ in values]
    assert min(seen) - 1e-6 <= series.mean <= max(seen) + 1e-6
    again = Decaying(0.5)
    again.load(series.save())
    assert again.save() == series.save()


@given(st.integers(-50, 50), st.integers(-50, 50))
def test_following_the_signals_reaches_the_target_without_ever_passing_zero_in_one_step(held: int, target: int) -> None:
    for _ in range(3):
        signals = towards(Position(symbol="X", qty_lots=held), target, urgency=Urgency.NORMAL)
        if not signals:
            break
        (signal,) = signals
        after = held + int(signal.side) * signal.qty_lots
        assert signal.reduce_only == (held != 0 and abs(after) < abs(held))
        assert held * after >= 0
        held = after
    assert held == target


def test_an_order_on_its_way_to_a_reached_target_is_withdrawn() -> None:
    (signal,) = towards(Position(symbol="X", qty_lots=3, open_buy_lots=2), 3, urgency=Urgency.PASSIVE)
    assert signal.withdraw
