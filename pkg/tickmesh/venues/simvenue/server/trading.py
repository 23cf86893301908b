"""Trading endpoints: place, amend, cancel and query orders, batches, the dead-man switch, our trades.

In: a signed Call. Out: calls on the exchange and bodies. What an order must look like is decided by the exchange; only
what the wire alone knows (words, lists, paging) is checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.types import PlaceRequest, Stp, WorkingType
from tickmesh.venues.simvenue.server.rest import Call, Endpoint, Security, WireError, missing, refusal
from tickmesh.venues.simvenue.server.venue import Venue

MAX_BATCH_PLACE = 5
MAX_BATCH_CANCEL = 10
_E = TypeVar("_E", bound=StrEnum)


class Trading:
    """Handlers over one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue, self._exchange, self._bodies = venue, venue.exchange, venue.bodies

    def endpoints(self) -> list[Endpoint]:
        """Rows: method, path, handler, weight, orders counted."""
        rows: list[tuple[str, str, Any, Any, int]] = [
            ("POST", "order", self.place, 0, 1),
            ("POST", "order/test", self.test, 0, 0),
            ("PUT", "order", self.modify, 1, 1),
            ("DELETE", "order", self.cancel, 1, 0),
            ("GET", "order", self.query, 1, 0),
            ("GET", "openOrder", self.open_order, 1, 0),
            ("GET", "openOrders", self.open_orders, lambda call: 1 if call.params.get("symbol") else 40, 0),
            ("DELETE", "allOpenOrders", self.cancel_all, 1, 0),
            ("GET", "allOrders", self.all_orders, 5, 0),
            ("GET", "userTrades", self.user_trades, 5, 0),
            ("POST", "batchOrders", self.batch_place, 5, MAX_BATCH_PLACE),
            ("PUT", "batchOrders", self.batch_modify, 5, MAX_BATCH_PLACE),
            ("DELETE", "batchOrders", self.batch_cancel, 1, 0),
            ("POST", "countdownCancelAll", self.countdown, 10, 0),
            ("GET", "forceOrders", self.force_orders, lambda call: 20 if call.params.get("symbol") else 50, 0),
            ("GET", "orderAmendment", self.amendments, 1, 0),
        ]
        signed = Security.SIGNED
        return [Endpoint(m, f"/fapi/v1/{path}", handler, weight, signed, n) for m, path, handler, weight, n in rows]

    # -- one order ------------------------------------------------------------------------------------

    def place(self, call: Call) -> object:
        """POST order; ACK (the default) shows the order as it arrived, RESULT as it stands."""
        response = word(call, "newOrderRespType", _Response, _Response.ACK)
        placed = self._exchange.place(call.account, place_request(call), call.now_ms)
        call.orders += 1
        return self._bodies.order(placed, acknowledged=response is _Response.ACK)

    def test(self, call: Call) -> object:
        """POST order/test: the words are checked, nothing is placed."""
        self._exchange.check(call.account, place_request(call))
        return {}

    def modify(self, call: Call) -> object:
        order_id, client_id = _ids(call)
        changed = self._exchange.modify(
            call.account,
            call.symbol(),
            call.now_ms,
            side=_side(call),
            quantity=call.mandatory_decimal("quantity"),
            price=call.mandatory_decimal("price"),
            order_id=order_id,
            client_order_id=client_id,
        )
        call.orders += 1
        return self._bodies.order(changed)

    def cancel(self, call: Call) -> object:
        symbol, ids = call.symbol(), _ids(call)
        order = self._exchange.find(call.account, symbol, *ids)
        if order is not None and order.is_hidden:
            raise VenueError(-2011)
        return self._bodies.order(self._exchange.cancel(call.account, symbol, call.now_ms, *ids))

    def query(self, call: Call) -> object:
        symbol, ids = call.symbol(), _ids(call)
        try:
            found = self._exchange.query_order(call.account, symbol, *ids)
        except VenueError as error:
            old = self._venue.store.find_order(call.account, symbol, *ids) if error.code == -2013 else None
            if old is None:
                raise
            found = old
        if found.is_hidden:
            raise VenueError(-2013)
        return self._bodies.order(found)

    def open_order(self, call: Call) -> object:
        found = self._exchange.query_order(call.account, call.symbol(), *_ids(call))
        if not found.is_open or found.is_hidden:
            raise VenueError(-2013)
        return self._bodies.order(found)

    # -- many orders ----------------------------------------------------------------------------------

    def open_orders(self, call: Call) -> object:
        symbol = call.optional_symbol()
        if symbol is not None:
            self._exchange.market_of(symbol)
        return [self._bodies.order(o) for o in self._exchange.open_orders(call.account, symbol) if not o.is_hidden]

    def cancel_all(self, call: Call) -> object:
        self._exchange.cancel_all(call.account, call.symbol(), call.now_ms)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def all_orders(self, call: Call) -> object:
        symbol, window = call.symbol(), call.window()
        self._exchange.market_of(symbol)
        found = self._exchange.all_orders(
            call.account, symbol, call.integer("orderId", 0) or 0, call.limit(500, 1000), window.start_ms, window.end_ms
        )
        return [self._bodies.order(o) for o in found if not o.is_hidden]

    def user_trades(self, call: Call) -> object:
        symbol, window = call.symbol(), call.window()
        self._exchange.market_of(symbol)
        found = self._exchange.user_trades(
            call.account,
            symbol,
            call.integer("fromId", 0) or 0,
            call.limit(500, 1000),
            call.integer("orderId"),
            window.start_ms,
            window.end_ms,
        )
        return [self._bodies.user_trade(t) for t in found]

    def batch_place(self, call: Call) -> object:
        """Each order succeeds or fails alone."""
        return [self._one(call, row, self.place) for row in _batch(call, MAX_BATCH_PLACE)]

    def batch_modify(self, call: Call) -> object:
        return [self._one(call, row, self.modify) for row in _batch(call, MAX_BATCH_PLACE)]

    def batch_cancel(self, call: Call) -> object:
        """By ``orderIdList`` or ``origClientOrderIdList``, which clients also send in lower case."""
        symbol = call.symbol()
        for wanted in ("orderIdList", "origClientOrderIdList"):
            if wanted.lower() in call.params:
                call.params[wanted] = call.params.pop(wanted.lower())
        name = "orderId" if "orderIdList" in call.params else "origClientOrderId"
        ids = call.json_list(name + "List", MAX_BATCH_CANCEL)
        return [self._one(call, {"symbol": symbol, name: str(found)}, self.cancel) for found in ids]

    def countdown(self, call: Call) -> object:
        symbol, countdown_ms = call.symbol(), call.integer("countdownTime")
        if countdown_ms is None or countdown_ms < 0:
            raise missing("countdownTime")
        self._exchange.countdown_cancel_all(call.account, symbol, countdown_ms, call.now_ms)
        return {"symbol": symbol, "countdownTime": str(countdown_ms)}

    def force_orders(self, call: Call) -> object:
        """Liquidations of this account."""
        symbol = call.optional_symbol()
        found = [o for o in self._exchange.orders.values() if o.liquidation and o.account_id == call.account]
        chosen = [o for o in found if symbol in (None, o.symbol)][-call.limit(50, 100) :]
        return [self._bodies.order(o) for o in chosen]

    def amendments(self, call: Call) -> object:
        """The history of amendments is not kept; an order that exists has none to show."""
        self._exchange.query_order(call.account, call.symbol(), *_ids(call))
        return []

    def _one(self, call: Call, row: dict[str, str], handler: Callable[[Call], object]) -> object:
        part = Call(row, call.now_ms, call.shown_ms, call.account, call.api_key)
        try:
            return handler(part)
        except (VenueError, WireError) as error:
            return refusal(error)
        finally:
            call.orders += part.orders


