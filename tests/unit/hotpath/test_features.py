"""The features are what their definitions say, on numbers worked out by hand and in their bounds on any input."""

from math import exp, isclose, log, sqrt

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.hotpath.pure.features import OrderFlow, RealisedVolatility, imbalance, microprice_ticks

S = 1_000_000_000
levels = st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**9)), max_size=20)


def test_imbalance_and_microprice_of_a_small_book() -> None:
    bids, asks = [(100, 30), (99, 10)], [(102, 10), (103, 10)]
    assert imbalance(bids, asks) == (40 - 20) / 60
    # More is wanted than offered: the fair price lies nearer to the ask.
    assert microprice_ticks(bids, asks) == (100 * 10 + 102 * 30) / 40 == 101.5


def test_an_empty_side_is_neutral() -> None:
    assert microprice_ticks([], [(102, 1)]) == microprice_ticks([(1, 1)], []) == 0.0
    assert imbalance([], []) == 0.0
    assert imbalance([(1, 1)], []) == 1.0


@given(levels, levels)
def test_imbalance_stays_in_its_bounds_and_changes_sign_with_the_sides(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]]
) -> None:
    found = imbalance(bids, asks)
    assert -1.0 <= found <= 1.0
    assert imbalance(asks, bids) == -found


@given(st.integers(1, 10**6), st.integers(1, 100), st.integers(1, 10**9), st.integers(1, 10**9))
def test_the_microprice_lies_inside_the_spread(bid: int, spread: int, bid_lots: int, ask_lots: int) -> None:
    found = microprice_ticks([(bid, bid_lots)], [(bid + spread, ask_lots)])
    assert bid <= found <= bid + spread


def test_order_flow_counts_what_arrives_improves_and_leaves() -> None:
    flow = OrderFlow(10**15)  # so long a half-life that nothing decays here
    steps = [
        ((100, 5), (101, 5), 0.0),  # a beginning is no change
        ((100, 8), (101, 5), 3.0),  # 3 lots arrive at the bid
        ((100, 8), (101, 4), 4.0),  # 1 lot leaves the ask
        ((101, 2), (102, 9), 10.0),  # the bid improves: its 2 lots arrive; the ask's 4 lots are gone
        ((100, 8), (102, 9), 8.0),  # the bid's 2 lots are gone
        ((100, 8), (101, 3), 5.0),  # the ask improves: 3 lots arrive
    ]
    for number, (bid, ask, expected) in enumerate(steps, 1):
        assert isclose(flow.update(bid, ask, number), expected, abs_tol=1e-6)


def test_half_of_the_order_flow_is_forgotten_in_a_half_life() -> None:
    flow = OrderFlow(S)
    flow.update((100, 5), (101, 5), S)
    flow.update((100, 15), (101, 5), 2 * S)
    assert isclose(flow.update((100, 15), (101, 5), 3 * S), 5.0)
    assert isclose(flow.update((100, 15), (101, 5), 3 * S + S // 2), 5.0 * exp(-log(2) / 2))


def test_an_interruption_forgets_the_flow_and_does_not_count_as_a_change() -> None:
    flow = OrderFlow(S)
    flow.update((100, 5), (101, 5), S)
    flow.update((100, 15), (101, 5), 2 * S)
    flow.reset()
    assert flow.value == 0.0
    assert flow.update((200, 50), (201, 5), 3 * S) == 0.0


def test_volatility_is_the_root_mean_square_of_the_returns_at_its_pace() -> None:
    volatility = RealisedVolatility(S, S)  # half of the weight is the newest return
    volatility.update(100.0, S)
    volatility.update(150.0, S + S // 2)  # within the interval: no return is taken
    assert volatility.value == 0.0
    first = log(101 / 100)
    assert isclose(volatility.update(101.0, 2 * S), 1e4 * sqrt(first**2 / 2))
    second = log(100 / 101)
    assert isclose(volatility.update(100.0, 3 * S), 1e4 * sqrt(first**2 / 4 + second**2 / 2))


def test_a_pause_is_one_return_spread_over_its_intervals() -> None:
    volatility = RealisedVolatility(S, S)
    volatility.update(100.0, S)
    moved = log(104 / 100)
    # Four intervals of a variance of moved**2 / 4 each: 15/16 of that are in the mean then.
    assert isclose(volatility.update(104.0, 5 * S), 1e4 * sqrt(moved**2 / 4 * 15 / 16))


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10 * S)), max_size=50))
def test_volatility_is_finite_and_never_negative(moves: list[tuple[int, int]]) -> None:
    volatility, now = RealisedVolatility(S, 60 * S), S
    for mid, passed in moves:
        now += passed
        assert 0.0 <= volatility.update(float(mid), now) < 1e9
