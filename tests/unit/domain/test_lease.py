"""The lease as a game of contenders: whatever is delayed, stopped or lost, two never act at once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh.domain.lease import Attempt, LeaseCore, LeaseRecord, Move

MS = 1_000_000
TTL = 400 * MS


class Key:
    """A key with compare-and-set, as the bucket has it."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.revision = 0

    def write(self, attempt: Attempt) -> int | None:
        if attempt.move is Move.CREATE:
            if self.record is not None:
                return None
        elif attempt.revision != self.revision:
            return None
        self.record, self.revision = attempt.record, self.revision + 1
        return self.revision


def take(core: LeaseCore, key: Key, now: int) -> bool:
    core.see(key.record, key.revision, now)
    attempt = core.next(now)
    return attempt is not None and core.done(attempt, key.write(attempt))


def test_the_first_one_holds_it_and_the_second_waits_a_whole_ttl() -> None:
    key, a, b = Key(), LeaseCore("a", TTL), LeaseCore("b", TTL)
    assert take(a, key, 0)
    assert a.valid(299 * MS)
    assert not a.valid(300 * MS)
    assert not take(b, key, 10 * MS)
    assert not take(b, key, 409 * MS)
    assert take(b, key, 410 * MS)
    assert (a.epoch, b.epoch) == (1, 2)


def test_a_renewed_lease_stays() -> None:
    key, a, b = Key(), LeaseCore("a", TTL), LeaseCore("b", TTL)
    take(a, key, 0)
    for now in range(0, 5_000, 100):
        take(a, key, now * MS)
        assert not take(b, key, now * MS)
    assert a.valid(4_950 * MS)
    assert a.epoch == 1


def test_given_back_it_is_taken_at_once() -> None:
    key, a, b = Key(), LeaseCore("a", TTL), LeaseCore("b", TTL)
    take(a, key, 0)
    b.see(key.record, key.revision, MS)
    back = a.give_back()
    assert back is not None
    assert not a.valid(MS)
    assert key.write(back) is not None
    assert take(b, key, 2 * MS)
    assert b.epoch == 2
    assert a.next(3 * MS) is None


def test_a_stopped_holder_that_wakes_up_is_not_valid_and_comes_back_only_with_a_new_epoch() -> None:
    key, a = Key(), LeaseCore("a", TTL)
    take(a, key, 0)
    assert not a.valid(60_000 * MS)
    assert take(a, key, 60_000 * MS)
    assert a.epoch == 2


def test_an_epoch_whose_answer_was_lost_is_no_other_holder() -> None:
    key, a, b = Key(), LeaseCore("a", TTL), LeaseCore("b", TTL)
    take(a, key, 0)
    lost = a.next(500 * MS)  # lapsed: the write of epoch 2 arrives, its answer does not
    assert lost is not None and key.write(lost)
    assert take(a, key, 1_000 * MS)
    assert (a.epoch, a.reign) == (3, 1)
    b.see(key.record, key.revision, 1_000 * MS)
    assert take(b, key, 1_500 * MS)
    assert (b.epoch, b.reign) == (4, 4)
    a.see(key.record, key.revision, 1_500 * MS)
    assert take(a, key, 2_000 * MS)
    assert (a.epoch, a.reign) == (5, 5), "somebody else held it in between"


def test_an_answer_that_comes_late_counts_from_the_question() -> None:
    key, a = Key(), LeaseCore("a", TTL)
    a.see(None, 0, 0)
    attempt = a.next(0)
    assert attempt is not None
    revision = key.write(attempt)
    assert a.done(attempt, revision)  # the answer took 350 ms
    assert not a.valid(350 * MS)


class Contender:
    """One process with a clock of its own; ``busy`` holds a write whose answer is under way."""

    def __init__(self, name: str, skew_ns: int) -> None:
        self.name = name
        self.skew_ns = skew_ns
        self.core = LeaseCore(name, TTL)
        self.busy: tuple[int, int, Attempt, int | None] | None = None
        self.stopped_until = 0

    def clock(self, now: int) -> int:
        return now + self.skew_ns


STEP = st.tuples(
    st.integers(0, 2),  # who
    st.integers(1, 120),  # ms that pass before
    st.sampled_from(["step", "step", "step", "stop", "restart", "lose", "back"]),
    st.integers(0, 300),  # ms until the write lands and is answered
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=120), st.lists(st.integers(0, 10**15), min_size=3, max_size=3))
def test_never_two_at_once_and_epochs_only_rise(steps: list[tuple[int, int, str, int]], skews: list[int]) -> None:
    key, now = Key(), 0
    contenders = [Contender(f"c{i}", skew) for i, skew in enumerate(skews)]
    epochs: dict[int, str] = {}
    writers: dict[int, str] = {}
    for who, passed, what, delay in steps:
        now += passed * MS
        for c in contenders:
            if c.busy is not None and now >= c.busy[0] and now >= c.stopped_until:
                _, _, attempt, revision = c.busy
                c.busy = None
                c.core.done(attempt, revision)
        c = contenders[who]
        if now >= c.stopped_until:
            if what == "stop":
                c.stopped_until = now + 10 * delay * MS
            elif what == "restart":
                # A new process has a new name, as pods do; the old one is gone for good.
                contenders[who] = c = Contender(f"{c.name}'", c.skew_ns)
            elif what == "back":
                back = c.core.give_back()
                if back is not None:
                    key.write(back)
                contenders[who] = Contender(f"{c.name}*", c.skew_ns)
            elif c.busy is None:
                c.core.see(key.record, key.revision, c.clock(now))
                attempt = c.core.next(c.clock(now))
                if attempt is not None:
                    # The write lands at once, the answer comes later or (lose) never.
                    revision = key.write(attempt)
                    if revision is not None:
                        assert writers.setdefault(attempt.record.epoch, c.name) == c.name
                    if what != "lose":
                        c.busy = (now + delay * MS, now, attempt, revision)
        acting = [c for c in contenders if c.core.valid(c.clock(now)) and now >= c.stopped_until]
        assert len(acting) <= 1, [(c.name, c.core.epoch) for c in acting]
        for c in acting:
            assert epochs.setdefault(c.core.epoch, c.name) == c.name
            assert c.core.epoch == max(epochs)
            reign = range(c.core.reign, c.core.epoch + 1)
            assert reign and {writers[e] for e in reign} == {c.name}, "a reign is nobody else's"
            assert epochs.get(c.core.reign - 1) != c.name, "a reign is whole"
