"""BinanceUsdmRest: the signed REST calls of Binance USD-M, typed.

In: exact decimals and names. Out: structs of ``codec_trading``, or VenueCallError whose ``outcome`` says
whether the venue acted. It refuses to repeat a call that may have been done; only GETs are repeated, and
only by ``http`` on a broken kept-alive connection. Source: Binance "USDS-M Futures" documentation (2024-12).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.instrument import Instrument
from tickmesh.ports import Clock
from tickmesh.venues.binance_usdm.codec_trading import (
    Income,
    Outcome,
    VenueAccount,
    VenueAlgoOrder,
    VenueBalance,
    VenueCallError,
    VenueLeverage,
    VenueListenKey,
    VenueOrder,
    VenuePosition,
    VenuePositionMode,
    VenueTime,
    VenueTrade,
    classify,
)
from tickmesh.venues.binance_usdm.http import (
    AnswerLostError,
    Exchange,
    HttpAnswer,
    HttpClient,
    NotSentError,
    WithdrawnError,
)
from tickmesh.venues.binance_usdm.order_request import PlainOrders
from tickmesh.venues.binance_usdm.translate_trading import place_parameters

_T = TypeVar("_T")
Parameters = dict[str, str | int | Decimal]

_OUTSIDE_WINDOW = -1021

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


class Usage(msgspec.Struct):
    """What the venue's headers said last: request weight and orders used; -1 where it said nothing."""

    weight_1m: int = -1
    orders_10s: int = -1
    orders_1m: int = -1
    read_mono_ns: int = 0


class CallKind(StrEnum):
    """What a call is for, which decides what may hold it up."""

    READ = "read"
    CANCEL = "cancel"
    """Takes risk away, or tells what is held: cancels, the dead-man switch, the user stream's key, questions for an
    UNKNOWN order, and what an emergency stop has to close."""


class CallGate(Protocol):
    """What stands before every call but a new order, and hears what became of each, orders too."""

    def permit(self, kind: CallKind, weight: int) -> int | None:
        """A ticket for ``done``. Raises VenueCallError (NOT_SENT) when the call must not be made now."""
        ...

    def done(self, ticket: int | None, usage: Usage, error: VenueCallError | None) -> None: ...

    def dropped(self, ticket: int | None) -> None:
        """The caller gave up before there was a result."""
        ...


class OpenGate:
    """Lets everything through."""

    def permit(self, kind: CallKind, weight: int) -> int | None:
        return None

    def done(self, ticket: int | None, usage: Usage, error: VenueCallError | None) -> None: ...

    def dropped(self, ticket: int | None) -> None: ...


_WEIGHTS = {
    b"/fapi/v1/openOrders": 1, b"/fapi/v1/allOrders": 5, b"/fapi/v1/userTrades": 5, b"/fapi/v1/countdownCancelAll": 10,
    b"/fapi/v3/positionRisk": 5, b"/fapi/v3/balance": 5, b"/fapi/v3/account": 5, b"/fapi/v1/symbolConfig": 5,
    b"/fapi/v1/positionSide/dual": 30, b"/fapi/v1/income": 30,
}  # fmt: skip
"""Request weight by path where it is not 1 (the venue's documentation, 2024-12)."""
_SHOWN = 400
"""How much of an answer that makes no sense is told."""
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII).fullmatch
"""Whether a text needs no quoting in an address, as nearly all of ours."""
_CANCELS = frozenset({b"/fapi/v1/order", b"/fapi/v1/allOpenOrders", b"/fapi/v1/algoOrder"})
_ALWAYS = frozenset({b"/fapi/v1/countdownCancelAll", b"/fapi/v1/listenKey"})


