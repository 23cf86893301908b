"""The feed's replica shows what the venue said last, and a trade is neither lost silently nor taken twice."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.book.trade_chain import TradeChain, Verdict
from tickmesh.hotpath import BookReplica
from tickmesh.hotpath.pure.synchroniser import Diff, Outcome

MS = 1_000_000


def replica(depth: int = 5) -> BookReplica:
    made = BookReplica(
        "v",
        "S",
        tick_size=Decimal(1),
        lot_size=Decimal(1),
        depth=depth,
        flow_half_life_ns=10**9,
        volatility_interval_ns=10**9,
        volatility_half_life_ns=10**10,
    )
    made.on_snapshot(10, [(100, 5), (99, 6)], [(101, 7), (103, 8)])
    assert made.on_diff(Diff(11, 12, 10, [(98, 1)], []), MS) is Outcome.APPLIED
    return made


def test_a_top_of_book_overlays_levels_without_entering_the_book() -> None:
    book = replica()
    assert book.on_top(15, (101, 3), (103, 2), 2 * MS)
    assert book.levels() == ([(101, 3), (100, 5), (99, 6), (98, 1)], [(103, 2)])
    assert book.bids(1) == [(100, 5)]
    assert book.behind_top
    book.on_diff(Diff(13, 16, 12, [(101, 4)], [(101, 0)]), 3 * MS)
    assert book.levels() == ([(101, 4), (100, 5), (99, 6), (98, 1)], [(103, 8)])
    assert not book.behind_top


def test_a_top_far_behind_the_book_is_followed_by_as_many_levels_as_are_published() -> None:
    book = replica(depth=2)
    book.on_diff(Diff(13, 14, 12, [(90, 1), (89, 2), (88, 3)], []), MS)
    assert book.on_top(15, (91, 4), (101, 7), 2 * MS)
    assert book.levels()[0] == [(91, 4), (90, 1)]


def test_an_older_or_equal_top_of_book_is_refused() -> None:
    book = replica()
    assert not book.on_top(12, (90, 1), (110, 1), MS)
    assert book.on_top(13, (100, 9), (101, 7), MS)
    assert not book.on_top(13, (90, 1), (110, 1), MS)
    assert book.levels()[0][0] == (100, 9)


def test_a_side_that_the_venue_calls_empty_is_shown_empty() -> None:
    book = replica()
    assert book.on_top(15, (0, 0), (101, 7), MS)
    update = book.update()
    assert update.bids == []
    assert update.asks[0] == (101, 7)
    assert update.microprice_ticks == 0.0


def test_changes_since_the_last_update_are_counted_as_conflated() -> None:
    book = replica()
    book.update()
    for number in range(4):
        book.on_top(20 + number, (100, number + 1), (101, 7), MS)
    assert book.update().conflated == 3
    assert book.update().conflated == 0


def test_a_gap_makes_the_book_stale_with_its_last_levels_until_it_is_synchronised_again() -> None:
    book = replica()
    assert book.on_diff(Diff(30, 31, 29, [(50, 1)], []), MS) is Outcome.GAP
    update = book.update()
    assert update.stale
    assert update.bids == [(100, 5), (99, 6), (98, 1)]
    assert book.on_snapshot(32, [(90, 1)], [(91, 1)])
    assert book.update().stale
    assert book.on_diff(Diff(32, 33, 31, [(90, 2)], []), MS) is Outcome.APPLIED
    assert not book.update().stale


def test_a_crossed_book_is_never_shown_as_sound() -> None:
    book = replica()
    book.on_diff(Diff(13, 14, 12, [(102, 1)], []), MS)
    assert book.update().stale
    book.on_diff(Diff(15, 16, 14, [(102, 0)], []), MS)
    assert not book.update().stale


@given(
    st.lists(st.tuples(st.booleans(), st.integers(90, 110), st.integers(0, 9)), max_size=60),
    st.integers(90, 100),
    st.integers(1, 9),
)
def test_an_overlaid_book_is_sorted_uncrossed_and_starts_at_the_top(
    changes: list[tuple[bool, int, int]], bid: int, lots: int
) -> None:
    book = replica(depth=4)
    bids = [(t, q) for is_bid, t, q in changes if is_bid and t <= 100]
    asks = [(t, q) for is_bid, t, q in changes if not is_bid and t > 100]
    book.on_diff(Diff(13, 14, 12, bids, asks), MS)
    assert book.on_top(15, (bid, lots), (bid + 1, lots), MS)
    shown_bids, shown_asks = book.levels()
    assert shown_bids[0] == (bid, lots)
    assert shown_asks[0] == (bid + 1, lots)
    assert shown_bids == sorted(set(shown_bids), reverse=True)
    assert shown_asks == sorted(set(shown_asks))
    assert len(shown_bids) <= 4 and len(shown_asks) <= 4


@given(st.lists(st.integers(0, 30), max_size=60))
def test_each_trade_is_accepted_exactly_once_in_any_order(ids: list[int]) -> None:
    chain, accepted = TradeChain(), []
    for trade_id in ids:
        if chain.take(trade_id) is not Verdict.DUPLICATE:
            accepted.append(trade_id)
    assert len(accepted) == len(set(accepted))
    first = ids[0] if ids else 0
    # What is older than the first we ever saw was made before our time; everything else is accepted.
    assert set(accepted) == {i for i in ids if i >= first}
    assert chain.missing_total == (max(accepted) - first + 1 if accepted else 0) - len(
        [i for n, i in enumerate(accepted) if i == max(accepted[: n + 1])]
    )


def test_numbers_that_begin_anew_after_an_interruption_are_accepted() -> None:
    chain = TradeChain()
    assert chain.take(500) is Verdict.NEW
    chain.reset()
    assert chain.take(3) is Verdict.NEW
    assert chain.take(3) is Verdict.DUPLICATE
    chain.reset()
    assert chain.take(6) is Verdict.NEW
    assert chain.missing_total == 2
