"""REST: one table of endpoints, one path for every request, answers and refusals as the venue words them.

In: an HTTP request. Out: a JSON body with the venue's headers, or what a fault makes of it. Handlers are plain
functions of a Call; they raise VenueError or WireError and never see aiohttp.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from tickmesh.domain.errors import DependencyError
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.faults import UNKNOWN_ERROR, Fault, Faults, Plan

KEY_HEADER = "X-MBX-APIKEY"


class WireError(Exception):
    """A refusal before the exchange is asked: signature, clock, parameters, limits. ``status`` is the HTTP status."""

    def __init__(self, code: int, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        self.code, self.message, self.status, self.headers = code, message, status, dict(headers or {})
        super().__init__(f"{code}: {message}")


def missing(name: str) -> WireError:
    return WireError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


class Security(StrEnum):
    """What a request must carry: nothing, an API key, or an API key and a signature."""

    NONE = "NONE"
    KEY = "KEY"
    SIGNED = "SIGNED"


class Window(NamedTuple):
    """A span of time, both ends included; None is open."""

    start_ms: int
    end_ms: int | None

    def has(self, time_ms: int) -> bool:
        return self.start_ms <= time_ms and (self.end_ms is None or time_ms <= self.end_ms)


@dataclass(slots=True)
class Call:
    """One request: ``now_ms`` is true venue time, ``shown_ms`` what clients see, ``orders`` the accepted ones."""

    params: dict[str, str]
    now_ms: int
    shown_ms: int
    account: str = ""
    api_key: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    orders: int = 0

    def text(self, name: str) -> str:
        """A mandatory parameter. Raises -1102."""
        found = self.params.get(name, "")
        if not found:
            raise missing(name)
        return found

    def symbol(self) -> str:
        return self.text("symbol").upper()

    def optional_symbol(self) -> str | None:
        found = self.params.get("symbol", "")
        return found.upper() or None

    def integer(self, name: str, default: int | None = None) -> int | None:
        """An optional whole number. Raises -1102 when it is none."""
        found = self.params.get(name, "")
        if not found:
            return default
        try:
            return int(found)
        except ValueError:
            raise missing(name) from None

    def limit(self, default: int, most: int) -> int:
        """``limit``, bounded. Raises -1130 outside of 1 to ``most``."""
        found = self.integer("limit", default) or 0
        if not 1 <= found <= most:
            raise WireError(-1130, "Data sent for parameter 'limit' is not valid.")
        return found

    def decimal(self, name: str) -> Decimal | None:
        """An optional number. Raises -1102 when it is none."""
        found = self.params.get(name, "")
        if not found:
            return None
        try:
            number = Decimal(found)
        except InvalidOperation:
            raise missing(name) from None
        if not number.is_finite():
            raise missing(name)
        return number

    def mandatory_decimal(self, name: str) -> Decimal:
        """A number. Raises -1102 when there is none."""
        found = self.decimal(name)
        if found is None:
            raise missing(name)
        return found

    def json_list(self, name: str, most: int) -> list[Any]:
        """A JSON list of 1 to ``most`` items. Raises -1102 or -1130."""
        try:
            found = msgspec.json.decode(self.text(name))
        except msgspec.DecodeError:
            raise missing(name) from None
        if not isinstance(found, list) or not 1 <= len(found) <= most:
            raise WireError(-1130, f"Data sent for parameter '{name}' is not valid.")
        return found

    def window(self) -> Window:
        """``startTime`` and ``endTime``. Raises -1023."""
        start_ms, end_ms = self.integer("startTime"), self.integer("endTime")
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise WireError(-1023, "Start time is greater than end time.")
        return Window(start_ms or 0, end_ms)

    def flag(self, name: str) -> bool:
        """An optional true or false. Raises -1102 for anything else."""
        found = self.params.get(name, "").lower()
        if found not in ("", "true", "false"):
            raise missing(name)
        return found == "true"


Handler = Callable[[Call], object]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table. ``weight`` may depend on the parameters; ``orders`` counts against the order limits."""

    method: str
    path: str
    handler: Handler
    weight: int | Callable[[Call], int] = 1
    security: Security = Security.NONE
    orders: int = 0


class Identity(Protocol):
    """Who may call what."""

    def admit(self, endpoint: Endpoint, call: Call, query: str, body: str) -> None:
        """Set ``call.account`` as the endpoint's security demands. Raises WireError."""


