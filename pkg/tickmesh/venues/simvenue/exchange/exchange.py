"""Exchange: the facade of the pure exchange - accounts, queries, timers, funding, liquidation, saved state.

In: calls with the venue time. Out: records, views, and the events of ``drain_events``. It reads no
clock, opens no socket and is deterministic: the same calls give the same events.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce
from tickmesh.hotpath.pure.matching import Fill
from tickmesh.venues.simvenue.exchange.background import Background
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.ledger import GRAIN, Ledger, max_notional
from tickmesh.venues.simvenue.exchange.market import Market
from tickmesh.venues.simvenue.exchange.types import (
    ZERO,
    AccountConfigUpdate,
    AccountInfo,
    Depth,
    ExchangeState,
    ExecutionType,
    FundingRecord,
    Income,
    MarginCall,
    MarkPrice,
    MarkPriceChanged,
    OrderRecord,
    OrderStatus,
    Position,
    PositionView,
    PublicTrade,
    UserTrade,
)

CALL_SHARE = Decimal("0.8")


class Exchange(Background):
    """A whole exchange in one object."""

    # -- accounts -------------------------------------------------------------------------------------

    def add_account(self, account_id: str, deposit: Decimal, now_ms: int = 0) -> None:
        """Open an account with a deposit in the quote asset; a known account is left as it is."""
        if account_id in self.ledgers:
            return
        self.now_ms = max(self.now_ms, now_ms)
        ledger = self.ledgers[account_id] = Ledger(account_id, len(self.ledgers) + 1)
        ledger.wallet = deposit
        self.add_income(ledger, "", "TRANSFER", deposit)
        self.publish_account(ledger, "DEPOSIT", deposit, [])

    def set_leverage(self, account_id: str, symbol: str, leverage: int, now_ms: int) -> Decimal:
        """Set a symbol's leverage; returns the largest notional it allows. Raises -4028, -2027, -2028."""
        self.now_ms = max(self.now_ms, now_ms)
        ledger = self.ledger_of(account_id)
        self.market_of(symbol)
        if not 1 <= leverage <= max(tier.max_leverage for tier in self.config.tiers):
            raise VenueError(-4028, leverage)
        old = ledger.leverage_of(symbol, self.config.default_leverage)
        if self.margin.required(ledger, symbol) * old > max_notional(self.config.tiers, leverage):
            raise VenueError(-2027)
        ledger.leverage[symbol] = leverage
        if leverage < old and self.margin.available(ledger) < 0:
            ledger.leverage[symbol] = old
            raise VenueError(-2028)
        self._dirty_accounts[account_id] = None
        self._events.append(
            AccountConfigUpdate(account_id=account_id, symbol=symbol, leverage=leverage, time_ms=self.now_ms)
        )
        return max_notional(self.config.tiers, leverage)

    def leverage(self, account_id: str, symbol: str) -> int:
        """Leverage in force."""
        return self.ledger_of(account_id).leverage_of(symbol, self.config.default_leverage)

    def set_margin_type(self, account_id: str, symbol: str, margin_type: str, now_ms: int) -> None:
        """Record CROSSED or ISOLATED (margin is computed as cross). Raises -4046, -4047, -4048."""
        self.now_ms = max(self.now_ms, now_ms)
        ledger = self.ledger_of(account_id)
        self.market_of(symbol)
        if ledger.margin_type.get(symbol, "CROSSED") == margin_type:
            raise VenueError(-4046)
        if any(order.symbol == symbol for order in ledger.open_orders.values()):
            raise VenueError(-4047)
        if any(ledger.lots(symbol, side) for side in PositionSide):
            raise VenueError(-4048)
        ledger.margin_type[symbol] = margin_type
        self._dirty_accounts[account_id] = None

    def set_position_mode(self, account_id: str, dual: bool, now_ms: int) -> None:
        """Hedge mode on or off. Raises -4059 for no change, -4067 with open orders, -4068 with positions."""
        self.now_ms = max(self.now_ms, now_ms)
        ledger = self.ledger_of(account_id)
        if ledger.dual == dual:
            raise VenueError(-4059)
        if ledger.open_orders:
            raise VenueError(-4067)
        if any(position.lots for position in ledger.positions.values()):
            raise VenueError(-4068)
        ledger.dual = dual
        self._dirty_accounts[account_id] = None

    def position_mode(self, account_id: str) -> bool:
        """True in hedge mode."""
        return self.ledger_of(account_id).dual

    def position_risk(self, account_id: str, symbol: str | None = None) -> list[PositionView]:
        """Positions of one symbol or all, flat ones included; LONG and SHORT in hedge mode."""
        ledger = self.ledger_of(account_id)
        if symbol is not None:
            self.market_of(symbol)
        sides = (PositionSide.LONG, PositionSide.SHORT) if ledger.dual else (PositionSide.BOTH,)
        symbols = [symbol] if symbol is not None else list(self.markets)
        return [self.margin.view(ledger, name, side) for name in symbols for side in sides]

    def balances(self, account_id: str) -> AccountInfo:
        """Same as ``account_info``: one asset, so the sums are the balance."""
        return self.account_info(account_id)

    def account_info(self, account_id: str) -> AccountInfo:
        """Wallet, margins and positions valued now."""
        ledger = self.ledger_of(account_id)
        unrealized, position_margin = self.margin.unrealized(ledger), self.margin.position_margin(ledger)
        initial = self.margin.initial(ledger)
        return AccountInfo(
            account_id=account_id,
            dual=ledger.dual,
            wallet=ledger.wallet,
            unrealized=unrealized,
            margin_balance=ledger.wallet + unrealized,
            position_margin=position_margin,
            open_order_margin=max(ZERO, initial - position_margin),
            maintenance_margin=self.margin.maintenance(ledger),
            available=max(ZERO, ledger.wallet + unrealized - initial),
            positions=self.position_risk(account_id),
            cross_wallet=ledger.wallet,
            cross_unrealized=unrealized,
        )

    # -- queries --------------------------------------------------------------------------------------

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

    # -- timers ---------------------------------------------------------------------------------------

    def countdown_cancel_all(self, account_id: str, symbol: str, countdown_ms: int, now_ms: int) -> None:
        """Cancel all of a symbol in ``countdown_ms`` unless called again; 0 disarms."""
        self.now_ms = max(self.now_ms, now_ms)
        ledger = self.ledger_of(account_id)
        self.market_of(symbol)
        if countdown_ms > 0:
            ledger.countdown[symbol] = self.now_ms + countdown_ms
        else:
            ledger.countdown.pop(symbol, None)
        self._dirty_accounts[account_id] = None

    def set_mark_price(self, symbol: str, price: Decimal, now_ms: int) -> None:
        """Strike this mark now (replay of a mark stream, tests): triggers and liquidations follow."""
        self.now_ms = max(self.now_ms, now_ms)
        market = self.market_of(symbol)
        market.set_mark(price)
        market.next_mark_ms = self.now_ms + self.config.mark_interval_ms
        self._mark_struck(market)

    def advance(self, now_ms: int) -> None:
        """Run every timer that is due: countdowns, mark prices, funding, liquidation."""
        self.now_ms = max(self.now_ms, now_ms)
        for ledger in self.ledgers.values():
            for symbol in [s for s, due in ledger.countdown.items() if due <= self.now_ms]:
                del ledger.countdown[symbol]
                self._dirty_accounts[ledger.account_id] = None
                self.cancel_all(ledger.account_id, symbol, self.now_ms)
        for market in self.markets.values():
            if market.next_mark_ms <= self.now_ms:
                market.next_mark_ms = self.now_ms + self.config.mark_interval_ms
                if market.strike_mark():
                    self._mark_struck(market)
            self._run_funding(market)

    def _mark_struck(self, market: Market) -> None:
        self._events.append(MarkPriceChanged(price=market.mark_price(self.now_ms)))
        self.after_prices(market)
        for ledger in list(self.ledgers.values()):
            self._check_liquidation(ledger)

    def _run_funding(self, market: Market) -> None:
        interval = self.config.funding_interval_ms
        if not market.next_funding_ms:
            market.next_funding_ms = (self.now_ms // interval + 1) * interval
        if market.next_funding_ms > self.now_ms:
            return
        # After a long pause one funding is charged, at the rate of now: positions of the past are unknown.
        market.next_funding_ms = (self.now_ms // interval + 1) * interval
        rate, symbol = market.funding_rate(), market.instrument.symbol
        line = FundingRecord(symbol=symbol, rate=rate, mark=market.reference(), time_ms=self.now_ms)
        self.funding_lines.append(line)
        self._dirty.funding.append(line)
        for ledger in self.ledgers.values():
            for (held, side), position in list(ledger.positions.items()):
                if held != symbol or not position.lots:
                    continue
                paid = (self.margin.value(symbol, position.lots) * rate).quantize(GRAIN, ROUND_HALF_EVEN)
                ledger.wallet -= paid
                self.house += paid
                self.add_income(ledger, symbol, "FUNDING_FEE", -paid)
                self.publish_account(ledger, "FUNDING_FEE", -paid, [(symbol, side)])

    # -- liquidation ----------------------------------------------------------------------------------

    def _check_liquidation(self, ledger: Ledger) -> None:
        maintenance = self.margin.maintenance(ledger)
        if maintenance <= 0:
            ledger.margin_called = False
            return
        balance = ledger.wallet + self.margin.unrealized(ledger)
        held = [key for key, position in ledger.positions.items() if position.lots]
        if balance > maintenance:
            near = maintenance > balance * CALL_SHARE
            if near and not ledger.margin_called:
                views = [self.margin.view(ledger, *key) for key in held]
                self._events.append(
                    MarginCall(account_id=ledger.account_id, wallet=ledger.wallet, positions=views, time_ms=self.now_ms)
                )
            ledger.margin_called = near
            return
        for symbol in dict.fromkeys(o.symbol for o in ledger.open_orders.values()):
            self.cancel_all(ledger.account_id, symbol, self.now_ms)
        for symbol, side in held:
            self._liquidate(ledger, self.markets[symbol], ledger.position(symbol, side))
        if ledger.wallet < 0 and not any(p.lots for p in ledger.positions.values()):
            missing = -ledger.wallet
            ledger.wallet = ZERO
            self.house -= missing
            self.add_income(ledger, "", "INSURANCE_CLEAR", missing)
            self.publish_account(ledger, "INSURANCE_CLEAR", missing, [])

    def _liquidate(self, ledger: Ledger, market: Market, position: Position) -> None:
        """Close a position in the book; the house takes over, at the mark, what the book cannot."""
        side = Side.SELL if position.lots > 0 else Side.BUY
        order = OrderRecord(
            order_id=self._next_order_id,
            account_id=ledger.account_id,
            symbol=position.symbol,
            client_order_id=f"autoclose-{self.now_ms}-{self._next_order_id}",
            side=side,
            type=OrderType.MARKET,
            orig_type=OrderType.MARKET,
            time_in_force=TimeInForce.IOC,
            position_side=position.side,
            price_ticks=0,
            lots=abs(position.lots),
            reduce_only=True,
            liquidation=True,
            time_ms=self.now_ms,
        )
        self._next_order_id += 1
        self.orders[order.order_id] = order
        self.publish_order(order, ExecutionType.NEW)
        self._take_book(market, order, None)
        if order.is_open:
            ticks = max(1, int(market.reference() // market.instrument.tick_size))
            self.settle(market, order, side, Fill(0, ticks, order.open_lots, 0))
        self.publish_book(market)
        self.after_prices(market)

    # -- saved state ----------------------------------------------------------------------------------

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


def _within(time_ms: int, start_ms: int, end_ms: int | None) -> bool:
    return start_ms <= time_ms and (end_ms is None or time_ms <= end_ms)


__all__ = ["Exchange", "OrderStatus"]
