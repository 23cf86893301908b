"""Compares WebSocket clients on a capture's frames: CPU per message flat out, latency at a steady pace.

    PYTHONPATH=pkg python tests/support/measure_websocket_clients.py CAPTURE

The server is a process of its own and writes ready-made frames; each client does nothing with them but look at the
clock, as the feed's socket callback does. Figures of one run are in docs/decisions/0040.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import struct
import sys
import time
from base64 import b64encode
from hashlib import sha1
from statistics import median, quantiles

import aiohttp
import picows
import uvloop
import websockets

from tickmesh.venues.capture import Capture, Kind

_WANTED = (Kind.DEPTH, Kind.BOOK_TICKER, Kind.TRADE)
_FLOOD = 40_000
_PACED = 3_000
_PACE_S = 0.001


def framed(payload: bytes) -> bytes:
    size = len(payload)
    head = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return (head if size < 65_536 else struct.pack("!BBQ", 0x81, 127, size)) + payload


def serve(listener: socket.socket, frames: list[bytes]) -> None:
    """Per connection: flood, a pause, then paced frames whose first 8 payload bytes are the time of sending."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        lines = request.decode().split("\r\n")
        key = next(line.partition(":")[2].strip() for line in lines if line.lower().startswith("sec-websocket-key"))
        accept = b64encode(sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        connection.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        try:
            for start in range(0, _FLOOD, 50):
                connection.sendall(b"".join(framed(frames[i % len(frames)]) for i in range(start, start + 50)))
            time.sleep(1.0)
            for i in range(_PACED):
                body = frames[i % len(frames)]
                connection.sendall(framed(b"%019d" % time.monotonic_ns() + body))
                time.sleep(_PACE_S)
            connection.recv(1)
        except OSError:
            pass
        connection.close()


class Tally:
    """What a client measured."""

    def __init__(self) -> None:
        self.count = 0
        self.cpu_s = 0.0
        self.wall_s = 0.0
        self.latency_ns: list[int] = []
        self.done = asyncio.Event()
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def take(self, payload: bytes, now_ns: int) -> None:
        self.count += 1
        if self.count == _FLOOD:
            self.cpu_s, self.wall_s = time.process_time() - self._cpu, time.perf_counter() - self._wall
        elif self.count > _FLOOD:
            self.latency_ns.append(now_ns - int(payload[:19]))
            if self.count == _FLOOD + _PACED:
                self.done.set()


async def with_picows(url: str, tally: Tally) -> None:
    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            tally.take(frame.get_payload_as_bytes(), time.monotonic_ns())

    transport, _ = await picows.ws_connect(Listener, url)
    await tally.done.wait()
    transport.disconnect()


async def with_websockets(url: str, tally: Tally) -> None:
    async with websockets.connect(url, compression=None, max_size=None, ping_interval=None) as connection:
        while not tally.done.is_set():
            payload = await connection.recv(decode=False)
            assert isinstance(payload, bytes)
            tally.take(payload, time.monotonic_ns())
        connection.transport.abort()


async def with_aiohttp(url: str, tally: Tally) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as connection:
        while not tally.done.is_set():
            message = await connection.receive()
            tally.take(message.data.encode(), time.monotonic_ns())


def main() -> None:
    capture = sys.argv[1] if len(sys.argv) > 1 else os.environ["TICKMESH_DATA"] + "/binance-usdm/btcusdt_20240808.gz"
    frames = []
    for record in Capture(capture).records():
        if record.kind in _WANTED:
            frames.append(record.raw)
            if len(frames) == 20_000:
                break
    listener = socket.create_server(("127.0.0.1", 0))
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener, frames), daemon=True)
    server.start()
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    try:
        for name, client in (("picows", with_picows), ("websockets", with_websockets), ("aiohttp", with_aiohttp)):
            tally = Tally()

            async def run(chosen: object = client, mine: Tally = tally) -> None:
                await chosen(url, mine)  # type: ignore[operator]

            uvloop.run(run())
            p50, p99 = median(tally.latency_ns) / 1000, quantiles(tally.latency_ns, n=100)[98] / 1000
            print(
                f"{name:10} {tally.cpu_s / _FLOOD * 1e6:6.2f} us CPU a message, {_FLOOD / tally.wall_s:9.0f} messages/s"
                f" flat out; wire to callback p50 {p50:6.1f} us, p99 {p99:6.1f} us at 1,000/s"
            )
    finally:
        server.kill()


if __name__ == "__main__":
    main()
