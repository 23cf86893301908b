"""The simulated venue: simvenue's own exchange and REST table behind a network and a temper of its own.

In: the bytes of real requests, decoded by simvenue's own wire code. Out: the bytes of its answers, late, lost, or lies
of the kinds that venues are known for. The exchange itself never lies: it is what is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from tickmesh.domain.enums import Side
from tickmesh.domain.instrument import Instrument
from tickmesh.runtime.simulation.world import EPOCH_NS, World
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.exchange.types import OrderRecord, PlaceRequest, UserTrade
from tickmesh.venues.simvenue.server.accounts import Accounts
from tickmesh.venues.simvenue.server.algo import Algo
from tickmesh.venues.simvenue.server.bodies import Bodies
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.hub import Hub
from tickmesh.venues.simvenue.server.keys import ApiKeys, Credentials
from tickmesh.venues.simvenue.server.limits import Limits, Quota
from tickmesh.venues.simvenue.server.public import Public
from tickmesh.venues.simvenue.server.rest import Rest
from tickmesh.venues.simvenue.server.trading import Trading
from tickmesh.venues.simvenue.server.user_streams import UserStreams

ACCOUNT = "main"
DEPOSIT = Decimal(100_000)
_STRANGERS_TRADES = 1000
"""Trade ids count everybody's trades: two of ours that follow each other can be this far apart."""
_UNKNOWN = "Unknown error, please check your request or try again later."


@dataclass(slots=True)
class Temper:
    """One way to misbehave towards REST requests, while it lasts. ``paths`` are endings of "METHOD path"."""

    kind: str
    until_ns: int
    probability: float
    paths: tuple[str, ...]


class _Memory:
    """What ``Trading`` wants of a store: nothing is older than the exchange remembers."""

    def find_order(self, *_: object) -> None:
        return None


class _Parts:
    """What the REST handlers want of simvenue's ``Venue``."""

    def __init__(
        self, exchange: Exchange, instruments: Mapping[str, Instrument], bodies: Bodies, clock: VenueClock
    ) -> None:
        self.exchange, self.instruments, self.bodies, self.clock = exchange, dict(instruments), bodies, clock
        self.store = _Memory()
        self.replay = False


class _Url:
    def __init__(self, query: str) -> None:
        self.raw_query_string = query


class _Request:
    """As much of an aiohttp request as simvenue's REST table reads."""

    def __init__(self, method: str, path: str, query: str, headers: Mapping[str, str], address: str) -> None:
        self.method, self.path, self.headers, self.remote = method, path, headers, address
        self.rel_url = _Url(query)
        self.parameters = dict(parse_qsl(query))


