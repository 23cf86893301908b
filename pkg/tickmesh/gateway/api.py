"""REST and WebSocket over a Replica: queries are answered from memory, commands leave as Control messages."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from tickmesh.domain import subjects
from tickmesh.domain.messages import Audit, Control, encode
from tickmesh.gateway.replica import Replica
from tickmesh.observe.admin import json_response
from tickmesh.ports import Bus, Clock

RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SCOPES = ("all", "account.", "strategy.", "symbol.")
_CONFIRM_WITHIN_S = 60.0
_HEARTBEAT_S = 15.0
_SEND_TIMEOUT_S = 2.0
_RATES_S = {"web": 0.25, "tui": 0.1}
_MAX_CLIENTS_TRACKED = 10_000


class RateLimit:
    """A token bucket per client address, bounded in clients."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, client: str, now_s: float) -> bool:
        """Take one token; False when the client asks too often."""
        tokens, at = self._buckets.pop(client, (self._per_second, now_s))
        tokens = min(self._per_second, tokens + (now_s - at) * self._per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - allowed, now_s)
        while len(self._buckets) > _MAX_CLIENTS_TRACKED:
            self._buckets.popitem(last=False)
        return allowed


class Api:
    """The gateway's HTTP application."""

    def __init__(
        self,
        replica: Replica,
        bus: Bus,
        clock: Clock,
        *,
        services: Callable[[], dict[str, Any]],
        token: str = "",
        requests_per_s: float = 100.0,
        max_sockets: int = 100,
    ) -> None:
        self._replica = replica
        self._bus = bus
        self._clock = clock
        self._services = services
        self._token = token
        self._limit = RateLimit(requests_per_s)
        self._max_sockets = max_sockets
        self._pending_resumes: dict[str, tuple[str, float]] = {}
        self.sockets: set[LiveSocket] = set()
        self.app = web.Application(middlewares=[self._guard])
        self._route()

    def _route(self) -> None:
        get, post = self.app.router.add_get, self.app.router.add_post
        base = "/api/v1/trading"
        get("/", self._page)
        get(base + "/positions", self._list(lambda q: self._replica.positions(_accounts(q))))
        get(base + "/balances", self._list(lambda q: self._replica.balances(_accounts(q))))
        get(base + "/accounts", self._list(lambda q: self._replica.account_views(_accounts(q))))
        get(base + "/orders", self._list(self._orders))
        get(base + "/orders/pending/ids", self._list(self._pending_ids))
        get(base + "/orders/{client_order_id}", self._order)
        get(base + "/fills", self._list(lambda q: [self._replica.fill_view(f) for f in reversed(self._replica.fills)]))
        get(base + "/signals", self._list(lambda q: list(reversed(self._replica.signals))))
        get(base + "/alerts", self._list(lambda q: list(reversed(self._replica.alerts))))
        get(base + "/batch/snapshot", self._snapshot)
        get("/api/v1/live", self._live)
        post("/api/v1/control/halt", self._halt)
        post("/api/v1/control/resume", self._resume)
        get("/ws/live", self._websocket)

    @web.middleware
    async def _guard(self, request: web.Request, handler: RequestHandler) -> web.StreamResponse:
        if self._token and request.path != "/":
            offered = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(offered.encode(), self._token.encode()):
                return json_response({"error": "a bearer token is needed: Authorization: Bearer TOKEN"}, status=401)
        if not self._limit.allow(request.remote or "?", time.monotonic()):
            return json_response({"error": "more than 100 requests a second; slow down or use /ws/live"}, status=429)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return json_response({"error": f"{error.reason}: {request.method} {request.path}"}, status=error.status)
        except ValueError as error:
            return json_response({"error": str(error)}, status=400)

    def live(self, depth: int = 0) -> dict[str, Any]:
        """One picture of everything; what ``tickmesh status`` and the supervisor's line show."""
        replica = self._replica
        now_ns = self._clock.wall_ns()
        return {
            "ts": now_ns,
            "prices": replica.prices(now_ns, depth),
            "positions": replica.positions(),
            "accounts": replica.account_views(),
            "pnl": replica.pnl(),
            "orders": replica.order_summary(),
            "fills": replica.fill_count,
            "maker_fills": replica.maker_count,
            "latency_us": {"tick_to_order": replica.tick_to_order_us()},
            "services": self._services(),
            "alerts": list(replica.alerts)[-5:],
        }

    def frame(self, *, full: bool) -> dict[str, Any]:
        """What a WebSocket client is sent: ``snapshot`` once, then ``update``."""
        body = self.live(depth=10)
        body["type"] = "snapshot" if full else "update"
        body["open_orders"] = self._replica.select_orders(open_only=True, limit=50)
        body["recent_fills"] = [self._replica.fill_view(f) for f in list(self._replica.fills)[-20:]][::-1]
        return body

    def _list(self, query: Callable[[Any], list[Any]]) -> RequestHandler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return json_response(query(request.query))

        return handle

    def _orders(self, query: Any) -> list[Any]:
        limit = int(query.get("limit", "200"))
        if not 1 <= limit <= 1000:
            raise ValueError("limit must be between 1 and 1000")
        return self._replica.select_orders(
            accounts=_accounts(query), symbol=query.get("symbol", ""), state=query.get("state", ""), limit=limit,
            open_only=query.get("open", "") == "true",
        )  # fmt: skip

    def _pending_ids(self, query: Any) -> list[Any]:
        return [o["client_order_id"] for o in self._replica.select_orders(open_only=True, limit=1000)]

    async def _order(self, request: web.Request) -> web.StreamResponse:
        client_order_id = request.match_info["client_order_id"]
        event = self._replica.orders.get(client_order_id)
        if event is None:
            return json_response({"error": f"no order {client_order_id} is known"}, status=404)
        events = self._replica.history.get(client_order_id, [])
        return json_response(
            {
                **self._replica.order_view(event),
                "history": [{"state": e.state, "at_ns": e.publish_ns, "reason": e.reason} for e in events],
                "stages_us": self._replica.stage_us(event.stamps),
            }
        )

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        accounts = _accounts(request.query)
        return json_response(
            {
                "accounts": self._replica.account_views(accounts),
                "positions": self._replica.positions(accounts),
                "orders": self._replica.select_orders(accounts=accounts, limit=1000),
                "balances": self._replica.balances(accounts),
            }
        )

    async def _live(self, _: web.Request) -> web.StreamResponse:
        return json_response(self.live())

    async def _page(self, _: web.Request) -> web.StreamResponse:
        page = resources.files("tickmesh.web").joinpath("index.html").read_text(encoding="utf-8")
        return web.Response(text=page, content_type="text/html")

    async def _halt(self, request: web.Request) -> web.StreamResponse:
        body = await _command(request)
        await self._send("halt", body)
        return json_response({"halted": body["scope"]})

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        """One action stops, two resume: the first call answers with a token that the second one brings back."""
        body = await _command(request)
        now_s = time.monotonic()
        self._pending_resumes = {k: v for k, v in self._pending_resumes.items() if v[1] > now_s}
        confirm = body.get("confirm", "")
        if not confirm:
            confirm = secrets.token_urlsafe(9)
            self._pending_resumes[confirm] = (body["scope"], now_s + _CONFIRM_WITHIN_S)
            return json_response(
                {"confirm": confirm, "scope": body["scope"], "within_s": _CONFIRM_WITHIN_S}, status=202
            )
        pending = self._pending_resumes.pop(confirm, None)
        if pending is None or pending[0] != body["scope"]:
            raise ValueError("this confirmation is unknown or too old; ask for a new one without confirm")
        await self._send("resume", body)
        return json_response({"resumed": body["scope"]})

    async def _send(self, verb: str, body: dict[str, str]) -> None:
        now_ns = self._clock.wall_ns()
        control = Control(
            verb=verb, scope=body["scope"], reason=body.get("reason", ""), actor=body["actor"], publish_ns=now_ns
        )
        message_id = secrets.token_hex(8)
        await self._bus.publish_durable(
            subjects.control(verb, body["scope"]), encode(control), message_id=f"ctl-{message_id}"
        )
        audit = Audit(
            source="gateway", event=verb, actor=body["actor"], publish_ns=now_ns,
            detail={"scope": body["scope"], "reason": body.get("reason", "")},
        )  # fmt: skip
        await self._bus.publish_durable(subjects.audit("gateway"), encode(audit), message_id=f"audit-{message_id}")

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if len(self.sockets) >= self._max_sockets:
            return json_response({"error": f"{self._max_sockets} clients are connected already"}, status=503)
        socket = LiveSocket(self, _RATES_S.get(request.query.get("rate", "web"), 0.25))
        self.sockets.add(socket)
        try:
            return await socket.serve(request)
        finally:
            self.sockets.discard(socket)


