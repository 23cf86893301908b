"""Market making: a post-only quote on each side of a fair price that leans away from the inventory.

In: books. Out: the quotes ``bid`` and ``ask``. The fair price is the mid, pulled towards the microprice, moved
against the position (Avellaneda and Stoikov's reservation price, linear in the inventory); quotes move only when it
has moved by ``requote_bps``, so that they keep their place in the queue.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Any, Final

from tickmesh.domain.enums import Side
from tickmesh.domain.messages import BookUpdate
from tickmesh.strategy.interface import MarketData, Position, Signal, Strategy, StrategyConfig

# Looking a member of an enumeration up through its class costs ten times as much.
_BUY: Final = Side.BUY
_SELL: Final = Side.SELL


class MarketMaking(Strategy):
    """Quotes both sides, less of the one that adds to the inventory."""

    name = "market-making"
    rehearsable = True
    hears_trades = False

    def initialize(self, config: StrategyConfig) -> None:
        """Read the parameters; all distances in basis points of the mid."""
        self._config = config
        self._notional = config.number("orderNotional", 150.0, low=1.0)
        self._half_spread_bps = config.number("halfSpreadBps", 0.5, high=1000.0)
        self._skew_bps = config.number("skewBps", 2.0, high=1000.0)
        self._requote_bps = config.number("requoteBps", 0.3, high=1000.0)
        self._imbalance_weight = config.number("imbalanceWeight", 0.5, high=1.0)
        self._volatility_factor = config.number("volatilityFactor", 0.0, high=100.0)
        self._position: dict[str, int] = {}
        self._centre: dict[str, float] = {}
        self._lots: dict[str, int] = {}

    def on_position_update(self, position: Position) -> None:
        """Note the inventory; a change lets the quotes move at the next book."""
        if self._position.get(position.symbol, 0) != position.qty_lots:
            self._position[position.symbol] = position.qty_lots
            self._centre.pop(position.symbol, None)

    def on_market_data(self, data: MarketData) -> list[Signal]:
        """Quote around the fair price of the newest book."""
        if not isinstance(data, BookUpdate):
            return []
        symbol, mid = data.symbol, data.mid_ticks
        inventory = self._inventory(symbol)
        micro = data.microprice_ticks or mid
        fair = mid + self._imbalance_weight * (micro - mid) - mid * self._skew_bps / 1e4 * inventory
        centre = self._centre.get(symbol)
        if centre is None or abs(fair - centre) > mid * self._requote_bps / 1e4:
            centre = self._centre[symbol] = fair
            self._lots[symbol] = self._config.lots_for(symbol, self._notional, max(1, int(mid)))
        half = mid * (self._half_spread_bps + self._volatility_factor * data.volatility_bps) / 1e4
        bid, ask = max(1, floor(centre - half)), ceil(centre + half)
        return [
            self._quote(symbol, _BUY, min(bid, ask - 1), inventory),
            self._quote(symbol, _SELL, ask, inventory),
        ]

    def get_state(self) -> dict[str, Any]:
        """The centres and sizes of the quotes, so that a restart does not move them for nothing."""
        return {
            "centre": dict(self._centre),
            "lots": dict(self._lots),
            "position": dict(self._position),
            "notional": self._notional,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the quotes over, with the inventory that they were made for, unless their size was edited."""
        if state.get("notional") != self._notional:
            return
        for symbol, centre in state.get("centre", {}).items():
            lots = state.get("lots", {}).get(symbol)
            if symbol in self._config.symbols and lots:
                self._centre[symbol] = float(centre)
                self._lots[symbol] = int(lots)
                self._position[symbol] = int(state.get("position", {}).get(symbol, 0))

    def _inventory(self, symbol: str) -> float:
        """Position as a share of the limit, in [-1, 1]."""
        most = self._config.max_position_lots.get(symbol, 0)
        held = self._position.get(symbol, 0)
        return max(-1.0, min(1.0, held / most)) if most else 0.0

    def _quote(self, symbol: str, side: Side, price_ticks: int, inventory: float) -> Signal:
        name = "bid" if side is _BUY else "ask"
        lean = side * inventory
        if lean >= 0.95:
            return Signal(symbol=symbol, side=side, quote=name, withdraw=True, reason="inventory is full")
        return Signal(
            symbol=symbol, side=side, quote=name, price_ticks=price_ticks, qty_lots=self._lots.get(symbol, 0),
            strength=max(0.01, 0.5 - 0.5 * lean),
        )  # fmt: skip
