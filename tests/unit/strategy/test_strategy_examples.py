"""The five examples do what their names say, refuse wrong parameters, keep their state, repeat themselves exactly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from math import sin
from pathlib import Path
from random import Random
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import INSTRUMENTS, MS, Rig, S, book

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import Side, TimeInForce
from tickmesh.domain.errors import ConfigError
from tickmesh.domain.messages import encode
from tickmesh.strategy.examples.arbitrage import Arbitrage
from tickmesh.strategy.examples.market_making import MarketMaking
from tickmesh.strategy.examples.mean_reversion import MeanReversion
from tickmesh.strategy.examples.momentum import Momentum
from tickmesh.strategy.examples.scalping import Scalping
from tickmesh.strategy.first_steps import config_of
from tickmesh.strategy.interface import Position, Signal, Strategy, StrategyConfig
from tickmesh.strategy.resource import Limits, parse

EXAMPLES = Path(__file__).resolve().parents[3] / "k8s" / "examples"
ALL: dict[str, type[Strategy]] = {
    "arbitrage": Arbitrage,
    "market-making": MarketMaking,
    "mean-reversion": MeanReversion,
    "momentum": Momentum,
    "scalping": Scalping,
}


def made(cls: type[Strategy], symbols: tuple[str, ...] = ("BTCUSDT",), max_lots: int = 100, **parameters: Any) -> Any:
    plugin = cls()
    config = StrategyConfig(
        name="x", symbols=symbols, instruments=INSTRUMENTS, parameters=parameters,
        max_position_lots=dict.fromkeys(symbols, max_lots),
    )  # fmt: skip
    plugin.initialize(config)
    config.check_all_known()
    return plugin


def prices(plugin: Strategy, path: Callable[[float], float], seconds: float, **more: Any) -> list[list[Signal]]:
    """Show a price path in tenths of a second."""
    return [
        plugin.on_market_data(book(int(path(n / 10)), int(path(n / 10)) + 1, at_ns=S + n * 100 * MS, **more))
        for n in range(int(seconds * 10))
    ]


def held(lots: int, entry: int = 618_000, symbol: str = "BTCUSDT") -> Position:
    return Position(symbol=symbol, qty_lots=lots, entry_price_ticks=Decimal(entry))


# Market making


def test_market_making_quotes_around_the_mid_and_leans_against_its_inventory() -> None:
    plugin = made(MarketMaking, halfSpreadBps=1, skewBps=4)
    flat = {s.quote: s for s in plugin.on_market_data(book())}
    assert flat["bid"].side is Side.BUY and flat["ask"].side is Side.SELL
    assert flat["bid"].price_ticks < 618_000 < flat["ask"].price_ticks
    plugin.on_position_update(held(50))
    long = {s.quote: s for s in plugin.on_market_data(book())}
    assert long["bid"].price_ticks < flat["bid"].price_ticks
    assert long["ask"].price_ticks < flat["ask"].price_ticks
    assert long["bid"].strength < long["ask"].strength
    plugin.on_position_update(held(100))
    full = {s.quote: s for s in plugin.on_market_data(book())}
    assert full["bid"].withdraw and not full["ask"].withdraw


def test_market_making_moves_its_quotes_only_when_the_fair_price_has_moved_enough() -> None:
    plugin = made(MarketMaking, requoteBps=1)
    first = plugin.on_market_data(book(618_000, 618_001))
    assert plugin.on_market_data(book(618_030, 618_031)) == first
    assert plugin.on_market_data(book(618_100, 618_101)) != first


# Momentum


def test_momentum_follows_a_trend_and_leaves_when_it_turns() -> None:
    plugin = made(Momentum, fastS=1, slowS=4, entryBps=0.5)
    calm = prices(plugin, lambda t: 618_000, 5, imbalance=0.5)
    assert not any(calm)
    rising = prices(plugin, lambda t: 618_000 + 60 * t, 8, imbalance=0.5)
    entries = [s for signals in rising for s in signals]
    assert entries and all(s.side is Side.BUY and not s.reduce_only for s in entries)
    plugin.on_position_update(held(3, 618_400))
    falling = prices(plugin, lambda t: 618_480 - 80 * t, 8, imbalance=-0.5)
    exits = [s for signals in falling for s in signals]
    assert exits and exits[0].side is Side.SELL and exits[0].reduce_only and exits[0].qty_lots == 3


def test_momentum_does_not_enter_against_the_order_flow() -> None:
    plugin = made(Momentum, fastS=1, slowS=4, entryBps=0.5, minImbalance=0.2)
    assert not any(prices(plugin, lambda t: 618_000 + 60 * t, 8, imbalance=-0.5))


def test_momentum_stops_a_loss_and_a_hold_that_is_too_long() -> None:
    for parameters, path in (({"stopBps": 1}, lambda t: 617_000), ({"maxHoldS": 2}, lambda t: 618_000 + t)):
        plugin = made(Momentum, fastS=0.5, slowS=1, exitBps=0, entryBps=1, **parameters)
        prices(plugin, path, 3)
        plugin.on_position_update(held(3))
        exits = [s for signals in prices(plugin, path, 3) for s in signals]
        assert exits and exits[0].reduce_only


# Mean reversion


def test_mean_reversion_sells_high_buys_low_and_leaves_at_the_mean() -> None:
    plugin = made(MeanReversion, halfLifeS=5, entryZ=1.5, minDeviationBps=0.1)
    prices(plugin, lambda t: 618_000 + 40 * sin(t), 20)
    (high,) = plugin.on_market_data(book(618_110, 618_111, at_ns=22 * S))
    assert high.side is Side.SELL
    plugin.on_position_update(held(-3, 618_110))
    (leave,) = plugin.on_market_data(book(618_010, 618_011, at_ns=23 * S))
    assert (leave.side, leave.qty_lots, leave.reduce_only) == (Side.BUY, 3, True)
    plugin.on_position_update(held(0))
    (low,) = plugin.on_market_data(book(617_880, 617_881, at_ns=24 * S))
    assert low.side is Side.BUY


def test_mean_reversion_gives_up_past_its_stop_and_does_not_buy_the_same_fall_again() -> None:
    plugin = made(MeanReversion, halfLifeS=5, entryZ=1.5, stopZ=3, minDeviationBps=0.1)
    prices(plugin, lambda t: 618_000 + 40 * sin(t), 20)
    plugin.on_position_update(held(3, 617_900))
    (out,) = plugin.on_market_data(book(616_000, 616_001, at_ns=22 * S))
    assert (out.side, out.qty_lots, out.urgency.name) == (Side.SELL, 3, "IMMEDIATE")
    plugin.on_position_update(held(0))
    for n in range(1, 40):
        again = plugin.on_market_data(book(616_800, 616_801, at_ns=22 * S + n * 100 * MS))
        assert again == [], n


def test_mean_reversion_stays_out_of_a_market_that_hardly_moves() -> None:
    plugin = made(MeanReversion, halfLifeS=2, minDeviationBps=1)
    assert not any(prices(plugin, lambda t: 618_000 + 3 * sin(t * 3), 20))


# Arbitrage


def pair(plugin: Strategy, btc: int, eth: int, at_ns: int) -> list[Signal]:
    first = plugin.on_market_data(book(btc, btc + 1, at_ns=at_ns))
    return first + plugin.on_market_data(book(eth, eth + 1, "ETHUSDT", at_ns=at_ns + MS))


def test_arbitrage_sells_the_dear_leg_and_buys_the_cheap_one_and_closes_both_at_the_mean() -> None:
    plugin = made(Arbitrage, ("BTCUSDT", "ETHUSDT"), halfLifeS=2, entryZ=2, minEdgeBps=0.5)
    for n in range(200):
        pair(plugin, 618_000 + int(20 * sin(n)), 268_000, S + n * 100 * MS)
    signals = {s.symbol: s for s in pair(plugin, 618_400, 268_000, 22 * S)}
    btc, eth = signals["BTCUSDT"], signals["ETHUSDT"]
    assert (btc.side, eth.side) == (Side.SELL, Side.BUY)
    value = [INSTRUMENTS[s.symbol].notional(p, s.qty_lots) for s, p in ((btc, 618_400), (eth, 268_000))]
    assert abs(value[0] - value[1]) < 70, "the legs are worth about the same; a lot of BTC is 62"
    plugin.on_position_update(held(-btc.qty_lots))
    plugin.on_position_update(held(eth.qty_lots, 268_000, "ETHUSDT"))
    signals = {s.symbol: s for s in pair(plugin, 618_010, 268_000, 23 * S)}
    assert (signals["BTCUSDT"].side, signals["ETHUSDT"].side) == (Side.BUY, Side.SELL)
    assert all(s.reduce_only for s in signals.values())


def test_arbitrage_makes_up_a_leg_that_was_missed_and_leaves_a_standing_one_alone() -> None:
    plugin = made(Arbitrage, ("BTCUSDT", "ETHUSDT"), halfLifeS=2, entryZ=2, minEdgeBps=0.5)
    for n in range(200):
        pair(plugin, 618_000 + int(20 * sin(n)), 268_000, S + n * 100 * MS)
    entry = {s.symbol: s for s in pair(plugin, 618_400, 268_000, 22 * S)}
    plugin.on_position_update(held(-entry["BTCUSDT"].qty_lots))
    assert {s.symbol for s in pair(plugin, 618_390, 268_000, 22 * S + 10 * MS)} == {"ETHUSDT"}


def test_arbitrage_does_not_judge_by_an_old_book_and_wants_two_symbols() -> None:
    plugin = made(Arbitrage, ("BTCUSDT", "ETHUSDT"), maxBookAgeS=0.1)
    plugin.on_market_data(book(at_ns=S))
    assert plugin.on_market_data(book(268_000, 268_001, "ETHUSDT", at_ns=2 * S)) == []
    with pytest.raises(ConfigError, match=r"spec\.symbols: arbitrage is between two symbols, found 1"):
        made(Arbitrage)


# Scalping


def test_scalping_joins_the_side_that_the_book_leans_to_and_takes_its_ticks_as_a_maker() -> None:
    plugin = made(Scalping, minImbalance=0.3, takeTicks=10, stopTicks=50)
    wants = {s.quote: s for s in plugin.on_market_data(book(imbalance=0.6))}
    assert (wants["entry"].side, wants["entry"].price_ticks) == (Side.BUY, 618_000)
    wants = {s.quote: s for s in plugin.on_market_data(book(imbalance=0.1))}
    assert wants["entry"].withdraw
    plugin.on_position_update(held(2))
    wants = {s.quote: s for s in plugin.on_market_data(book())}
    assert wants["entry"].withdraw
    exit_ = wants["exit"]
    assert (exit_.side, exit_.price_ticks, exit_.qty_lots, exit_.reduce_only) == (Side.SELL, 618_010, 2, True)


def test_scalping_takes_the_loss_at_its_stop_and_after_its_time() -> None:
    plugin = made(Scalping, stopTicks=50, maxHoldS=5)
    plugin.on_position_update(held(-2))
    stop = {s.quote: s for s in plugin.on_market_data(book(618_060, 618_061))}["exit"]
    assert (stop.side, stop.urgency.name, stop.price_ticks) == (Side.BUY, "IMMEDIATE", 618_061)
    late = {s.quote: s for s in plugin.on_market_data(book(at_ns=7 * S))}["exit"]
    assert late.reason == "held long enough"


# All of them


def example(name: str) -> Any:
    (resource,) = parse((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")
    return resource


def test_the_built_in_default_is_the_market_making_example() -> None:
    built_in = Path(__file__).resolve().parents[3] / "pkg" / "tickmesh" / "strategy" / "resources" / "default.yaml"
    # But for the account: a cluster must name one, a run on one machine has the one of its settings.
    example = [line for line in (EXAMPLES / "market-making.yaml").read_text().splitlines() if "  account:" not in line]
    assert built_in.read_text().splitlines() == example


@pytest.mark.parametrize("name", ALL)
def test_every_example_resource_names_its_plugin_and_only_parameters_that_it_knows(name: str) -> None:
    resource = example(name)
    assert resource.spec.plugin.entry_point == resource.name == name
    rig = Rig(ALL[name](), symbols=resource.spec.symbols or ("BTCUSDT",), parameters=resource.spec.parameters)
    assert config_of(rig.plan, INSTRUMENTS).parameters == resource.spec.parameters


@pytest.mark.parametrize("name", ALL)
def test_a_misspelt_parameter_and_a_value_out_of_range_are_refused_by_name(name: str) -> None:
    symbols = ("BTCUSDT", "ETHUSDT") if name == "arbitrage" else ("BTCUSDT",)
    key = "legNotional" if name == "arbitrage" else "orderNotional"
    with pytest.raises(ConfigError, match=rf"spec\.parameters\.{key}s: the plugin has no such parameter; did you mean"):
        made(ALL[name], symbols, **{key + "s": 100})
    with pytest.raises(ConfigError, match=rf"spec\.parameters\.{key}: must lie between"):
        made(ALL[name], symbols, **{key: -5})


def session(name: str, seed: int = 5, steps: int = 3000, restart_at: int = -1) -> Rig:
    """A strategy in a jumpy market whose orders fill when the price passes them."""
    random = Random(seed)
    resource = example(name)
    symbols = resource.spec.symbols or ("BTCUSDT", "ETHUSDT")
    rig = Rig(
        ALL[name](), symbols=symbols, parameters=resource.spec.parameters,
        limits=Limits(max_position=resource.spec.limits.max_position, cool_down_ms=50, max_orders_per_second=100),
    )  # fmt: skip
    mids = {"BTCUSDT": 618_000.0, "ETHUSDT": 268_000.0}
    trend, pause_ns = 0.0, 300 * MS if name in ("arbitrage", "mean-reversion") else 30 * MS
    for step in range(steps):
        rig.after(pause_ns)
        if step == restart_at:
            plugin = ALL[name]()
            state = rig.desk.guard.plugin.get_state()
            plugin.initialize(config_of(rig.plan, INSTRUMENTS))
            plugin.restore(state)
            rig.desk.guard.plugin = plugin
            rig.desk.show_positions()
        if step % 150 == 0:
            trend = random.choice((-6.0, 0.0, 6.0))
        for symbol in symbols:
            mids[symbol] += trend * mids[symbol] / 618_000 + random.gauss(0, 12) * mids[symbol] / 618_000
            bid = int(mids[symbol])
            lean = max(-1.0, min(1.0, trend / 12 + random.uniform(-0.6, 0.6)))
            for order in rig.open():  # the market meets our orders before we see where it is
                if order.symbol == symbol and int(order.side) * (order.price_ticks - bid) > 0:
                    rig.fill(order.client_order_id, order.qty_lots)
            intents = rig.tick(bid, bid + 1, symbol, imbalance=lean)
            rig.answer(intents)
            for intent in intents:
                if intent.time_in_force is TimeInForce.IOC and intent.qty_lots:
                    rig.fill(client_order_id(intent.strategy, intent.intent_id), intent.qty_lots)
        rig.timer()
    return rig


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_the_same_market_gives_the_same_intents_and_there_are_entries_and_exits(name: str) -> None:
    first = session(name)
    assert [encode(i) for i in first.intents] == [encode(i) for i in session(name).intents]
    fills = [e for e in first.journal if hasattr(e, "trade_id")]
    assert {f.side for f in fills} == {Side.BUY, Side.SELL}, f"{name} made {len(fills)} fills"
    assert first.desk.guard.errors == 0, first.desk.guard.last_error


@pytest.mark.parametrize("name", ALL)
def test_a_restart_in_the_middle_changes_nothing(name: str) -> None:
    with_restart = session(name, steps=1500, restart_at=700)
    assert [encode(i) for i in with_restart.intents] == [encode(i) for i in session(name, steps=1500).intents]
