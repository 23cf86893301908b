"""Momentum: follow the trend that a fast mean shows against a slow one, while the order flow agrees.

In: books. Out: directional signals towards a target of plus, minus or no lots. Enters as a maker, leaves at once
when the trend turns, when the loss reaches ``stopBps``, or after ``maxHoldS``.
"""

from __future__ import annotations

from typing import Any

from tickmesh.domain.enums import Urgency
from tickmesh.domain.messages import BookUpdate
from tickmesh.strategy.interface import MarketData, Position, Signal, Strategy, StrategyConfig, event_ns
from tickmesh.strategy.toolkit import Decaying, towards


class Momentum(Strategy):
    """Trend following, each symbol by itself."""

    name = "momentum"
    rehearsable = True
    hears_trades = False

    def initialize(self, config: StrategyConfig) -> None:
        """Read the parameters."""
        self._config = config
        self._notional = config.number("orderNotional", 200.0, low=1.0)
        fast_s = config.number("fastS", 2.0, low=0.01)
        slow_s = config.number("slowS", 10.0, low=fast_s)
        self._entry_bps = config.number("entryBps", 0.8, high=1000.0)
        self._exit_bps = config.number("exitBps", 0.1, high=self._entry_bps)
        self._stop_bps = config.number("stopBps", 8.0, low=0.01, high=1000.0)
        self._min_imbalance = config.number("minImbalance", 0.05, high=1.0)
        self._max_hold_ns = int(config.number("maxHoldS", 30.0, low=0.1) * 1e9)
        self._fast = {s: Decaying(fast_s) for s in config.symbols}
        self._slow = {s: Decaying(slow_s) for s in config.symbols}
        self._position = {s: Position(symbol=s) for s in config.symbols}
        self._since_ns = dict.fromkeys(config.symbols, 0)

    def on_position_update(self, position: Position) -> None:
        """Note the position; the holding time starts when it leaves zero."""
        if position.qty_lots == 0:
            self._since_ns[position.symbol] = 0
        self._position[position.symbol] = position

    def on_market_data(self, data: MarketData) -> list[Signal]:
        """Compare the means at every book."""
        if not isinstance(data, BookUpdate):
            return []
        symbol, mid, now_ns = data.symbol, data.mid_ticks, event_ns(data)
        fast, slow = self._fast[symbol], self._slow[symbol]
        fast.update(mid, now_ns)
        slow.update(mid, now_ns)
        if not slow.warm():
            return []
        position = self._position[symbol]
        trend_bps = (fast.mean - slow.mean) / slow.mean * 1e4
        if position.qty_lots:
            return self._hold_or_leave(position, mid, trend_bps, now_ns)
        direction = 1 if trend_bps > 0 else -1
        target = 0
        if abs(trend_bps) >= self._entry_bps and data.imbalance * direction >= self._min_imbalance:
            target = direction * self._config.lots_for(symbol, self._notional, max(1, int(mid)))
        strength = min(1.0, max(0.01, abs(trend_bps) / (2 * self._entry_bps or 1.0)))
        return towards(
            position, target, urgency=Urgency.NORMAL, strength=strength, reason=f"trend {trend_bps:+.2f} bps",
            rest_ns=1_000_000_000,
        )  # fmt: skip

    def get_state(self) -> dict[str, Any]:
        """Means and holding times."""
        return {
            "fast": {s: d.save() for s, d in self._fast.items()},
            "slow": {s: d.save() for s, d in self._slow.items()},
            "since_ns": dict(self._since_ns),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take means and holding times over for the symbols that are still ours."""
        for name, means in (("fast", self._fast), ("slow", self._slow)):
            for symbol, mean in means.items():
                mean.load(state.get(name, {}).get(symbol))
        for symbol, since in state.get("since_ns", {}).items():
            if symbol in self._since_ns:
                self._since_ns[symbol] = int(since)

    def _hold_or_leave(self, position: Position, mid: float, trend_bps: float, now_ns: int) -> list[Signal]:
        symbol, direction = position.symbol, 1 if position.qty_lots > 0 else -1
        since = self._since_ns[symbol] = self._since_ns[symbol] or now_ns
        entry = float(position.entry_price_ticks)
        gain_bps = (mid - entry) / entry * 1e4 * direction if entry else 0.0
        why = ""
        if trend_bps * direction < self._exit_bps:
            why = f"trend is over at {trend_bps:+.2f} bps"
        elif gain_bps <= -self._stop_bps:
            why = f"stop at {gain_bps:+.2f} bps"
        elif now_ns - since >= self._max_hold_ns:
            why = "held long enough"
        return towards(
            position, 0 if why else position.qty_lots, urgency=Urgency.IMMEDIATE, strength=1.0, reason=why
        )  # fmt: skip
