"""Liquidity that belongs to no account: a synthetic flow's anonymous orders, or the replay of a capture.

In: anonymous orders, or snapshots, level changes and trades of a real venue. Out: the same events as
any order causes. Anonymous orders pay no fees, carry no margin and do not survive a restart.
"""

from __future__ import annotations

from collections.abc import Iterable

from tickmesh.domain.enums import Side
from tickmesh.hotpath.pure.matching import Fill
from tickmesh.hotpath.pure.queue_model import QueueFill
from tickmesh.venues.simvenue.exchange.market import Market
from tickmesh.venues.simvenue.exchange.orders import Orders
from tickmesh.venues.simvenue.exchange.types import PublicTrade

NS_PER_MS = 1_000_000


class Background(Orders):
    """Flow and replay entry points."""

    def flow_place(self, symbol: str, side: Side, ticks: int | None, lots: int, now_ns: int) -> int:
        """An anonymous limit (or, with ``ticks`` None, market) order; returns its id for ``flow_cancel``."""
        market = self.market_of(symbol)
        self.now_ms = max(self.now_ms, now_ns // NS_PER_MS)
        order_id = market.next_flow_id()
        trades = market.trade_id
        taken = market.book.take(side, ticks, lots, on_fill=lambda fill: self.settle(market, None, side, fill))
        if taken.lots_left and ticks is not None:
            market.book.rest(order_id, side, ticks, taken.lots_left)
        self.publish_book(market)
        if market.trade_id != trades:
            self.after_prices(market)
        return order_id

    def flow_cancel(self, symbol: str, order_id: int, now_ns: int | None = None) -> int:
        """Cancel an anonymous order; returns the lots it still had, 0 when it is gone."""
        market = self.market_of(symbol)
        if now_ns is not None:
            self.now_ms = max(self.now_ms, now_ns // NS_PER_MS)
        lots = market.book.cancel(order_id) if order_id < 0 else 0
        self.publish_book(market)
        return lots

    def flow_seed_book(
        self, symbol: str, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]], now_ns: int
    ) -> list[int]:
        """Place one anonymous order per (ticks, lots); returns their ids, bids first."""
        ids = [self.flow_place(symbol, Side.BUY, ticks, lots, now_ns) for ticks, lots in bids]
        return ids + [self.flow_place(symbol, Side.SELL, ticks, lots, now_ns) for ticks, lots in asks]

    def replay_snapshot(
        self,
        symbol: str,
        bids: Iterable[tuple[int, int]],
        asks: Iterable[tuple[int, int]],
        update_id: int,
        now_ns: int,
    ) -> None:
        """Switch the symbol to replay and make its book the snapshot; resting user orders move into the queue."""
        market = self.market_of(symbol)
        self.now_ms = max(self.now_ms, now_ns // NS_PER_MS)
        wanted = {Side.BUY: dict(bids), Side.SELL: dict(asks)}
        mine = []
        if not market.replay:
            market.replay = True
            for side in Side:
                for ticks, _ in market.book.levels(side):
                    for resting in market.book.orders_at(side, ticks):
                        market.book.cancel(resting.order_id)
                        if resting.order_id > 0:
                            mine.append(self.orders[resting.order_id])
        for side in Side:
            stale = [ticks for s, ticks in market.replay_ids if s is side and ticks not in wanted[side]]
            for ticks in stale:
                self._level(market, side, ticks, 0)
        for side in Side:
            for ticks, lots in wanted[side].items():
                self._level(market, side, ticks, lots)
        for order in sorted(mine, key=lambda o: o.priority):
            shown = market.book.total(order.side, order.price_ticks)
            market.queue.join(order.order_id, order.side, order.price_ticks, order.open_lots, shown)
        market.update_id = max(market.update_id, update_id)
        self._quotes_through(market)
        self.publish_book(market)
        self.after_prices(market)

    def replay_depth(self, symbol: str, changes: Iterable[tuple[Side, int, int]], update_id: int, now_ns: int) -> None:
        """Apply (side, ticks, new total lots) changes of the capture."""
        market = self.market_of(symbol)
        self.now_ms = max(self.now_ms, now_ns // NS_PER_MS)
        ordered = sorted(changes, key=lambda change: change[2] != 0)  # removals first: no transient cross
        for side, ticks, lots in ordered:
            self._level(market, side, ticks, lots)
        self._quotes_through(market)
        self.publish_book(market)
        market.update_id = max(market.update_id, update_id)
        self.after_prices(market)

    def replay_trade(self, symbol: str, ticks: int, lots: int, taker_side: Side, now_ns: int) -> None:
        """A trade of the capture: published, and shared with our orders as the queue model says."""
        market = self.market_of(symbol)
        self.now_ms = max(self.now_ms, now_ns // NS_PER_MS)
        fills = market.queue.on_trade(ticks, lots, taker_side)
        left = lots - sum(fill.lots for fill in fills)
        self._settle_queue(market, fills, taker_side)
        if left > 0:
            market.trade_id += 1
            market.last_ticks = ticks
            trade = PublicTrade(
                symbol=symbol,
                trade_id=market.trade_id,
                ticks=ticks,
                lots=left,
                buyer_is_maker=taker_side is Side.SELL,
                time_ms=self.now_ms,
            )
            market.trades.append(trade)
            self._events.append(trade)
        self.after_prices(market)

    def _level(self, market: Market, side: Side, ticks: int, lots: int) -> None:
        market.set_replay_level(side, ticks, lots)
        market.queue.on_level(side, ticks, lots)

    def _quotes_through(self, market: Market) -> None:
        """Orders of ours that the real book now overlaps are met by the quotes that overlap them."""
        for side in Side:
            for ticks, lots in market.book.levels(side.opposite, 5):
                fills = market.queue.on_quote_through(side, ticks, lots)
                self._settle_queue(market, fills, side.opposite)
                if not fills:
                    break

    def _settle_queue(self, market: Market, fills: list[QueueFill], taker_side: Side) -> None:
        for fill in fills:
            order = self.orders[fill.order_id]
            if order.is_open:
                lots = min(fill.lots, order.open_lots)
                self.settle(market, None, taker_side, Fill(fill.order_id, fill.ticks, lots, order.open_lots - lots))
