"""What the gateway shows as halted is what risk and execution latch, in whatever order the commands arrive."""

from hypothesis import given
from hypothesis import strategies as st
from tests.gateway_desk import stamps

from tickmesh.domain.messages import Control, encode
from tickmesh.gateway.latency import Stages
from tickmesh.gateway.replica import Replica
from tickmesh.risk.halt import HaltBook

commands = st.lists(
    st.tuples(
        st.sampled_from(["halt", "reduce", "resume"]), st.sampled_from(["all", "symbol.BTCUSDT", "strategy.maker"])
    ),
    max_size=8,
)


@given(commands, st.randoms())
def test_halts_are_those_of_the_risk_service_whatever_the_order_of_arrival(given_commands, random) -> None:
    controls = [
        Control(verb=verb, scope=scope, actor="ann", publish_ns=at)
        for at, (verb, scope) in enumerate(given_commands, start=1)
    ]
    book, replica = HaltBook(), Replica()
    for control in controls:
        book.apply(control)
    shuffled = controls + controls[:3]
    random.shuffle(shuffled)
    for control in shuffled:
        replica.on_message(f"ctl.{control.verb}.{control.scope}", encode(control))
    assert {h.scope: h.state for h in replica.halts()} == {h.scope: h.state.value for h in book.halts}


def test_other_verbs_halt_nothing() -> None:
    replica = Replica()
    replica.on_message("ctl.reload.all", encode(Control(verb="reload", scope="all", publish_ns=1)))
    assert replica.halts() == []


def test_each_order_counts_once_per_stage_and_a_stage_it_did_not_pass_not_at_all() -> None:
    stages = Stages()
    for number in range(3):
        full = stamps(number)
        before_ack = stamps(number)
        before_ack.ack_mono_ns = 0
        stages.add(f"o{number}", before_ack)
        stages.add(f"o{number}", before_ack)
        if number == 0:
            stages.add("o0", full)
    found = stages.quantiles_us(now_ns=10)
    assert found["feed"].n == 3
    assert found["feed"].p50 == 35.0
    assert found["venue_ack"].n == 1
    taken_us = sorted((s.sent_mono_ns - s.tick_receive_mono_ns) / 1000 for s in map(stamps, range(3)))
    assert (found["tick_to_order"].p50, found["tick_to_order"].p99) == (taken_us[1], taken_us[2])
