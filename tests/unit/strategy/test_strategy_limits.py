"""The strategy-level risk filter: whatever fills, the limits hold; what is cut says which limit cut it."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import BTC, MS, S

from tickmesh.domain.enums import Side
from tickmesh.domain.messages import FillEvent
from tickmesh.strategy.ledger import Ledger, WorkingOrder
from tickmesh.strategy.limits import LimitFilter
from tickmesh.strategy.resource import Limits

PRICE = 618_000


def ledger(position: int = 0, orders: tuple[tuple[Side, int], ...] = ()) -> Ledger:
    made = Ledger({"BTCUSDT": BTC})
    if position:
        side = Side.BUY if position > 0 else Side.SELL
        made.on_fill(
            FillEvent(
                account="a", venue="v", symbol="BTCUSDT", trade_id=1, client_order_id="x", venue_order_id=1, side=side,
                price_ticks=PRICE, qty_lots=abs(position),
            )
        )  # fmt: skip
    for n, (side, lots) in enumerate(orders):
        made.place(
            WorkingOrder(
                client_order_id=f"o{n}", intent_id="", symbol="BTCUSDT", side=side, price_ticks=PRICE, qty_lots=lots
            )
        )
    return made


def limits(**more: object) -> LimitFilter:
    defaults = {"max_position": Decimal("0.010"), "max_order_notional": Decimal(10**6), "cool_down_ms": 0}
    return LimitFilter(Limits(**{**defaults, **more}))  # type: ignore[arg-type]


_orders = st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 4)), max_size=5)


@given(st.integers(-10, 10), _orders, st.sampled_from(list(Side)), st.integers(1, 30), st.booleans())
def test_no_subset_of_open_orders_can_pass_the_position_limit_by_an_order_that_was_allowed(
    position: int, orders: list[tuple[Side, int]], side: Side, lots: int, reducing: bool
) -> None:
    books = ledger(position, tuple(orders))
    verdict = limits().check(books, BTC, side, PRICE, lots, now_mono_ns=S, reducing=reducing)
    assert 0 <= verdict.qty_lots <= lots
    if verdict.qty_lots < lots:
        assert verdict.reason
    if verdict.qty_lots:
        same = sum(n for s, n in orders if s is side)
        worst = int(side) * position + same + verdict.qty_lots
        assert worst <= 10
        if reducing:
            assert worst <= 0, "a reducing order never turns the position"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"max_open_orders": 1}, "maxOpenOrders 1 reached"),
        ({"max_order_notional": Decimal(30)}, "maxOrderNotional 30 allows 0 lots"),
        ({"max_position": Decimal(0)}, "maxPosition 0 leaves 0 lots"),
    ],
)
def test_a_refusal_names_its_limit(more: dict[str, object], says: str) -> None:
    books = ledger(orders=((Side.SELL, 1),))
    verdict = limits(**more).check(books, BTC, Side.BUY, PRICE, 3, now_mono_ns=S)
    assert verdict.qty_lots == 0
    assert says in verdict.reason


def test_an_order_is_cut_to_what_its_value_allows_but_never_below_what_the_venue_takes() -> None:
    assert limits(max_order_notional=Decimal(200)).check(ledger(), BTC, Side.BUY, PRICE, 9, now_mono_ns=S).qty_lots == 3
    # 50 quote at a price of 10 000 is five thousandths
    assert limits().check(ledger(), BTC, Side.BUY, 100_000, 5, now_mono_ns=S).qty_lots == 5
    too_small = limits().check(ledger(), BTC, Side.BUY, 100_000, 4, now_mono_ns=S)
    assert (too_small.qty_lots, too_small.reason) == (0, "the venue takes 5 lots at least")
    verdict = limits(max_order_notional=Decimal(40)).check(ledger(), BTC, Side.BUY, 100_000, 9, now_mono_ns=S)
    assert verdict.qty_lots == 0


def test_the_cool_down_holds_each_side_by_itself_and_never_a_reduction() -> None:
    filter_ = limits(cool_down_ms=100)
    filter_.placed("BTCUSDT", Side.BUY, S)
    at = S + 99 * MS
    assert filter_.check(ledger(), BTC, Side.BUY, PRICE, 1, now_mono_ns=at).qty_lots == 0
    assert not filter_.ready("BTCUSDT", Side.BUY, at)
    assert filter_.check(ledger(), BTC, Side.SELL, PRICE, 1, now_mono_ns=at).qty_lots == 1
    assert filter_.check(ledger(-2), BTC, Side.BUY, PRICE, 1, now_mono_ns=at, reducing=True).qty_lots == 1
    assert filter_.check(ledger(), BTC, Side.BUY, PRICE, 1, now_mono_ns=S + 100 * MS).qty_lots == 1
    assert filter_.check(ledger(), BTC, Side.BUY, PRICE, 1, now_mono_ns=S + 499 * MS, cool_down_factor=5).qty_lots == 0


def test_at_most_so_many_orders_leave_in_any_second() -> None:
    filter_ = limits(max_orders_per_second=3)
    sent = []
    for at in range(0, 5 * S, 10 * MS):
        if filter_.check(ledger(), BTC, Side.BUY, PRICE, 1, now_mono_ns=at).qty_lots:
            filter_.placed("BTCUSDT", Side.BUY, at)
            sent.append(at)
    assert len(sent) == 15
    assert all(later - earlier >= S for earlier, later in zip(sent, sent[3:], strict=False))
