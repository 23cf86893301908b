"""What happens by itself: countdowns, mark prices, funding, margin calls and liquidation.

In: the venue time. Out: events. Isolated positions are liquidated one by one and lose no more than their own margin;
what is cross is liquidated together.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce
from tickmesh.hotpath.pure.matching import Fill
from tickmesh.venues.simvenue.exchange.ledger import GRAIN, Ledger
from tickmesh.venues.simvenue.exchange.market import Market
from tickmesh.venues.simvenue.exchange.queries import Queries
from tickmesh.venues.simvenue.exchange.types import (
    ExecutionType,
    FundingRecord,
    MarginCall,
    MarkPriceChanged,
    OrderRecord,
    OrderStatus,
    Position,
)

CALL_SHARE = Decimal("0.8")


class Timers(Queries):
    """Everything that is due."""

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
                if ledger.is_isolated(symbol):
                    position.isolated -= paid
                self.house += paid
                self.add_income(ledger, symbol, "FUNDING_FEE", -paid)
                self.publish_account(ledger, "FUNDING_FEE", -paid, [(symbol, side)])

    # -- liquidation ----------------------------------------------------------------------------------

    def _check_liquidation(self, ledger: Ledger) -> None:
        for (symbol, _), position in list(ledger.positions.items()):
            if position.lots and ledger.is_isolated(symbol):
                self._check_isolated(ledger, position)
        maintenance = self.margin.maintenance(ledger, cross_only=True)
        if maintenance <= 0:
            ledger.margin_called = False
            return
        balance = ledger.cross_wallet + self.margin.unrealized(ledger, cross_only=True)
        held = [key for key, position in ledger.positions.items() if position.lots and not ledger.is_isolated(key[0])]
        if balance > maintenance:
            self._call_margin(ledger, held, near=maintenance > balance * CALL_SHARE)
            return
        for symbol in dict.fromkeys(o.symbol for o in ledger.open_orders.values()):
            self.cancel_all(ledger.account_id, symbol, self.now_ms)
        for symbol, side in held:
            self._liquidate(ledger, self.markets[symbol], ledger.position(symbol, side))
        if ledger.cross_wallet < 0 and not any(ledger.lots(*key) for key in held):
            self._insure(ledger, -ledger.cross_wallet, "")

    def _call_margin(self, ledger: Ledger, held: list[tuple[str, PositionSide]], *, near: bool) -> None:
        """Say once that the account nears liquidation."""
        if near and not ledger.margin_called:
            views = [self.margin.view(ledger, *key) for key in held]
            call = MarginCall(
                account_id=ledger.account_id, wallet=ledger.cross_wallet, positions=views, time_ms=self.now_ms
            )
            self._events.append(call)
        ledger.margin_called = near

    def _check_isolated(self, ledger: Ledger, position: Position) -> None:
        """Liquidate one position that its own margin no longer carries; it loses that margin and nothing else."""
        if position.isolated + self.margin.profit(position) > self.margin.maintenance_of(position):
            return
        for order in list(ledger.open_orders.values()):
            if (order.symbol, order.position_side) == (position.symbol, position.side):
                self.close_order(order, OrderStatus.CANCELED, ExecutionType.CANCELED)
        untouched = ledger.cross_wallet
        self._liquidate(ledger, self.markets[position.symbol], position)
        if ledger.cross_wallet < untouched and not position.lots:
            self._insure(ledger, untouched - ledger.cross_wallet, position.symbol)

    def _insure(self, ledger: Ledger, missing: Decimal, symbol: str) -> None:
        """The house pays what a liquidation cost beyond the margin."""
        ledger.wallet += missing
        self.house -= missing
        self.add_income(ledger, symbol, "INSURANCE_CLEAR", missing)
        self.publish_account(ledger, "INSURANCE_CLEAR", missing, [])

    def close_by_venue(self, account_id: str, symbol: str, now_ms: int, *, prefix: str = "autoclose-") -> None:
        """Close what is held of a symbol, as a liquidation does or, with its ``prefix``, an auto-deleveraging."""
        self.now_ms = max(self.now_ms, now_ms)
        ledger = self.ledgers[account_id]
        for side in PositionSide:
            if ledger.lots(symbol, side):
                self._liquidate(ledger, self.market_of(symbol), ledger.position(symbol, side), prefix)

    def move_position(self, account_id: str, symbol: str, lots: int, now_ms: int) -> None:
        """Make a position another one, at the mark, without order or trade: nobody is told, only asking shows it."""
        self.now_ms = max(self.now_ms, now_ms)
        position = self.ledgers[account_id].position(symbol, PositionSide.BOTH)
        position.lots, position.cost = lots, self.margin.value(symbol, lots)
        self._dirty_accounts[account_id] = None

    def _liquidate(self, ledger: Ledger, market: Market, position: Position, prefix: str = "autoclose-") -> None:
        """Close a position in the book; the house takes over, at the mark, what the book cannot."""
        side = Side.SELL if position.lots > 0 else Side.BUY
        order = OrderRecord(
            order_id=self._next_order_id,
            account_id=ledger.account_id,
            symbol=position.symbol,
            client_order_id=f"{prefix}{self.now_ms}-{self._next_order_id}",
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
