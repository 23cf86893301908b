"""Scalping: join the touch on the side that the book leans to, and take a few ticks as a maker.

In: books. Out: the quote ``entry`` while flat; with a position, the quote ``exit`` at its entry price plus
``takeTicks``, or a taker's exit at ``stopTicks`` below or after ``maxHoldS``. At most one position per symbol.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Any

from tickmesh.domain.enums import Side, Urgency
from tickmesh.domain.messages import BookUpdate
from tickmesh.hotpath import LeanSignal
from tickmesh.strategy.interface import MarketData, Position, Signal, Strategy, StrategyConfig, event_ns


class Scalping(Strategy):
    """Small profits, often, each symbol by itself."""

    name = "scalping"
    rehearsable = True
    hears_trades = False

    def initialize(self, config: StrategyConfig) -> None:
        """Read the parameters."""
        self._config = config
        self._notional = config.number("orderNotional", 150.0, low=1.0)
        self._lean = config.number("minImbalance", 0.25, high=1.0)
        self._take_ticks = int(config.number("takeTicks", 30.0, low=1.0))
        self._stop_ticks = int(config.number("stopTicks", 120.0, low=1.0))
        self._max_spread_ticks = int(config.number("maxSpreadTicks", 20.0, low=1.0))
        self.kernel = LeanSignal(self._lean, self._max_spread_ticks)
        self._max_hold_ns = int(config.number("maxHoldS", 5.0, low=0.01) * 1e9)
        self._position = {s: Position(symbol=s) for s in config.symbols}
        self._since_ns = dict.fromkeys(config.symbols, 0)
        self._lots: dict[str, tuple[int, int]] = {}
        self._nothing: dict[str, tuple[Signal, ...]] = {
            s: tuple(Signal(symbol=s, side=Side.BUY, quote=q, withdraw=True) for q in ("exit", "entry"))
            for s in config.symbols
        }

    def on_position_update(self, position: Position) -> None:
        """Note the position; the holding time starts when it leaves zero."""
        if position.qty_lots == 0:
            self._since_ns[position.symbol] = 0
        self._position[position.symbol] = position

    def on_market_data(self, data: MarketData) -> list[Signal]:
        """Enter while flat, look after the exit otherwise."""
        if not isinstance(data, BookUpdate):
            return []
        position = self._position[data.symbol]
        return self._exit(data, position) if position.qty_lots else self._enter(data)

    def get_state(self) -> dict[str, Any]:
        """Since when each position is held."""
        return {"since_ns": dict(self._since_ns)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the holding times over."""
        for symbol, since in state.get("since_ns", {}).items():
            if symbol in self._since_ns:
                self._since_ns[symbol] = int(since)

    def _enter(self, book: BookUpdate) -> list[Signal]:
        touch = self.kernel.decide(book.imbalance, book.bids[0][0], book.asks[0][0])
        return self.entry(book.symbol, touch, self.kernel.lean)

    def entry(self, symbol: str, touch: int, lean: float) -> list[Signal]:
        """What is wanted while flat, from the kernel's answer: a quote at the touch, or none."""
        no_exit, no_entry = self._nothing[symbol]
        if not touch:
            return [no_exit, no_entry]
        side, price_ticks = (Side.BUY, touch) if touch > 0 else (Side.SELL, -touch)
        return [
            no_exit,
            Signal(
                symbol=symbol, side=side, quote="entry", price_ticks=price_ticks,
                qty_lots=self._lots_at(symbol, price_ticks), strength=min(1.0, abs(lean)),
                reason=f"imbalance {lean:+.2f}",
            ),
        ]  # fmt: skip

    def _lots_at(self, symbol: str, price_ticks: int) -> int:
        """Lots of an entry; kept while the price stands, which it mostly does from one book to the next."""
        known = self._lots.get(symbol)
        if known is None or known[0] != price_ticks:
            known = self._lots[symbol] = (price_ticks, self._config.lots_for(symbol, self._notional, price_ticks))
        return known[1]

    def _exit(self, book: BookUpdate, position: Position) -> list[Signal]:
        symbol, now_ns = book.symbol, event_ns(book)
        since = self._since_ns[symbol] = self._since_ns[symbol] or now_ns
        side = Side.SELL if position.qty_lots > 0 else Side.BUY
        entry, lots = float(position.entry_price_ticks), abs(position.qty_lots)
        reachable = book.bids[0][0] if side is Side.SELL else book.asks[0][0]
        loss_ticks = (entry - reachable) * -int(side)
        signals = [Signal(symbol=symbol, side=side, quote="entry", withdraw=True)]
        why = ""
        if loss_ticks >= self._stop_ticks:
            why = f"stop {loss_ticks:.0f} ticks away"
        elif now_ns - since >= self._max_hold_ns:
            why = "held long enough"
        if why:
            exit_now = Signal(
                symbol=symbol, side=side, quote="exit", price_ticks=reachable, qty_lots=lots, reduce_only=True,
                urgency=Urgency.IMMEDIATE, reason=why,
            )  # fmt: skip
            return [*signals, exit_now]
        price = ceil(entry) + self._take_ticks if side is Side.SELL else floor(entry) - self._take_ticks
        take = Signal(
            symbol=symbol, side=side, quote="exit", price_ticks=max(1, price), qty_lots=lots, reduce_only=True,
            reason=f"take {self._take_ticks} ticks",
        )  # fmt: skip
        return [*signals, take]
