"""HttpClient: the venue's REST transport, HTTP/1.1 with keep-alive over a few warm connections.

In: complete request bytes, built by ``rest``. Out: status, headers, body, and the moment the bytes were
handed to the socket. It refuses to pipeline, to follow redirects and to repeat a request that may have
arrived: only a GET whose reused connection broke is sent once more. See docs/decisions/0060.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec

from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.ports import Clock

_MAX_BODY_BYTES = 32 * 1024 * 1024
_TIMER_SLACK_S = 0.001
"""Event loops call a timer up to a millisecond early; asking again for so little would be a loop of its own."""


class NotSentError(DependencyError):
    """No byte of the request left this machine; sending it again is safe."""

    def __init__(self, message: str) -> None:
        super().__init__("venue", message)


class WithdrawnError(NotSentError):
    """Nobody wants the request any more, and no byte of it left: no fault of the venue."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AnswerLostError(DependencyError):
    """The request left and no whole answer came: whether the venue acted on it is unknown."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__("venue", message)
        self.timed_out = timed_out


class HttpAnswer(msgspec.Struct, frozen=True):
    """A whole answer; header names are lower case. Both stamps are CLOCK_MONOTONIC."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent_mono_ns: int
    received_mono_ns: int


class Exchange:
    """One request on its way: ``answer`` resolves to HttpAnswer or raises AnswerLostError."""

    __slots__ = ("answer", "reused", "sent_mono_ns")

    def __init__(self, sent_mono_ns: int, answer: asyncio.Future[HttpAnswer], reused: bool) -> None:
        self.sent_mono_ns = sent_mono_ns
        self.answer = answer
        self.reused = reused