class BinanceUsdmRest:
    """One account at the venue. Make it inside a running event loop; ``close`` it."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        api_secret: str,
        recv_window_ms: int,
        clock: Clock,
        *,
        timeout_s: float = 5.0,
        max_connections: int = 8,
        transport: Callable[..., HttpClient] = HttpClient,
        order_window_ms: int = 0,
    ) -> None:
        """``order_window_ms`` is how old a new order may be when it reaches the venue; 0 as any other request."""
        self.http = transport(base_url, clock, max_connections=max_connections)
        self.usage = Usage()
        self.gate: CallGate = OpenGate()
        self.time_offset_ms = 0
        """Venue's clock minus ours, from ``sync_time``; goes into every timestamp."""
        self.on_malformed: Callable[[str], None] = lambda _: None
        """Called with an answer that is not what was asked for."""
        self.clock_is_off = False
        """The venue refused a timestamp: call ``sync_time`` before anything signed."""
        self._measured = False
        self._clock = clock
        self._timeout_s = timeout_s
        self._mac = hmac.new(api_secret.encode(), digestmod=hashlib.sha256)
        self._order_tail = f"&recvWindow={order_window_ms or recv_window_ms}&timestamp=".encode()
        self._tail = f"&recvWindow={recv_window_ms}&timestamp=".encode()
        head = f" HTTP/1.1\r\nHost: {self.http.host_header}\r\nX-MBX-APIKEY: {api_key}\r\n"
        self._after_target = (head + "Content-Length: 0\r\n\r\n").encode()
        self._after_get_target = (head + "\r\n").encode()
        self._prefix = self.http.path_prefix.encode()
        before = b"POST " + self._prefix + b"/fapi/v1/order?"
        self._plain_orders = PlainOrders(api_secret.encode(), before, self._order_tail, self._after_target)

    async def close(self) -> None:
        await self.http.close()

    # Orders.

    def place_approved(self, approved: ApprovedOrder, instrument: Instrument) -> Exchange | None:
        """As ``place_now``, for an order as risk has approved it."""
        now_ms = self._clock.wall_ns() // 1_000_000 + self.time_offset_ms
        request = self._plain_orders.request(approved, instrument, now_ms)
        if request is None:
            return self.place_now(place_parameters(approved, instrument))
        return self.http.try_send(request, self._timeout_s)

    def place_now(self, parameters: Parameters) -> Exchange | None:
        """Sign and hand a new order to the socket at once; None when no connection is idle (use ``place_soon``).

        The answer is for ``order_answer``.
        """
        return self.http.try_send(self._request(b"POST", b"/fapi/v1/order", parameters), self._timeout_s)

    async def place_soon(self, parameters: Parameters, veto: Callable[[], str] = lambda: "") -> Exchange:
        """As ``place_now``, waiting for a connection; ``veto`` is asked right before the bytes leave.

        Raises:
            WithdrawnError: ``veto`` gave a reason.
            VenueCallError: NOT_SENT; no connection came free.
        """
        try:
            request = self._request(b"POST", b"/fapi/v1/order", parameters)
            return await self.http.start(request, self._timeout_s, veto)
        except WithdrawnError:
            raise
        except NotSentError as error:
            failure = VenueCallError(Outcome.NOT_SENT, str(error))
            self.gate.done(None, self.usage, failure)
            raise failure from error

    async def order_answer(self, exchange: Exchange) -> VenueOrder:
        """Wait for the answer to a placed order. Raises VenueCallError."""
        try:
            try:
                answer = await exchange.answer
            except AnswerLostError as error:
                raise VenueCallError(Outcome.UNKNOWN, str(error)) from error
            order = self._decode(answer, VenueOrder)
        except VenueCallError as error:
            self.gate.done(None, self.usage, error)
            raise
        self.gate.done(None, self.usage, None)
        return order

    async def place(self, parameters: Parameters) -> VenueOrder:
        """Place an order and wait for the answer. Raises VenueCallError."""
        return await self.order_answer(self.place_now(parameters) or await self.place_soon(parameters))

    async def cancel(self, symbol: str, client_order_id: str) -> VenueOrder:
        """Cancel one order; -2011 means that the venue has no such open order: ask. Raises VenueCallError."""
        return await self._call(
            b"DELETE", b"/fapi/v1/order", {"symbol": symbol, "origClientOrderId": client_order_id}, VenueOrder
        )

    async def cancel_all(self, symbol: str) -> None:
        """Cancel every open order of the account on ``symbol``, whoever placed it. Raises VenueCallError."""
        await self._call(b"DELETE", b"/fapi/v1/allOpenOrders", {"symbol": symbol}, msgspec.Raw)

    async def query(self, symbol: str, client_order_id: str, *, urgent: bool = False) -> VenueOrder:
        """One order by our id; -2013 means "not found"; ``urgent`` passes an open breaker. Raises VenueCallError."""
        parameters: Parameters = {"symbol": symbol, "origClientOrderId": client_order_id}
        return await self._call(b"GET", b"/fapi/v1/order", parameters, VenueOrder, urgent=urgent)

    async def query_by_venue_id(self, symbol: str, order_id: int, *, urgent: bool = False) -> VenueOrder:
        """One order by the venue's id; ``urgent`` as in ``query``. Raises VenueCallError."""
        parameters: Parameters = {"symbol": symbol, "orderId": order_id}
        return await self._call(b"GET", b"/fapi/v1/order", parameters, VenueOrder, urgent=urgent)

    async def open_orders(self, symbol: str | None = None) -> list[VenueOrder]:
        """Open orders of one symbol (weight 1) or of all (weight 40). Raises VenueCallError."""
        return await self._call(b"GET", b"/fapi/v1/openOrders", {"symbol": symbol} if symbol else {}, list[VenueOrder])

    async def open_algo_orders(self, symbol: str) -> list[VenueAlgoOrder]:
        """Conditional orders of one symbol that wait for their trigger (weight 1). Raises VenueCallError."""
        return await self._call(b"GET", b"/fapi/v1/openAlgoOrders", {"symbol": symbol}, list[VenueAlgoOrder])

    async def query_algo(self, client_id: str, *, urgent: bool = False) -> VenueAlgoOrder:
        """One conditional order by its client id; -2013 means "not found"; ``urgent`` as in ``query``.

        Raises:
            VenueCallError: the venue did not answer, or refuses.
        """
        parameters: Parameters = {"clientAlgoId": client_id}
        return await self._call(b"GET", b"/fapi/v1/algoOrder", parameters, VenueAlgoOrder, urgent=urgent)

    async def cancel_algo(self, client_id: str) -> None:
        """Cancel one conditional order; -2011 as in ``cancel``. Raises VenueCallError."""
        await self._call(b"DELETE", b"/fapi/v1/algoOrder", {"clientAlgoId": client_id}, msgspec.Raw)

    async def all_orders(
        self,
        symbol: str,
        *,
        order_id: int | None = None,
        start_time_ms: int | None = None,
        limit: int = 500,
        urgent: bool = False,
    ) -> list[VenueOrder]:
        """Orders in any state, from ``order_id`` or ``start_time_ms``, oldest first; ``urgent`` as in ``query``.

        Raises:
            VenueCallError: the venue did not answer, or refuses.
        """
        parameters: Parameters = {"symbol": symbol, "limit": limit}
        if order_id is not None:
            parameters["orderId"] = order_id
        if start_time_ms is not None:
            parameters["startTime"] = start_time_ms
        return await self._call(b"GET", b"/fapi/v1/allOrders", parameters, list[VenueOrder], urgent=urgent)

    async def user_trades(
        self,
        symbol: str,
        *,
        from_id: int | None = None,
        start_time_ms: int | None = None,
        order_id: int | None = None,
        limit: int = 1000,
        urgent: bool = False,
    ) -> list[VenueTrade]:
        """Our executions from trade ``from_id`` (inclusive), from a time or of one order, oldest first.

        ``urgent`` as in ``query``.

        Raises:
            VenueCallError: the venue did not answer, or refuses.
        """
        parameters: Parameters = {"symbol": symbol, "limit": limit}
        if from_id is not None:
            parameters["fromId"] = from_id
        elif start_time_ms is not None:
            parameters["startTime"] = start_time_ms
        if order_id is not None:
            parameters["orderId"] = order_id
        return await self._call(b"GET", b"/fapi/v1/userTrades", parameters, list[VenueTrade], urgent=urgent)

    async def countdown_cancel_all(self, symbol: str, countdown_ms: int) -> None:
        """Arm the venue's dead-man switch: cancel all of ``symbol`` unless called again in time; 0 disarms."""
        await self._call(
            b"POST", b"/fapi/v1/countdownCancelAll", {"symbol": symbol, "countdownTime": countdown_ms}, msgspec.Raw
        )

    # The account.

    async def positions(self, symbol: str | None = None, *, urgent: bool = False) -> list[VenuePosition]:
        """Positions that are open or have open orders; ``urgent`` as in ``query``. Raises VenueCallError."""
        parameters: Parameters = {"symbol": symbol} if symbol else {}
        return await self._call(b"GET", b"/fapi/v3/positionRisk", parameters, list[VenuePosition], urgent=urgent)

    async def balances(self) -> list[VenueBalance]:
        """Wallets. Raises VenueCallError."""
        return await self._call(b"GET", b"/fapi/v3/balance", {}, list[VenueBalance])

    async def account(self) -> VenueAccount:
        """Sums over the account: margins, wallet, what is available. Raises VenueCallError."""
        return await self._call(b"GET", b"/fapi/v3/account", {}, VenueAccount)

    async def leverages(self, symbol: str | None = None) -> list[VenueLeverage]:
        """Leverage and margin type per symbol. Raises VenueCallError."""
        return await self._call(
            b"GET", b"/fapi/v1/symbolConfig", {"symbol": symbol} if symbol else {}, list[VenueLeverage]
        )

    async def hedge_mode(self) -> bool:
        """Whether positions have sides (LONG and SHORT apart). Raises VenueCallError."""
        return (await self._call(b"GET", b"/fapi/v1/positionSide/dual", {}, VenuePositionMode)).dualSidePosition

    async def income(
        self, *, income_type: str | None = None, start_time_ms: int | None = None, limit: int = 1000
    ) -> list[Income]:
        """Funding, commissions and realised P&L, oldest first. Raises VenueCallError."""
        parameters: Parameters = {"limit": limit}
        if income_type is not None:
            parameters["incomeType"] = income_type
        if start_time_ms is not None:
            parameters["startTime"] = start_time_ms
        return await self._call(b"GET", b"/fapi/v1/income", parameters, list[Income])

    # The user stream's key, and the clock.

    async def create_listen_key(self) -> str:
        """Open, or prolong, the user stream; the key lives 60 minutes. Raises VenueCallError."""
        return (await self._call(b"POST", b"/fapi/v1/listenKey", None, VenueListenKey)).listenKey

    async def keep_listen_key(self) -> None:
        """Prolong the key by 60 minutes; -1125 means that it is gone: create another. Raises VenueCallError."""
        await self._call(b"PUT", b"/fapi/v1/listenKey", None, msgspec.Raw)

    async def close_listen_key(self) -> None:
        """Close the user stream. Raises VenueCallError."""
        await self._call(b"DELETE", b"/fapi/v1/listenKey", None, msgspec.Raw)

    async def sync_time(self) -> int:
        """Measure the venue's clock against ours and use it from now on; returns the offset in ms.

        The true offset lies between those of the venue's time to our times of asking and of hearing. What we use moves
        as far as it must to lie there, too: an answer that took a second is no reason to give up what a quick one told.
        """
        before_ns, before_mono = self._clock.wall_ns(), self._clock.mono_ns()
        found = await self._call(b"GET", b"/fapi/v1/time", None, VenueTime)
        took_ns = self._clock.mono_ns() - before_mono
        most, least = (found.serverTime - ns // 1_000_000 for ns in (before_ns, before_ns + took_ns))
        moved = min(max(self.time_offset_ms, least), most)
        self.time_offset_ms = moved if self._measured else (least + most) // 2
        self._measured, self.clock_is_off = True, False
        return self.time_offset_ms

    # How a call is made.

    async def _call(
        self, method: bytes, path: bytes, parameters: Parameters | None, kind: type[_T], *, urgent: bool = False
    ) -> _T:
        relieving = urgent or path in _ALWAYS or (method == b"DELETE" and path in _CANCELS)
        weight = 40 if path == b"/fapi/v1/openOrders" and not parameters else _WEIGHTS.get(path, 1)
        ticket = self.gate.permit(CallKind.CANCEL if relieving else CallKind.READ, weight)
        try:
            found = await self._ask(method, path, parameters, kind)
        except VenueCallError as error:
            self.gate.done(ticket, self.usage, error)
            raise
        except BaseException:
            self.gate.dropped(ticket)
            raise
        self.gate.done(ticket, self.usage, None)
        return found

    async def _ask(self, method: bytes, path: bytes, parameters: Parameters | None, kind: type[_T]) -> _T:
        request = self._request(method, path, parameters)
        try:
            answer = await self.http.request(request, timeout_s=self._timeout_s, idempotent=method == b"GET")
        except NotSentError as error:
            raise VenueCallError(Outcome.NOT_SENT, str(error)) from error
        except AnswerLostError as error:
            raise VenueCallError(Outcome.UNKNOWN, str(error)) from error
        return self._decode(answer, kind)

    def _request(self, method: bytes, path: bytes, parameters: Parameters | None) -> bytes:
        """The bytes of one request; ``parameters`` None means unsigned."""
        after = self._after_get_target if method == b"GET" else self._after_target
        if parameters is None:
            return b"".join((method, b" ", self._prefix, path, after))
        query = "&".join([f"{name}={_text(value)}" for name, value in parameters.items()]).encode()
        now_ms = self._clock.wall_ns() // 1_000_000 + self.time_offset_ms
        tail = self._order_tail if method == b"POST" and path == b"/fapi/v1/order" else self._tail
        query = b"".join((query, tail if query else tail[1:], str(now_ms).encode()))
        mac = self._mac.copy()
        mac.update(query)
        signature = mac.hexdigest().encode()
        return b"".join((method, b" ", self._prefix, path, b"?", query, b"&signature=", signature, after))

    def _decode(self, answer: HttpAnswer, kind: type[_T]) -> _T:
        self._read_usage(answer)
        if not 200 <= answer.status < 300:
            error = classify(answer.status, answer.body, answer.headers.get("retry-after"))
            self.clock_is_off = self.clock_is_off or error.code == _OUTSIDE_WINDOW
            raise error
        decoder = _decoders.get(kind)
        if decoder is None:
            decoder = _decoders[kind] = msgspec.json.Decoder(kind, strict=False)  # numbers come as text
        try:
            decoded: _T = decoder.decode(answer.body)
        except msgspec.MsgspecError as error:
            shown = answer.body[:_SHOWN].decode("utf-8", "replace")
            message = f"the venue's answer has the wrong shape ({error}): {shown}"
            self.on_malformed(message)
            raise VenueCallError(Outcome.UNKNOWN, message, status=answer.status) from error
        return decoded

    def _read_usage(self, answer: HttpAnswer) -> None:
        headers, usage = answer.headers, self.usage
        weight = headers.get("x-mbx-used-weight-1m", "")
        orders_10s, orders_1m = headers.get("x-mbx-order-count-10s", ""), headers.get("x-mbx-order-count-1m", "")
        usage.weight_1m = int(weight) if weight.isdigit() else -1
        usage.orders_10s = int(orders_10s) if orders_10s.isdigit() else -1
        usage.orders_1m = int(orders_1m) if orders_1m.isdigit() else -1
        usage.read_mono_ns = answer.received_mono_ns


def _text(value: str | int | Decimal) -> str:
    if isinstance(value, str):
        return value if _PLAIN(value) else quote(value, safe="-_.")
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