class LiveSocket:
    """One WebSocket client: a snapshot, then the newest picture at its rate; a slow one skips pictures."""

    def __init__(self, api: Api, period_s: float) -> None:
        self._api = api
        self._period_s = period_s
        self._socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, compress=False)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        await self._socket.prepare(request)
        pump = asyncio.create_task(self._pump())
        try:
            async for message in self._socket:
                if message.type in (WSMsgType.CLOSE, WSMsgType.ERROR):
                    break
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        return self._socket

    async def close(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._socket.close()

    async def _pump(self) -> None:
        full = True
        while not self._socket.closed:
            try:
                body = msgspec.json.encode(self._api.frame(full=full)).decode()
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    await self._socket.send_str(body)
            except (ConnectionError, TimeoutError):
                # Two seconds without taking a frame: drop it, it will reconnect and get a snapshot.
                await self.close()
                return
            full = False
            await asyncio.sleep(self._period_s)


def _accounts(query: Any) -> tuple[str, ...]:
    return tuple(a for a in query.get("account_ids", query.get("account", "")).split(",") if a)


async def _command(request: web.Request) -> dict[str, str]:
    try:
        body = await request.json()
    except ValueError:
        raise ValueError('the body must be JSON: {"scope": "all", "actor": "you", "reason": "why"}') from None
    if not isinstance(body, dict) or not all(isinstance(v, str) for v in body.values()):
        raise ValueError("the body must be a JSON object of texts")
    scope = body.get("scope", "")
    if not any(scope == s or (s.endswith(".") and scope.startswith(s) and len(scope) > len(s)) for s in _SCOPES):
        raise ValueError("scope must be all, account.NAME, strategy.NAME or symbol.NAME")
    if not body.get("actor"):
        raise ValueError("actor must say who you are")
    return body
