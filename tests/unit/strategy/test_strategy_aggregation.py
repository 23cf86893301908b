"""Aggregation: nothing is invented, opposing wishes meet inside, getting out comes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.enums import Side, Urgency
from tickmesh.strategy.aggregation import Proposal, aggregate
from tickmesh.strategy.interface import Signal


def of(strategy: str, signal: Signal, account: str = "main") -> Proposal:
    return Proposal(strategy, account, "binance", signal)


def wish(side: Side, lots: int = 5, **more: object) -> Signal:
    return Signal(symbol="BTCUSDT", side=side, qty_lots=lots, **more)  # type: ignore[arg-type]


proposals = st.lists(
    st.builds(
        of,
        st.sampled_from(["a", "b", "c"]),
        st.builds(
            Signal,
            symbol=st.sampled_from(["BTCUSDT", "ETHUSDT"]),
            side=st.sampled_from(list(Side)),
            qty_lots=st.integers(1, 20),
            strength=st.floats(0.01, 1.0),
            urgency=st.sampled_from(list(Urgency)),
            quote=st.sampled_from(["", "", "bid", "ask"]),
            withdraw=st.booleans(),
            reduce_only=st.booleans(),
        ),
    ),
    max_size=10,
)


def net(found: list[Proposal]) -> dict[str, int]:
    """Signed directional lots by symbol."""
    totals: dict[str, int] = {}
    for p in found:
        s = p.signal
        if not s.quote and not s.withdraw:
            totals[s.symbol] = totals.get(s.symbol, 0) + int(s.side) * s.qty_lots
    return {k: v for k, v in totals.items() if v}


@given(proposals)
def test_netting_and_merging_conserve_what_all_want_together(found: list[Proposal]) -> None:
    assert net(aggregate(found, limit=100).kept) == net(found)


@given(proposals, st.integers(0, 3))
def test_withdrawals_lead_and_are_never_cut_and_the_most_urgent_orders_survive_the_bound(
    found: list[Proposal], limit: int
) -> None:
    kept = aggregate(found, limit=limit).kept if len(found) != 1 else aggregate(found * 2, limit=limit).kept
    calls = [p for p in kept if p.signal.withdraw]
    places = [p.signal for p in kept if not p.signal.withdraw]
    assert kept[: len(calls)] == calls
    assert len(places) <= limit
    assert places == sorted(places, key=lambda s: (-int(s.urgency), -s.strength))
    last = {(p.strategy, p.signal.symbol, p.signal.quote): p for p in found if p.signal.quote or p.signal.withdraw}
    assert {k for k, p in last.items() if p.signal.withdraw} == {
        (p.strategy, p.signal.symbol, p.signal.quote) for p in calls
    }


def test_two_strategies_that_want_opposite_things_do_not_trade_with_each_other() -> None:
    result = aggregate([of("a", wish(Side.BUY, 5)), of("b", wish(Side.SELL, 3))], limit=10)
    assert [(p.strategy, p.signal.qty_lots) for p in result.kept] == [("a", 2)]
    assert [why for _, why in result.dropped] == ["netted against an opposing signal of another strategy"]


def test_getting_out_is_not_netted_and_other_accounts_do_not_meet() -> None:
    for other in (of("b", wish(Side.SELL, 3, reduce_only=True)), of("b", wish(Side.SELL, 3), "second")):
        result = aggregate([of("a", wish(Side.BUY, 5)), other], limit=10)
        assert sorted(p.signal.qty_lots for p in result.kept) == [3, 5]


def test_signals_of_one_plugin_merge_with_the_bolder_price_and_the_later_quote_wins() -> None:
    result = aggregate(
        [
            of("a", wish(Side.BUY, 5, price_ticks=100, strength=0.2)),
            of("a", wish(Side.BUY, 2, price_ticks=102, strength=0.9)),
            of("a", wish(Side.SELL, 1, quote="ask", price_ticks=110)),
            of("a", wish(Side.SELL, 1, quote="ask", price_ticks=111)),
        ],
        limit=10,
    )
    directional, quote = result.kept[0].signal, result.kept[1].signal
    if directional.quote:
        directional, quote = quote, directional
    assert (directional.qty_lots, directional.price_ticks, directional.strength) == (7, 102, 0.9)
    assert quote.price_ticks == 111
