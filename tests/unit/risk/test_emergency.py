"""Emergency triggers: each trips past its limit, not before it, and names what it saw."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest

from tickmesh.domain.enums import OrderState
from tickmesh.domain.errors import NotFiniteError
from tickmesh.domain.messages import AccountSnapshot, OrderEvent
from tickmesh.risk.emergency import BUSINESS_CODES, LATE_CODES, Emergency, Trip
from tickmesh.risk.limits import Limits, LimitsError, parse

S = 1_000_000_000
LIMITS = Limits()


def snapshot(**more: object) -> AccountSnapshot:
    base = AccountSnapshot(account="main", venue="s", equity=D(100_000))
    return msgspec.structs.replace(base, **more)


def judge(emergency: Emergency | None = None, now_ns: int = S, limits: Limits = LIMITS, **more: object) -> list[Trip]:
    return (emergency or Emergency(max_silent_ns=30 * S)).on_snapshot(snapshot(**more), limits, now_ns)


@pytest.mark.parametrize(
    ("figure", "fine", "reduces", "halts"),
    [
        ("daily_drawdown", "0.03", "0.0301", "0.0501"),
        ("margin_ratio", "0.5", "0.51", "0.81"),
        ("exposure", "500000", "500000.01", "600000.01"),
    ],
)
def test_a_figure_past_its_limit_reduces_and_further_past_it_halts(
    figure: str, fine: str, reduces: str, halts: str
) -> None:
    assert judge(**{figure: D(fine)}) == []
    for value, verb in ((reduces, "reduce"), (halts, "halt")):
        (trip,) = judge(**{figure: D(value)})
        assert (trip.verb, trip.scope, trip.kind) == (verb, "account.main", figure)
        assert value in trip.reason and "main" in trip.reason


def test_limits_of_the_moment_decide_and_the_breach_trips_again_until_it_is_gone() -> None:
    emergency = Emergency(max_silent_ns=30 * S)
    assert judge(emergency, daily_drawdown=D("0.02")) == []
    strict = parse(b'{"max_daily_drawdown": "0.01", "reduce_daily_drawdown": "0.005"}', LIMITS)
    for _ in range(3):
        assert [t.verb for t in judge(emergency, limits=strict, daily_drawdown=D("0.02"))] == ["halt"]
    assert judge(emergency, limits=strict, daily_drawdown=D(0)) == []


def test_nothing_left_to_cover_positions_halts() -> None:
    assert [t.kind for t in judge(equity=D(0), exposure=D(10))] == ["equity"]
    assert judge(equity=D(0)) == []


@pytest.mark.parametrize("figure", ["equity", "daily_drawdown", "margin_ratio", "exposure"])
def test_a_figure_that_is_no_number_is_refused_and_is_no_sign_of_life(figure: str) -> None:
    emergency = Emergency(max_silent_ns=30 * S)
    judge(emergency, now_ns=0)
    with pytest.raises(NotFiniteError):
        judge(emergency, now_ns=31 * S, **{figure: D("NaN")})
    assert [t.kind for t in emergency.on_time(31 * S)] == ["silence"]


def rejected(code: int, state: OrderState = OrderState.REJECTED) -> OrderEvent:
    return OrderEvent(
        account="main", venue="s", symbol="BTCUSDT", client_order_id="c", state=state, venue_code=code, reason="no"
    )


def test_more_than_ten_rejections_in_a_minute_halt() -> None:
    emergency = Emergency(max_silent_ns=S)
    found = [emergency.on_order_event(rejected(-2010), LIMITS, i * 5 * S) for i in range(11)]
    assert found[:10] == [[]] * 10
    assert [(t.verb, t.scope, t.kind) for t in found[10]] == [("halt", "account.main", "rejections")]
    assert "11 orders" in found[10][0].reason and "-2010" in found[10][0].reason


def test_slow_rejections_business_answers_and_our_own_refusals_do_not() -> None:
    emergency = Emergency(max_silent_ns=S)
    for i in range(40):
        assert emergency.on_order_event(rejected(-2010), LIMITS, i * 7 * S) == []
        for code in (*BUSINESS_CODES, *LATE_CODES, 0):
            assert emergency.on_order_event(rejected(code), LIMITS, i * 7 * S) == []
        assert emergency.on_order_event(rejected(-2010, OrderState.CANCELED), LIMITS, i * 7 * S) == []


def test_after_a_resume_the_count_starts_anew() -> None:
    emergency = Emergency(max_silent_ns=S)
    for _ in range(11):
        trips = emergency.on_order_event(rejected(-2010), LIMITS, 0)
    assert trips
    emergency.resumed("account.other")
    assert emergency.on_order_event(rejected(-2010), LIMITS, 1)
    emergency.resumed("account.main")
    assert not emergency.on_order_event(rejected(-2010), LIMITS, 2)


def test_repeated_mismatches_halt_and_old_ones_of_a_former_life_do_not_count() -> None:
    emergency = Emergency(max_silent_ns=S)
    assert judge(emergency, mismatches=40) == []
    assert judge(emergency, now_ns=2 * S, mismatches=41) == []
    assert judge(emergency, now_ns=3 * S, mismatches=41) == []
    assert judge(emergency, now_ns=4 * S, mismatches=43) == []  # one correction of two things
    assert [t.kind for t in judge(emergency, now_ns=5 * S, mismatches=44)] == ["mismatch"]
    late = Emergency(max_silent_ns=S)
    for i in range(10):
        assert judge(late, now_ns=i * 200 * S, mismatches=i) == []


def test_a_critical_service_that_does_not_answer_for_long_halts_everything() -> None:
    emergency = Emergency(max_silent_ns=30 * S)
    assert emergency.on_health("execution", False, 0) == []
    assert emergency.on_health("execution", False, 30 * S) == []
    assert emergency.on_health("execution", True, 31 * S) == []
    assert emergency.on_health("execution", False, 40 * S) == []
    (trip,) = emergency.on_health("execution", False, 71 * S)
    assert (trip.verb, trip.scope, trip.kind) == ("halt", "all", "health") and "execution" in trip.reason


def test_a_critical_service_that_was_never_heard_gets_time_to_come_up() -> None:
    emergency = Emergency(max_silent_ns=30 * S, first_answer_ns=180 * S)
    assert emergency.on_health("account", False, 0) == []
    assert emergency.on_health("account", False, 180 * S) == [], "a slow first start is no emergency"
    (trip,) = emergency.on_health("account", False, 181 * S)
    assert (trip.scope, trip.kind) == ("all", "health")
    assert emergency.on_health("account", True, 182 * S) == []
    emergency.on_health("account", False, 200 * S)
    assert emergency.on_health("account", False, 231 * S), "once heard, its silence counts"


def test_an_account_that_falls_silent_is_halted_unless_we_were_deaf_ourselves() -> None:
    emergency = Emergency(max_silent_ns=30 * S)
    assert emergency.on_time(10**15) == []  # never heard: not ours to judge
    judge(emergency, now_ns=0)
    assert emergency.on_time(30 * S) == []
    assert [t.scope for t in emergency.on_time(31 * S)] == ["account.main"]
    emergency.on_health("feed", False, 0)
    emergency.heard_nothing(31 * S)
    assert emergency.on_time(61 * S) == [] and emergency.on_health("feed", False, 61 * S) == []


@pytest.mark.parametrize(
    "text",
    [b'{"max_daily_drawdown": "NaN"}', b'{"max_mismatches": 0}', b'{"exposure_halt_factor": "Infinity"}',
     b'{"exposure_halt_factor": "0.5"}', b'{"flatten_on_halt": "maybe"}', b'{"max_daily_drawdwon": "0.1"}'],
)  # fmt: skip
def test_a_limit_that_makes_no_sense_refuses_the_document(text: bytes) -> None:
    with pytest.raises(LimitsError):
        parse(text, LIMITS)
