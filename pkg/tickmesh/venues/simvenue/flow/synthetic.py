"""Synthetic market: elapsed time and a random source in, anonymous orders, cancels and trades on the exchange out.

Pure: the same seed, steps and exchange give the same stream. A latent fair price per symbol walks with trending
regimes and mean-reverting noise; every symbol after the first follows the first one's returns with a lag. Rates are
the capture's times ``rate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import exp, floor, log, sqrt
from random import Random

from tickmesh.domain.enums import Side
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.flow.parameters import BTCUSDT, PROBABILITIES, FlowParameters
from tickmesh.venues.simvenue.flow.ports import FlowExchange

MAX_ORDERS_PER_SIDE = 1000
SEED_LEVELS = 100
LAG_PER_S = 2.0
TREND_BPS_PER_S = 0.4
REVERSION_PER_S = 0.5
NOISE_SHARE = 0.5
REGIME_CHANGES_PER_S = 0.05
FAR_MOVES = 2.0
"""Seconds' worth of volatility after which the touch follows at once."""
REQUOTES_PER_S = 12.0
TOUCH_SHARE = 0.16
ORDERS_PER_CHANGE = 1.6
"""Orders and cancels of one price within one depth diff show as one change."""
FILLS_PER_TAKER = 1.35
"""A market order meets several makers, each of which is a public trade."""
_START_PRICES = {"BTCUSDT": 61_800.0, "ETHUSDT": 2_680.0}
_OTHER_START = 100.0


def draw(random: Random, points: tuple[int, ...]) -> int:
    """Draws from quantiles at PROBABILITIES, log-linear between them; the tails stop at the outer quantiles."""
    where = random.random()
    if where <= PROBABILITIES[0]:
        return points[0]
    for (low_p, low), (high_p, high) in pairwise(zip(PROBABILITIES, points, strict=True)):
        if where <= high_p:
            share = (where - low_p) / (high_p - low_p)
            return round(exp(log(low + 1) * (1 - share) + log(high + 1) * share)) - 1
    return points[-1]


class _Symbol:
    """One symbol's latent price and our view of its anonymous orders, oldest first."""

    def __init__(self, instrument: Instrument, parameters: FlowParameters, start: float) -> None:
        self.instrument, self.parameters = instrument, parameters
        self.log_base, self.noise = log(start / float(instrument.tick_size)), 0.0
        self.trend = self.debt = self.trade_debt = self.lag = 0.0
        self.bid = 0
        self.orders: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        self.anchors: dict[Side, int] = {}

    def fair_ticks(self) -> float:
        return exp(self.log_base + self.noise)

    def touch(self, side: Side) -> int:
        return self.bid if side is Side.BUY else self.bid + 1


