"""What an account can set, and its sums: deposits, leverage, margin type, isolated margin, position mode.

In: calls with the venue time. Out: account events and views valued at the mark, or a VenueError that changed nothing.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from tickmesh.domain.enums import PositionSide
from tickmesh.venues.simvenue.exchange.background import Background
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.ledger import GRAIN, Ledger, max_notional
from tickmesh.venues.simvenue.exchange.types import ZERO, AccountConfigUpdate, AccountInfo, PositionView


class Accounts(Background):
    """Account settings and views."""

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
        """Set a symbol's leverage; returns the largest notional it allows. Raises -4028, -4161, -2027, -2028."""
        self.now_ms = max(self.now_ms, now_ms)
        ledger = self.ledger_of(account_id)
        self.market_of(symbol)
        if not 1 <= leverage <= max(tier.max_leverage for tier in self.config.tiers):
            raise VenueError(-4028, leverage)
        old = ledger.leverage_of(symbol, self.config.default_leverage)
        if leverage < old and ledger.is_isolated(symbol) and any(ledger.lots(symbol, side) for side in PositionSide):
            raise VenueError(-4161)
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
        """Set CROSSED or ISOLATED. Raises -4046, -4047, -4048."""
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

    def change_position_margin(
        self, account_id: str, symbol: str, side: PositionSide, change: Decimal, now_ms: int
    ) -> None:
        """Set more of the wallet aside for an isolated position, or less. Raises -4055, -4054, -4050 or -4051."""
        self.now_ms = max(self.now_ms, now_ms)
        ledger = self.ledger_of(account_id)
        self.market_of(symbol)
        if not change:
            raise VenueError(-4055)
        position = ledger.positions.get((symbol, side))
        if position is None or not position.lots or not ledger.is_isolated(symbol):
            raise VenueError(-4054)
        if change > 0 and change > self.margin.available(ledger):
            raise VenueError(-4050)
        if change < 0 and -change > self.margin.removable(ledger, position):
            raise VenueError(-4051)
        position.isolated += change.quantize(GRAIN, ROUND_HALF_EVEN)
        self.publish_account(ledger, "MARGIN_TRANSFER", ZERO, [(symbol, side)])

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
            available=max(ZERO, self.margin.available(ledger)),
            positions=self.position_risk(account_id),
            cross_wallet=ledger.cross_wallet,
            cross_unrealized=self.margin.unrealized(ledger, cross_only=True),
        )
