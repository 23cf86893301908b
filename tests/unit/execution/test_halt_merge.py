"""Two pictures of what is halted, one from our file and one from the former writer: nothing latched is ever lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.enums import RiskState
from tickmesh.domain.halt import Latched
from tickmesh.domain.messages import Control
from tickmesh.execution.halt import HaltLatch, HaltState, merge
from tickmesh.risk.halt import HaltBook
from tickmesh.services.execution import order_window_ms

SCOPES = st.dictionaries(
    st.sampled_from(["all", "account.main", "strategy.mm", "symbol.BTCUSDT"]),
    st.sampled_from([RiskState.REDUCING, RiskState.HALTED]).map(Latched),
)


@given(SCOPES, SCOPES, st.integers(0, 5))
def test_pictures_of_the_same_place_in_the_stream_are_joined_the_harder_state_wins(
    mine: dict[str, Latched], theirs: dict[str, Latched], seq: int
) -> None:
    both = merge(HaltState(dict(mine), seq), HaltState(dict(theirs), seq))
    assert both == merge(HaltState(dict(theirs), seq), HaltState(dict(mine), seq))
    assert set(both.scopes) == {*mine, *theirs} and both.ctl_seq == seq
    for scope, latched in both.scopes.items():
        halted = RiskState.HALTED in (state.scopes.get(scope, Latched(RiskState.ACTIVE)).state
                                      for state in (HaltState(mine), HaltState(theirs)))  # fmt: skip
        assert (latched.state is RiskState.HALTED) == halted


@given(SCOPES, SCOPES)
def test_who_has_read_further_knows_what_was_resumed(mine: dict[str, Latched], theirs: dict[str, Latched]) -> None:
    assert merge(HaltState(mine, 3), HaltState(theirs, 7)).scopes == theirs
    assert merge(HaltState(mine, 8), HaltState(theirs, 7)).scopes == mine


def test_an_order_is_too_old_at_the_venue_before_a_successor_may_act() -> None:
    assert order_window_ms(5000, 3000) == 750
    assert order_window_ms(400, 3000) == 400
    assert order_window_ms(5000, 1000) == 500


_COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["halt", "reduce", "resume", "mode"]),
        st.sampled_from(["all", "account.main", "strategy.mm", "symbol.BTCUSDT", "symbol.", "nonsense"]),
        st.booleans(),
    ),
    max_size=30,
)


@given(_COMMANDS)
def test_risk_and_execution_latch_the_same_whatever_they_hear(commands: list[tuple[str, str, bool]]) -> None:
    book, latch = HaltBook(), HaltLatch("main")
    for number, (verb, scope, flatten) in enumerate(commands, start=1):
        arguments = {"flatten": "true"} if flatten else {}
        control = Control(verb=verb, scope=scope, actor="ann", publish_ns=number, arguments=arguments)
        book.apply(control)
        latch.apply(control, number)
        assert {h.scope: h.state for h in book.halts} == {s: held.state for s, held in latch.state.scopes.items()}
    assert set(latch.state.flatten) <= {s for s, held in latch.state.scopes.items() if held.state is RiskState.HALTED}