class Quotas(Protocol):
    """How often."""

    def charge(self, address: str, weight: int, now_ms: int, headers: dict[str, str]) -> None: ...

    def check_orders(self, account: str, now_ms: int) -> None: ...

    def count_orders(self, account: str, count: int, now_ms: int, headers: dict[str, str]) -> None: ...


def decode_params(query: str, body: str) -> dict[str, str]:
    """Query string and form body. Raises -1100 for text that is no UTF-8, -1101 for a name sent twice."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
        pairs += parse_qsl(body, keep_blank_values=True, errors="strict")
    except ValueError:
        raise WireError(-1100, "Illegal characters found in a parameter.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WireError(-1101, f"Too many parameters; expected '{len(found)}' and received '{len(pairs)}'.")
    return found


def answer(result: object, headers: Mapping[str, str], status: int = 200) -> web.Response:
    """A JSON answer; bytes are sent as they are."""
    body = result if isinstance(result, bytes) else msgspec.json.encode(result)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def refusal(error: VenueError | WireError) -> dict[str, object]:
    """The body of a refusal."""
    return {"code": error.code, "msg": error.message}


class Rest:
    """Routes requests to endpoints. ``commit`` saves and sends what a handler has changed, before the answer leaves."""

    def __init__(
        self, clock: VenueClock, identity: Identity, quotas: Quotas, faults: Faults, commit: Callable[[], None]
    ) -> None:
        self._clock, self._identity, self._quotas, self._faults = clock, identity, quotas, faults
        self._commit = commit
        self.endpoints: dict[tuple[str, str], Endpoint] = {}

    def add(self, endpoints: list[Endpoint]) -> None:
        for endpoint in endpoints:
            self.endpoints[endpoint.method, endpoint.path] = endpoint

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every REST request."""
        body = await request.read() if request.body_exists else b""
        plan = self._faults.plan(request.method, request.path)
        return self._answer(request, body) if plan is None else await self._answer_badly(request, body, plan)

    async def _answer_badly(self, request: web.Request, body: bytes, plan: Plan) -> web.StreamResponse:
        await asyncio.sleep(plan.delay_ms / 1000)
        if plan.drop:
            return _cut(request)
        if plan.error is not None and not plan.error.processed:
            return _error(plan.error)
        response = self._answer(request, body)
        if plan.timeout_s is not None:
            await asyncio.sleep(plan.timeout_s)
            return _cut(request)
        if plan.disconnect:
            return _cut(request)
        return response if plan.error is None else _error(plan.error)

    def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        endpoint = self.endpoints.get((request.method, request.path))
        if endpoint is None:
            return answer({"code": -5000, "msg": f"Path {request.path}, Method {request.method} is invalid"}, {}, 404)
        headers: dict[str, str] = {}
        try:
            result = self._call(endpoint, request, body, headers)
        except VenueError as error:
            return answer(refusal(error), headers, 400)
        except WireError as error:
            return answer(refusal(error), {**headers, **error.headers}, error.status)
        except DependencyError:  # it could not be saved; the venue stops, and nobody may believe that it was done
            return answer({"code": -1000, "msg": UNKNOWN_ERROR}, {}, 503)
        return answer(result, headers)

    def _call(self, endpoint: Endpoint, request: web.Request, raw: bytes, headers: dict[str, str]) -> object:
        query, body = request.rel_url.raw_query_string, _form(raw)
        now_ms, key = self._clock.now_ms(), request.headers.get(KEY_HEADER, "")
        call = Call(decode_params(query, body), now_ms, self._clock.shown_ms(), api_key=key, headers=headers)
        weight = endpoint.weight if isinstance(endpoint.weight, int) else endpoint.weight(call)
        self._quotas.charge(request.remote or "", weight, call.shown_ms, headers)
        self._identity.admit(endpoint, call, query, body)
        if endpoint.orders:
            self._quotas.check_orders(call.account, call.shown_ms)
        try:
            return endpoint.handler(call)
        finally:
            if endpoint.orders:
                self._quotas.count_orders(call.account, call.orders, call.shown_ms, headers)
            if endpoint.method != "GET":
                self._commit()


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _error(fault: Fault) -> web.Response:
    headers = {"Retry-After": str(fault.retry_after_s)} if fault.retry_after_s else {}
    return answer({"code": fault.code, "msg": fault.msg}, headers, fault.status)


def _form(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise WireError(-1100, "Illegal characters found in a parameter.") from None
