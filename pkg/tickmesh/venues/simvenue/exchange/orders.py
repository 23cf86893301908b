"""Orders of accounts: admission, execution, amendment, cancellation and stop triggers.

In: PlaceRequest and ids with the venue time. Out: copies of OrderRecord, or a VenueError that changed
nothing. It reads no clock; triggers run at the end of every call that moved a price.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce
from tickmesh.hotpath.pure.matching import Fill
from tickmesh.venues.simvenue.exchange import filters
from tickmesh.venues.simvenue.exchange.core import Core
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.ledger import Ledger, max_notional
from tickmesh.venues.simvenue.exchange.market import Market
from tickmesh.venues.simvenue.exchange.types import (
    ExecutionType,
    OrderRecord,
    OrderStatus,
    PlaceRequest,
    Stp,
)


class Orders(Core):
    """The order desk."""

    def check(self, account_id: str, request: PlaceRequest) -> filters.Checked:
        """What can be said of an order without admitting it. Raises VenueError; changes nothing."""
        ledger, market = self.ledger_of(account_id), self.market_of(request.symbol)
        if ledger.dual == (request.position_side is PositionSide.BOTH):
            raise VenueError(-4061)
        if ledger.dual and request.reduce_only:
            raise VenueError(-1106, "reduceOnly")
        checked = filters.check(request, market)
        existing = ledger.by_client_id.get((request.symbol, request.client_order_id))
        if existing is not None and self.orders[existing].is_open:
            raise VenueError(-4116)
        return checked

    def place(self, account_id: str, request: PlaceRequest, now_ms: int) -> OrderRecord:
        """Admit and execute an order; returns it as it stands afterwards. Raises VenueError."""
        self.now_ms = max(self.now_ms, now_ms)
        checked = self.check(account_id, request)
        ledger, market = self.ledger_of(account_id), self.market_of(request.symbol)
        order = OrderRecord(
            order_id=self._next_order_id,
            account_id=account_id,
            symbol=request.symbol,
            client_order_id=request.client_order_id or f"sim{self._next_order_id}",
            side=request.side,
            type=request.type,
            orig_type=request.type,
            time_in_force=checked.time_in_force,
            position_side=request.position_side,
            price_ticks=checked.price_ticks,
            lots=checked.lots,
            stop_ticks=checked.stop_ticks,
            reduce_only=request.reduce_only or request.close_position,
            close_position=request.close_position,
            working_type=request.working_type,
            stp=request.stp or self.config.default_stp,
            algo=request.algo,
            time_ms=self.now_ms,
            update_ms=self.now_ms,
        )
        if order.is_conditional:
            self._admit_conditional(ledger, market, order)
        else:
            self._admit(ledger, market, order)
        self._next_order_id += 1
        self.orders[order.order_id] = order
        self.publish_order(order, ExecutionType.NEW)
        if order.is_conditional:
            self._conditional[order.symbol][order.order_id] = order
        else:
            self._execute(market, order)
        self.after_prices(market)
        return msgspec.structs.replace(order)

    def _admit_conditional(self, ledger: Ledger, market: Market, order: OrderRecord) -> None:
        limit = market.instrument.max_algo_orders
        waiting = sum(o.symbol == order.symbol and o.is_conditional for o in ledger.open_orders.values())
        if limit is not None and waiting >= limit:
            raise VenueError(-4045)
        if self._triggers(market, order):
            raise VenueError(-2021)

    def _admit(self, ledger: Ledger, market: Market, order: OrderRecord) -> None:
        limit = market.instrument.max_open_orders
        resting = sum(o.symbol == order.symbol and not o.is_conditional for o in ledger.open_orders.values())
        if limit is not None and resting >= limit:
            raise VenueError(-1025)
        if self.reduces(order):
            closable = self.closable(ledger, order.symbol, order.position_side, order.side)
            if closable == 0 or (order.position_side is not PositionSide.BOTH and order.lots > closable):
                raise VenueError(-2022)
            order.lots = min(order.lots, closable)
        best = self._best_for(market, order.side)
        if order.type is OrderType.MARKET and best is not None:
            band = market.price_band()
            if band is not None and ((best > band[1]) if order.side is Side.BUY else (best < band[0])):
                raise VenueError(-4131)
        crosses = best is not None and (order.price_ticks - best) * order.side >= 0
        if order.time_in_force is TimeInForce.GTX and order.price_ticks and crosses:
            raise VenueError(-5022)
        if not self.reduces(order):
            self._check_margin(ledger, market, order, best)

    def _best_for(self, market: Market, side: Side) -> int | None:
        """Best price that a taker of this side would meet, own queue orders of a replay included."""
        prices = [o.price_ticks for o in self._queued_makers(market, side)]
        best = market.book.best(side.opposite)
        if best is not None:
            prices.append(best)
        return min(prices, key=lambda ticks: ticks * side, default=None)

    def _check_margin(self, ledger: Ledger, market: Market, order: OrderRecord, best: int | None) -> None:
        instrument = market.instrument
        price = instrument.price(order.price_ticks or best or 0) or market.reference()
        value = price * instrument.qty(order.lots)
        symbol, extra = order.symbol, (order.position_side, order.side, value)
        leverage = ledger.leverage_of(symbol, self.config.default_leverage)
        before, after = self.margin.required(ledger, symbol), self.margin.required(ledger, symbol, extra)
        growth = after - before
        if growth <= 0:
            return
        if after * leverage > max_notional(self.config.tiers, leverage):
            raise VenueError(-2027)
        fee = value * self.config.taker_fee if order.type is OrderType.MARKET else Decimal(0)
        if growth + fee > self.margin.available(ledger):
            raise VenueError(-2019)

    # -- execution ------------------------------------------------------------------------------------

    def _execute(self, market: Market, order: OrderRecord) -> None:
        """Take what the order may take, then rest or expire the remainder."""
        limit: int | None = order.price_ticks or None
        if order.type is OrderType.MARKET and not order.liquidation:
            band = market.price_band()
            limit = None if band is None else (band[1] if order.side is Side.BUY else max(1, band[0]))
        ledger = self.ledgers[order.account_id]
        if order.time_in_force is TimeInForce.FOK and self._fillable(market, order, limit, ledger.owner) < order.lots:
            self.close_order(order, OrderStatus.EXPIRED, ExecutionType.EXPIRED)
            return
        prevented = self._take_queued(market, order, limit) if market.replay else False
        if not prevented and order.is_open:
            prevented = self._take_book(market, order, limit)
        if prevented and order.is_open:
            self.close_order(order, OrderStatus.EXPIRED_IN_MATCH, ExecutionType.EXPIRED)
        elif order.is_open:
            keeps = order.type is not OrderType.MARKET and order.time_in_force in (TimeInForce.GTC, TimeInForce.GTX)
            if keeps:
                self._rest(market, order)
            else:
                self.close_order(order, OrderStatus.EXPIRED, ExecutionType.EXPIRED)
        self.publish_book(market)

    def _fillable(self, market: Market, order: OrderRecord, limit: int | None, owner: int) -> int:
        found = market.book.available(order.side, limit, order.lots, owner)
        for maker in self._queued_makers(market, order.side):
            within = limit is None or (maker.price_ticks - limit) * order.side <= 0
            if within and maker.account_id != order.account_id:
                found += maker.open_lots
        return found

    def _take_book(self, market: Market, order: OrderRecord, limit: int | None) -> bool:
        """Sweep the book; True when self-trade prevention ends the order."""

        def on_fill(fill: Fill) -> int:
            self.settle(market, order, order.side, fill)
            return order.open_lots if order.is_open else 0

        owner = self.ledgers[order.account_id].owner
        prevent = "NONE" if order.liquidation else order.stp.value
        taken = market.book.take(order.side, limit, order.open_lots, owner=owner, prevent=prevent, on_fill=on_fill)
        for maker_id in taken.prevented.maker_ids:
            self.close_order(self.orders[maker_id], OrderStatus.EXPIRED_IN_MATCH, ExecutionType.EXPIRED)
        return taken.prevented.taker

    def _queued_makers(self, market: Market, taker: Side) -> list[OrderRecord]:
        """User orders opposite a taker that stand in a replay's queue, best price first, then time."""
        if not market.replay:
            return []
        symbol = market.instrument.symbol
        makers = [
            o
            for ledger in self.ledgers.values()
            for o in ledger.open_orders.values()
            if o.symbol == symbol and o.side is not taker and market.queue.ahead(o.order_id) is not None
        ]
        return sorted(makers, key=lambda o: (o.price_ticks * taker, o.priority))

    def _take_queued(self, market: Market, order: OrderRecord, limit: int | None) -> bool:
        """In a replay: meet other accounts' queued orders, real liquidity of the same price first."""
        for maker in self._queued_makers(market, order.side):
            beyond = limit is not None and (maker.price_ticks - limit) * order.side > 0
            if beyond or not order.is_open:
                break
            if self._take_book(market, order, maker.price_ticks):
                return True
            if not order.is_open or not maker.is_open:
                continue
            if maker.account_id == order.account_id and order.stp is not Stp.NONE:
                if order.stp is not Stp.EXPIRE_TAKER:
                    self.close_order(maker, OrderStatus.EXPIRED_IN_MATCH, ExecutionType.EXPIRED)
                if order.stp is not Stp.EXPIRE_MAKER:
                    return True
                continue
            lots = min(order.open_lots, maker.open_lots)
            market.queue.reduce(maker.order_id, lots)
            fill = Fill(maker.order_id, maker.price_ticks, lots, maker.open_lots - lots)
            self.settle(market, order, order.side, fill)
        return False

    def _rest(self, market: Market, order: OrderRecord) -> None:
        self._priority += 1
        order.priority = self._priority
        if market.replay:
            shown = market.book.total(order.side, order.price_ticks)
            market.queue.join(order.order_id, order.side, order.price_ticks, order.open_lots, shown)
        else:
            owner = self.ledgers[order.account_id].owner
            market.book.rest(order.order_id, order.side, order.price_ticks, order.open_lots, owner)

    # -- cancel and amend -----------------------------------------------------------------------------

    def find(
        self, account_id: str, symbol: str, order_id: int | None, client_order_id: str | None
    ) -> OrderRecord | None:
        """The live record by id, or by client id when no id is given. Raises -1102 when both are absent."""
        ledger = self.ledger_of(account_id)
        self.market_of(symbol)
        if order_id is None and not client_order_id:
            raise VenueError(-1102, "orderId")
        if order_id is None:
            order_id = ledger.by_client_id.get((symbol, client_order_id or ""))
        order = self.orders.get(order_id) if order_id is not None else None
        return order if order is not None and (order.account_id, order.symbol) == (account_id, symbol) else None

    def cancel(
        self,
        account_id: str,
        symbol: str,
        now_ms: int,
        order_id: int | None = None,
        client_order_id: str | None = None,
    ) -> OrderRecord:
        """Cancel one open order. Raises -2011 when there is none."""
        self.now_ms = max(self.now_ms, now_ms)
        order = self.find(account_id, symbol, order_id, client_order_id)
        if order is None or not order.is_open:
            raise VenueError(-2011)
        self.close_order(order, OrderStatus.CANCELED, ExecutionType.CANCELED)
        self.publish_book(self.markets[symbol])
        return msgspec.structs.replace(order)

    def cancel_all(self, account_id: str, symbol: str, now_ms: int) -> list[OrderRecord]:
        """Cancel all open orders of a symbol; none is no error."""
        self.now_ms = max(self.now_ms, now_ms)
        market, ledger = self.market_of(symbol), self.ledger_of(account_id)
        chosen = [order for order in ledger.open_orders.values() if order.symbol == symbol]
        for order in chosen:
            self.close_order(order, OrderStatus.CANCELED, ExecutionType.CANCELED)
        self.publish_book(market)
        return [msgspec.structs.replace(order) for order in chosen]

    def modify(
        self,
        account_id: str,
        symbol: str,
        now_ms: int,
        *,
        side: Side,
        quantity: Decimal,
        price: Decimal,
        order_id: int | None = None,
        client_order_id: str | None = None,
    ) -> OrderRecord:
        """Change price or quantity of an open LIMIT order; only a pure reduction keeps its place.

        Raises -2013, -5027 for no change, and what placing would raise.
        """
        self.now_ms = max(self.now_ms, now_ms)
        order, market = self.find(account_id, symbol, order_id, client_order_id), self.market_of(symbol)
        if order is None or not order.is_open or order.type is not OrderType.LIMIT or order.side is not side:
            raise VenueError(-2013)
        ticks = filters.price_on_grid(price, market)
        lots = filters.qty_on_grid(quantity, market, market_order=False)
        if (ticks, lots) == (order.price_ticks, order.lots):
            raise VenueError(-5027)
        filters.check_percent_price(side, ticks, market)
        if not order.reduce_only:
            filters.check_notional(market, ticks, lots)
        if lots <= order.filled_lots:
            return self.cancel(account_id, symbol, now_ms, order.order_id)
        if ticks == order.price_ticks and lots < order.lots:
            cut = order.lots - lots
            (market.queue if market.replay else market.book).reduce(order.order_id, cut)
            order.lots = lots
            self.publish_order(order, ExecutionType.AMENDMENT)
        else:
            self._replace(market, order, ticks, lots)
        self.publish_book(market)
        self.after_prices(market)
        return msgspec.structs.replace(order)

    def _replace(self, market: Market, order: OrderRecord, ticks: int, lots: int) -> None:
        ledger = self.ledgers[order.account_id]
        trial = msgspec.structs.replace(order, price_ticks=ticks, lots=lots - order.filled_lots, filled_lots=0)
        del ledger.open_orders[order.order_id]
        try:
            self._admit(ledger, market, trial)
        finally:
            ledger.open_orders[order.order_id] = order
        market.book.cancel(order.order_id)
        market.queue.leave(order.order_id)
        order.price_ticks, order.lots = ticks, trial.lots + order.filled_lots
        self.publish_order(order, ExecutionType.AMENDMENT)
        self._execute(market, order)

    # -- triggers -------------------------------------------------------------------------------------

    def _triggers(self, market: Market, order: OrderRecord) -> bool:
        price = market.trigger_ticks(order.working_type)
        if price is None:
            return False
        stop = order.orig_type in (OrderType.STOP, OrderType.STOP_MARKET)
        upwards = stop is (order.side is Side.BUY)
        return price >= order.stop_ticks if upwards else price <= order.stop_ticks

    def after_prices(self, market: Market) -> None:
        """Trigger stops until none is left to; each can trigger once, so this ends."""
        waiting = self._conditional[market.instrument.symbol]
        while waiting:
            order = next((o for o in waiting.values() if self._triggers(market, o)), None)
            if order is None:
                return
            del waiting[order.order_id]
            self._trigger(market, order)

    def _trigger(self, market: Market, order: OrderRecord) -> None:
        ledger = self.ledgers[order.account_id]
        if order.close_position:
            order.lots = self.closable(ledger, order.symbol, order.position_side, order.side)
        limit_kind = order.type in (OrderType.STOP, OrderType.TAKE_PROFIT)
        order.type = OrderType.LIMIT if limit_kind else OrderType.MARKET
        order.triggered = True
        del ledger.open_orders[order.order_id]  # so that it is not counted twice
        try:
            self._admit(ledger, market, order)
        except VenueError:
            # The venue expires a stop that it can no longer admit; there is nobody to answer to.
            ledger.open_orders[order.order_id] = order
            self.close_order(order, OrderStatus.EXPIRED, ExecutionType.EXPIRED)
            return
        self.publish_order(order, ExecutionType.NEW)
        self._execute(market, order)