class SimVenue:
    """One account's venue with two or more books and anonymous flow."""

    def __init__(self, world: World, instruments: Mapping[str, Instrument], credentials: tuple[str, str]) -> None:
        self.world = world
        self.clock = VenueClock(lambda: EPOCH_NS + world.now_ns)
        self.exchange = Exchange(list(instruments.values()))
        self.instruments = dict(instruments)
        self.hub = Hub(max_buffer_bytes=1 << 24, replay_wait_s=1.0)
        self.bodies = Bodies(self.instruments, self.clock)
        self.users = UserStreams(self.instruments, self.hub, self.clock)
        keys = ApiKeys()
        keys.add(credentials[0], Credentials(ACCOUNT, credentials[1]))
        quota = Quota()
        self._rest = Rest(self.clock, keys, Limits(quota), None, self.commit)  # type: ignore[arg-type]
        parts: Any = _Parts(self.exchange, instruments, self.bodies, self.clock)
        for part in (Public(parts, quota), Trading(parts), Algo(parts), Accounts(parts, quota)):
            self._rest.add([e for e in part.endpoints() if e.path.startswith("/fapi")])
        self._rest.add(self.users.endpoints())
        self.tempers: list[Temper] = []
        self.on_accepted: Callable[[OrderRecord], None] = lambda _: None
        self.faults_hit: dict[str, int] = {}
        self._seen_orders = 0
        self._flow: dict[str, list[int]] = {symbol: [] for symbol in instruments}
        self.exchange.add_account(ACCOUNT, DEPOSIT, self.clock.now_ms())
        self.middle = {symbol: 900_000 * (1 + 6 * n) for n, symbol in enumerate(instruments)}
        for symbol in instruments:
            self.quote(symbol)
        self.tick()

    # The market.

    def quote(self, symbol: str) -> None:
        """Anonymous orders around the middle, as a market maker lays them out."""
        now_ns, random = self.clock.now_ns(), self.world.random
        for order_id in self._flow[symbol]:
            self.exchange.flow_cancel(symbol, order_id, now_ns)
        middle = self.middle[symbol] = max(100_000, self.middle[symbol] + random.randint(-3, 3))
        self._flow[symbol] = [
            self.exchange.flow_place(symbol, side, middle - side * (1 + level), random.randint(2, 30), now_ns)
            for level in range(4)
            for side in (Side.BUY, Side.SELL)
        ]
        self.commit()

    def trade(self, symbol: str) -> None:
        """Somebody takes liquidity, sometimes through several levels."""
        random = self.world.random
        side = random.choice((Side.BUY, Side.SELL))
        self.exchange.markets[symbol].trade_id += _STRANGERS_TRADES
        reach = random.choice((0, 2, 5, 8))
        self.exchange.flow_place(
            symbol, side, self.middle[symbol] + side * reach, random.randint(1, 25), self.clock.now_ns()
        )
        self.commit()

    def tick(self) -> None:
        """Countdowns, marks, funding, listen keys."""
        now_ms = self.clock.now_ms()
        self.exchange.advance(now_ms)
        self.users.tick(now_ms)
        self.commit()

    def commit(self) -> None:
        events = self.exchange.drain_events()
        self.exchange.drain_changes()
        newest = self.exchange._next_order_id - 1
        while self._seen_orders < newest:
            self._seen_orders += 1
            self.on_accepted(self.exchange.orders[self._seen_orders])
        if events:
            self.users.on_events(events)

    def by_hand(self, request: PlaceRequest) -> OrderRecord:
        """An order that somebody else places on the same account, past us. Raises VenueError."""
        placed = self.exchange.place(ACCOUNT, request, self.clock.now_ms())
        self.commit()
        return placed

    # The record: what is true.

    def orders(self) -> list[OrderRecord]:
        return [o for o in self.exchange.orders.values() if o.account_id == ACCOUNT]

    def trades(self) -> list[UserTrade]:
        return [t for t in self.exchange.trades if t.account_id == ACCOUNT]

    def record(self) -> dict[str, Any]:
        """As simvenue's admin route gives it."""
        names = {o.order_id: o.client_order_id for o in self.orders()}
        fills = [{**self.bodies.user_trade(t), "clientOrderId": names.get(t.order_id, "")} for t in self.trades()]
        return {"orders": [self.bodies.order(o) for o in self.orders()], "fills": fills}

    @property
    def cash(self) -> Decimal:
        """The wallet: what was deposited, realized and paid in fees."""
        return self.exchange.balances(ACCOUNT).wallet

    def position_lots(self, symbol: str) -> int:
        return sum(v.lots for v in self.exchange.position_risk(ACCOUNT, symbol))

    # Requests.

    def handle(self, raw: bytes, address: str) -> bytes | str:
        """Answer one request: bytes, or ``hang`` (no answer ever) or ``reset`` (the connection breaks)."""
        head = raw.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        path, _, query = target.partition("?")
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(": ")
            headers[name] = value
        request = _Request(method, path, query, headers, address)
        kind = self._choose(request)
        if kind:
            self.faults_hit[kind] = self.faults_hit.get(kind, 0) + 1
            self.world.note(f"venue: {method} {path} {_what(request)} meets {kind}")
            found = self._badly(kind, request)
            if found is not None:
                return found
        answer = self._answer(request)
        if kind in ("hang_done", "reset_done"):
            return kind.removesuffix("_done")
        if kind == "unknown_503_done":
            return _error(503, -1000, _UNKNOWN)
        if kind == "timeout_1007_done":
            return _error(408, -1007, "Timeout waiting for response from backend server. Send status unknown; "
                                      "execution status unknown.")  # fmt: skip
        if kind == "garbage_done":
            return _bytes(200, b"<html>proxy</html>", {})
        if kind == "off_grid_done":
            return _off_grid(answer)
        return answer

    def _choose(self, request: _Request) -> str:
        now, random = self.world.now_ns, self.world.random
        self.tempers = [t for t in self.tempers if t.until_ns > now]
        line = f"{request.method} {request.path}"
        for temper in self.tempers:
            if any(line.endswith(p) for p in temper.paths) and random.random() < temper.probability:
                return temper.kind
        return ""

    def _badly(self, kind: str, request: _Request) -> bytes | str | None:
        """What is said without carrying the request out; None to carry it out."""
        fixed: dict[str, bytes | str] = {
            "hang_lost": "hang", "reset_lost": "reset",
            "unknown_503_lost": _error(503, -1000, _UNKNOWN),
            "unavailable_503": _error(503, -1000, "Service Unavailable."),
            "unexpected_1006_lost": _error(400, -1006, "An unexpected response was received from the message bus. "
                                                       "Execution status unknown."),
            "timeout_1007_lost": _error(408, -1007, "Timeout waiting for response from backend server."),
            "gateway_502_lost": _bytes(502, b"<html>bad gateway</html>", {}),
            "limited_429": _error(429, -1003, "Too many requests.", {"Retry-After": "2"}),
            "banned_418": _error(418, -1003, "Way too many requests; banned.", {"Retry-After": "5"}),
            "orders_1015": _error(429, -1015, "Too many new orders.", {"Retry-After": "1"}),
            "phantom_2011": _error(400, -2011, "Unknown order sent."),
            "overloaded_1008": _error(503, -1008, "Server is currently overloaded with other requests."),
        }  # fmt: skip
        if kind == "lag_2013":
            young_ms = self.clock.now_ms() - 1_500
            client_id = request.parameters.get("origClientOrderId", "")
            if any(o.client_order_id == client_id and o.time_ms > young_ms for o in self.exchange.orders.values()):
                return _error(400, -2013, "Order does not exist.")
            return None
        return fixed.get(kind)

    def _answer(self, request: _Request) -> bytes:
        response: Any = self._rest._answer(request, b"")  # type: ignore[arg-type]
        return _bytes(response.status, bytes(response.body), response.headers)


def _what(request: _Request) -> str:
    p = request.parameters
    return p.get("newClientOrderId") or p.get("origClientOrderId") or p.get("symbol", "")


def _error(status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> bytes:
    return _bytes(status, b'{"code":%d,"msg":"%s"}' % (code, message.encode()), headers or {})


def _off_grid(answer: bytes) -> bytes:
    """The same answer with quantities that are no whole number of lots."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        return answer
    return _bytes(200, re.sub(rb'("(?:qty|origQty|executedQty|positionAmt)":"-?\d+)(\.\d*)?"', _finer, body), {})


def _finer(found: re.Match[bytes]) -> bytes:
    return found[1] + (found[2] or b".") + b'000001"'


def _bytes(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "content-length"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
