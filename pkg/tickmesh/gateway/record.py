"""Routes of the record: what the recorder wrote, for as long as it is kept, read from Postgres through the cache.

The live routes answer from the streams and need neither; these say 503 while Postgres is away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from tickmesh.gateway.openapi import Parameter, Route
from tickmesh.ports import Clock
from tickmesh.store.history import MAX_ROWS, History

_BASE = "/api/v1/record"
_DAY_MS = 86_400_000
_SECOND_MS = 1000
_SINCE = Parameter("since_ms", "Unix time in ms (default a day before until_ms)", kind="integer")
_UNTIL = Parameter("until_ms", "Unix time in ms, not included (default now)", kind="integer")
_LIMIT = Parameter("limit", f"at most so many, 1 to {MAX_ROWS} (default 1000)", kind="integer")
_ACCOUNT = Parameter("account", "only this account")
_SYMBOL = Parameter("symbol", "only this symbol")
_SPAN = (_SINCE, _UNTIL, _LIMIT)

Ask = Callable[[int, int, Mapping[str, str], int], Awaitable[bytes]]
"""(since_ns, until_ns, path and query parameters, limit) -> JSON."""


def record_routes(history: History, clock: Clock) -> tuple[Route, ...]:
    """Routes for the gateway's table."""

    async def fills(since_ns: int, until_ns: int, given: Mapping[str, str], limit: int) -> bytes:
        account, symbol = given.get("account", ""), given.get("symbol", "")
        return await history.fills(since_ns, until_ns, account=account, symbol=symbol, limit=limit)

    async def orders(since_ns: int, until_ns: int, given: Mapping[str, str], limit: int) -> bytes:
        account, symbol = given.get("account", ""), given.get("symbol", "")
        return await history.order_events(since_ns, until_ns, account=account, symbol=symbol, limit=limit)

    async def curve(since_ns: int, until_ns: int, given: Mapping[str, str], limit: int) -> bytes:
        every_s = _whole(given, "every_s", 60, 1, 86_400)
        return await history.account(since_ns, until_ns, given["account"], every_s=every_s, limit=limit)

    async def bars(since_ns: int, until_ns: int, given: Mapping[str, str], limit: int) -> bytes:
        return await history.bars(since_ns, until_ns, given["venue"], given["symbol"], limit=limit)

    def handler(ask: Ask) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            # "Now" moves in whole seconds, so that clients who ask at once share one answer.
            now_ms = (clock.wall_ns() // 1_000_000 // _SECOND_MS + 1) * _SECOND_MS
            until_ms = _whole(request.query, "until_ms", now_ms, 0, 4_102_444_800_000)
            since_ms = _whole(request.query, "since_ms", max(0, until_ms - _DAY_MS), 0, 4_102_444_800_000)
            limit = _whole(request.query, "limit", 1000, 1, MAX_ROWS)
            given = {**request.query, **request.match_info}
            body = await ask(since_ms * 1_000_000, until_ms * 1_000_000, given, limit)
            return web.Response(body=body, content_type="application/json")

        return handle

    def route(path: str, ask: Ask, summary: str, *parameters: Parameter) -> Route:
        return Route(
            "GET", f"{_BASE}{path}", handler(ask), summary, ((200, None),), (*parameters, *_SPAN), None, (400, 503)
        )

    venue, symbol = Parameter("venue", "the venue", "path"), Parameter("symbol", "the symbol", "path")
    account = Parameter("account", "the account", "path")
    every = Parameter("every_s", "one snapshot of every so many seconds (default 60)", kind="integer")
    return (
        route("/fills", fills, "recorded fills, newest first", _ACCOUNT, _SYMBOL),
        route("/order-events", orders, "recorded steps of orders, newest first", _ACCOUNT, _SYMBOL),
        route("/accounts/{account}", curve, "equity and P&L over time, newest first", account, every),
        route("/bars/{venue}/{symbol}", bars, "minute bars of public trades, newest first", venue, symbol),
    )


def _whole(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 15 or not low <= int(text) <= high:
        raise ValueError(f"{name} must be a whole number between {low} and {high}")
    return int(text)
