"""The middle of the exchange: accounts, orders and markets by name, and the booking of fills.

In: fills that matching found. Out: wallets, positions, trades, income and events, all of one step or
none. It decides no admission; see orders.py. House money (fees, funding, insurance, the anonymous side
of trades) is one figure, so that wallets less open cost plus house always equals what was deposited.
"""

from __future__ import annotations

from collections import deque
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from tickmesh.domain.enums import PositionSide, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.hotpath.pure.matching import Fill
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.ledger import GRAIN, Ledger, Margin
from tickmesh.venues.simvenue.exchange.market import Market
from tickmesh.venues.simvenue.exchange.types import (
    ZERO,
    AccountUpdate,
    BookChanged,
    Event,
    ExchangeConfig,
    ExchangeState,
    ExecutionType,
    FundingRecord,
    Income,
    OrderRecord,
    OrderStatus,
    OrderUpdate,
    PublicTrade,
    UserTrade,
)


class Core:
    """State and bookkeeping shared by the parts of the exchange."""

    def __init__(self, instruments: list[Instrument], config: ExchangeConfig | None = None) -> None:
        self.config = config or ExchangeConfig()
        self.now_ms = 0
        self.house = ZERO
        self.markets = {i.symbol: Market(i, self.config) for i in instruments}
        self.ledgers: dict[str, Ledger] = {}
        self.orders: dict[int, OrderRecord] = {}
        limit = self.config.history_limit
        self.trades: deque[UserTrade] = deque(maxlen=limit)
        self.income_lines: deque[Income] = deque(maxlen=limit)
        self.funding_lines: deque[FundingRecord] = deque(maxlen=limit)
        self._closed: deque[int] = deque()  # bounded by history_limit
        self._next_order_id = 1
        self._next_income_id = 1
        self._priority = 0
        self._events: list[Event] = []
        self._dirty = ExchangeState()
        self._dirty_orders: dict[int, None] = {}
        self._dirty_accounts: dict[str, None] = {}
        self._conditional: dict[str, dict[int, OrderRecord]] = {symbol: {} for symbol in self.markets}
        self.margin = Margin(
            {i.symbol: i for i in instruments},
            self.config.tiers,
            self.config.default_leverage,
            lambda symbol: self.markets[symbol].reference(),
        )

    def drain_events(self) -> list[Event]:
        """Everything that happened since the last call, in order. The caller owns the list."""
        events, self._events = self._events, []
        return events

    def market_of(self, symbol: str) -> Market:
        """Raises -1121 for a symbol that is not listed."""
        market = self.markets.get(symbol)
        if market is None:
            raise VenueError(-1121)
        return market

    def ledger_of(self, account_id: str) -> Ledger:
        """Raises -1109 for an account that was never added."""
        ledger = self.ledgers.get(account_id)
        if ledger is None:
            raise VenueError(-1109)
        return ledger

    # -- events and history -------------------------------------------------------------------------

    def publish_book(self, market: Market) -> None:
        """Turn touched levels into BookChanged events."""
        for side, ticks, lots in market.book.drain_changed():
            market.update_id += 1
            self._events.append(
                BookChanged(
                    symbol=market.instrument.symbol,
                    side=side,
                    ticks=ticks,
                    lots_total=lots,
                    update_id=market.update_id,
                    time_ms=self.now_ms,
                )
            )

    def publish_order(self, order: OrderRecord, execution: ExecutionType, fill: UserTrade | None = None) -> None:
        """Stamp the order, mark it for persistence and report a copy of it."""
        order.update_ms = self.now_ms
        self._dirty_orders[order.order_id] = None
        ledger = self.ledgers[order.account_id]
        if order.is_open:
            ledger.open_orders[order.order_id] = order
            ledger.by_client_id[order.symbol, order.client_order_id] = order.order_id
        elif ledger.open_orders.pop(order.order_id, None) is not None or execution is ExecutionType.EXPIRED:
            self._conditional[order.symbol].pop(order.order_id, None)
            self._closed.append(order.order_id)
            self._trim_history()
        self._events.append(
            OrderUpdate(
                account_id=order.account_id,
                order=msgspec.structs.replace(order),
                execution=execution,
                fill=fill,
                time_ms=self.now_ms,
            )
        )

    def publish_account(
        self, ledger: Ledger, reason: str, change: Decimal, keys: list[tuple[str, PositionSide]]
    ) -> None:
        """Report the wallet and the positions named, and mark the account for persistence."""
        self._dirty_accounts[ledger.account_id] = None
        self._events.append(
            AccountUpdate(
                account_id=ledger.account_id,
                reason=reason,
                wallet=ledger.wallet,
                balance_change=change,
                positions=[self.margin.view(ledger, symbol, side) for symbol, side in keys],
                time_ms=self.now_ms,
                cross_wallet=ledger.cross_wallet,
            )
        )

    def add_income(self, ledger: Ledger, symbol: str, kind: str, amount: Decimal, trade_id: int = 0) -> None:
        """Add a line to the income history; it moves no money itself."""
        line = Income(
            income_id=self._next_income_id,
            account_id=ledger.account_id,
            symbol=symbol,
            type=kind,
            amount=amount,
            time_ms=self.now_ms,
            trade_id=trade_id,
        )
        self._next_income_id += 1
        self.income_lines.append(line)
        self._dirty.income.append(line)

    def _trim_history(self) -> None:
        while len(self._closed) > self.config.history_limit:
            old = self.orders.pop(self._closed.popleft(), None)
            if old is not None:
                ledger = self.ledgers[old.account_id]
                if ledger.by_client_id.get((old.symbol, old.client_order_id)) == old.order_id:
                    del ledger.by_client_id[old.symbol, old.client_order_id]

    # -- fills ---------------------------------------------------------------------------------------

    def settle(self, market: Market, taker: OrderRecord | None, taker_side: Side, fill: Fill) -> None:
        """Book one fill on both sides; a side without a record is anonymous."""
        market.trade_id += 1
        market.last_ticks = fill.ticks
        trade = PublicTrade(
            symbol=market.instrument.symbol,
            trade_id=market.trade_id,
            ticks=fill.ticks,
            lots=fill.lots,
            buyer_is_maker=taker_side is Side.SELL,
            time_ms=self.now_ms,
        )
        market.trades.append(trade)
        self._events.append(trade)
        maker = self.orders.get(fill.maker_id) if fill.maker_id > 0 else None
        for order, side, is_maker in ((maker, taker_side.opposite, True), (taker, taker_side, False)):
            if order is not None:
                self.book_half(market, order, fill.ticks, fill.lots, market.trade_id, maker=is_maker)
            else:
                market.flow_lots += side * fill.lots
                self.house -= side * market.instrument.notional(fill.ticks, fill.lots)

    def book_half(
        self, market: Market, order: OrderRecord, ticks: int, lots: int, trade_id: int, *, maker: bool
    ) -> None:
        """Book one account's half of a trade: order, position, wallet, fee, history, events."""
        ledger, instrument = self.ledgers[order.account_id], market.instrument
        quote = instrument.notional(ticks, lots)
        rate = self.config.maker_fee if maker else self.config.taker_fee
        fee = (quote * rate).quantize(GRAIN, ROUND_HALF_EVEN)
        leverage = ledger.leverage_of(order.symbol, self.config.default_leverage)
        realized = ledger.apply_fill(instrument, order.position_side, order.side, ticks, lots, self.now_ms, leverage)
        ledger.wallet -= fee
        self.house += fee
        order.filled_lots += lots
        order.quote_filled += quote
        order.avg_price = (order.quote_filled / instrument.qty(order.filled_lots)).quantize(GRAIN, ROUND_HALF_EVEN)
        order.status = OrderStatus.PARTIALLY_FILLED if order.open_lots else OrderStatus.FILLED
        trade = UserTrade(
            trade_id=trade_id,
            order_id=order.order_id,
            account_id=order.account_id,
            symbol=order.symbol,
            side=order.side,
            position_side=order.position_side,
            ticks=ticks,
            lots=lots,
            maker=maker,
            commission=fee,
            realized_pnl=realized,
            time_ms=self.now_ms,
            quote=quote,
        )
        self.trades.append(trade)
        self._dirty.trades.append(trade)
        if realized:
            self.add_income(ledger, order.symbol, "REALIZED_PNL", realized, trade_id)
        self.add_income(ledger, order.symbol, "COMMISSION", -fee, trade_id)
        execution = ExecutionType.CALCULATED if order.liquidation else ExecutionType.TRADE
        self.publish_account(ledger, "ORDER", ZERO, [(order.symbol, order.position_side)])
        self.publish_order(order, execution, trade)
        self.trim_reduce_only(ledger, order.symbol, order.position_side)

    def reduces(self, order: OrderRecord) -> bool:
        """True for an order that may only shrink a position: by flag, or by direction in hedge mode."""
        closing = {PositionSide.LONG: Side.SELL, PositionSide.SHORT: Side.BUY}.get(order.position_side)
        return order.reduce_only or order.close_position or order.side is closing

    def closable(self, ledger: Ledger, symbol: str, position_side: PositionSide, side: Side) -> int:
        """Lots that an order of this side could close."""
        return max(0, -side * ledger.lots(symbol, position_side))

    def trim_reduce_only(self, ledger: Ledger, symbol: str, position_side: PositionSide) -> None:
        """Shrink or expire resting reduce-only orders that the position no longer covers."""
        for order in list(ledger.open_orders.values()):
            wanted = (order.symbol, order.position_side) == (symbol, position_side)
            if not wanted or order.is_conditional or not self.reduces(order):
                continue
            excess = order.open_lots - self.closable(ledger, symbol, position_side, order.side)
            if excess <= 0:
                continue
            if excess == order.open_lots:
                self.close_order(order, OrderStatus.EXPIRED, ExecutionType.EXPIRED)
                continue
            market = self.markets[symbol]
            if order.order_id in market.book:
                market.book.reduce(order.order_id, excess)
            elif market.queue.ahead(order.order_id) is not None:
                market.queue.reduce(order.order_id, excess)
            order.lots -= excess
            self.publish_order(order, ExecutionType.AMENDMENT)

    def close_order(self, order: OrderRecord, status: OrderStatus, execution: ExecutionType) -> None:
        """Take an order out of wherever it waits and give it its last status."""
        market = self.markets[order.symbol]
        market.book.cancel(order.order_id)
        market.queue.leave(order.order_id)
        order.status = status
        self.publish_order(order, execution)
