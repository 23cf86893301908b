"""The short ways of an order's strategy side: each says what the long way, or plain arithmetic, says."""

from __future__ import annotations

import sys
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import StillClock, book, trade

from tickmesh.domain.enums import Side, Urgency
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import encode
from tickmesh.observe.metrics import Metrics
from tickmesh.services.strategy_intake import Intake
from tickmesh.strategy import aggregation, guard
from tickmesh.strategy.aggregation import Proposal, aggregate
from tickmesh.strategy.examples.market_making import MarketMaking
from tickmesh.strategy.guard import Guard, GuardPolicy, NoWatch
from tickmesh.strategy.interface import Signal, Strategy, StrategyConfig

signals = st.builds(
    Signal, symbol=st.sampled_from(["B", "E"]), side=st.sampled_from(Side), qty_lots=st.integers(1, 9),
    strength=st.sampled_from([0.2, 0.5, 1.0]), urgency=st.sampled_from(Urgency),
    quote=st.sampled_from(["bid", "ask", "far", "near", "bid", "ask", "far", "near", ""]), withdraw=st.booleans(),
)  # fmt: skip
proposals = st.lists(st.builds(Proposal, st.sampled_from("ab"), st.just("main"), st.just("v"), signals), max_size=6)


@given(proposals, st.integers(0, 6))
def test_quotes_of_their_own_come_out_as_the_general_way_sorts_them(found: list[Proposal], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        short = aggregate(found, limit=limit)
        patch.setattr(aggregation, "_only_quotes", lambda *_: False)
        assert short == aggregate(found, limit=limit)


oddities = st.one_of(
    st.integers(-2, 3), st.booleans(), st.sampled_from([0.0, 1.0, 0.5, 1.5, float("nan"), float("inf")]), st.none(),
    st.sampled_from(Side), st.sampled_from(["", "bid", "d", "a.b", "x" * 17]),
)  # fmt: skip
fields = ("qty_lots", "price_ticks", "ttl_ns", "rest_ns", "side", "strength", "quote", "urgency", "symbol", "reason")


@given(st.dictionaries(st.sampled_from(fields), oddities, max_size=2))
def test_a_signal_that_is_plainly_right_has_no_mistake(odd: dict[str, Any]) -> None:
    good: dict[str, Any] = {"symbol": "B", "side": Side.BUY, "quote": "bid"}
    signal = Signal(**{**good, **odd})
    mistake = guard.check_signal(signal)
    assert guard.check_signal(Signal(**good)) == "" and guard._plainly_right(Signal(**good))
    assert not (guard._plainly_right(signal) and mistake), mistake


steps = st.sampled_from([Decimal(s) for s in ("0.1", "0.001", "1", "25", "0.00001", "1E+1")])
amounts = st.none() | st.decimals("0.001", 1000, places=3)


@given(steps, steps, amounts, amounts, st.floats(0, 1e7), st.integers(0, 10**9))
def test_lots_for_a_value_are_those_of_exact_arithmetic(
    tick: Decimal, lot: Decimal, min_qty: Decimal | None, min_notional: Decimal | None, value: float, price: int
) -> None:
    grid = Instrument(
        venue="v", symbol="B", base="B", quote="Q", tick_size=tick, lot_size=lot, min_qty=min_qty,
        min_notional=min_notional,
    )  # fmt: skip
    config = StrategyConfig(name="s", symbols=("B",), instruments={"B": grid})
    one = Fraction(tick) * Fraction(lot) * price
    least = max(1, ceil(Fraction(min_qty or 0) / Fraction(lot)))
    wanted = max(floor(Fraction(str(value)) / one), ceil(Fraction(min_notional or 0) / one), least) if price else 0
    for _ in range(2):
        assert config.lots_for("B", value, price) == wanted


class Listens(MarketMaking):
    """Hears in a way of its own, so what its parent says of trades does not hold for it."""

    def on_market_data(self, data: Any) -> list[Signal]:
        return []


class Inherits(MarketMaking):
    """Hears as its parent does."""


class Deaf(Listens):
    """Says so itself."""

    hears_trades = False


@pytest.mark.parametrize(
    ("cls", "hears"), [(Strategy, True), (MarketMaking, False), (Inherits, False), (Listens, True), (Deaf, False)]
)
def test_only_a_class_that_says_so_of_its_own_hearing_is_spared_trades(cls: type[Strategy], hears: bool) -> None:
    assert Guard(cls(), "x", StillClock(), GuardPolicy(), NoWatch()).hears_trades is hears


@pytest.mark.parametrize("hears", [True, False])
def test_a_trade_that_nobody_hears_is_counted_and_goes_no_further(hears: bool) -> None:
    decided: list[Any] = []
    metrics = Metrics("strategy")
    intake = Intake(
        StillClock(), metrics, lambda data, _: decided.append(data), conflate_after_us=10**9, hears_trades=lambda: hears
    )
    traded, booked = trade(618_000, 5, Side.BUY), book()
    intake.on_market("md.trade.binance.BTCUSDT", encode(traded))
    intake.on_market("md.book.binance.BTCUSDT", encode(booked))
    assert decided == ([traded, booked] if hears else [booked])
    assert intake._trades.value == 1
