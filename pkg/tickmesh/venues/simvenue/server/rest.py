"""REST: one table of endpoints, one path for every request, answers and refusals as the venue words them.

In: an HTTP request. Out: a JSON body with the venue's headers. Handlers are plain functions of a Call; they raise
VenueError or WireError and never see aiohttp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from tickmesh.venues.simvenue.exchange.errors import VenueError


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


@dataclass(slots=True)
class Call:
    """One request, decoded. ``account`` is empty for public endpoints."""

    params: dict[str, str]
    now_ms: int
    account: str = ""
    api_key: str = ""
    headers: dict[str, str] = field(default_factory=dict)

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


def decode_params(request: web.Request, body: bytes) -> dict[str, str]:
    """Query string and form body, later ones win. Raises -1100 for text that is no UTF-8."""
    try:
        pairs = parse_qsl(request.query_string, keep_blank_values=True)
        if body:
            pairs += parse_qsl(body.decode(), keep_blank_values=True)
    except ValueError:
        raise WireError(-1100, "Illegal characters found in a parameter.") from None
    return dict(pairs)


def answer(result: object, headers: Mapping[str, str], status: int = 200) -> web.Response:
    """A JSON answer; bytes are sent as they are."""
    body = result if isinstance(result, bytes) else msgspec.json.encode(result)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def refusal(error: VenueError | WireError) -> dict[str, object]:
    """The body of a refusal."""
    return {"code": error.code, "msg": error.message}


class Rest:
    """Routes requests to endpoints."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.endpoints: dict[tuple[str, str], Endpoint] = {}

    def add(self, endpoints: list[Endpoint]) -> None:
        for endpoint in endpoints:
            self.endpoints[endpoint.method, endpoint.path] = endpoint

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every REST request."""
        endpoint = self.endpoints.get((request.method, request.path))
        if endpoint is None:
            return answer({"code": -5000, "msg": f"Path {request.path}, Method {request.method} is invalid"}, {}, 404)
        body = await request.read() if request.body_exists else b""
        try:
            call = Call(decode_params(request, body), self._now_ms())
            result = endpoint.handler(call)
        except VenueError as error:
            return answer(refusal(error), {}, 400)
        except WireError as error:
            return answer(refusal(error), error.headers, error.status)
        return answer(result, call.headers)
