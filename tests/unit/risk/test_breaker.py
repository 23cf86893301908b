"""The circuit breaker: its states, its bounds, and a machine of random calls held against a plain model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tickmesh.domain.enums import BreakerState
from tickmesh.risk.breaker import COPY_TRADING, BreakerConfig, CircuitBreaker, Ticket

S = 1_000_000_000
CLOSED, OPEN, HALF = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def call(breaker: CircuitBreaker, now_ns: int, good: bool) -> bool:
    """One call that returns at once; False when it was refused."""
    ticket = breaker.enter(now_ns)
    if ticket is None:
        return False
    (breaker.success if good else breaker.failure)(ticket, now_ns)
    return True


def test_it_opens_at_the_threshold_within_the_window_and_not_outside() -> None:
    breaker = CircuitBreaker("rest", BreakerConfig(failures=5, window_ns=30 * S))
    for second in (0, 8, 16, 24):
        assert call(breaker, second * S, good=False)
    assert call(breaker, 31 * S, good=False)  # the first one is out of the window
    assert breaker.state(31 * S) is CLOSED
    assert call(breaker, 32 * S, good=False)
    assert breaker.state(32 * S) is OPEN and breaker.enter(32 * S) is None
    assert [(t.before, t.after) for t in breaker.drain()] == [(CLOSED, OPEN)]
    assert not breaker.drain()


def test_half_open_lets_a_few_probes_through_and_closes_when_all_are_good() -> None:
    breaker = CircuitBreaker("rest", BreakerConfig(failures=1, open_ns=10 * S, probes=2))
    call(breaker, 0, good=False)
    assert breaker.enter(10 * S - 1) is None
    first, second = breaker.enter(10 * S), breaker.enter(10 * S)
    assert first is not None and second is not None and breaker.enter(10 * S) is None
    breaker.success(first, 11 * S)
    assert breaker.state(11 * S) is HALF and breaker.enter(11 * S) is None
    breaker.success(second, 11 * S)
    assert breaker.state(11 * S) is CLOSED
    assert [t.after for t in breaker.drain()] == [OPEN, HALF, CLOSED]


def test_after_it_has_closed_the_count_starts_anew() -> None:
    breaker = CircuitBreaker("rest", BreakerConfig(failures=3, window_ns=100 * S, open_ns=S, probes=1))
    for _ in range(3):
        call(breaker, 0, good=False)
    call(breaker, S, good=True)
    assert breaker.state(S) is CLOSED
    for _ in range(2):
        call(breaker, S, good=False)
    assert breaker.state(S) is CLOSED


def test_one_bad_probe_opens_it_again_for_the_whole_time() -> None:
    breaker = CircuitBreaker("rest", BreakerConfig(failures=1, open_ns=10 * S))
    call(breaker, 0, good=False)
    call(breaker, 10 * S, good=False)
    assert breaker.enter(20 * S - 1) is None and breaker.enter(20 * S) is not None
    assert breaker.opened == 2


def test_a_probe_whose_result_never_comes_does_not_block_it_for_ever() -> None:
    breaker = CircuitBreaker("rest", BreakerConfig(failures=1, open_ns=10 * S, probes=1))
    call(breaker, 0, good=False)
    lost = breaker.enter(10 * S)
    assert lost is not None and breaker.enter(19 * S) is None
    again = breaker.enter(20 * S)
    assert again is not None
    breaker.failure(lost, 20 * S)  # too late to count
    assert breaker.state(20 * S) is HALF
    breaker.success(again, 20 * S)
    assert breaker.state(20 * S) is CLOSED


def test_business_answers_never_count() -> None:
    breaker = CircuitBreaker("rest", BreakerConfig(failures=2))
    for _ in range(50):
        ticket = breaker.enter(0)
        assert ticket is not None
        breaker.neutral(ticket, 0)
    assert breaker.state(0) is CLOSED
    probing = CircuitBreaker("rest", BreakerConfig(failures=1, open_ns=S, probes=1))
    call(probing, 0, good=False)
    probe = probing.enter(S)
    assert probe is not None and probing.enter(S) is None
    probing.neutral(probe, S)
    assert probing.state(S) is HALF and probing.enter(S) is not None


def test_copy_trading_counts_consecutive_failures_and_cools_down() -> None:
    breaker = CircuitBreaker("copy", COPY_TRADING)
    for minute in range(20):  # failures far apart, with a success now and then: never five in a row
        call(breaker, minute * 60 * S, good=minute % 5 == 4)
    assert breaker.state(1200 * S) is CLOSED
    for minute in range(20, 25):
        call(breaker, minute * 60 * S, good=False)
    assert breaker.state(24 * 60 * S) is OPEN
    assert breaker.enter((24 * 60 + 299) * S) is None and breaker.enter((24 * 60 + 300) * S) is not None


def test_a_person_holds_it_open_or_closed_and_lets_it_go() -> None:
    breaker = CircuitBreaker("rest", BreakerConfig(failures=1, open_ns=S))
    breaker.force(OPEN, "ann", 0)
    assert breaker.enter(100 * S) is None  # no half-open by time
    breaker.force(CLOSED, "ann", 100 * S)
    for _ in range(10):
        assert call(breaker, 100 * S, good=False)
    assert breaker.state(100 * S) is CLOSED
    breaker.release("ann", 100 * S)
    assert breaker.state(100 * S) is CLOSED
    call(breaker, 100 * S, good=False)
    assert breaker.state(100 * S) is OPEN
    breaker.release("ann", 100 * S)  # a reset by hand
    assert breaker.state(100 * S) is CLOSED
    actors = [t.actor for t in breaker.drain()]
    assert actors == ["ann", "ann", "ann", "", "ann"]
    with pytest.raises(ValueError, match="HalfOpen"):
        breaker.force(HALF, "ann", 0)


def test_a_config_without_bounds_is_refused() -> None:
    for bad in ({"failures": 0}, {"open_ns": 0}, {"probes": 0}, {"window_ns": -1}):
        with pytest.raises(ValueError, match="positive"):
            BreakerConfig(**bad)


class Machine(RuleBasedStateMachine):
    """Random calls, results in any order and any delay, time in steps, and hands of people."""

    tickets = Bundle("tickets")

    @initialize(
        failures=st.integers(1, 4), window=st.sampled_from([0, 5 * S, 50 * S]), open_s=st.integers(1, 20),
        probes=st.integers(1, 3),
    )  # fmt: skip
    def make(self, failures: int, window: int, open_s: int, probes: int) -> None:
        self.config = BreakerConfig(failures, window, open_s * S, probes)
        self.breaker = CircuitBreaker("x", self.config)
        self.now = 0
        self.seen = CLOSED
        self.opened_at = 0
        self.failed: list[int] = []
        self.held: BreakerState | None = None
        self.granted_in_half_open = 0

    def follow(self) -> None:
        """Every transition is a legal one; remember when it opened."""
        for t in self.breaker.drain():
            assert t.before is self.seen, t
            if not t.actor:
                assert (t.before, t.after) in {(CLOSED, OPEN), (OPEN, HALF), (HALF, OPEN), (HALF, CLOSED)}, t
                if t.before is CLOSED:
                    recent = [at for at in self.failed if not self.config.window_ns
                              or self.now - at < self.config.window_ns]  # fmt: skip
                    assert len(recent) >= self.config.failures
                if t.after is HALF:
                    assert self.now - self.opened_at >= self.config.open_ns
            if t.after is OPEN:
                self.opened_at = self.now
            if t.after is not CLOSED or t.actor or t.before is not CLOSED:
                self.failed = []
            self.granted_in_half_open = 0
            self.seen = t.after

    @rule(target=tickets)
    def begin(self) -> object:
        return self.ask()

    def ask(self) -> object:
        state = self.breaker.state(self.now)
        ticket = self.breaker.enter(self.now)
        self.follow()
        if state is OPEN:
            assert ticket is None
        if state is CLOSED:
            assert ticket is not None
        return ticket if ticket is not None else multiple()

    @rule(ticket=consumes(tickets), how=st.sampled_from(["success", "failure", "neutral"]))
    def end(self, ticket: Ticket, how: str) -> None:
        self.result(ticket, how)

    def result(self, ticket: Ticket, how: str) -> None:
        current = ticket == self.breaker._generation and self.held is None
        closed = self.breaker.state(self.now) is CLOSED
        self.follow()
        if current and closed and how == "failure":
            self.failed.append(self.now)
        getattr(self.breaker, how)(ticket, self.now)
        if current and closed and how == "success" and not self.config.window_ns:
            self.failed = []
        before = self.seen
        self.follow()
        if not current:
            assert self.seen is before  # a result of an earlier life changes nothing

    @rule(good=st.booleans(), calls=st.integers(1, 6))
    def calls_that_return_at_once(self, good: bool, calls: int) -> None:
        for _ in range(calls):
            ticket = self.ask()
            if isinstance(ticket, int):
                self.result(Ticket(ticket), "success" if good else "failure")

    @rule()
    def wait_until_it_may_probe(self) -> None:
        self.now += self.config.open_ns

    @rule(seconds=st.integers(0, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds * S

    @rule(state=st.sampled_from([OPEN, CLOSED]), seldom=st.integers(0, 9))
    def hold(self, state: BreakerState, seldom: int) -> None:
        if seldom != 7:
            return
        self.breaker.force(state, "ann", self.now)
        self.held = state
        self.follow()

    @rule(seldom=st.integers(0, 9))
    def let_go(self, seldom: int) -> None:
        if self.held is None and seldom != 7:
            return
        self.breaker.release("ann", self.now)
        self.held, self.failed = None, []
        self.follow()
        assert self.breaker.state(self.now) is CLOSED

    @invariant()
    def a_held_one_stays(self) -> None:
        if getattr(self, "held", None) is not None:
            assert self.breaker.state(self.now + 10**15) is self.held

    @invariant()
    def probes_are_bounded(self) -> None:
        if hasattr(self, "breaker"):
            assert 0 <= self.breaker._probes_out <= self.config.probes
            assert self.breaker._probes_out + self.breaker._probes_good <= self.config.probes


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
