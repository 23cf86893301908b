"""Price-time priority matching of one symbol on integers: the specification of the native twin.

In: orders as (id, side, ticks, lots, owner). Out: fills, and the set of levels that changed. It knows
no accounts, money or time, and refuses nothing but misuse: what may be ordered is decided before it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

import msgspec

from tickmesh.domain.enums import Side

FLOW_OWNER = 0


class Resting(msgspec.Struct):
    """An order in the book; owner 0 is anonymous and never prevented from meeting itself."""

    order_id: int
    side: Side
    ticks: int
    lots: int
    owner: int


class Fill(msgspec.Struct, frozen=True):
    """The taker met ``maker_id`` at the maker's price; ``maker_lots`` is what the maker has left."""

    maker_id: int
    ticks: int
    lots: int
    maker_lots: int


class Prevented(msgspec.Struct, frozen=True):
    """What self-trade prevention did: the makers removed, and whether the taker's rest must expire."""

    maker_ids: list[int]
    taker: bool


class Taken(msgspec.Struct, frozen=True):
    """Outcome of a sweep: fills in order, lots not filled, self-trades prevented."""

    fills: list[Fill]
    lots_left: int
    prevented: Prevented


class _Level:
    __slots__ = ("orders", "total")

    def __init__(self) -> None:
        self.orders: dict[int, Resting] = {}  # insertion order is time priority
        self.total = 0


class MatchingBook:
    """Both sides of a book. Prices are kept sorted so that the best is the last of a side's list."""

    def __init__(self) -> None:
        self._levels: dict[Side, dict[int, _Level]] = {Side.BUY: {}, Side.SELL: {}}
        self._keys: dict[Side, list[int]] = {Side.BUY: [], Side.SELL: []}  # ticks * side, ascending
        self._orders: dict[int, Resting] = {}
        self._changed: dict[tuple[Side, int], None] = {}

    def __contains__(self, order_id: int) -> bool:
        return order_id in self._orders

    def get(self, order_id: int) -> Resting | None:
        """The resting order, or None."""
        return self._orders.get(order_id)

    def best(self, side: Side) -> int | None:
        """Best price of a side in ticks, None when it is empty."""
        keys = self._keys[side]
        return keys[-1] * side if keys else None

    def total(self, side: Side, ticks: int) -> int:
        """Lots resting at a price."""
        level = self._levels[side].get(ticks)
        return level.total if level else 0

    def levels(self, side: Side, limit: int | None = None) -> list[tuple[int, int]]:
        """(ticks, lots), best first."""
        keys = self._keys[side]
        chosen = reversed(keys) if limit is None else reversed(keys[-limit:])
        return [(key * side, self._levels[side][key * side].total) for key in chosen]

    def orders_at(self, side: Side, ticks: int) -> list[Resting]:
        """Orders of a level in time priority."""
        level = self._levels[side].get(ticks)
        return list(level.orders.values()) if level else []

    def crossing(self, taker: Side, limit_ticks: int | None) -> Iterator[Resting]:
        """Resting orders that this taker would meet, in priority order; do not change the book meanwhile."""
        maker = taker.opposite
        for key in reversed(self._keys[maker]):
            if limit_ticks is not None and (key * maker - limit_ticks) * taker > 0:
                return
            yield from self._levels[maker][key * maker].orders.values()

    def available(self, taker: Side, limit_ticks: int | None, wanted: int, owner: int = FLOW_OWNER) -> int:
        """Lots within a limit, counted up to ``wanted``; orders of the same owner do not count."""
        found = 0
        for order in self.crossing(taker, limit_ticks):
            if owner == FLOW_OWNER or order.owner != owner:
                found += order.lots
            if found >= wanted:
                return wanted
        return found

    def rest(self, order_id: int, side: Side, ticks: int, lots: int, owner: int = FLOW_OWNER) -> None:
        """Put an order behind all others of its price. Raises ValueError on a reused id, no lots or a crossed book."""
        opposite = self.best(side.opposite)
        if order_id in self._orders or lots <= 0:
            raise ValueError(f"order {order_id} with {lots} lots cannot rest")
        if opposite is not None and (ticks - opposite) * side >= 0:
            raise ValueError(f"order {order_id} at {ticks} would cross the best {opposite}: take first")
        level = self._levels[side].get(ticks)
        if level is None:
            level = self._levels[side][ticks] = _Level()
            insort(self._keys[side], ticks * side)
        order = Resting(order_id, side, ticks, lots, owner)
        level.orders[order_id] = self._orders[order_id] = order
        level.total += lots
        self._changed[side, ticks] = None

    def cancel(self, order_id: int) -> int:
        """Remove an order; returns the lots it still had, 0 when it is not in the book."""
        order = self._orders.get(order_id)
        if order is None:
            return 0
        lots = order.lots
        self._shrink(order, lots)
        return lots

    def reduce(self, order_id: int, lots: int) -> None:
        """Take ``lots`` off a resting order, which keeps its place. Raises KeyError or ValueError on misuse."""
        order = self._orders[order_id]
        if not 0 < lots <= order.lots:
            raise ValueError(f"cannot take {lots} off {order.lots}")
        self._shrink(order, lots)

    def take(
        self,
        side: Side,
        limit_ticks: int | None,
        lots: int,
        *,
        owner: int = FLOW_OWNER,
        prevent: str = "NONE",
        on_fill: Callable[[Fill], int | None] | None = None,
    ) -> Taken:
        """Sweep the opposite side up to the limit (None: no limit).

        ``prevent`` is EXPIRE_TAKER, EXPIRE_MAKER, EXPIRE_BOTH or NONE. ``on_fill`` is called after each
        fill and may change the book; a number it returns caps the lots that the taker still wants.
        """
        fills: list[Fill] = []
        expired: list[int] = []
        maker_side = side.opposite
        while lots > 0:
            best = self.best(maker_side)
            if best is None or (limit_ticks is not None and (best - limit_ticks) * side > 0):
                break
            maker = next(iter(self._levels[maker_side][best].orders.values()))
            if owner != FLOW_OWNER and maker.owner == owner and prevent != "NONE":
                if prevent != "EXPIRE_TAKER":
                    expired.append(maker.order_id)
                    self._shrink(maker, maker.lots)
                if prevent != "EXPIRE_MAKER":
                    return Taken(fills, lots, Prevented(expired, True))
                continue
            traded = min(lots, maker.lots)
            self._shrink(maker, traded)
            lots -= traded
            fill = Fill(maker.order_id, best, traded, maker.lots)
            fills.append(fill)
            if on_fill is not None:
                cap = on_fill(fill)
                if cap is not None:
                    lots = min(lots, cap)
        return Taken(fills, lots, Prevented(expired, False))

    def drain_changed(self) -> list[tuple[Side, int, int]]:
        """(side, ticks, total lots now) of every level touched since the last call, in order of first touch."""
        changed = [(side, ticks, self.total(side, ticks)) for side, ticks in self._changed]
        self._changed.clear()
        return changed

    def _shrink(self, order: Resting, lots: int) -> None:
        side, ticks = order.side, order.ticks
        level = self._levels[side][ticks]
        order.lots -= lots
        level.total -= lots
        self._changed[side, ticks] = None
        if order.lots == 0:
            del level.orders[order.order_id], self._orders[order.order_id]
        if not level.orders:
            del self._levels[side][ticks]
            keys = self._keys[side]
            del keys[bisect_left(keys, ticks * side)]
