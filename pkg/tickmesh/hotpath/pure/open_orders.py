"""OpenOrders: the orders of one symbol that may still fill, as pre-trade needs them: how many are alike, what rests.

In: an order when it is reserved, what is left of it, and that it is gone. Out: counts and prices; it adds nothing up
(``risk_state`` does) and knows no limit. The specification of the native class of the same name, which holds prices and
lots in 64 bits: ``risk.view`` lets in nothing larger.
"""

from __future__ import annotations

from collections import deque

from tickmesh.domain.enums import PositionSide

BOTH, LONG, SHORT = range(3)
"""The position that an order belongs to; the first is the only one of an account without hedge mode."""

LEGS = {PositionSide.BOTH: BOTH, PositionSide.LONG: LONG, PositionSide.SHORT: SHORT}


class OpenOrder:
    """One order: what it was when it was reserved, and ``left_lots`` of it, valued at ``worth_ticks``; never changed.

    ``side`` is the sign it gives to a position; ``price_ticks`` its price, else its stop price; ``resting_ticks`` is 0
    when it rests in no book.
    """

    __slots__ = ("left_lots", "leg", "lots", "price_ticks", "resting_ticks", "side", "strategy", "worth_ticks")

    def __init__(
        self, strategy: str, side: int, leg: int, price_ticks: int, lots: int, left_lots: int, worth_ticks: int,
        resting_ticks: int,
    ) -> None:  # fmt: skip
        self.strategy = strategy
        self.side = side
        self.leg = leg
        self.price_ticks = price_ticks
        self.lots = lots
        self.left_lots = left_lots
        self.worth_ticks = worth_ticks
        self.resting_ticks = resting_ticks


class OpenOrders:
    """By client order id; limits of open orders, ours and for others' orders the venue's, bound how many there are."""

    __slots__ = ("_orders",)

    def __init__(self) -> None:
        self._orders: dict[str, OpenOrder] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def add(
        self, client_order_id: str, strategy: str, side: int, leg: int, price_ticks: int, lots: int, worth_ticks: int,
        resting_ticks: int,
    ) -> None:  # fmt: skip
        """Hold an order, nothing of which has filled; the same id replaces its former self."""
        self._orders[client_order_id] = OpenOrder(
            strategy, side, leg, price_ticks, lots, lots, worth_ticks, resting_ticks
        )

    def get(self, client_order_id: str) -> OpenOrder | None:
        """The order as it is now; what changes later does not show in it."""
        return self._orders.get(client_order_id)

    def take(self, client_order_id: str) -> OpenOrder | None:
        """Hold it no longer."""
        return self._orders.pop(client_order_id, None)

    def leave(self, client_order_id: str, left_lots: int) -> None:
        """So much of it may still fill; unknown ids are no error."""
        old = self._orders.get(client_order_id)
        if old is not None:
            self._orders[client_order_id] = OpenOrder(
                old.strategy, old.side, old.leg, old.price_ticks, old.lots, left_lots, old.worth_ticks,
                old.resting_ticks,
            )  # fmt: skip

    def alike(self, strategy: str, side: int, price_ticks: int, lots: int) -> int:
        """How many orders of that strategy were reserved with that side, price and quantity."""
        return sum(
            order.price_ticks == price_ticks
            and order.side == side
            and order.lots == lots
            and order.strategy == strategy
            for order in self._orders.values()
        )

    def nearest(self, side: int) -> int:
        """The price of that side's resting order that an order of the other side would meet first; 0 for none."""
        best = 0
        for order in self._orders.values():
            price = order.resting_ticks
            if price and order.side == side and (not best or (price - best) * side > 0):
                best = price
        return best


class RecentIds:
    """The newest ids that were added, ``most`` of them."""

    __slots__ = ("_held", "_order", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: set[str] = set()
        self._order: deque[str] = deque()  # bounded by ``most``

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, what: str) -> bool:
        return what in self._held

    def add(self, what: str) -> None:
        """Remember it; what is remembered already grows no younger."""
        if what in self._held:
            return
        self._held.add(what)
        self._order.append(what)
        if len(self._order) > self.most:
            self._held.discard(self._order.popleft())
