"""What a stream lost shows as a hole that is never filled."""

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.store.progress import MAX_HOLES, Hole, Progress, advance

GRACE_NS = 1000


@given(st.data())
def test_in_whatever_order_and_however_often_numbers_come_nothing_is_missed(data: st.DataObject) -> None:
    numbers = list(range(1, data.draw(st.integers(1, 60)) + 1))
    rest = data.draw(st.permutations(numbers[1:]))
    again = data.draw(st.lists(st.sampled_from(numbers), max_size=30))
    progress = Progress()
    # The first number a lane ever hears is where it begins; what comes before it is not its business.
    for seq, redelivered in [(1, False), *((n, False) for n in rest), *((n, True) for n in again)]:
        progress = advance(progress, [(seq, redelivered)], 5, GRACE_NS)
    assert progress == Progress(numbers[-1], (), 0)


@given(st.sets(st.integers(2, 200), min_size=1, max_size=60))
def test_what_never_comes_is_counted_once_the_grace_time_is_over(lost: set[int]) -> None:
    seen = [(n, False) for n in range(1, 202) if n not in lost]
    progress = advance(Progress(), seen, 0, GRACE_NS)
    assert progress.missed == 0
    assert sum(hole.size for hole in progress.holes) == len(lost)
    later = advance(progress, [], GRACE_NS + 1, GRACE_NS)
    assert (later.missed, later.holes, later.high_seq) == (len(lost), (), 201)


def test_a_stream_that_was_made_anew_counts_from_its_new_beginning() -> None:
    old = advance(Progress(), [(n, False) for n in (1, 2, 3, 9)], 0, GRACE_NS)
    new = advance(old, [(1, False), (2, False)], 1, GRACE_NS)
    assert (new.high_seq, new.holes, new.missed) == (2, (), 0)


def test_holes_are_bounded_and_the_oldest_are_given_up_first() -> None:
    progress = advance(Progress(), [(n, False) for n in range(1, 3 * MAX_HOLES, 2)], 0, GRACE_NS)
    assert len(progress.holes) == MAX_HOLES
    assert progress.missed > 0
    assert progress.holes[-1] == Hole(3 * MAX_HOLES - 2, 3 * MAX_HOLES - 2, 0)
