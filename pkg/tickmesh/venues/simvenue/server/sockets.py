"""WebSocket endpoints: /ws, /ws/<stream>[/<stream>], /stream?streams=a/b, and what clients ask over them.

In: a connection and its JSON requests. Out: subscriptions on the hub and answers. Frames are written to the
transport by the hub; aiohttp only reads here, answers pings and closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from tickmesh.venues.simvenue.server.hub import Hub, Listener

PING_S = 180.0
MAX_STREAMS = 1024
MAX_MESSAGES_PER_S = 10
MAX_MESSAGE_BYTES = 256 * 1024


class _Request(msgspec.Struct):
    method: str = ""
    params: Any = None
    id: int | str | None = None


_decoder = msgspec.json.Decoder(_Request)


class Sockets:
    """Connections of market and user streams; none is let in while ``closed``."""

    def __init__(self, hub: Hub, now_ms: Callable[[], int], closed: Callable[[], bool] = lambda: False) -> None:
        self._hub, self._now_ms, self._closed = hub, now_ms, closed

    async def ws(self, request: web.Request) -> web.StreamResponse:
        """Raw streams."""
        names = request.match_info.get("streams", "") or request.query.get("listenKey", "")
        return await self._serve(request, [n for n in names.split("/") if n], combined=False)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Combined streams."""
        names = request.query.get("streams", "") or request.query.get("listenKey", "")
        return await self._serve(request, [n for n in names.split("/") if n], combined=True)

    async def _serve(self, request: web.Request, names: list[str], *, combined: bool) -> web.StreamResponse:
        if self._closed():
            return web.Response(status=503, text="Service Unavailable")
        socket = web.WebSocketResponse(compress=False, heartbeat=PING_S, max_msg_size=MAX_MESSAGE_BYTES)
        if not socket.can_prepare(request).ok:
            return web.Response(status=400, text="this path speaks WebSocket")
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        listener = Listener(transport, combined=combined)
        self._hub.join(listener)
        asked: deque[int] = deque(maxlen=MAX_MESSAGES_PER_S)
        try:
            for name in names[:MAX_STREAMS]:
                self._hub.subscribe(listener, name)
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                now_ms = self._now_ms()
                if len(asked) == MAX_MESSAGES_PER_S and now_ms - asked[0] < 1000:
                    await socket.close(code=1008, message=b"Too many requests")
                    break
                asked.append(now_ms)
                self._hub.reply(listener, msgspec.json.encode(self._answer(listener, message.data)))
        finally:
            self._hub.leave(listener)
        return socket

    def _answer(self, listener: Listener, text: str) -> dict[str, Any]:
        try:
            asked = _decoder.decode(text)
        except msgspec.MsgspecError:
            return _error(3, "Invalid JSON: expected value at line 1 column 1", None)
        params = asked.params if asked.params is not None else []
        if asked.method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            if not isinstance(params, list) or not all(isinstance(p, str) for p in params):
                return _error(2, "Invalid request: params must be a list of stream names", asked.id)
            if asked.method == "UNSUBSCRIBE":
                for name in params:
                    self._hub.unsubscribe(listener, name)
            else:
                if len(set(params) | set(listener.streams)) > MAX_STREAMS:
                    return _error(2, f"Invalid request: more than {MAX_STREAMS} streams", asked.id)
                for name in params:
                    self._hub.subscribe(listener, name)
            return {"result": None, "id": asked.id}
        if asked.method == "LIST_SUBSCRIPTIONS":
            return {"result": list(listener.streams), "id": asked.id}
        if asked.method == "SET_PROPERTY" and params[:1] == ["combined"] and isinstance(params[-1], bool):
            listener.combined = params[-1]
            return {"result": None, "id": asked.id}
        if asked.method == "GET_PROPERTY" and params == ["combined"]:
            return {"result": listener.combined, "id": asked.id}
        return _error(2, f"Invalid request: unknown method `{asked.method}`", asked.id)


def _error(code: int, text: str, request_id: int | str | None) -> dict[str, Any]:
    return {"error": {"code": code, "msg": text}, "id": request_id}
