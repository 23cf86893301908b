"""Simulation mode: orders that fill on paper, against the market that everybody sees.

In: paper orders, books, trades. Out: the OrderEvents and FillEvents that a venue would have sent. Conservative: a
resting order fills only when a trade passes through its price, never at it (the queue ahead is unknown); a taker
gets the displayed size and no more. Nothing of this leaves the process.
"""

from __future__ import annotations

from decimal import Decimal

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import OrderState, OrderType, Side, TimeInForce
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, FillEvent, OrderEvent, OrderIntent, Trade

MAKER_FEE = Decimal("0.0002")
TAKER_FEE = Decimal("0.0005")
PaperEvent = OrderEvent | FillEvent


class PaperVenue:
    """Paper orders of one strategy."""

    def __init__(self, *, first_trade_id: int = 1) -> None:
        self.next_trade_id = first_trade_id
        self._open: dict[str, tuple[OrderIntent, int]] = {}

    def place(self, intent: OrderIntent, book: BookUpdate, instrument: Instrument) -> list[PaperEvent]:
        """Accept, fill or expire one order against the book that caused it."""
        coid = client_order_id(intent.strategy, intent.intent_id)
        levels = book.asks if intent.side is Side.BUY else book.bids
        sign = int(intent.side)
        crossing = [(p, q) for p, q in levels if sign * (intent.price_ticks - p) >= 0]
        if intent.time_in_force is TimeInForce.GTX:
            if crossing:
                return [_event(intent, coid, OrderState.EXPIRED, 0, "post-only order would take liquidity")]
            self._open[coid] = (intent, 0)
            return [_event(intent, coid, OrderState.SUBMITTED, 0)]
        events: list[PaperEvent] = []
        done = 0
        for price_ticks, lots in crossing:
            taken = min(lots, intent.qty_lots - done)
            if taken:
                done += taken
                events.append(self._fill(intent, coid, price_ticks, taken, instrument, maker=False))
        state = OrderState.FILLED if done == intent.qty_lots else OrderState.EXPIRED
        return [_event(intent, coid, OrderState.SUBMITTED, 0), *events, _event(intent, coid, state, done)]

    def on_book(self, book: BookUpdate, instrument: Instrument) -> list[PaperEvent]:
        """Fill the orders that the other side of the book has passed: at a venue it could not stand there."""
        events: list[PaperEvent] = []
        for coid, (intent, done) in list(self._open.items()):
            levels = book.asks if intent.side is Side.BUY else book.bids
            if intent.symbol != book.symbol or not levels:
                continue
            if int(intent.side) * (intent.price_ticks - levels[0][0]) > 0:
                del self._open[coid]
                left = intent.qty_lots - done
                events.append(self._fill(intent, coid, intent.price_ticks, left, instrument, maker=True))
                events.append(_event(intent, coid, OrderState.FILLED, intent.qty_lots))
        return events

    def cancel(self, target: str) -> list[PaperEvent]:
        """Cancel one order; nothing happens when it is not open."""
        found = self._open.pop(target, None)
        return [_event(found[0], target, OrderState.CANCELED, found[1])] if found else []

    def on_trade(self, trade: Trade, instrument: Instrument) -> list[PaperEvent]:
        """Fill what the trade passed through, up to its quantity in all."""
        events: list[PaperEvent] = []
        left = trade.qty_lots
        for coid, (intent, done) in sorted(
            self._open.items(), key=lambda item: -int(item[1][0].side) * item[1][0].price_ticks
        ):
            through = int(intent.side) * (intent.price_ticks - trade.price_ticks) > 0
            if intent.symbol != trade.symbol or intent.side is trade.taker_side or not through or left <= 0:
                continue
            taken = min(left, intent.qty_lots - done)
            left -= taken
            done += taken
            events.append(self._fill(intent, coid, intent.price_ticks, taken, instrument, maker=True))
            if done == intent.qty_lots:
                del self._open[coid]
                events.append(_event(intent, coid, OrderState.FILLED, done))
            else:
                self._open[coid] = (intent, done)
                events.append(_event(intent, coid, OrderState.PARTIALLY_FILLED, done))
        return events

    def _fill(
        self, intent: OrderIntent, coid: str, price_ticks: int, lots: int, instrument: Instrument, *, maker: bool
    ) -> FillEvent:
        trade_id, self.next_trade_id = self.next_trade_id, self.next_trade_id + 1
        return FillEvent(
            account=intent.account,
            venue=intent.venue,
            symbol=intent.symbol,
            trade_id=trade_id,
            client_order_id=coid,
            venue_order_id=0,
            strategy=intent.strategy,
            side=intent.side,
            price_ticks=price_ticks,
            qty_lots=lots,
            commission=instrument.notional(price_ticks, lots) * (MAKER_FEE if maker else TAKER_FEE),
            commission_asset=instrument.quote,
            maker=maker,
            correlation_id=intent.correlation_id,
        )


def _event(intent: OrderIntent, coid: str, state: OrderState, cum_lots: int, reason: str = "") -> OrderEvent:
    return OrderEvent(
        account=intent.account,
        venue=intent.venue,
        symbol=intent.symbol,
        client_order_id=coid,
        intent_id=intent.intent_id,
        strategy=intent.strategy,
        side=intent.side,
        order_type=OrderType.LIMIT,
        time_in_force=intent.time_in_force,
        price_ticks=intent.price_ticks,
        qty_lots=intent.qty_lots,
        cum_lots=cum_lots,
        state=state,
        reason=reason,
        correlation_id=intent.correlation_id,
    )
