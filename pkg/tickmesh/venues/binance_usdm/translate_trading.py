"""Between our orders and Binance's: request parameters out, VenueFact and TradeFact in.

It converts exactly or raises OffGridError; it does no I/O. Conditional orders carry their trigger in
``stopPrice``. Source: Binance "USDS-M Futures" documentation, Trade (read 2024-12).
"""

from __future__ import annotations

from decimal import Decimal

from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.enums import OrderState, OrderType, PositionSide, Side, TimeInForce
from tickmesh.domain.instrument import Instrument
from tickmesh.execution.ledger import TradeFact, VenueFact
from tickmesh.execution.machine import Report
from tickmesh.venues.binance_usdm.codec_trading import (
    OrderReport,
    OrderTradeUpdate,
    VenueAlgoOrder,
    VenueOrder,
    VenueTrade,
)

STATES = {
    "NEW": OrderState.SUBMITTED,
    "PENDING_NEW": OrderState.SUBMITTED,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELED,
    "PENDING_CANCEL": OrderState.SUBMITTED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,
    "NEW_INSURANCE": OrderState.SUBMITTED,
    "NEW_ADL": OrderState.SUBMITTED,
}
_ALGO_STATES = {
    "NEW": OrderState.SUBMITTED,
    "TRIGGERING": OrderState.SUBMITTED,
    "TRIGGERED": OrderState.EXPIRED,
    "FINISHED": OrderState.EXPIRED,
    "CANCELED": OrderState.CANCELED,
    "EXPIRED": OrderState.EXPIRED,
    "REJECTED": OrderState.REJECTED,
}
"""A conditional order ends as such when it triggers: the order that it became is another fact."""
_PRICED = frozenset({OrderType.LIMIT, OrderType.STOP, OrderType.TAKE_PROFIT})


def place_parameters(approved: ApprovedOrder, instrument: Instrument) -> dict[str, str | int | Decimal]:
    """Parameters of POST /fapi/v1/order."""
    intent = approved.intent
    parameters: dict[str, str | int | Decimal] = {
        "symbol": intent.symbol,
        "side": intent.side.name,
        "type": intent.order_type.value,
        "quantity": instrument.qty(intent.qty_lots),
        "newClientOrderId": approved.client_order_id,
        "newOrderRespType": "RESULT",
    }
    if intent.order_type in _PRICED:
        parameters["price"] = instrument.price(intent.price_ticks)
        parameters["timeInForce"] = intent.time_in_force.value
    if intent.stop_price_ticks:
        parameters["stopPrice"] = instrument.price(intent.stop_price_ticks)
    if intent.position_side is not PositionSide.BOTH:
        parameters["positionSide"] = intent.position_side.value
    elif intent.reduce_only:
        parameters["reduceOnly"] = "true"
    return parameters


def fact_of_order(order: VenueOrder, instrument: Instrument) -> VenueFact:
    """A REST answer as a fact. Raises OffGridError, KeyError for a status that the venue does not document."""
    qty_lots = instrument.to_lots(order.origQty)
    report = Report(
        order.orderId, STATES[order.status], instrument.to_lots(order.executedQty), order.avgPrice,
        order.updateTime or order.time, qty_lots,
    )  # fmt: skip
    return VenueFact(
        symbol=order.symbol, client_order_id=order.clientOrderId, report=report, side=Side[order.side],
        order_type=_order_type(order.origType or order.type), time_in_force=_time_in_force(order.timeInForce),
        price_ticks=instrument.to_ticks(order.price), stop_price_ticks=instrument.to_ticks(order.stopPrice),
        qty_lots=qty_lots, reduce_only=order.reduceOnly, position_side=PositionSide(order.positionSide),
    )  # fmt: skip


def fact_of_algo(order: VenueAlgoOrder, instrument: Instrument) -> VenueFact:
    """A conditional order as a fact, under its algo id as a negative number. Raises as ``fact_of_order``."""
    qty_lots = instrument.to_lots(order.quantity)
    report = Report(
        -order.algoId, _ALGO_STATES[order.algoStatus], 0, update_ms=order.updateTime or order.createTime,
        qty_lots=qty_lots,
    )  # fmt: skip
    return VenueFact(
        symbol=order.symbol, client_order_id=order.clientAlgoId, report=report, side=Side[order.side],
        order_type=_order_type(order.orderType), time_in_force=_time_in_force(order.timeInForce),
        price_ticks=instrument.to_ticks(order.price), stop_price_ticks=instrument.to_ticks(order.triggerPrice),
        qty_lots=qty_lots, reduce_only=order.reduceOnly or order.closePosition,
        position_side=PositionSide(order.positionSide),
    )  # fmt: skip


def fact_of_update(update: OrderTradeUpdate, instrument: Instrument) -> VenueFact:
    """An ORDER_TRADE_UPDATE as a fact. Raises as ``fact_of_order``."""
    o = update.o
    qty_lots = instrument.to_lots(o.q)
    report = Report(o.i, STATES[o.X], instrument.to_lots(o.z), o.ap, o.T or update.T, qty_lots)
    return VenueFact(
        symbol=o.s, client_order_id=_client_id(o), report=report, side=Side[o.S],
        order_type=_order_type(o.ot or o.o), time_in_force=_time_in_force(o.f),
        price_ticks=instrument.to_ticks(o.p), stop_price_ticks=instrument.to_ticks(o.sp), qty_lots=qty_lots,
        reduce_only=o.R, position_side=PositionSide(o.ps),
    )  # fmt: skip


def trade_of_update(update: OrderTradeUpdate, instrument: Instrument) -> TradeFact | None:
    """The execution in an ORDER_TRADE_UPDATE, if it is about one. Raises OffGridError."""
    o = update.o
    if o.x != "TRADE" or o.t <= 0 or not o.l:
        return None
    return TradeFact(
        symbol=o.s, trade_id=o.t, venue_order_id=o.i, client_order_id=_client_id(o), side=Side[o.S],
        price_ticks=instrument.to_ticks(o.L), qty_lots=instrument.to_lots(o.l), position_side=PositionSide(o.ps),
        commission=o.n, commission_asset=o.N, realized_pnl=o.rp, maker=o.m, exchange_ms=o.T,
    )  # fmt: skip


def trade_of_list(trade: VenueTrade, instrument: Instrument) -> TradeFact:
    """A line of userTrades. Raises OffGridError."""
    return TradeFact(
        symbol=trade.symbol, trade_id=trade.id, venue_order_id=trade.orderId, side=Side[trade.side],
        price_ticks=instrument.to_ticks(trade.price), qty_lots=instrument.to_lots(trade.qty),
        position_side=PositionSide(trade.positionSide), commission=trade.commission,
        commission_asset=trade.commissionAsset, realized_pnl=trade.realizedPnl, maker=trade.maker,
        exchange_ms=trade.time,
    )  # fmt: skip


def _client_id(o: OrderReport) -> str:
    return o.c


def _order_type(text: str) -> OrderType:
    try:
        return OrderType(text)
    except ValueError:
        return OrderType.MARKET  # LIQUIDATION and what may come: it trades at the market


def _time_in_force(text: str) -> TimeInForce:
    try:
        return TimeInForce(text)
    except ValueError:
        return TimeInForce.GTC  # GTD, GTE_GTC: they rest until something ends them
