"""A replay ends complete in the independently rebuilt book; the synthetic market repeats and keeps its ratios."""

from __future__ import annotations

import asyncio
import os
import time
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from tickmesh.domain.enums import Side
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.capture import Capture, Kind, rebuild_book
from tickmesh.venues.simvenue.compare import synthetic_records
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.flow.calibrate import calibrate
from tickmesh.venues.simvenue.flow.driver import FlowDriver, replay_instruments
from tickmesh.venues.simvenue.flow.measure import measure
from tickmesh.venues.simvenue.flow.parameters import BTCUSDT
from tickmesh.venues.simvenue.flow.synthetic import SyntheticMarket
from tickmesh.venues.simvenue.server.listing import instruments_for

DATA = Path(os.environ.get("TICKMESH_DATA") or Path(__file__).resolve().parents[3] / "../shared/data") / "binance-usdm"
STREAM = DATA / "stream_2021.txt"
BTC = DATA / "btcusdt_20240808.gz"
needs_data = pytest.mark.skipif(not BTC.exists(), reason="real captures are not beside the repository")
Call = tuple[Any, ...]


class Journal:
    """Stands at the exchange's and the hub's place and writes down what reaches them."""

    def __init__(self) -> None:
        self.placed: list[Call] = []
        self.cancelled: list[int] = []
        self.frames: list[bytes] = []
        self.levels: dict[tuple[Side, int], int] = {}
        self.trades = 0

    def flow_place(self, symbol: str, side: Side, ticks: int | None, lots: int, now_ns: int) -> int:
        self.placed.append((symbol, side, ticks, lots))
        return -len(self.placed)

    def flow_cancel(self, symbol: str, order_id: int, now_ns: int | None = None) -> int:
        self.cancelled.append(order_id)
        return 1

    def replay_snapshot(self, symbol: str, bids: Any, asks: Any, update_id: int, now_ns: int) -> None:
        self.levels = {(Side.BUY, t): n for t, n in bids} | {(Side.SELL, t): n for t, n in asks}

    def replay_depth(self, symbol: str, changes: Any, update_id: int, now_ns: int) -> None:
        self.levels |= {(side, ticks): lots for side, ticks, lots in changes}

    def replay_trade(self, symbol: str, ticks: int, lots: int, taker_side: Side, now_ns: int) -> None:
        self.trades += 1

    def subscribed(self, symbol: str) -> bool:
        return True

    async def send_raw(self, stream: str, frame: bytes) -> None:
        self.frames.append(frame)

    def publish_pending(self) -> None:
        pass


def instrument(symbol: str) -> Instrument:
    return Instrument(
        venue="v", symbol=symbol, base="B", quote="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001")
    )


def synthesise(seed: int) -> Journal:
    journal = Journal()
    market = SyntheticMarket(journal, {s: instrument(s) for s in ("BTCUSDT", "ETHUSDT")}, Random(seed))
    market.open(0)
    journal.placed.clear()
    for step in range(3000):
        market.advance(20_000_000, step * 20_000_000)
    return journal


@needs_data
async def test_a_replay_that_holds_sends_nothing_before_it_is_told_to_go() -> None:
    journal = Journal()
    driver = FlowDriver(
        journal, journal, replay_instruments(STREAM), wall_ns=time.time_ns, mono_ns=time.monotonic_ns,
        replay=str(STREAM), replay_speed=0, replay_hold_s=60,
    )  # fmt: skip
    running = asyncio.create_task(driver.run(asyncio.Event()))
    await asyncio.sleep(0.1)
    assert (driver.held, journal.frames, driver.finished) == (True, [], None)
    driver.go()
    await asyncio.wait_for(running, 30)
    assert not driver.held
    assert driver.finished == {"depth": 764, "bookTicker": 613, "aggTrade": 91, "kline": 67}
    assert len(journal.frames) == 764 + 613 + 91 + 67


