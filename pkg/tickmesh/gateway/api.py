"""REST and WebSocket over a Replica: queries are answered from memory, commands leave as Control messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from tickmesh.domain.enums import OrderState
from tickmesh.gateway import openapi, view
from tickmesh.gateway.control import Commands, parse
from tickmesh.gateway.guard import COOKIE, SESSION_S, Access, Guard, RateLimit, RequestHandler, RequestRefusedError
from tickmesh.gateway.latency import stages_us
from tickmesh.gateway.live import RATES_S, SEND_TIMEOUT_S, LiveMetrics, LiveSocket, Pictures
from tickmesh.gateway.openapi import Parameter, Route
from tickmesh.gateway.page import PREFIX, Pages
from tickmesh.gateway.past import Past
from tickmesh.gateway.replica import Replica
from tickmesh.observe.admin import json_response
from tickmesh.observe.metrics import Metrics
from tickmesh.ports import Bus, Clock

_BASE = "/api/v1/trading"
_DEPTH = 12
_MAX_BODY_BYTES = 16 * 1024
_LOGINS_PER_S = 3.0
_LIVE_ORDERS = 100
_LIVE_FILLS = 200
_LIVE_ALERTS = 20
_ACCOUNTS = Parameter("account_ids", "comma-separated names; all accounts when absent")
_LIMIT = Parameter("limit", "at most so many, 1 to 1000 (default 200)", kind="integer")


class Watch:
    """What the gateway knows of the other services, filled by its shell."""

    def __init__(self) -> None:
        self.services: dict[str, view.ServiceView] = {}
        self.market = view.Market()


class Api:
    """The gateway's HTTP application."""

    def __init__(
        self,
        replica: Replica,
        bus: Bus,
        clock: Clock,
        metrics: Metrics,
        *,
        watch: Watch,
        access: Access,
        requests_per_s: float = 100.0,
        max_sockets: int = 100,
        send_timeout_s: float = SEND_TIMEOUT_S,
        more_routes: tuple[Route, ...] = (),
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._watch = watch
        self._access = access
        self._commands = Commands(bus, clock)
        self._pages = Pages()
        self._logins = RateLimit(_LOGINS_PER_S)
        self._max_sockets = max_sockets
        self._send_timeout_s = send_timeout_s
        self._pictures = Pictures(lambda: (clock.wall_ns(), self.state()), epoch=clock.wall_ns() // 1_000_000)
        self._live_metrics = LiveMetrics(metrics)
        self.past = Past()
        self.sockets: set[LiveSocket] = set()
        self.routes = self._table() + more_routes
        self._document = msgspec.json.encode(openapi.document(self.routes))
        guard = Guard(access, RateLimit(requests_per_s), self._is_open, metrics)
        self.app = web.Application(middlewares=[guard.middleware], client_max_size=_MAX_BODY_BYTES)
        for route in self.routes:
            self.app.router.add_route(route.method, route.path, route.handler)
        self.app.router.add_get("/", self._index)
        self.app.router.add_get(PREFIX + "{name}", self._file)

    def _table(self) -> tuple[Route, ...]:
        """Every route but the page's own files."""
        replica = self._replica
        order_query = (
            _ACCOUNTS, Parameter("symbol", "only this symbol"), Parameter("state", "only this order state"),
            Parameter("open", "true for open orders only"), _LIMIT,
        )  # fmt: skip
        wrong, command_errors = (400,), (400, 503)
        done = (200, view.CommandDone)
        return (
            Route("GET", f"{_BASE}/positions", _list(lambda q: replica.positions(_accounts(q))),
                  "positions of all accounts", ((200, list[view.PositionView]),), (_ACCOUNTS,)),
            Route("GET", f"{_BASE}/balances", _list(lambda q: replica.balances(_accounts(q))),
                  "balances of all accounts", ((200, list[view.BalanceView]),), (_ACCOUNTS,)),
            Route("GET", f"{_BASE}/accounts", _list(lambda q: replica.account_views(_accounts(q))),
                  "equity, P&L and margin of all accounts", ((200, list[view.AccountView]),), (_ACCOUNTS,)),
            Route("GET", f"{_BASE}/orders", _list(self._orders), "orders, newest first",
                  ((200, list[view.OrderView]),), order_query, errors=wrong),
            Route("GET", f"{_BASE}/orders/pending", _list(lambda q: self._orders({**q, "open": "true"})),
                  "open orders, newest first", ((200, list[view.OrderView]),), order_query, errors=wrong),
            Route("GET", f"{_BASE}/orders/pending/ids", _list(self._pending_ids),
                  "client order ids of open orders", ((200, list[str]),), (_ACCOUNTS,)),
            Route("GET", f"{_BASE}/orders/{{client_order_id}}", self._order, "one order, its life and its latencies",
                  ((200, view.OrderDetail),), (Parameter("client_order_id", "our id of it", "path"),), errors=(404,)),
            Route("GET", f"{_BASE}/fills", _list(lambda q: replica.fill_views(_limit(q))),
                  "our last fills, newest first", ((200, list[view.FillView]),), (_LIMIT,), errors=wrong),
            Route("GET", f"{_BASE}/signals", _list(lambda q: replica.signals()[: _limit(q)]),
                  "last signals of strategies, newest first", ((200, list[view.SignalView]),), (_LIMIT,), errors=wrong),
            Route("GET", f"{_BASE}/strategies", _list(lambda _: replica.strategies()),
                  "what each strategy has done", ((200, list[view.StrategyView]),)),
            Route("GET", f"{_BASE}/alerts", _list(lambda q: replica.alerts(_limit(q))),
                  "last alerts, newest first", ((200, list[view.AlertView]),), (_LIMIT,), errors=wrong),
            Route("GET", f"{_BASE}/batch/snapshot", self._snapshot, "accounts, positions, orders, balances in one",
                  ((200, view.Snapshot),), (_ACCOUNTS,)),
            Route("GET", "/api/v1/live", self._live, "one picture of everything", ((200, view.Live),)),
            Route("GET", "/api/v1/history", self._history, "P&L and prices of the last 15 minutes",
                  ((200, view.History),)),
            Route("GET", "/api/v1/control/halts", _list(lambda _: replica.halts()), "what is halted or reducing",
                  ((200, list[view.HaltView]),)),
            Route("POST", "/api/v1/control/halt", self._verb("halt"), "stop and cancel; flatten also closes positions",
                  (done,), body=view.Command, errors=command_errors),
            Route("POST", "/api/v1/control/reduce", self._verb("reduce"), "only let positions shrink",
                  (done,), body=view.Command, errors=command_errors),
            Route("POST", "/api/v1/control/resume", self._resume, "trade again; takes two calls",
                  (done, (202, view.ConfirmationNeeded)), body=view.Command, errors=command_errors),
            Route("GET", "/api/v1/session", self._session, "how this client may use the gateway",
                  ((200, view.SessionView),)),
            Route("POST", "/api/v1/session", self._login, "show the token once, get a session cookie",
                  ((200, view.SessionView),), body=view.Login, errors=wrong),
            Route("GET", "/api/v1/openapi.json", self._openapi, "this document", ((200, None),)),
            Route("GET", "/ws/live", self._websocket, "WebSocket: a snapshot, then what changes (docs/api.md)",
                  ((101, None),), (Parameter("rate", "web (4 a second) or tui (10 a second)"),), errors=(400, 503)),
        )  # fmt: skip

    def _is_open(self, path: str) -> bool:
        """The page has no data of its own; it must load to ask for the token."""
        return path in ("/", "/api/v1/session") or path.startswith(PREFIX)

    def live(self) -> view.Live:
        """One picture of everything; what ``tickmesh status`` and the supervisor's line show."""
        replica, now_ns = self._replica, self._clock.wall_ns()
        return view.Live(
            ts=now_ns,
            prices=replica.prices(now_ns),
            positions=replica.positions(),
            accounts=replica.account_views(),
            pnl=replica.pnl(),
            orders=replica.order_counts(),
            fills=replica.fill_count,
            maker_fills=replica.maker_count,
            latency_us=replica.stages.quantiles_us(now_ns),
            services=dict(self._watch.services),
            halts=replica.halts(),
            alerts=replica.alerts(5),
            market=self._watch.market,
        )

    def state(self) -> view.State:
        """The same for WebSocket clients, keyed so that differences are small."""
        replica, now_ns = self._replica, self._clock.wall_ns()
        totals = view.Totals(
            pnl=replica.pnl(),
            orders=replica.order_counts(),
            fills=replica.fill_count,
            maker_fills=replica.maker_count,
            market=self._watch.market,
        )
        fills = replica.fill_views(_LIVE_FILLS)
        return view.State(
            prices=replica.prices(now_ns, _DEPTH),
            positions={f"{p.account}/{p.symbol}/{p.position_side}": p for p in replica.positions()},
            accounts={a.account: a for a in replica.account_views()},
            orders={o.client_order_id: o for o in replica.select_orders(open_only=True, limit=_LIVE_ORDERS)},
            fills={f"{f.account}/{f.symbol}/{f.trade_id}": f for f in fills},
            strategies={s.strategy: s for s in replica.strategies()},
            latency_us=replica.stages.quantiles_us(now_ns),
            services=dict(self._watch.services),
            halts={h.scope: h for h in replica.halts()},
            alerts={f"{a.at_ns}/{a.kind}": a for a in replica.alerts(_LIVE_ALERTS)},
            totals={"all": totals},
        )

    def _orders(self, query: Mapping[str, str]) -> list[view.OrderView]:
        state = query.get("state", "").upper()
        if state and state not in OrderState.__members__:
            raise ValueError(f"state must be one of {', '.join(OrderState.__members__)}")
        return self._replica.select_orders(
            accounts=_accounts(query), symbol=query.get("symbol", ""), state=state, limit=_limit(query),
            open_only=query.get("open", "") == "true",
        )  # fmt: skip

    def _pending_ids(self, query: Mapping[str, str]) -> list[str]:
        found = self._replica.select_orders(accounts=_accounts(query), open_only=True, limit=1000)
        return [order.client_order_id for order in found]

    async def _order(self, request: web.Request) -> web.StreamResponse:
        client_order_id = request.match_info["client_order_id"]
        event = self._replica.orders.get(client_order_id)
        if event is None:
            raise RequestRefusedError(
                404, f"no order {client_order_id} is known; it may be older than the newest 20,000"
            )
        steps = [
            view.OrderStep(state=e.state.value, at_ns=e.publish_ns, reason=e.reason)
            for e in sorted(self._replica.history[client_order_id], key=lambda e: (e.publish_ns, e.seq))
        ]
        return json_response(
            view.OrderDetail(order=self._replica.order_view(event), history=steps, stages_us=stages_us(event.stamps))
        )

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        accounts, replica = _accounts(request.query), self._replica
        return json_response(
            view.Snapshot(
                accounts=replica.account_views(accounts),
                positions=replica.positions(accounts),
                orders=replica.select_orders(accounts=accounts, limit=1000),
                balances=replica.balances(accounts),
            )
        )

    async def _live(self, _: web.Request) -> web.StreamResponse:
        return json_response(self.live())

    async def _history(self, _: web.Request) -> web.StreamResponse:
        return json_response(self.past.view())

    def sample(self) -> None:
        """Once a second: keep what charts show."""
        now_ns = self._clock.wall_ns()
        pnl = self._replica.pnl().total if self._replica.accounts else None
        self.past.add(now_ns, pnl, self._replica.prices(now_ns))
        self._live_metrics.clients.set(len(self.sockets))

    async def _openapi(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=self._document, content_type="application/json")

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._pages.serve(request, "index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._pages.serve(request, request.match_info["name"])

    def _verb(self, verb: str) -> RequestHandler:
        async def handle(request: web.Request) -> web.StreamResponse:
            command = parse(verb, await _json(request))
            await self._commands.send(verb, command)
            return json_response(view.CommandDone(verb=verb, scope=command.scope))

        return handle

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        command = parse("resume", await _json(request))
        needed = await self._commands.resume(command)
        if needed is not None:
            return json_response(needed, status=202)
        return json_response(view.CommandDone(verb="resume", scope=command.scope))

    async def _session(self, request: web.Request) -> web.StreamResponse:
        authorized = self._access.authorized(request)
        return json_response(view.SessionView(authorized=authorized, commands=authorized and self._access.commands))

    async def _login(self, request: web.Request) -> web.StreamResponse:
        try:
            offered = msgspec.json.decode(await _json(request), type=view.Login).token
        except msgspec.DecodeError:
            raise ValueError('the body must be JSON: {"token": "..."}') from None
        if not self._logins.allow(request.remote or "?", time.monotonic()):
            raise RequestRefusedError(429, "too many attempts to sign in; wait a second")
        if self._access.token and not self._access.token_fits(offered):
            raise RequestRefusedError(401, "this is not the token of this gateway (TICKMESH_GATEWAY__TOKEN)")
        response = json_response(view.SessionView(authorized=True, commands=self._access.commands))
        if self._access.token:
            response.set_cookie(
                COOKIE, self._access.session(int(time.time()) + SESSION_S), max_age=SESSION_S, httponly=True,
                samesite="Strict", secure=request.secure, path="/",
            )  # fmt: skip
        return response

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        rate = request.query.get("rate", "web")
        if rate not in RATES_S:
            raise ValueError(f"rate must be one of {', '.join(RATES_S)}")
        if len(self.sockets) >= self._max_sockets:
            self._live_metrics.closed("full").inc()
            raise RequestRefusedError(503, f"{self._max_sockets} clients are connected already; try again later")
        socket = LiveSocket(self._pictures, self._live_metrics, RATES_S[rate], self._send_timeout_s)
        self.sockets.add(socket)
        try:
            return await socket.serve(request)
        finally:
            self.sockets.discard(socket)


def _list(query: Callable[[Mapping[str, str]], list[Any]]) -> RequestHandler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return json_response(query(request.query))

    return handle


def _accounts(query: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(a for a in query.get("account_ids", query.get("account", "")).split(",") if a)


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", "200")
    if not text.isascii() or not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= 1000:
        raise ValueError("limit must be a whole number between 1 and 1000")
    return int(text)


async def _json(request: web.Request) -> bytes:
    """The body; only as JSON, which a form of another site cannot send."""
    if request.content_type != "application/json":
        raise RequestRefusedError(400, "the body must be JSON with Content-Type: application/json")
    return await request.read()
