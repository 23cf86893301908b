"""The network between a process and the venue: connections that delay, lose and break what travels on them.

In: bytes that the real HttpClient writes, and the real UserStream's wish for a WebSocket. Out: bytes and frames, in
order on each connection, after a delay, or never. A half-open connection takes everything and brings nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from tickmesh.runtime.simulation.venue import SimVenue
from tickmesh.runtime.simulation.world import MS, Process, S, World
from tickmesh.venues.binance_usdm.http import HttpClient
from tickmesh.venues.simvenue.server.hub import Listener


class Link:
    """One process's way to the venue. ``mode``: open, silent (half-open, nobody is told), refused."""

    def __init__(self, world: World, venue: SimVenue, process: Process, on_sent: Callable[[Process, bytes], None]):
        self.world = world
        self.venue = venue
        self.process = process
        self.mode = "open"
        self.on_sent = on_sent
        self.sockets: list[SimSocket] = []
        self.pipes: list[SimTransport] = []
        self.stream_loss = self.stream_repeat = self.stream_late = 0.0
        process.on_death.append(self._die)

    def _die(self) -> None:
        for found in self.sockets:
            self.venue.hub.leave(found.listener)

    def delay_ns(self) -> int:
        random = self.world.random
        roll = random.random()
        if roll < 0.95:
            return int(random.uniform(0.2, 3.0) * MS)
        return int(random.uniform(3, 60) * MS) if roll < 0.995 else int(random.uniform(60, 900) * MS)

    def break_all(self) -> None:
        """Every connection breaks, and both ends notice."""
        for pipe in list(self.pipes):
            pipe.break_off()
        for found in list(self.sockets):
            found.break_off("connection reset by peer")


class SimTransport:
    """What HttpClient's connection writes to."""

    def __init__(self, link: Link, address: str) -> None:
        self.link = link
        self.address = address
        self.connection: Any = None
        self.closed = False
        self._last_up_ns = 0
        self._last_down_ns = 0

    def write(self, data: bytes) -> None:
        link = self.link
        if self.closed or not link.process.alive:
            return
        link.on_sent(link.process, data)
        self._last_up_ns = max(self._last_up_ns + 1, link.world.now_ns + link.delay_ns())
        link.world.at(self._last_up_ns, lambda: self._at_venue(data))

    def _at_venue(self, data: bytes) -> None:
        if self.link.mode != "open":
            return
        answer = self.link.venue.handle(data, self.address)
        if answer == "reset":
            self.break_off()
        elif isinstance(answer, bytes):
            self._last_down_ns = max(self._last_down_ns + 1, self.link.world.now_ns + self.link.delay_ns())
            self.link.world.at(self._last_down_ns, lambda: self._deliver(answer))

    def _deliver(self, answer: bytes) -> None:
        if self.link.mode == "open" and not self.closed:
            self.link.process.call(self._received, answer)

    def _received(self, answer: bytes) -> None:
        if not self.closed:
            self.connection.data_received(answer)

    def break_off(self) -> None:
        if not self.closed:
            self.link.process.call(self._lost, ConnectionResetError(104, "connection reset by peer"))

    def _lost(self, error: Exception | None) -> None:
        if self in self.link.pipes:
            self.link.pipes.remove(self)
        if not self.closed:
            self.closed = True
            self.connection.connection_lost(error)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            if self in self.link.pipes:
                self.link.pipes.remove(self)
            self.link.process.call(self.connection.connection_lost, None)


class SimHttpClient(HttpClient):
    """The real client over a simulated connection."""

    link: Link

    async def _dial(self, make: Callable[[socket.socket | None], Any]) -> Any:
        link = self.link
        await asyncio.sleep(link.delay_ns() / S)
        if link.mode == "refused":
            raise ConnectionRefusedError(111, "connection refused")
        if link.mode == "silent":
            await asyncio.sleep(3600)
        connection = make(None)
        transport = SimTransport(link, link.process.machine.name)
        transport.connection = connection
        connection.connection_made(transport)
        link.pipes.append(transport)
        return connection


class SimSocket:
    """A WebSocket of the user stream, as far as UserStream uses one; also the hub's wire."""

    def __init__(self, link: Link, url: str) -> None:
        self.link = link
        self.key = url.rsplit("/", 1)[-1]
        self.listener = Listener(self, combined=False)
        self._frames: deque[bytes | Exception] = deque()  # bounded by the length of a stage
        self._arrived = asyncio.Event()
        self._closed = False
        self._last_ns = 0

    async def __aenter__(self) -> SimSocket:
        link = self.link
        await asyncio.sleep(link.delay_ns() / S)
        if link.mode == "refused":
            raise ConnectionRefusedError(111, "connection refused")
        if link.mode == "silent":
            await asyncio.sleep(5.0)
            raise TimeoutError("timed out during opening handshake")
        link.sockets.append(self)
        link.venue.hub.join(self.listener)
        link.venue.hub.subscribe(self.listener, self.key)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> SimSocket:
        return self

    async def __anext__(self) -> bytes:
        silent_s = 0.0
        while not self._frames:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            try:
                async with asyncio.timeout(2.0):
                    await self._arrived.wait()
                silent_s = 0.0
            except TimeoutError:
                # The keepalive of the real one: two pings of 10 s without an answer end the connection.
                silent_s = silent_s + 2.0 if self.link.mode != "open" else 0.0
                if silent_s >= 20.0:
                    self._leave()
                    raise OSError("keepalive ping timeout") from None
        found = self._frames.popleft()
        if isinstance(found, Exception):
            self._leave()
            raise found
        return found

    async def close(self) -> None:
        self._leave()
        self._closed = True
        self._arrived.set()

    def break_off(self, why: str) -> None:
        self._leave()
        self._arrive(OSError(why))

    def _leave(self) -> None:
        self.link.venue.hub.leave(self.listener)
        if self in self.link.sockets:
            self.link.sockets.remove(self)

    def _arrive(self, frame: bytes | Exception) -> None:
        def take() -> None:
            self._frames.append(frame)
            self._arrived.set()

        self.link.process.call(take)

    # The hub's side.

    def write(self, data: bytes) -> None:
        link, random = self.link, self.link.world.random
        if link.mode != "open":
            return
        size = data[1]
        payload = data[2:] if size < 126 else data[4:] if size == 126 else data[10:]
        if random.random() < link.stream_loss:
            link.world.note(f"{link.process.name}: a user stream frame is lost")
            return
        self._last_ns = max(self._last_ns + 1, link.world.now_ns + link.delay_ns())
        when_ns = self._last_ns
        if random.random() < link.stream_late:
            when_ns += int(random.uniform(0.05, 4.0) * S)  # later than what follows it: out of order
        copies = 2 if random.random() < link.stream_repeat else 1
        for copy in range(copies):
            link.world.at(when_ns + copy * int(random.uniform(0, 2) * S), lambda: self._deliver(payload))

    def _deliver(self, payload: bytes) -> None:
        if self.link.mode == "open" and not self._closed:
            self._arrive(payload)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closed

    def abort(self) -> None:
        self.break_off("the venue cut the connection")


def client_factory(link: Link) -> Callable[..., HttpClient]:
    """A maker of HttpClients over ``link``."""

    def make(*arguments: Any, **keys: Any) -> HttpClient:
        client = SimHttpClient(*arguments, **keys)
        client.link = link
        return client

    return make


def connect_factory(link: Link) -> Callable[..., SimSocket]:
    """What UserStream calls to connect."""
    return lambda url, **_: SimSocket(link, url)
