"""Where our orders stand behind real liquidity: trades and level changes in, fills of our orders out.

Integers only; the specification of the native twin. An order joins behind everything displayed at its
price. Trades at the price eat what is ahead, then us. A level that shrinks without a trade lost orders
somewhere in the queue: we assume evenly, rounded against us. A trade or quote beyond our price must
have met us first. It never invents lots: a trade fills us for at most its own size.
"""

from __future__ import annotations

import msgspec

from tickmesh.domain.enums import Side


class Queued(msgspec.Struct):
    """One of our orders and the lots of others before it at its price."""

    order_id: int
    side: Side
    ticks: int
    lots: int
    ahead: int


class QueueFill(msgspec.Struct, frozen=True):
    """Our order got ``lots`` as a maker at its own price."""

    order_id: int
    ticks: int
    lots: int


class QueueModel:
    """Own orders of one symbol in a replayed book, in priority order per side."""

    def __init__(self) -> None:
        self._orders: dict[int, Queued] = {}
        self._shown: dict[tuple[Side, int], int] = {}  # last total of the levels we stand in
        self._traded: dict[tuple[Side, int], int] = {}  # traded since, so that depth does not count it twice

    def __len__(self) -> int:
        return len(self._orders)

    def ahead(self, order_id: int) -> int | None:
        """Lots before us, None for an order we do not hold."""
        order = self._orders.get(order_id)
        return order.ahead if order else None

    def join(self, order_id: int, side: Side, ticks: int, lots: int, shown_lots: int) -> None:
        """Add our order at the back of a level that shows ``shown_lots`` of others."""
        if order_id in self._orders or lots <= 0:
            raise ValueError(f"order {order_id} with {lots} lots cannot queue")
        key = (side, ticks)
        shown = self._shown.setdefault(key, shown_lots)
        ahead = max(0, shown - self._traded.get(key, 0))
        self._orders[order_id] = Queued(order_id, side, ticks, lots, ahead)

    def leave(self, order_id: int) -> None:
        """Forget an order (canceled or done); unknown ids are no error."""
        order = self._orders.pop(order_id, None)
        if order is not None:
            self._forget_empty((order.side, order.ticks))

    def reduce(self, order_id: int, lots: int) -> None:
        """Shrink our order in place; gone at zero."""
        order = self._orders[order_id]
        order.lots -= lots
        if order.lots <= 0:
            self.leave(order_id)

    def on_trade(self, ticks: int, lots: int, taker: Side) -> list[QueueFill]:
        """A public trade: who of us would have been met, best price first, then time."""
        maker = taker.opposite
        left = lots
        fills: list[QueueFill] = []
        for order in self._reached(maker, ticks):
            if order.ticks == ticks:
                break
            left = self._give(order, left, fills)
        at_price = [order for order in self._orders.values() if order.side is maker and order.ticks == ticks]
        if not at_price:
            return fills
        key = (maker, ticks)
        self._traded[key] = self._traded.get(key, 0) + left
        given = 0
        for order in at_price:
            met = min(order.lots, left - order.ahead - given)
            order.ahead = max(0, order.ahead - left)
            if met > 0:
                given += met
                self._give(order, met, fills)
        return fills

    def on_level(self, side: Side, ticks: int, lots_total: int) -> None:
        """A level of the real book has a new total; a shrink beyond the trades seen is spread over the queue."""
        key = (side, ticks)
        shown = self._shown.get(key)
        if shown is None:
            return
        before = max(0, shown - self._traded.pop(key, 0))
        gone = before - lots_total
        for order in self._orders.values():
            if order.side is side and order.ticks == ticks:
                if gone > 0 and before > 0:
                    order.ahead -= min(order.ahead, gone * order.ahead // before)
                order.ahead = min(order.ahead, lots_total)
        self._shown[key] = lots_total

    def on_quote_through(self, side: Side, opposite_ticks: int, lots: int) -> list[QueueFill]:
        """The other side now quotes at or beyond our prices: those lots would have met us."""
        fills: list[QueueFill] = []
        for order in self._reached(side, opposite_ticks):
            lots = self._give(order, lots, fills)
        return fills

    def _reached(self, side: Side, ticks: int) -> list[Queued]:
        reached = [o for o in self._orders.values() if o.side is side and (o.ticks - ticks) * side >= 0]
        return sorted(reached, key=lambda order: -order.ticks * side)  # stable: time within a price

    def _give(self, order: Queued, budget: int, fills: list[QueueFill]) -> int:
        lots = min(order.lots, budget)
        if lots > 0:
            fills.append(QueueFill(order.order_id, order.ticks, lots))
            self.reduce(order.order_id, lots)
        return budget - lots

    def _forget_empty(self, key: tuple[Side, int]) -> None:
        if not any((order.side, order.ticks) == key for order in self._orders.values()):
            self._shown.pop(key, None)
            self._traded.pop(key, None)
