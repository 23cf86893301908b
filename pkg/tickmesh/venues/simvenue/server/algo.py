"""Algo orders: the endpoints to which the venue moved conditional orders in December 2025.

In: a signed Call. Out: the same stop orders as ``POST order`` makes, in the newer words: an algo id is the order id, a
client algo id the client order id. Only ``algoType`` CONDITIONAL exists. Until it triggers, the ordinary endpoints and
the user stream's order updates do not know such an order.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tickmesh.domain.enums import OrderType
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.types import OrderRecord, OrderStatus
from tickmesh.venues.simvenue.server.rest import Call, Endpoint, Security, WireError
from tickmesh.venues.simvenue.server.text import price_text, qty_text
from tickmesh.venues.simvenue.server.trading import place_request
from tickmesh.venues.simvenue.server.venue import Venue


class Algo:
    """Handlers over one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue, self._exchange = venue, venue.exchange

    def endpoints(self) -> list[Endpoint]:
        rows: list[tuple[str, str, Any, Any, int]] = [
            ("POST", "algoOrder", self.place, 0, 1),
            ("GET", "algoOrder", self.query, 1, 0),
            ("DELETE", "algoOrder", self.cancel, 1, 0),
            ("GET", "openAlgoOrders", self.open_orders, lambda call: 1 if call.params.get("symbol") else 40, 0),
            ("GET", "allAlgoOrders", self.all_orders, 5, 0),
            ("DELETE", "algoOpenOrders", self.cancel_all, 1, 0),
        ]
        signed = Security.SIGNED
        return [Endpoint(m, f"/fapi/v1/{path}", handler, weight, signed, n) for m, path, handler, weight, n in rows]

    def place(self, call: Call) -> object:
        if call.text("algoType") != "CONDITIONAL":
            raise WireError(-1130, "Data sent for parameter 'algoType' is not valid.")
        renamed = {"triggerPrice": "stopPrice", "clientAlgoId": "newClientOrderId"}
        call.params = {renamed.get(name, name): value for name, value in call.params.items()}
        request = msgspec.structs.replace(place_request(call), algo=True)
        if request.type in (OrderType.LIMIT, OrderType.MARKET):
            raise WireError(-1116, "Invalid orderType.")
        placed = self._exchange.place(call.account, request, call.now_ms)
        call.orders += 1
        return self._body(placed)

    def query(self, call: Call) -> object:
        return self._body(self._find(call))

    def cancel(self, call: Call) -> object:
        found = self._find(call)
        if not found.is_open or not found.is_conditional:
            raise VenueError(-2011)
        self._exchange.cancel(call.account, found.symbol, call.now_ms, found.order_id)
        return {
            "algoId": found.order_id,
            "clientAlgoId": found.client_order_id,
            "code": "200",
            "msg": "success",
        }

    def open_orders(self, call: Call) -> object:
        found = self._exchange.open_orders(call.account, call.optional_symbol())
        return [self._body(o) for o in found if o.is_conditional]

    def all_orders(self, call: Call) -> object:
        symbol, window = call.symbol(), call.window()
        self._exchange.market_of(symbol)
        found = self._exchange.all_orders(
            call.account, symbol, call.integer("algoId", 0) or 0, 10_000, window.start_ms, window.end_ms
        )
        stops = [o for o in found if o.orig_type not in (OrderType.LIMIT, OrderType.MARKET)]
        return [self._body(o) for o in stops[-call.limit(500, 1000) :]]

    def cancel_all(self, call: Call) -> object:
        symbol = call.symbol()
        self._exchange.market_of(symbol)
        for order in self._exchange.open_orders(call.account, symbol):
            if order.is_conditional:
                self._exchange.cancel(call.account, symbol, call.now_ms, order.order_id)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _find(self, call: Call) -> OrderRecord:
        """By ``algoId`` or ``clientAlgoId``; the symbol is not sent. Raises -1102 or -2013."""
        algo_id, client_id = call.integer("algoId"), call.params.get("clientAlgoId")
        if algo_id is None and not client_id:
            raise WireError(-1102, "Param 'algoId' or 'clientAlgoId' must be sent, but both were empty/null!")
        ledger = self._exchange.ledger_of(call.account)
        ids = [algo_id] if algo_id is not None else [i for (_, c), i in ledger.by_client_id.items() if c == client_id]
        for order_id in reversed(ids):
            order = self._exchange.orders.get(order_id)
            if order is not None and order.account_id == call.account:
                return msgspec.structs.replace(order)
        raise VenueError(-2013)

    def _body(self, o: OrderRecord) -> dict[str, Any]:
        instrument, clock = self._venue.instruments[o.symbol], self._venue.clock
        done = o.triggered
        return {
            "algoId": o.order_id,
            "clientAlgoId": o.client_order_id,
            "algoType": "CONDITIONAL",
            "orderType": o.orig_type.value,
            "symbol": o.symbol,
            "side": o.side.name,
            "positionSide": o.position_side.value,
            "timeInForce": o.time_in_force.value,
            "quantity": qty_text(instrument, o.lots),
            "algoStatus": _status(o),
            "triggerPrice": price_text(instrument, o.stop_ticks),
            "price": price_text(instrument, o.price_ticks),
            "icebergQuantity": None,
            "selfTradePreventionMode": o.stp.value,
            "workingType": o.working_type.value,
            "priceMatch": "NONE",
            "closePosition": o.close_position,
            "priceProtect": False,
            "reduceOnly": o.reduce_only,
            "actualOrderId": str(o.order_id) if done else "",
            "actualPrice": f"{o.avg_price:f}" if done else "0.00",
            "createTime": clock.shown(o.time_ms),
            "updateTime": clock.shown(o.update_ms),
            "triggerTime": clock.shown(o.update_ms) if done else 0,
            "goodTillDate": 0,
        }


def _status(o: OrderRecord) -> str:
    if o.is_open:
        return "TRIGGERED" if o.triggered else "NEW"
    if o.status is OrderStatus.CANCELED:
        return "CANCELED"
    return "FINISHED" if o.triggered else "EXPIRED"