class Connection(asyncio.Protocol):
    """One socket with at most one request in flight."""

    def __init__(self, pool: HttpClient, sock: socket.socket | None) -> None:
        self._pool = pool
        self._sock = sock
        self._transport: Any = None
        self._parser: Any = None
        self._waiting: asyncio.Future[HttpAnswer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        """At most one, and one that outlives its request: arming a timer for each costs more than looking again."""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._sent_mono_ns = 0
        self._due_s = self._timeout_s = 0.0
        self.uses = 0
        self.idle_since_s = 0.0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:
            self.close()  # an answer that nobody asked for: this connection cannot be trusted any more
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserCallbackError, ValueError) as error:
            self._fail(AnswerLostError(f"the venue's answer is not HTTP ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool._forget(self)
        self._fail(AnswerLostError(f"the venue closed the connection before it answered ({exc or 'end of stream'})"))

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > _MAX_BODY_BYTES:
            raise ValueError(f"body over {_MAX_BODY_BYTES} bytes")
        self._body.append(body)

    def on_message_complete(self) -> None:
        status: int = self._parser.get_status_code()
        if status < 200:
            self._start_message()  # 100-continue and its like: the real answer follows
            return
        waiting, self._waiting = self._waiting, None
        answer = HttpAnswer(status, self._headers, b"".join(self._body), self._sent_mono_ns, self._pool.clock.mono_ns())
        if self._parser.should_keep_alive() and not self._transport.is_closing():
            self._pool._release(self)
        else:
            self.close()
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    # What the pool calls.

    @property
    def usable(self) -> bool:
        return self._waiting is None and self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, timeout_s: float) -> Exchange:
        """Hand the bytes over now.

        Raises:
            NotSentError: the socket is dead and took none of them.
        """
        loop = self._pool.loop
        written = 0
        if self._sock is not None and self._transport.get_write_buffer_size() == 0:
            # Straight to the kernel: uvloop's own write waits for the end of the loop iteration.
            try:
                written = self._sock.send(request)
            except (BlockingIOError, InterruptedError):
                written = 0
            except OSError as error:
                self.close()
                raise NotSentError(f"the connection to the venue is dead ({error.strerror})") from error
        if written < len(request):
            self._transport.write(request[written:] if written else request)
        self._sent_mono_ns = self._pool.clock.mono_ns()
        self._start_message()  # after the bytes are gone: the answer cannot come before this returns
        self._waiting = loop.create_future()
        self._timeout_s, self._due_s = timeout_s, loop.time() + timeout_s
        if self._timer is not None and self._timer.when() > self._due_s:
            self._disarm()
        if self._timer is None:
            self._timer = loop.call_at(self._due_s, self._on_timer)
        self.uses += 1
        return Exchange(self._sent_mono_ns, self._waiting, self.uses > 1)

    def close(self) -> None:
        self._pool._forget(self)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
        if self._waiting is None:
            self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_message(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers = {}
        self._body = []
        self._body_bytes = 0

    def _on_timer(self) -> None:
        """The request that the timer was armed for may have its answer; a later one may wait for its own."""
        self._timer = None
        if self._waiting is None:
            return
        if self._pool.loop.time() + _TIMER_SLACK_S < self._due_s:
            self._timer = self._pool.loop.call_at(self._due_s, self._on_timer)
        else:
            self._fail(AnswerLostError(f"the venue did not answer within {self._timeout_s:g} s", timed_out=True))

    def _fail(self, error: AnswerLostError) -> None:
        waiting, self._waiting = self._waiting, None
        self._disarm()
        self._pool._forget(self)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
            waiting.exception()  # retrieved here: whoever waits is told, nobody waiting is not a bug


class HttpClient:
    """A pool of at most ``max_connections``; the most recently used idle one goes first, for a warm path.

    Idle connections are closed after ``max_idle_s``, well before servers do it, so that an order seldom meets
    a connection that is being closed. At most ``max_waiting`` requests wait for a free connection.
    """

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        *,
        max_connections: int = 8,
        max_waiting: int = 256,
        connect_timeout_s: float = 3.0,
        max_idle_s: float = 25.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"the venue's REST URL {base_url} must start with http:// or https:// and name a host")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.path_prefix = parts.path.rstrip("/")
        self.host_header = parts.netloc.rpartition("@")[2]
        self.clock = clock
        self._ssl = (ssl_context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._max_connections = max_connections
        self._max_waiting = max_waiting
        self._connect_timeout_s = connect_timeout_s
        self._max_idle_s = max_idle_s
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[None]] = deque()  # bounded by max_waiting
        self._closed = False
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()

    @property
    def idle(self) -> int:
        """Connections that could take a request this moment."""
        return sum(c.usable for c in self._idle)

    def try_send(self, request: bytes, timeout_s: float) -> Exchange | None:
        """Send now on an idle connection, without a single await; None when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.usable:
                continue
            try:
                return connection.send(request, timeout_s)
            except NotSentError:
                continue  # closed under us, nothing left: the next connection may take it
        return None

    async def start(self, request: bytes, timeout_s: float, veto: Callable[[], str] = lambda: "") -> Exchange:
        """Send as soon as a connection is free, unless ``veto`` gives a reason not to at that moment.

        Raises:
            WithdrawnError: the veto's reason.
            NotSentError: no connection within the connect timeout, or too many requests wait already.
        """
        deadline_s = self.loop.time() + self._connect_timeout_s
        while True:
            if reason := veto():
                raise WithdrawnError(reason)
            exchange = self.try_send(request, timeout_s)
            if exchange is not None:
                return exchange
            if self._closed:
                raise NotSentError("the client is closed")
            if len(self._all) + self._opening < self._max_connections:
                self._idle.append(await self._open())
            else:
                await self._wait_for_turn(deadline_s)

    async def request(self, request: bytes, *, timeout_s: float, idempotent: bool) -> HttpAnswer:
        """Send and wait for the answer; an ``idempotent`` one is repeated once if a reused connection broke.

        Raises:
            NotSentError: nothing was sent.
            AnswerLostError: sent, outcome unknown.
        """
        exchange = await self.start(request, timeout_s)
        try:
            return await exchange.answer
        except AnswerLostError as error:
            if not idempotent or error.timed_out or not exchange.reused:
                raise
        return await (await self.start(request, timeout_s)).answer

    async def keep_warm(self, count: int) -> None:
        """Close what idled too long, then open connections until ``count`` are idle.

        Raises:
            NotSentError: the venue does not accept connections.
        """
        now_s = self.loop.time()
        for connection in [c for c in self._idle if now_s - c.idle_since_s > self._max_idle_s]:
            connection.close()
        while self.idle < count and len(self._all) + self._opening < self._max_connections and not self._closed:
            self._release(await self._open())

    async def close(self) -> None:
        """Close every connection; requests in flight fail as lost."""
        self._closed = True
        for connection in list(self._all):
            connection.close()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        await asyncio.sleep(0)

    async def _wait_for_turn(self, deadline_s: float) -> None:
        if len(self._waiters) >= self._max_waiting:
            raise NotSentError(f"{len(self._waiters)} requests already wait for a connection to the venue")
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self.loop.time())):
                await waiter
        except TimeoutError:
            raise NotSentError(f"no connection to the venue became free within {self._connect_timeout_s:g} s") from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    async def _open(self) -> Connection:
        self._opening += 1
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._dial(lambda sock: Connection(self, sock))
        except TimeoutError:
            raise NotSentError(f"{self.host}:{self.port} does not accept a connection in time") from None
        except OSError as error:
            raise NotSentError(f"cannot connect to {self.host}:{self.port} ({error.strerror or error})") from error
        finally:
            self._opening -= 1
        self._all.add(connection)
        connection.idle_since_s = self.loop.time()
        return connection

    async def _dial(self, make: Callable[[socket.socket | None], Connection]) -> Connection:
        """Connect and return what ``make`` made of it; the one place that touches a network (the simulation's seam).

        Raises:
            OSError: the venue does not accept it.
        """
        if self._ssl is not None:
            _, connection = await self.loop.create_connection(lambda: make(None), self.host, self.port, ssl=self._ssl)
        else:
            sock = await self._connect()
            _, connection = await self.loop.create_connection(lambda: make(sock), sock=sock)
        return connection

    async def _connect(self) -> socket.socket:
        failure: OSError | None = None
        for family, kind, protocol, _, address in await self.loop.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self.loop.sock_connect(sock, address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
        raise failure or OSError(f"{self.host} has no address")

    def _release(self, connection: Connection) -> None:
        connection.idle_since_s = self.loop.time()
        self._idle.append(connection)
        self._wake_one()

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._wake_one()

    def _wake_one(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return
