"""Mean reversion: sell what is far above its own mean, buy what is far below, and leave near the mean.

In: books. Out: directional signals towards a target position. The distance is a z-score: mid against its decaying
mean, in its own deviations, which must be at least ``minDeviationBps`` wide to be worth the fees.
"""

from __future__ import annotations

from typing import Any

from tickmesh.domain.enums import Urgency
from tickmesh.domain.messages import BookUpdate
from tickmesh.strategy.interface import MarketData, Position, Signal, Strategy, StrategyConfig, event_ns
from tickmesh.strategy.toolkit import Decaying, towards


class MeanReversion(Strategy):
    """Bollinger bands with time-weighted means, each symbol by itself."""

    name = "mean-reversion"
    rehearsable = True
    hears_trades = False

    def initialize(self, config: StrategyConfig) -> None:
        """Read the parameters."""
        self._config = config
        self._notional = config.number("orderNotional", 200.0, low=1.0)
        half_life_s = config.number("halfLifeS", 15.0, low=0.01)
        self._entry = config.number("entryZ", 1.8, low=0.1, high=100.0)
        self._exit = config.number("exitZ", 0.3, high=self._entry)
        self._stop = config.number("stopZ", 5.0, low=self._entry, high=1000.0)
        self._min_deviation_bps = config.number("minDeviationBps", 0.3, high=1000.0)
        self._mean = {s: Decaying(half_life_s) for s in config.symbols}
        self._position = {s: Position(symbol=s) for s in config.symbols}
        self._stopped: dict[str, int] = {}

    def on_position_update(self, position: Position) -> None:
        """Note the position."""
        self._position[position.symbol] = position

    def on_market_data(self, data: MarketData) -> list[Signal]:
        """Measure the distance from the mean at every book."""
        if not isinstance(data, BookUpdate):
            return []
        symbol, mid = data.symbol, data.mid_ticks
        mean = self._mean[symbol]
        distance, deviation, middle = mid - mean.mean, mean.deviation, mean.mean
        mean.update(mid, event_ns(data))  # measured before: a jump must not widen the band it is judged by
        if not mean.warm() or not deviation or deviation * 1e4 < self._min_deviation_bps * middle:
            return []
        z = distance / deviation
        position = self._position[symbol]
        target = self._target(symbol, position.qty_lots, z, mid)
        leaving = abs(target) < abs(position.qty_lots)
        urgency = Urgency.IMMEDIATE if leaving and abs(z) >= self._stop else Urgency.PASSIVE
        return towards(position, target, urgency=urgency, strength=min(1.0, abs(z) / 4 + 0.01), reason=f"z {z:+.2f}")

    def get_state(self) -> dict[str, Any]:
        """The means."""
        return {"mean": {s: d.save() for s, d in self._mean.items()}, "stopped": dict(self._stopped)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the means over."""
        for symbol, mean in self._mean.items():
            mean.load(state.get("mean", {}).get(symbol))
        self._stopped = {s: int(d) for s, d in state.get("stopped", {}).items() if s in self._mean}

    def _target(self, symbol: str, held: int, z: float, mid: float) -> int:
        """Lots to hold: nothing beyond the stop until the price has come back, nothing near the mean."""
        direction = -1 if z > 0 else 1
        if abs(z) >= self._stop:
            self._stopped[symbol] = direction
            return 0
        if abs(z) <= self._exit:
            self._stopped.pop(symbol, None)
            return 0
        if abs(z) >= self._entry and self._stopped.get(symbol) != direction:
            lots = self._config.lots_for(symbol, self._notional, max(1, int(mid)))
            return held if held * direction >= lots else direction * lots
        # Between exit and entry: what is held stays if it is on the right side of the mean.
        return held if held * direction > 0 else 0
