"""Hub: which connection listens to which stream, and the fan-out of frames to them.

In: payloads by stream name (market streams and listen keys alike). Out: bytes on the connections, encoded once per
form. A listener whose outgoing buffer is full is cut off as the venue does; during a replay the sender waits for it
first, for a bounded time. It never looks into a payload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from tickmesh.venues.simvenue.server.text import text_frame, unwrapped, wrapped

WAIT_STEP_S = 0.002


class Wire(Protocol):
    """What the hub needs of a connection; an asyncio transport has it."""

    def write(self, data: bytes) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def is_closing(self) -> bool: ...

    def abort(self) -> None: ...


class Faults(Protocol):
    """What may happen to a frame: frames to send instead, after how many ms, and whether to cut the connection off."""

    def frames(self, stream: str, frame: bytes, outlet: Any) -> tuple[list[bytes], int, bool]: ...


class Listener:
    """One WebSocket connection. ``combined`` decides the envelope; ``streams`` is owned by the hub."""

    __slots__ = ("combined", "streams", "wire")

    def __init__(self, wire: Wire, *, combined: bool) -> None:
        self.wire = wire
        self.combined = combined
        self.streams: dict[str, None] = {}


class Hub:
    """Streams to listeners.

    Args:
        max_buffer_bytes: a listener with more unsent bytes is cut off.
        replay_wait_s: how long a replay waits for a slow listener before that.
    """

    def __init__(self, *, max_buffer_bytes: int, replay_wait_s: float) -> None:
        self._max_bytes, self._replay_wait_s = max_buffer_bytes, replay_wait_s
        self._streams: dict[str, dict[Listener, None]] = {}
        self._aliases: dict[tuple[str, str], dict[str, None]] = {}
        self._symbols: dict[str, int] = {}
        self.listeners: dict[Listener, None] = {}
        self.on_pending: Callable[[], None] = lambda: None
        self.on_subscribed: Callable[[str], None] = lambda _: None
        self.faults: Faults | None = None
        self.sent = 0
        self.cut_off = 0

    # -- subscriptions --------------------------------------------------------------------------------

    def join(self, listener: Listener) -> None:
        self.listeners[listener] = None

    def leave(self, listener: Listener) -> None:
        """Forget a connection; safe to call twice."""
        for stream in list(listener.streams):
            self.unsubscribe(listener, stream)
        self.listeners.pop(listener, None)

    def subscribe(self, listener: Listener, stream: str) -> None:
        """Idempotent; a stream that nobody feeds is accepted and stays silent, as at the venue."""
        if stream in listener.streams:
            return
        listener.streams[stream] = None
        found = self._streams.get(stream)
        if found is None:
            found = self._streams[stream] = {}
            self._aliases.setdefault(_base(stream), {})[stream] = None
            self.on_subscribed(stream)
        found[listener] = None
        symbol = _symbol(stream)
        self._symbols[symbol] = self._symbols.get(symbol, 0) + 1

    def unsubscribe(self, listener: Listener, stream: str) -> None:
        if stream not in listener.streams:
            return
        del listener.streams[stream]
        found = self._streams[stream]
        del found[listener]
        if not found:
            del self._streams[stream]
            del self._aliases[_base(stream)][stream]
        self._symbols[_symbol(stream)] -= 1

    def wanted(self, stream: str) -> bool:
        """True while somebody listens to exactly this stream."""
        return stream in self._streams

    def subscribed(self, symbol: str) -> bool:
        """True while somebody listens to a market stream of the symbol."""
        return self._symbols.get(symbol.lower(), 0) > 0

    # -- sending --------------------------------------------------------------------------------------

    def send(self, stream: str, data: bytes) -> None:
        """Send a payload to a stream's listeners; returns at once."""
        found = self._streams.get(stream)
        if found is not None:
            self._fan_out(stream, found, data, b"")

    async def send_raw(self, stream: str, frame: bytes) -> None:
        """Send a captured frame, its data byte-identical, to the stream and to other speeds of the same stream.

        Waits while a listener is slow, and cuts it off after ``replay_wait_s``: nothing is dropped silently.
        """
        names = self._aliases.get(_base(stream))
        if not names:
            return
        for name in list(names):
            found = self._streams.get(name)
            if found is None:
                continue
            limit = self._max_bytes // 2
            if any(listener.wire.get_write_buffer_size() > limit for listener in found):
                await self._wait_for(found, limit)
            found = self._streams.get(name)
            if found is not None:
                same = frame if name == stream and frame.startswith(b'{"stream"') else b""
                self._fan_out(name, found, unwrapped(frame), same)

    def publish_pending(self) -> None:
        """Send what the exchange's last calls have produced."""
        self.on_pending()

    def reply(self, listener: Listener, payload: bytes) -> None:
        """Answer one connection."""
        self.write(listener, text_frame(payload))

    def cut(self, listener: Listener) -> None:
        """Drop a connection now."""
        self.cut_off += 1
        listener.wire.abort()
        self.leave(listener)

    def _fan_out(self, stream: str, found: dict[Listener, None], data: bytes, combined: bytes) -> None:
        bare = envelope = b""
        for listener in tuple(found):
            if listener.combined:
                frame = envelope = envelope or text_frame(combined or wrapped(stream, data))
            else:
                frame = bare = bare or text_frame(data)
            if self.faults is None:
                self.write(listener, frame)
            else:
                self._write_badly(self.faults, stream, listener, frame)

    def cut_streams(self, matches: Callable[[str], bool]) -> None:
        """Drop every connection that listens to a stream that matches, or to none."""
        for listener in list(self.listeners):
            if not listener.streams or any(matches(stream) for stream in listener.streams):
                self.cut(listener)

    def _write_badly(self, faults: Faults, stream: str, listener: Listener, frame: bytes) -> None:
        frames, delay_ms, cut = faults.frames(stream, frame, listener)
        for chosen in frames:
            if delay_ms:
                asyncio.get_running_loop().call_later(delay_ms / 1000, self.write, listener, chosen)
            else:
                self.write(listener, chosen)
        if cut:
            self.cut(listener)

    def write(self, listener: Listener, frame: bytes) -> None:
        """Hand a frame to a connection; one that has not read for too long is cut off instead."""
        wire = listener.wire
        if wire.is_closing():
            return
        if wire.get_write_buffer_size() > self._max_bytes:
            self.cut(listener)
            return
        wire.write(frame)
        self.sent += 1

    async def _wait_for(self, found: dict[Listener, None], limit: int) -> None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._replay_wait_s
        while slow := [item for item in found if item.wire.get_write_buffer_size() > limit]:
            if loop.time() > give_up:
                for listener in slow:
                    self.cut(listener)
                return
            await asyncio.sleep(WAIT_STEP_S)


def _symbol(stream: str) -> str:
    return stream.partition("@")[0]


def _base(stream: str) -> tuple[str, str]:
    """Symbol and kind: ``btcusdt@depth@0ms`` and ``btcusdt@depth`` are one stream of a capture, ``depth5`` is not."""
    symbol, _, rest = stream.partition("@")
    return symbol, rest.partition("@")[0]
