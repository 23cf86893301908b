"""The halt latch and the rate budget."""

from __future__ import annotations

import pytest

from tickmesh.domain.enums import RiskState
from tickmesh.domain.messages import Control
from tickmesh.execution.budget import RateBudget
from tickmesh.execution.halt import HaltLatch

S = 1_000_000_000


def control(verb: str, scope: str) -> Control:
    return Control(verb=verb, scope=scope, reason="because", actor="test")


def test_a_halt_stays_until_its_own_scope_is_resumed() -> None:
    latch = HaltLatch("main")
    assert latch.apply(control("halt", "strategy.mm"))
    assert not latch.apply(control("halt", "strategy.mm"))
    assert not latch.apply(control("resume", "strategy.other"))
    assert not latch.apply(control("reduce", "strategy.mm")), "a halt is not softened"
    assert latch.of("strategy.mm") is RiskState.HALTED
    assert latch.apply(control("resume", "strategy.mm"))
    assert latch.of("strategy.mm") is RiskState.ACTIVE


def test_reduce_can_be_hardened_and_resume_all_lifts_everything() -> None:
    latch = HaltLatch("main")
    latch.apply(control("reduce", "all"))
    assert latch.of("all") is RiskState.REDUCING
    assert latch.apply(control("halt", "all"))
    latch.apply(control("halt", "symbol.BTCUSDT"))
    assert latch.apply(control("resume", "all"))
    assert not latch.state.scopes


@pytest.mark.parametrize("scope", ["account.other", "nonsense", "strategy.", ""])
def test_commands_for_others_and_nonsense_change_nothing(scope: str) -> None:
    assert not HaltLatch("main").apply(control("halt", scope))


def test_a_command_that_was_taken_before_a_restart_is_not_taken_again() -> None:
    latch = HaltLatch("main")
    latch.apply(control("halt", "all"), ctl_seq=4)
    latch.apply(control("resume", "all"), ctl_seq=5)
    again = HaltLatch("main", latch.state)
    assert not again.apply(control("halt", "all"), ctl_seq=4)
    assert again.of("all") is RiskState.ACTIVE
    assert again.apply(control("halt", "all"), ctl_seq=6)


def budget() -> RateBudget:
    return RateBudget(weight_per_min=100, orders_per_10s=5, orders_per_min=8, cancel_reserve=0.25)


def test_orders_stop_at_the_venues_limits_and_go_on_when_its_interval_has_passed() -> None:
    b = budget()
    for _ in range(5):
        assert b.may_place(S) == ""
        b.placed(S)
    assert "10 s" in b.may_place(2 * S)
    for _ in range(3):
        assert b.may_place(12 * S) == ""
        b.placed(12 * S)
    assert "a minute" in b.may_place(25 * S)
    assert b.may_place(62 * S) == ""


def test_the_reserve_is_for_cancels_only() -> None:
    b = budget()
    b.spent(75, S)
    assert "kept for cancels" in b.may_place(S)
    assert b.wait_for_query_s(1, S) > 0
    assert b.wait_for_cancel_s(S) == 0


def test_the_venues_own_count_outweighs_ours() -> None:
    b = budget()
    b.read(weight_1m=90, orders_10s=-1, orders_1m=-1, mono_ns=S)
    assert b.may_place(S)
    b.read(weight_1m=3, orders_10s=5, orders_1m=-1, mono_ns=2 * S)
    assert "10 s" in b.may_place(2 * S)
    b.read(weight_1m=3, orders_10s=0, orders_1m=0, mono_ns=3 * S)
    assert b.may_place(3 * S) == ""


def test_minus_1015_backs_off_orders_only_429_queries_too_and_418_everything() -> None:
    b = budget()
    b.limited(code=-1015, banned=False, retry_after_s=2, mono_ns=S)
    assert b.may_place(2 * S) and b.wait_for_query_s(1, 2 * S) == 0 and b.wait_for_cancel_s(2 * S) == 0
    assert b.may_place(4 * S) == ""
    b.limited(code=-1003, banned=False, retry_after_s=3, mono_ns=4 * S)
    assert b.may_place(5 * S) and b.wait_for_query_s(1, 5 * S) == 2 and b.wait_for_cancel_s(5 * S) == 2
    b.limited(code=0, banned=True, retry_after_s=120, mono_ns=5 * S)
    assert b.wait_for_cancel_s(65 * S) == 60 and b.wait_for_query_s(1, 65 * S) == 60 and b.may_place(65 * S)