class _Response(StrEnum):
    ACK = "ACK"
    RESULT = "RESULT"


def place_request(call: Call) -> PlaceRequest:
    """The words of a new order. Raises -1102, -1115, -1116, -1117 or -1130."""
    symbol, side = call.symbol(), _side(call)
    try:
        order_type = OrderType(call.text("type").upper())
    except ValueError:
        raise WireError(-1116, "Invalid orderType.") from None
    in_force = call.params.get("timeInForce", "")
    if in_force and in_force not in TimeInForce.__members__:
        raise WireError(-1115, "Invalid timeInForce.")
    if call.params.get("priceMatch", "NONE") not in ("", "NONE"):
        raise WireError(-1130, "Data sent for parameter 'priceMatch' is not valid.")
    return PlaceRequest(
        symbol=symbol,
        side=side,
        type=order_type,
        quantity=call.decimal("quantity"),
        price=call.decimal("price"),
        stop_price=call.decimal("stopPrice"),
        time_in_force=TimeInForce(in_force) if in_force else None,
        position_side=word(call, "positionSide", PositionSide, PositionSide.BOTH),
        reduce_only=call.flag("reduceOnly"),
        close_position=call.flag("closePosition"),
        client_order_id=call.params.get("newClientOrderId", ""),
        working_type=word(call, "workingType", WorkingType, WorkingType.CONTRACT_PRICE),
        stp=word(call, "selfTradePreventionMode", Stp, None),
    )


def word(call: Call, name: str, kind: type[_E], default: Any) -> Any:
    """An optional member of an enumeration. Raises -1130."""
    found = call.params.get(name, "")
    if not found:
        return default
    try:
        return kind(found.upper())
    except ValueError:
        raise WireError(-1130, f"Data sent for parameter '{name}' is not valid.") from None


def _side(call: Call) -> Side:
    try:
        return Side[call.text("side").upper()]
    except KeyError:
        raise WireError(-1117, "Invalid side.") from None


def _ids(call: Call) -> tuple[int | None, str | None]:
    """Raises -1102 when neither id was sent."""
    order_id, client_id = call.integer("orderId"), call.params.get("origClientOrderId") or None
    if order_id is None and client_id is None:
        raise WireError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    return order_id, client_id


def _batch(call: Call, most: int) -> list[dict[str, str]]:
    rows = call.json_list("batchOrders", most)
    if not all(isinstance(row, dict) for row in rows):
        raise missing("batchOrders")
    return [{name: _text(value) for name, value in row.items()} for row in rows]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
