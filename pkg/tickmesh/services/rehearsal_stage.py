"""What the rehearsal has instead of an outside: loopback sockets that it empties itself, a venue that says yes.

In: what the path sends. Out: the same bytes, for whoever wants to look. Nothing of it leaves this process. The sockets
are real because the kernel's half of a send is part of what has to stay warm.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from tickmesh.bus.client import DirectClient
from tickmesh.services.execution_path import OrderPath
from tickmesh.venues.binance_usdm.http import Connection, HttpClient

_TAKEN = 64 * 1024
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-MBX-USED-WEIGHT-1M: 1\r\nContent-Length: 2\r\n\r\n{}"


class Line:
    """A loopback connection of which we hold both ends; looks like asyncio's transport to who writes on it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.ours = socket.create_connection(server.getsockname())
            self._theirs, _ = server.accept()
        for end in (self.ours, self._theirs):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def heard(self, wait_s: float = 0.0) -> bytes:
        """What was sent since the last time; under load the kernel hands it over a moment later."""
        if wait_s and not select.select((self._theirs,), (), (), wait_s)[0]:
            return b""
        try:
            return self._theirs.recv(_TAKEN)
        except BlockingIOError:
            return b""

    def get_extra_info(self, name: str) -> Any:
        return self.ours if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        """What the kernel did not take at once is not worth keeping."""

    def close(self) -> None:
        self.ours.close()
        self._theirs.close()


class Server(DirectClient):
    """A connection to a NATS server that hears everything and says nothing."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line
        self._status = DirectClient.CONNECTED

    def _socket(self) -> Line:
        return self._line

    def leave(self) -> None:
        """Give the descriptors back."""
        self._close_direct()
        self._line.close()


class Venue(HttpClient):
    """Takes each order and answers it; its one connection leads back here."""

    line: Line
    _connection: Connection

    async def _dial(self, make: Callable[[socket.socket | None], Connection]) -> Connection:
        self.line = Line()
        self._connection = make(self.line.ours)
        self._connection.connection_made(self.line)  # type: ignore[arg-type]  # as much of a transport as it is asked for
        return self._connection

    def answer(self, wait_s: float = 0.0) -> bytes:
        """Answer the request that is on the line; its bytes, or nothing when there is none."""
        request = self.line.heard(wait_s)
        if request:
            self._connection.data_received(_ANSWER)
        return request


class Path(OrderPath):
    """The order path without what comes after the send: no background work, nobody waits for an answer."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        work.close()
        return None  # type: ignore[return-value]  # never waited for: the path is made anew for each rehearsal


class Granted:
    """Leases that are always ours."""

    def valid(self, name: str) -> bool:
        return True

    may_cancel = valid


class NoJournal:
    """Takes the lines that an order causes and forgets them."""

    full = False

    def put(self, records: list[Any]) -> None: ...