class SyntheticMarket:
    """Generates flow for ``instruments``, the first of which leads. ``rate`` multiplies the event rate."""

    def __init__(
        self,
        exchange: FlowExchange,
        instruments: Mapping[str, Instrument],
        random: Random,
        *,
        rate: float = 1.0,
        parameters: FlowParameters = BTCUSDT,
        start_prices: Mapping[str, float] | None = None,
    ) -> None:
        starts = {**_START_PRICES, **(start_prices or {})}
        self._exchange, self._random, self._rate = exchange, random, rate
        ordered = sorted(instruments, key=lambda s: (s != "BTCUSDT", s))
        self._symbols = [_Symbol(instruments[s], parameters, starts.get(s, _OTHER_START)) for s in ordered]

    def open(self, now_ns: int) -> None:
        """Fills the books around the start prices."""
        for state in self._symbols:
            state.bid = floor(state.fair_ticks())
            for side in (Side.BUY, Side.SELL):
                for step in range(SEED_LEVELS):
                    self._place(state, side, state.touch(side) - side * step, now_ns)
            state.debt = 0.0

    def advance(self, elapsed_ns: int, now_ns: int) -> None:
        """Moves the prices by ``elapsed_ns`` and plays the events that fall due."""
        elapsed_s, leader_move = elapsed_ns / 1e9, 0.0
        for index, state in enumerate(self._symbols):
            move = self._walk(state, elapsed_s, leader_move, leads=index == 0)
            if index == 0:
                leader_move = move
            self._follow(state, elapsed_s, now_ns)
            flow = state.parameters
            state.debt += flow.level_changes_per_s * ORDERS_PER_CHANGE * self._rate * elapsed_s
            state.trade_debt += flow.trades_per_s / FILLS_PER_TAKER * self._rate * elapsed_s
            while state.debt > 0:
                self._change(state, now_ns)
            while state.trade_debt > 0:
                self._trade(state, now_ns)
                state.trade_debt += log(1.0 - self._random.random())

    def _walk(self, state: _Symbol, elapsed_s: float, leader_move: float, *, leads: bool) -> float:
        random = self._random
        sigma = state.parameters.volatility_bps_per_sqrt_s / 1e4 * sqrt(elapsed_s)
        state.noise += -REVERSION_PER_S * state.noise * elapsed_s + sigma * NOISE_SHARE * random.gauss(0, 1)
        if leads:
            if random.random() < REGIME_CHANGES_PER_S * elapsed_s:
                state.trend = random.choice((-1, 0, 0, 1)) * TREND_BPS_PER_S / 1e4
            move = state.trend * elapsed_s + sigma * sqrt(1 - NOISE_SHARE**2) * random.gauss(0, 1)
        else:
            state.lag += leader_move
            move = state.lag * min(1.0, LAG_PER_S * elapsed_s)
            state.lag -= move
        state.log_base += move
        return move

    def _follow(self, state: _Symbol, elapsed_s: float, now_ns: int) -> None:
        """Moves the touch to the fair price at random times, as often as in the capture, and keeps it quoted."""
        flow, random = state.parameters, self._random
        bid = floor(state.fair_ticks())
        moves = random.random() < flow.touch_moves_per_s * elapsed_s
        far = abs(bid - state.bid) > FAR_MOVES * flow.volatility_bps_per_sqrt_s / 1e4 * state.bid
        if (moves or far) and bid != state.bid:
            state.bid = bid
            for side in (Side.BUY, Side.SELL):
                passed = [i for i, ticks in state.orders[side].items() if (ticks - state.touch(side)) * side > 0]
                for order_id in passed:
                    self._cancel(state, side, order_id, now_ns)
                self._exchange.flow_cancel(state.instrument.symbol, state.anchors.pop(side, 0), now_ns)
            self._quote(state, now_ns)
        elif random.random() < REQUOTES_PER_S * elapsed_s:
            self._quote(state, now_ns)

    def _quote(self, state: _Symbol, now_ns: int) -> None:
        """Renews the large order at each touch, which trades eat into and random cancels leave alone."""
        for side in (Side.BUY, Side.SELL):
            self._exchange.flow_cancel(state.instrument.symbol, state.anchors.get(side, 0), now_ns)
            lots = max(1, round(state.parameters.lots_touch * self._random.uniform(0.5, 1.5)))
            symbol, ticks = state.instrument.symbol, state.touch(side)
            state.anchors[side] = self._exchange.flow_place(symbol, side, ticks, lots, now_ns)
            state.debt -= 2.0

    def _change(self, state: _Symbol, now_ns: int) -> None:
        side = self._random.choice((Side.BUY, Side.SELL))
        orders = state.orders[side]
        if orders and self._random.random() < state.parameters.cancel_ratio:
            self._cancel(state, side, self._random.choice(list(orders)), now_ns)
            return
        # Some of the new orders, small ones, join the touch; the others keep the capture's distances.
        if self._random.random() < TOUCH_SHARE:
            self._place(state, side, state.touch(side), now_ns, max(1, draw(self._random, state.parameters.trade_lots)))
            return
        distance = draw(self._random, state.parameters.distance_ticks)
        ticks = max(1, state.touch(side) - side * min(distance, state.bid // 50))
        self._place(state, side, ticks, now_ns)

    def _trade(self, state: _Symbol, now_ns: int) -> None:
        side = self._random.choice((Side.BUY, Side.SELL))
        lots = max(1, draw(self._random, state.parameters.trade_lots))
        self._exchange.flow_place(state.instrument.symbol, side, None, lots, now_ns)

    def _place(self, state: _Symbol, side: Side, ticks: int, now_ns: int, lots: int = 0) -> None:
        lots = lots or max(1, draw(self._random, state.parameters.level_lots))
        order_id = self._exchange.flow_place(state.instrument.symbol, side, ticks, lots, now_ns)
        orders = state.orders[side]
        orders[order_id] = ticks
        state.debt -= 1.0
        if len(orders) > MAX_ORDERS_PER_SIDE:
            self._cancel(state, side, next(iter(orders)), now_ns)

    def _cancel(self, state: _Symbol, side: Side, order_id: int, now_ns: int) -> None:
        del state.orders[side][order_id]
        state.debt -= 1.0
        self._exchange.flow_cancel(state.instrument.symbol, order_id, now_ns)
