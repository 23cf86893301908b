"""What one read of the market socket brings is handed on together, at once, and whole, however the read ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator

import pytest

from tickmesh.venues.binance_usdm.market_session import MarketSession

TEXT, CONTINUATION, PING, PONG, RESERVED = 1, 0, 9, 10, 3


def wire(kind: int, payload: bytes, *, final: bool = True) -> bytes:
    """A server's frame of less than 126 bytes."""
    return bytes([(128 if final else 0) | kind, len(payload)]) + payload


class Venue:
    """One bare connection: what is written at once is read at once."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.writer: asyncio.StreamWriter
        self.kinds: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (key,) = (
            line.split(b":")[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.writer = writer
        self.connected.set()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, size = await reader.readexactly(2)
                await reader.readexactly(4 + (size & 127))
                self.kinds.append(kind & 15)


class Taken:
    """The receiver; what came, in order."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def on_connected(self) -> None: ...

    def on_frames(self, frames: list[bytes], mono_ns: int) -> bool:
        assert mono_ns > 0
        self.calls.append(frames)
        return True

    def on_disconnected(self, reason: str) -> None:
        self.calls.append("disconnected")


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Venue, Taken]]:
    venue, taken = Venue(), Taken()
    server = await asyncio.start_server(venue.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    # No ping of ours and no second look within the test: only the read itself can deliver.
    session = MarketSession(f"ws://{host}:{port}", ["s"], taken, ping_interval_s=600, ping_timeout_s=600)
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(30):
            await venue.connected.wait()
            while not session.connected:
                await asyncio.sleep(0.005)
        yield venue, taken
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        venue.writer.close()
        server.close()


async def until(taken: Taken, calls: int) -> None:
    async with asyncio.timeout(30):
        while len(taken.calls) < calls:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "last",
    [b"", wire(PING, b"p"), wire(PONG, b"p"), wire(TEXT, b"fra", final=False)],
    ids=["text", "ping", "pong", "part"],
)
async def test_the_frames_of_one_read_come_in_one_call_whatever_the_last_one_is(last: bytes) -> None:
    async with connected() as (venue, taken):
        venue.writer.write(wire(TEXT, b"one") + wire(TEXT, b"two") + last)
        await until(taken, 1)
        assert taken.calls == [[b"one", b"two"]]
        if last == wire(PING, b"p"):
            async with asyncio.timeout(30):
                while PONG not in venue.kinds:
                    await asyncio.sleep(0.005)


async def test_a_message_in_parts_comes_whole_and_in_its_place() -> None:
    async with connected() as (venue, taken):
        parts = wire(TEXT, b"t", final=False) + wire(CONTINUATION, b"wo")
        venue.writer.write(wire(TEXT, b"one") + parts + wire(TEXT, b"three"))
        await until(taken, 1)
        assert taken.calls == [[b"one", b"two", b"three"]]


async def test_what_came_before_a_breach_of_the_protocol_is_delivered_before_the_end_is_told() -> None:
    async with connected() as (venue, taken):
        # Whether the frame right before the breach is handed out is up to the library.
        venue.writer.write(wire(TEXT, b"one") + wire(TEXT, b"two") + wire(RESERVED, b"x"))
        await until(taken, 2)
        assert taken.calls[0] in ([b"one"], [b"one", b"two"])
        assert taken.calls[1] == "disconnected"
