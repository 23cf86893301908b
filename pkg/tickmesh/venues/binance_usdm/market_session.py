"""MarketSession: one WebSocket to the venue's combined market stream, for ever.

In: stream names. Out: frames in order of arrival, those of one read of the socket together, stamped with
CLOCK_MONOTONIC when the first of them is handed out (decision 0176).
It reconnects, waits with backoff and jitter, pings a silent connection, and stops reading when its user is
behind (TCP then slows the venue down). It does not look into frames and never drops one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from picows import WSAutoPingStrategy, WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tickmesh.ports.gate import Gate, NoGate
from tickmesh.venues.binance_usdm.codec_market import stream_path

log = logging.getLogger(__name__)
logging.getLogger("picows").setLevel(logging.WARNING)  # it reports every socket option at INFO

_LOOK_S = 0.25
"""How often the circuit breaker is looked at."""
MAX_FRAME_BYTES = 16 * 1024 * 1024
_MAX_CONTROL_BYTES = 125  # RFC 6455, section 5.5
_TEXT, _CONTINUATION, _BINARY, _CLOSE = WSMsgType.TEXT, WSMsgType.CONTINUATION, WSMsgType.BINARY, WSMsgType.CLOSE
_PING, _PONG = WSMsgType.PING, WSMsgType.PONG


class Receiver(Protocol):
    """What gets the frames; called from the socket's callback, must not raise."""

    def on_connected(self) -> None: ...

    def on_frames(self, frames: list[bytes], mono_ns: int) -> bool:
        """Take what one read of the socket brought. False asks to stop reading."""
        ...

    def on_disconnected(self, reason: str) -> None: ...


