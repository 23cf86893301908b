"""Arbitrage between two symbols: when their ratio strays from its mean, sell the dear one and buy the cheap one.

In: books of both. Out: signals for both legs, sized to equal value, taken at once: a leg alone is a bet, not an
arbitrage. The position of each leg heads for its target at every book, so that a leg that was missed is made up.
"""

from __future__ import annotations

from math import log
from typing import Any

from tickmesh.domain.enums import Urgency
from tickmesh.domain.errors import ConfigError
from tickmesh.domain.messages import BookUpdate
from tickmesh.strategy.interface import (
    MarketData,
    Position,
    Signal,
    Strategy,
    StrategyConfig,
    event_ns,
)
from tickmesh.strategy.toolkit import Decaying, towards


class Arbitrage(Strategy):
    """A pair: the first symbol of the resource against the second."""

    name = "arbitrage"
    hears_trades = False

    def initialize(self, config: StrategyConfig) -> None:
        """Read the parameters; there must be two symbols."""
        if len(config.symbols) != 2:
            raise ConfigError(f"spec.symbols: arbitrage is between two symbols, found {len(config.symbols)}")
        self._config = config
        self._a, self._b = config.symbols
        self._notional = config.number("legNotional", 200.0, low=1.0)
        self._beta = config.number("beta", 1.0, low=0.01, high=100.0)
        self._entry = config.number("entryZ", 2.0, low=0.1, high=100.0)
        self._exit = config.number("exitZ", 0.4, high=self._entry)
        self._min_edge_bps = config.number("minEdgeBps", 1.0, high=1000.0)
        self._max_age_ns = int(config.number("maxBookAgeS", 0.5, low=0.001) * 1e9)
        self._spread = Decaying(config.number("halfLifeS", 20.0, low=0.01))
        self._books: dict[str, BookUpdate] = {}
        self._position = {s: Position(symbol=s) for s in config.symbols}
        self._state = 0

    def on_position_update(self, position: Position) -> None:
        """Note a leg's position."""
        self._position[position.symbol] = position

    def on_market_data(self, data: MarketData) -> list[Signal]:
        """Measure the spread whenever one leg moves, if the other one's book is recent."""
        if not isinstance(data, BookUpdate):
            return []
        self._books[data.symbol] = data
        a, b = self._books.get(self._a), self._books.get(self._b)
        if a is None or b is None or abs(event_ns(a) - event_ns(b)) > self._max_age_ns:
            return []
        spread = log(a.mid_ticks) - self._beta * log(b.mid_ticks)
        distance, deviation = spread - self._spread.mean, self._spread.deviation
        self._spread.update(spread, event_ns(data))
        if not self._spread.warm() or not deviation:
            return []
        z = distance / deviation
        if abs(z) <= self._exit or z * self._state > 0:
            self._state = 0  # back at the mean, or through it
        elif abs(z) >= self._entry and abs(distance) * 1e4 >= self._min_edge_bps:
            self._state = -1 if z > 0 else 1
        reason = f"spread {distance * 1e4:+.2f} bps, z {z:+.2f}"
        strength = min(1.0, abs(z) / 4 + 0.01)
        signals = []
        for symbol, direction, book in ((self._a, self._state, a), (self._b, -self._state, b)):
            target = direction * self._config.lots_for(symbol, self._notional, max(1, int(book.mid_ticks)))
            held = self._position[symbol].qty_lots
            if direction and held * direction > 0 and abs(abs(target) - abs(held)) <= max(1, abs(target) // 10):
                target = held  # the price moved a little since; the leg stands
            signals += towards(
                self._position[symbol], target, urgency=Urgency.IMMEDIATE, strength=strength, reason=reason
            )
        return signals

    def get_state(self) -> dict[str, Any]:
        """The spread's mean and on which side of it we are."""
        return {"spread": self._spread.save(), "state": self._state, "pair": [self._a, self._b]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over if it is the same pair."""
        if state.get("pair") == [self._a, self._b]:
            self._spread.load(state.get("spread"))
            self._state = int(state.get("state", 0))
