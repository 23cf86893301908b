"""DirectClient: nats-py's client with a shorter way in and a bounded way out.

nats-py hands each message through a stream reader, a parser coroutine, a queue and a task per subscription:
three task switches. Here the socket's protocol object parses and calls the handler at once (docs/decisions/
0081). Handshake, reconnection, requests and everything else stay nats-py's; its own subscriptions get their
messages as before. Refuses to wait for a dead connection: it is aborted, and what was in it is counted lost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket as socket_module
from collections import deque
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import UnexpectedEOF

from tickmesh.bus.frames import FrameError, Frames
from tickmesh.domain.errors import DependencyError

log = logging.getLogger(__name__)

MAX_BUFFERED_BYTES = 8 * 1024 * 1024
"""Bound on what waits here while the server is away or slow; past it ``send`` refuses."""

_SOCKET_BACKLOG_BYTES = 1024 * 1024
_MAX_WAITING_MESSAGES = 65_536

Direct = Callable[[bytes, bytes, bytes, bytes], None]
"""Called with (subject, reply, header block, payload) from inside the socket's read; must not raise."""


class DirectClient(Client):
    """See the module. ``direct`` maps subscription ids to handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.direct: dict[int, Direct] = {}
        self.on_reconnect: set[Callable[[], None]] = set()
        """Called once after each reconnection."""
        self.held = False
        """While set, ``send`` only collects; who sets it must call ``push`` in the same call of the loop."""
        self.promised_bytes = 0
        """Room that is kept for what was let in by ``may_send`` and comes later: nobody else's command takes it."""
        self._direct_of: Any = None
        self._direct_socket: socket_module.socket | None = None
        self.lost_bytes = 0
        """Bytes that were still ours to send when a connection died; the least that was lost."""

    async def subscribe_direct(self, subject: str, handler: Direct, *, queue: str = "") -> Any:
        """Subscribe with a handler that is called as the bytes arrive."""
        # Registered under the id that nats-py takes next: nothing can come between, there is no await.
        sid = self._sid + 1
        self.direct[sid] = handler
        try:
            return await self.subscribe(subject, queue=queue)
        except BaseException:
            self.direct.pop(sid, None)
            raise

    async def unsubscribe_direct(self, subscription: Any) -> None:
        """Stop; harmless when the connection is gone."""
        self.direct.pop(subscription._id, None)
        if not self.is_closed and subscription._id in self._subs:
            await subscription.unsubscribe()

    async def flush(self, timeout: int = 10) -> None:
        """Return when the server has taken everything that was given before.

        nats-py writes its PING past the commands that wait for its flusher, so its answer alone proves nothing of them.
        """
        self.push()
        if self._pending and self.is_connected:
            await self._flush_pending(force_flush=True)
        await super().flush(timeout)

    def send(self, command: bytes, subject: str) -> None:
        """Give ``command`` to the socket in this very iteration of the loop, in order with everything else.

        Raises:
            DependencyError: closed, or ``MAX_BUFFERED_BYTES`` wait already; this command was not taken.
        """
        self.may_send(subject, len(command))
        # nats-py's own list, so that order and the buffer across a reconnect stay one thing.
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self.held:
            self.push()

    def push(self) -> None:
        """Give everything that waits here to the socket, as far as it is there to take it."""
        if not self._pending or not self.is_connected:
            return
        socket = self._socket()
        if socket is None:
            return
        buffered = socket.get_write_buffer_size()
        if buffered > _SOCKET_BACKLOG_BYTES:
            # The server reads too slowly: let the flusher, which waits for the socket, take it from here.
            if self._flush_queue is not None and self._flush_queue.empty():
                self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
            return
        pending, self._pending, self._pending_data_size = self._pending, [], 0
        whole = pending[0] if len(pending) == 1 else b"".join(pending)
        sent = 0 if buffered else self._straight(socket, whole)
        if sent < len(whole):
            socket.write(whole[sent:] if sent else whole)

    def may_send(self, subject: str, size: int) -> None:
        """Raise what ``send`` of so many bytes would raise now."""
        if self.is_closed:
            raise DependencyError("nats", f"cannot publish on {subject}: the connection is closed")
        if self._pending_data_size + self.promised_bytes + size > MAX_BUFFERED_BYTES:
            raise DependencyError(
                "nats",
                f"cannot publish on {subject}: {self._pending_data_size} bytes wait for a NATS server that "
                + ("does not keep up" if self.is_connected else "is away"),
            )

    def _straight(self, transport: Any, data: bytes) -> int:
        """Bytes that the kernel took at once: uvloop's own write waits for the end of the loop's turn.

        To be asked only while nothing is buffered, so that order stands; a dead socket is the transport's to report.
        """
        if transport is not self._direct_of:
            self._close_direct()
            self._direct_of = transport
            plain = transport.get_extra_info("socket")
            if plain is not None and transport.get_extra_info("sslcontext") is None:
                self._direct_socket = socket_module.socket(fileno=os.dup(plain.fileno()))
                self._direct_socket.setblocking(False)
        direct = self._direct_socket
        if direct is None or transport.is_closing():
            return 0
        try:
            return direct.send(data)
        except OSError:
            return 0

    def _close_direct(self) -> None:
        if self._direct_socket is not None:
            self._direct_socket.close()
            self._direct_socket = None
        self._direct_of = None

    @property
    def backlog_bytes(self) -> int:
        """What was given to ``send`` and not yet taken by the operating system."""
        socket = self._socket()
        return int(self._pending_data_size + (socket.get_write_buffer_size() if socket is not None else 0))

    def _socket(self) -> Any:
        """The asyncio transport; None when there is none (or it is a WebSocket, which the flusher serves)."""
        writer = getattr(self._transport, "_io_writer", None)
        return None if writer is None else writer.transport

    async def _process_op_err(self, e: Exception) -> None:
        if not self.is_closed and not self.is_reconnecting:
            socket = self._socket()
            if socket is not None:
                # Closing politely would first send what is buffered, for ever if the other side is gone.
                self.lost_bytes += socket.get_write_buffer_size()
                socket.abort()
            self._close_direct()
        await super()._process_op_err(e)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        finally:
            self._close_direct()  # a second descriptor would keep the connection open

    async def _read_loop(self) -> None:
        """Parse in the protocol object; here only what nats-py does in coroutines, in order."""
        transport: Any = self._transport
        writer = getattr(transport, "_io_writer", None)
        if writer is None:
            await super()._read_loop()
            return
        splice = _Splice(self, writer)
        try:
            splice.start(transport._io_reader)
            while True:
                await splice.wake.wait()
                splice.wake.clear()
                while splice.waiting:
                    await self._one(splice.waiting.popleft())
                splice.resume()
                if splice.ended is not None:
                    if not self.is_closed and not self.is_reconnecting:
                        await self._error_cb(splice.ended)
                        await self._process_op_err(splice.ended)
                    return
        except asyncio.CancelledError:
            return
        except Exception as error:
            # nats-py would go deaf here and never say so; a new connection is the way out.
            log.exception("nats: reading failed; connecting anew")
            await self._process_op_err(error)

    async def _one(self, item: tuple[Any, ...]) -> None:
        if len(item) == 5:
            sid, subject, reply, head, payload = item
            await self._process_msg(sid, subject, reply, payload, head)
            return
        line: bytes = item[0]
        if line.startswith(b"PING"):
            await self._process_ping()
        elif line.startswith(b"PONG"):
            await self._process_pong()
        elif line.startswith(b"-ERR"):
            error = NatsError(f"the server says {line[4:].strip().decode(errors='replace')}")
            await self._error_cb(error)
            # nats-py would close for good on most of these; a service that must not die connects anew instead.
            if b"permissions violation" not in line.lower():
                await self._process_op_err(error)
        elif line.startswith(b"INFO"):
            await self._process_info(json.loads(line[4:]))


