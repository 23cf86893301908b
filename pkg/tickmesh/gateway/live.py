"""Live state for WebSocket clients: a snapshot, then only what changed, with sequence numbers.

Pictures of the replica are numbered. A client holds one of them; when it is ready for more it is sent the
difference to the newest. A slow client therefore skips pictures (they conflate into one difference), holds
at most one frame here, and is closed when it takes none for ``SEND_TIMEOUT_S``; all three are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from tickmesh.gateway.view import SnapshotMessage, State
from tickmesh.observe.metrics import Counter, Metrics

RATES_S = {"web": 0.25, "tui": 0.1}
"""The reference's intervals: four pictures a second for pages, ten for terminals."""
SEND_TIMEOUT_S = 5.0
"""A page in the background may pause for a second or two; one that takes nothing for five is gone."""
_PICTURE_S = 0.08
_HEARTBEAT_S = 15.0
_SOCKET_BUFFER_BYTES = 128 * 1024
_MAX_CACHED = 32
_MAX_INCOMING_BYTES = 4096
_SECTIONS = tuple(f.name for f in msgspec.structs.fields(State))


def difference(old: State, new: State) -> dict[str, dict[str, Any]]:
    """What turns ``old`` into ``new``: per section the keys that changed, None for a key that is gone."""
    changed: dict[str, dict[str, Any]] = {}
    for section in _SECTIONS:
        before, after = getattr(old, section), getattr(new, section)
        entries = {key: value for key, value in after.items() if before.get(key) != value}
        entries |= dict.fromkeys(before.keys() - after.keys())
        if entries:
            changed[section] = entries
    return changed


class Picture(msgspec.Struct, frozen=True):
    """A numbered state."""

    seq: int
    ts: int
    state: State


class Pictures:
    """Makes pictures when somebody looks, shares them and their differences between clients."""

    def __init__(self, make: Callable[[], tuple[int, State]], epoch: int) -> None:
        self.epoch = epoch
        self._make = make
        self._newest: Picture | None = None
        self._made_at_s = 0.0
        self._updates: OrderedDict[tuple[int, int], str] = OrderedDict()

    def newest(self) -> Picture:
        """At most ``_PICTURE_S`` old."""
        now_s = time.monotonic()
        if self._newest is None or now_s - self._made_at_s >= _PICTURE_S:
            ts, state = self._make()
            self._newest = Picture(self._newest.seq + 1 if self._newest else 1, ts, state)
            self._made_at_s = now_s
        return self._newest

    def snapshot(self, picture: Picture) -> str:
        message = SnapshotMessage(epoch=self.epoch, seq=picture.seq, ts=picture.ts, state=picture.state)
        return msgspec.json.encode(message).decode()

    def update(self, old: Picture, new: Picture) -> str:
        """The message that takes a client from ``old`` to ``new``; clients at the same place share it."""
        key = (old.seq, new.seq)
        text = self._updates.get(key)
        if text is None:
            body = {
                "type": "update", "epoch": self.epoch, "seq": new.seq, "previous": old.seq, "ts": new.ts,
                "changed": difference(old.state, new.state),
            }  # fmt: skip
            text = self._updates[key] = msgspec.json.encode(body).decode()
            if len(self._updates) > _MAX_CACHED:
                self._updates.popitem(last=False)
        return text


class LiveMetrics:
    """What happens to WebSocket clients, for /metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self.clients = metrics.gauge("websocket_clients", "connected WebSocket clients")
        self.sent = metrics.counter("websocket_frames_total", "frames sent to WebSocket clients")
        self.conflated = metrics.counter(
            "websocket_conflated_total", "pictures that slow WebSocket clients skipped; they got one difference instead"
        )
        self._metrics = metrics

    def closed(self, reason: str) -> Counter:
        """reason: slow (took nothing in time), full (too many clients), refused (origin or token)."""
        return self._metrics.counter("websocket_closed_total", "WebSocket clients turned away", reason=reason)


class LiveSocket:
    """One WebSocket client."""

    def __init__(self, pictures: Pictures, metrics: LiveMetrics, period_s: float, send_timeout_s: float) -> None:
        self._pictures = pictures
        self._metrics = metrics
        self._period_s = period_s
        self._send_timeout_s = send_timeout_s
        self._socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, compress=False, max_msg_size=_MAX_INCOMING_BYTES, timeout=1.0
        )

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Until the client or we leave. Clients have nothing to say here; what they send is ignored."""
        _bound_buffers(request)
        await self._socket.prepare(request)
        pump = asyncio.create_task(self._pump(request))
        try:
            async for message in self._socket:
                if message.type in (WSMsgType.CLOSE, WSMsgType.ERROR):
                    break
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        return self._socket

    async def close(self) -> None:
        """Say goodbye; the client will come back and get a snapshot."""
        with contextlib.suppress(ConnectionError):
            await self._socket.close(code=1001, message=b"the gateway stops")

    async def _pump(self, request: web.Request) -> None:
        held: Picture | None = None
        due_s = time.monotonic()
        while not self._socket.closed:
            picture = self._pictures.newest()
            text = self._pictures.update(held, picture) if held else self._pictures.snapshot(picture)
            try:
                async with asyncio.timeout(self._send_timeout_s):
                    await self._socket.send_str(text)
            except TimeoutError:
                self._metrics.closed("slow").inc()
                if request.transport is not None:
                    request.transport.abort()  # a goodbye would wait behind what it does not take
                return
            except ConnectionError:
                return
            held = picture
            self._metrics.sent.inc()
            late_s = time.monotonic() - due_s
            self._metrics.conflated.inc(int(late_s / self._period_s))
            due_s += self._period_s * (1 + int(late_s / self._period_s))
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


def _bound_buffers(request: web.Request) -> None:
    """Let at most about a quarter of a megabyte wait for one client, the kernel's share included."""
    if request.transport is None:
        return
    request.transport.set_write_buffer_limits(high=_SOCKET_BUFFER_BYTES)
    raw = request.transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
