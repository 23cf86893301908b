"""Exchange: the whole pure exchange as one object, and its saved state.

In: calls with the venue time. Out: records, views, and the events of ``drain_events``. It reads no
clock, opens no socket and is deterministic: the same calls give the same events.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tickmesh.venues.simvenue.exchange.ledger import Ledger
from tickmesh.venues.simvenue.exchange.timers import Timers
from tickmesh.venues.simvenue.exchange.types import ExchangeState


class Exchange(Timers):
    """Orders, background flow, accounts, queries and timers, each in a module of its own, and what is kept of them."""

    def to_state(self) -> ExchangeState:
        """Everything that must survive, as copies."""
        return self._state(
            accounts=[ledger.to_state() for ledger in self.ledgers.values()],
            orders=[msgspec.structs.replace(order) for order in self.orders.values()],
            trades=list(self.trades),
            income=list(self.income_lines),
            funding=list(self.funding_lines),
        )

    def drain_changes(self) -> ExchangeState:
        """What changed since the last call; counters and markets are always included."""
        dirty = self._dirty
        changes = self._state(
            accounts=[self.ledgers[account_id].to_state() for account_id in self._dirty_accounts],
            orders=[msgspec.structs.replace(self.orders[i]) for i in self._dirty_orders if i in self.orders],
            trades=dirty.trades,
            income=dirty.income,
            funding=dirty.funding,
        )
        self._dirty = ExchangeState()
        self._dirty_accounts.clear()
        self._dirty_orders.clear()
        return changes

    def _state(self, **parts: Sequence[object]) -> ExchangeState:
        counters = {
            "next_order_id": self._next_order_id,
            "next_income_id": self._next_income_id,
            "priority": self._priority,
            "house": self.house,
            "now_ms": self.now_ms,
            "markets": [market.to_state() for market in self.markets.values()],
        }
        return ExchangeState(**counters, **parts)  # type: ignore[arg-type]

    def from_state(self, state: ExchangeState) -> None:
        """Load a saved state into a fresh exchange: resting user orders return in their old priority."""
        if self.ledgers or self.orders:
            raise ValueError("load a saved state into a fresh exchange only")
        self._next_order_id, self._next_income_id = state.next_order_id, state.next_income_id
        self._priority, self.house, self.now_ms = state.priority, state.house, state.now_ms
        for account in state.accounts:
            ledger = self.ledgers[account.account_id] = Ledger(account.account_id, len(self.ledgers) + 1)
            ledger.load(account)
        for saved in state.markets:
            if saved.symbol in self.markets:
                self.markets[saved.symbol].load(saved)
        self.trades.extend(state.trades)
        self.income_lines.extend(state.income)
        self.funding_lines.extend(state.funding)
        for record in sorted(state.orders, key=lambda o: (o.priority, o.order_id)):
            order = msgspec.structs.replace(record)
            self.orders[order.order_id] = order
            ledger, market = self.ledgers[order.account_id], self.market_of(order.symbol)
            ledger.by_client_id[order.symbol, order.client_order_id] = order.order_id
            if not order.is_open:
                self._closed.append(order.order_id)
                continue
            ledger.open_orders[order.order_id] = order
            if order.is_conditional:
                self._conditional[order.symbol][order.order_id] = order
            else:
                market.book.rest(order.order_id, order.side, order.price_ticks, order.open_lots, ledger.owner)
        self.orders = dict(sorted(self.orders.items()))
        for market in self.markets.values():
            market.book.drain_changed()
