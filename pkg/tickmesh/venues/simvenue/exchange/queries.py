"""Queries: orders, trades, income, marks, depth - copies out, nothing changes.

In: an account or symbol and what to page by. Out: records that the caller may keep.
"""

from __future__ import annotations

import msgspec

from tickmesh.domain.enums import Side
from tickmesh.venues.simvenue.exchange.accounts import Accounts
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.types import (
    Depth,
    FundingRecord,
    Income,
    MarkPrice,
    OrderRecord,
    PublicTrade,
    UserTrade,
)


class Queries(Accounts):
    """The reading side."""

    def query_order(
        self, account_id: str, symbol: str, order_id: int | None = None, client_order_id: str | None = None
    ) -> OrderRecord:
        """A copy of an order, open or closed. Raises -2013."""
        order = self.find(account_id, symbol, order_id, client_order_id)
        if order is None:
            raise VenueError(-2013)
        return msgspec.structs.replace(order)

    def open_orders(self, account_id: str, symbol: str | None = None) -> list[OrderRecord]:
        """Copies of open orders by id."""
        orders = self.ledger_of(account_id).open_orders.values()
        chosen = [msgspec.structs.replace(o) for o in orders if symbol in (None, o.symbol)]
        return sorted(chosen, key=lambda o: o.order_id)

    def all_orders(
        self,
        account_id: str,
        symbol: str,
        from_id: int = 0,
        limit: int = 500,
        start_ms: int = 0,
        end_ms: int | None = None,
    ) -> list[OrderRecord]:
        """Orders of a symbol in id order: the first from ``from_id`` or ``start_ms`` on, else the newest."""
        self.ledger_of(account_id)
        ours = (o for o in self.orders.values() if (o.account_id, o.symbol) == (account_id, symbol))
        chosen = sorted(
            (o for o in ours if o.order_id >= from_id and _within(o.time_ms, start_ms, end_ms)),
            key=lambda o: o.order_id,
        )
        return [msgspec.structs.replace(o) for o in (chosen[:limit] if from_id or start_ms else chosen[-limit:])]

    def user_trades(
        self,
        account_id: str,
        symbol: str,
        from_id: int = 0,
        limit: int = 500,
        order_id: int | None = None,
        start_ms: int = 0,
        end_ms: int | None = None,
    ) -> list[UserTrade]:
        """Trades of an account and symbol in order; paging as in ``all_orders``."""
        chosen = [
            t
            for t in self.trades
            if (t.account_id, t.symbol) == (account_id, symbol)
            and t.trade_id >= from_id
            and order_id in (None, t.order_id)
            and _within(t.time_ms, start_ms, end_ms)
        ]
        return chosen[:limit] if from_id or start_ms else chosen[-limit:]

    def income(
        self,
        account_id: str,
        symbol: str | None = None,
        kind: str | None = None,
        limit: int = 100,
        start_ms: int = 0,
        end_ms: int | None = None,
    ) -> list[Income]:
        """Income lines in order: the first from ``start_ms`` on, else the newest."""
        lines = [i for i in self.income_lines if i.account_id == account_id and _within(i.time_ms, start_ms, end_ms)]
        lines = [i for i in lines if symbol in (None, i.symbol) and kind in (None, i.type)]
        return lines[:limit] if start_ms else lines[-limit:]

    def mark_price(self, symbol: str) -> MarkPrice:
        """Mark, index and funding rate now."""
        return self.market_of(symbol).mark_price(self.now_ms)

    def funding(self, symbol: str, limit: int = 100) -> list[FundingRecord]:
        """Fundings charged, oldest first."""
        return [line for line in self.funding_lines if line.symbol == symbol][-limit:]

    def depth(self, symbol: str, limit: int = 500) -> Depth:
        """The book's best levels."""
        market = self.market_of(symbol)
        return Depth(
            symbol=symbol,
            update_id=market.update_id,
            bids=market.book.levels(Side.BUY, limit),
            asks=market.book.levels(Side.SELL, limit),
            time_ms=self.now_ms,
        )

    def recent_trades(self, symbol: str, limit: int = 500) -> list[PublicTrade]:
        """The newest public trades, oldest first."""
        return list(self.market_of(symbol).trades)[-limit:]


def _within(time_ms: int, start_ms: int, end_ms: int | None) -> bool:
    return start_ms <= time_ms and (end_ms is None or time_ms <= end_ms)