@pytest.mark.slow
@needs_data
async def test_a_replay_is_byte_identical_and_ends_in_the_rebuilt_book() -> None:
    journal = Journal()
    grids = replay_instruments(BTC)
    driver = FlowDriver(
        journal, journal, grids, wall_ns=time.time_ns, mono_ns=time.monotonic_ns, replay=str(BTC), replay_speed=0
    )
    early = msgspec.json.decode(driver.depth("BTCUSDT") or b"{}")
    await driver.run(asyncio.Event())
    assert driver.finished == {"depth": 6551, "bookTicker": 66089, "trade": 21313}
    assert journal.frames == [r.raw for r in Capture(BTC).records() if r.kind is not Kind.SNAPSHOT]
    assert journal.trades == 21313
    oracle = rebuild_book(BTC, "BTCUSDT")
    final = msgspec.json.decode(driver.depth("BTCUSDT") or b"{}")
    assert early["lastUpdateId"] == 5123107852948
    assert final["lastUpdateId"] == oracle.last_id
    assert {Decimal(p): Decimal(q) for p, q in final["bids"]} == oracle.bids
    assert {Decimal(p): Decimal(q) for p, q in final["asks"]} == oracle.asks
    grid = grids["BTCUSDT"]
    told = {grid.price(t): grid.qty(n) for (side, t), n in journal.levels.items() if side is Side.BUY and n}
    assert told == oracle.bids
    assert driver.stats()["books"] == {"BTCUSDT": {"unchained": oracle.dropped}}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_stream() -> None:
    first, second, other = synthesise(7), synthesise(7), synthesise(8)
    assert first.placed == second.placed and first.cancelled == second.cancelled
    assert first.placed != other.placed


def test_the_synthetic_market_on_the_wire_measures_like_the_capture() -> None:
    seed = 11
    print("seed", seed)
    grid = instruments_for(["BTCUSDT"])["BTCUSDT"]
    found = measure(synthetic_records(40, seed), grid, "synthetic")
    for name in ("level_changes_per_s", "trades_per_s"):
        assert getattr(found, name) == pytest.approx(getattr(BTCUSDT, name), rel=0.35), name
    assert found.cancel_ratio == pytest.approx(BTCUSDT.cancel_ratio, abs=0.05)
    assert found.one_tick_spread_ratio == pytest.approx(BTCUSDT.one_tick_spread_ratio, abs=0.08)
    assert found.touch_moves_per_s == pytest.approx(BTCUSDT.touch_moves_per_s, rel=0.4)
    assert found.lots_touch == pytest.approx(BTCUSDT.lots_touch, rel=0.4)
    assert found.volatility_bps_per_sqrt_s == pytest.approx(BTCUSDT.volatility_bps_per_sqrt_s, rel=0.5)
    assert found.trade_lots[2] == pytest.approx(BTCUSDT.trade_lots[2], rel=0.5)
    assert found.distance_ticks[2] == pytest.approx(BTCUSDT.distance_ticks[2], rel=0.3)


@pytest.mark.slow
@needs_data
def test_the_committed_parameters_are_those_of_the_capture() -> None:
    assert calibrate(BTC) == BTCUSDT


def test_the_synthetic_spread_on_the_real_exchange_is_mostly_one_tick_and_never_crossed() -> None:
    instruments = {s: instrument(s) for s in ("BTCUSDT", "ETHUSDT")}
    exchange = Exchange(list(instruments.values()))
    market = SyntheticMarket(exchange, instruments, Random(3))
    market.open(0)
    spreads = []
    for step in range(1000):
        market.advance(20_000_000, step * 20_000_000)
        book = exchange.market_of("BTCUSDT").book
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        if bid is not None and ask is not None:
            spreads.append(ask - bid)
    assert len(spreads) > 990 and min(spreads) > 0
    assert spreads.count(1) / len(spreads) == pytest.approx(BTCUSDT.one_tick_spread_ratio, abs=0.15)