class MarketSession:
    """Runs until cancelled. ``resume`` continues reading after ``on_frames`` had said False."""

    def __init__(
        self,
        base_url: str,
        streams: Sequence[str],
        receiver: Receiver,
        *,
        first_s: float = 0.1,
        base_s: float = 1.0,
        max_s: float = 60.0,
        ping_interval_s: float = 5.0,
        ping_timeout_s: float = 5.0,
        jitter: Callable[[], float] = random.random,
        gate: Gate | None = None,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._streams = tuple(streams)
        self._receiver = receiver
        self._first_s = first_s
        self._base_s = base_s
        self._max_s = max_s
        self._ping_interval_s = ping_interval_s
        self._ping_timeout_s = ping_timeout_s
        self._jitter = jitter
        self._gate: Gate = gate or NoGate()
        self._ticket: int | None = None
        self._transport: WSTransport | None = None
        self._listener: _Listener | None = None
        self.paused = False
        self.attempts = 0
        self.connections = 0
        self.connected_mono_ns = 0

    @property
    def connected(self) -> bool:
        """Whether the handshake is done and the connection has not ended."""
        return self._transport is not None

    def hand_over(self, receiver: Receiver) -> None:
        """From now on frames go to ``receiver``."""
        self._receiver = receiver
        if self._listener is not None:
            self._listener.take = receiver.on_frames

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            while (ticket := self._gate.enter()) is None:
                await asyncio.sleep(_LOOK_S)
            self._ticket = ticket
            try:
                reason = await self._once()
            except BaseException:
                if self._ticket is not None:
                    self._gate.neutral(self._ticket)
                raise
            self._lost(reason)
            wait_s = backoff_s(self.attempts, self._first_s, self._base_s, self._max_s, self._jitter())
            self.attempts += 1
            log.warning("market stream: %s; connecting again in %.1f s", reason, wait_s)
            await asyncio.sleep(wait_s)

    def _lost(self, reason: str) -> None:
        """A connection that could not be made, or was made and is lost, is one failure."""
        ticket = self._ticket if self._ticket is not None else self._gate.enter()
        self._ticket = None
        if ticket is not None:
            self._gate.failure(ticket, reason)

    def resume(self) -> None:
        """Read on."""
        if self.paused and self._transport is not None and not self._transport.is_disconnected:
            self._transport.underlying_transport.resume_reading()
        self.paused = False

    def drop(self) -> None:
        """Break the connection; ``run`` makes a new one."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def pause(self) -> None:
        """Stop reading the socket."""
        if not self.paused and self._transport is not None and not self._transport.is_disconnected:
            self._transport.underlying_transport.pause_reading()
            self.paused = True

    def healthy(self) -> None:
        """Called when data has come: the next reconnect starts from the shortest wait."""
        self.attempts = 0

    async def _once(self) -> str:
        path, rest = stream_path(self._streams)
        listener = self._listener = _Listener(self, self._receiver)
        try:
            transport, _ = await ws_connect(
                lambda: listener,
                self._url + path,
                enable_auto_ping=True,
                enable_auto_pong=False,  # a ping may be the last frame of a read, and the listener must see the last
                auto_ping_idle_timeout=self._ping_interval_s,
                auto_ping_reply_timeout=self._ping_timeout_s,
                auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
                max_frame_size=MAX_FRAME_BYTES,
                websocket_handshake_timeout=10.0,
                read_buffer_init_size=256 * 1024,
            )
        except (WSError, OSError, TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            return f"cannot connect to {self._url} ({error or type(error).__name__})"
        try:
            for request in rest:
                transport.send(_TEXT, request)
            await self._until_disconnected(transport, listener)
        finally:
            transport.disconnect(graceful=False)
            self._transport = None
            self._listener = None
            self.paused = False
            listener.deliver()  # a read that ended in a breach of the protocol has no last frame
            self._receiver.on_disconnected(listener.reason)
        return listener.reason

    async def _until_disconnected(self, transport: WSTransport, listener: _Listener) -> None:
        """Wait for the end of the connection, and make one when neither data nor pong has come for too long.

        The library's own ping covers a connection that is idle; this one also a side that closes and never ends it.
        What the library raises here is the venue's breach of the WebSocket protocol: a reason, not our end.
        """
        patience_ns = int((self._ping_interval_s + self._ping_timeout_s) * 1.2e9)
        listener.heard_ns = time.monotonic_ns()
        ended = asyncio.ensure_future(transport.wait_disconnected())
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=min(patience_ns / 8e9, _LOOK_S))
                if self._gate.shut:
                    listener.reason = "its circuit breaker is open"
                    return
                if self.paused:
                    listener.heard_ns = time.monotonic_ns()  # it is we who do not listen
                elif not ended.done() and time.monotonic_ns() - listener.heard_ns > patience_ns:
                    listener.reason = "neither data nor pong came"
                    return
        finally:
            ended.cancel()
            for raised in await asyncio.gather(ended, return_exceptions=True):
                if isinstance(raised, Exception):
                    listener.reason = f"the venue broke the protocol: {raised}"

    def attach(self, transport: WSTransport) -> None:
        """The listener's handshake is done."""
        self._transport = transport
        self.connections += 1
        self.connected_mono_ns = time.monotonic_ns()
        self.paused = False
        if self._ticket is not None:
            self._gate.success(self._ticket)
            self._ticket = None
        self._receiver.on_connected()


class _Listener(WSListener):
    """picows calls this from the socket's data callback."""

    def __init__(self, session: MarketSession, receiver: Receiver) -> None:
        self._session = session
        self.take = receiver.on_frames
        self._frames: list[bytes] = []
        self._arrived_ns = 0
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self.reason = "the connection was lost"
        self.heard_ns = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._session.attach(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # Only control frames and the last part of a message in parts are no whole message, and the former are short;
        # asking for the type costs as much as taking the bytes.
        if frame.fin and (frame.payload_size > _MAX_CONTROL_BYTES or frame.msg_type is _TEXT) and not self._parts:
            frames = self._frames
            if not frames:
                self._arrived_ns = time.monotonic_ns()
            frames.append(frame.get_payload_as_bytes())
        else:
            self._other(transport, frame)
        if frame.last_in_buffer:
            self.deliver()

    def deliver(self) -> None:
        """Hand out what came so far."""
        frames = self._frames
        if frames:
            self._frames, self.heard_ns = [], self._arrived_ns
            if not self.take(frames, self._arrived_ns):
                self._session.pause()

    def _keep(self, whole: bytes) -> None:
        if not self._frames:
            self._arrived_ns = time.monotonic_ns()
        self._frames.append(whole)

    def _other(self, transport: WSTransport, frame: WSFrame) -> None:
        self.heard_ns = time.monotonic_ns()
        kind = frame.msg_type
        if kind is _TEXT and frame.fin:
            self._keep(frame.get_payload_as_bytes())
        elif kind in (_TEXT, _BINARY, _CONTINUATION):
            self._on_part(transport, frame)
        elif kind == _PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == _CLOSE:
            self.reason = f"the venue closed the connection (code {int(frame.get_close_code().value)})"
            transport.disconnect()

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """True for every pong: it answers the library's ping, and is a sign of life. False would end a quiet market."""
        if frame.msg_type != _PONG:
            return False
        self.heard_ns = time.monotonic_ns()
        if frame.last_in_buffer:
            self.deliver()
        return True

    def _on_part(self, transport: WSTransport, frame: WSFrame) -> None:
        part = frame.get_payload_as_bytes()
        self._parts.append(part)
        self._parts_bytes += len(part)
        if self._parts_bytes > MAX_FRAME_BYTES:
            self.reason = f"a message of more than {MAX_FRAME_BYTES} bytes"
            transport.send_close(WSCloseCode.MESSAGE_TOO_BIG)
            transport.disconnect()
        elif frame.fin:
            self._keep(b"".join(self._parts))
            self._parts.clear()
            self._parts_bytes = 0

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        pass  # run() sees it in wait_disconnected


def backoff_s(attempt: int, first_s: float, base_s: float, max_s: float, jitter: float) -> float:
    """Wait before reconnect number ``attempt`` (from 0), with up to 10 % on top.

    A few quick tries, doubling from ``first_s``, heal a restarted venue within a second or two; then ``base_s``
    doubling to ``max_s``.
    """
    quick = 1
    while quick < 16 and first_s * 2**quick < base_s:
        quick += 1
    wait_s = first_s * 2.0**attempt if attempt < quick else base_s * 2.0 ** min(attempt - quick, 30)
    return min(max_s, wait_s * (1.0 + 0.1 * jitter))