class _Splice(asyncio.Protocol):
    """Takes the place of the stream reader under the socket; writing's flow control still reaches the writer."""

    def __init__(self, client: DirectClient, writer: Any) -> None:
        self.waiting: deque[tuple[Any, ...]] = deque()  # bounded: past _MAX_WAITING_MESSAGES nothing is read
        self.wake = asyncio.Event()
        self.ended: Exception | None = None
        self._client = client
        self._socket = writer.transport
        self._inner = self._socket.get_protocol()
        self._frames = Frames(self._on_message, self._on_other)
        self._paused = False

    def start(self, reader: Any) -> None:
        """Take over, beginning with what the stream reader had read already."""
        early = bytes(reader._buffer)
        reader._buffer.clear()
        self._socket.set_protocol(self)
        if reader.at_eof() or self._socket.is_closing():
            self._end(UnexpectedEOF())
        elif early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        try:
            self._frames.feed(data)
        except FrameError as error:
            self._end(error)
        if len(self.waiting) > _MAX_WAITING_MESSAGES and not self._paused:
            self._paused = True
            self._socket.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._socket.is_closing():
                self._socket.resume_reading()

    def _on_message(self, sid: int, subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        handler = self._client.direct.get(sid)
        if handler is None:
            self.waiting.append((sid, subject, reply, head, payload))
            self.wake.set()
            return
        stats = self._client.stats
        stats["in_msgs"] += 1
        stats["in_bytes"] += len(payload)
        handler(subject, reply, head, payload)

    def _on_other(self, line: bytes) -> None:
        if not line.startswith(b"+OK"):
            self.waiting.append((line,))
            self.wake.set()

    def _end(self, error: Exception) -> None:
        if self.ended is None:
            self.ended = error
        self.wake.set()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        self._end(UnexpectedEOF())
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)  # whoever waits in drain() or wait_closed() is told
        self._end(exc or UnexpectedEOF())
