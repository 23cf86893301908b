"""The guard: no error, no nonsense and no slowness of a plugin goes past it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import MS, S, StillClock

from tickmesh.domain.enums import Side
from tickmesh.strategy.guard import Guard, GuardPolicy, NoWatch, PluginBlockedError
from tickmesh.strategy.interface import Signal, Strategy

GOOD = Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=1)


class Does(Strategy):
    def __init__(self, what: Callable[[], Any]) -> None:
        self.what = what

    def on_market_data(self, data: Any) -> list[Signal]:
        result: list[Signal] = self.what()
        return result


def guard(what: Callable[[], Any], clock: StillClock | None = None) -> Guard:
    policy = GuardPolicy(max_errors=3, window_ns=10 * S, block_ns=100 * MS)
    return Guard(Does(what), "x", clock or StillClock(), policy, NoWatch())


def fail(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda: fail(ValueError("no\nnumber")), "raised ValueError (no number) at test_strategy_guard.py:"),
        (lambda: fail(SystemExit(3)), "raised SystemExit (3)"),
        (lambda: fail(RecursionError()), "raised RecursionError at"),
        (lambda: fail(PluginBlockedError()), "was interrupted after"),
        (lambda: GOOD, "returned a Signal instead of a list of Signal"),
        (lambda: "text", "returned a str instead"),
        (lambda: [GOOD, 7], "returned a list with other things in it"),
        (lambda: [GOOD] * 65, "returned 65 signals; at most 64"),
        (lambda: [Signal(symbol="B", side=Side.BUY, qty_lots=1.5)], "qty_lots is 1.5"),  # type: ignore[arg-type]
        (lambda: [Signal(symbol="B", side=Side.BUY, qty_lots=-1)], "qty_lots is -1"),
        (lambda: [Signal(symbol="B", side=3, qty_lots=1)], "side is 3"),  # type: ignore[arg-type]
        (lambda: [Signal(symbol="B", side=Side.BUY, strength=float("nan"))], "strength is nan"),
        (lambda: [Signal(symbol="B", side=Side.BUY, strength=None)], "strength is None"),  # type: ignore[arg-type]
        (lambda: [Signal(symbol="B", side=Side.BUY, urgency="now")], "urgency is 'now'"),  # type: ignore[arg-type]
        (lambda: [Signal(symbol=["B"], side=Side.BUY)], "symbol is ['B']"),  # type: ignore[arg-type]
        (lambda: [Signal(symbol="B", side=Side.BUY, reason=7)], "reason is 7"),  # type: ignore[arg-type]
        (lambda: [Signal(symbol="B", side=Side.BUY, quote="a.b")], "quote is 'a.b'"),
    ],
)
def test_what_goes_wrong_is_reported_in_one_sentence_and_yields_nothing(what: Callable[[], Any], says: str) -> None:
    watched = guard(what)
    assert watched.signals("data") == []
    (report,) = watched.take_reports()
    assert says in report.text and "\n" not in report.text
    assert not report.disabled and watched.errors == 1


def test_the_third_error_within_the_window_disables_and_older_ones_do_not_count() -> None:
    clock = StillClock()
    watched = guard(lambda: fail(KeyError("x")), clock)
    for _ in range(5):
        watched.signals("data")
        clock.now_ns += 6 * S
        assert not watched.disabled
    watched.signals("data")
    watched.signals("data")
    assert watched.disabled
    assert watched.take_reports()[-1].disabled
    calls = watched.errors
    assert watched.signals("data") == [] and watched.errors == calls


def test_a_call_that_blocks_is_an_error_even_when_it_returns() -> None:
    clock = StillClock()

    def slow() -> list[Signal]:
        clock.now_ns += 150 * MS
        return [GOOD]

    watched = guard(slow, clock)
    assert watched.signals("data") == [GOOD]
    assert "took 150 ms" in watched.take_reports()[0].text
    assert watched.longest_ns == 150 * MS


def test_the_state_of_a_disabled_plugin_can_still_be_had() -> None:
    watched = guard(list)
    watched.disabled = True
    watched.plugin.get_state = lambda: {"seen": 3}  # type: ignore[method-assign]
    assert watched.state() == {"seen": 3}
    assert watched.call("get_state") is None
