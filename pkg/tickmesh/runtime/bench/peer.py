"""The other process of a hop: answers, or takes stamps, until it is told to stop. Run by ``runtime.bench.hops``."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path


def _ready() -> None:
    print("ready", flush=True)


def tcp(port: int) -> None:
    """Echo whatever comes over one connection."""
    with socket.create_server(("127.0.0.1", port)) as server:
        _ready()
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(65536):
            connection.sendall(data)


def nats_raw(port: int) -> None:
    """Answer each message of ``ping`` on ``pong`` over a bare socket."""
    from tickmesh.runtime.bench.hops import PAYLOAD_BYTES, raw_nats, read_exactly

    sock = raw_nats(port, "ping")
    size = str(PAYLOAD_BYTES).encode()
    answer = b"PUB pong " + size + b"\r\n" + b"x" * PAYLOAD_BYTES + b"\r\n"
    message_bytes = len(b"MSG ping 1 " + size + b"\r\n\r\n") + PAYLOAD_BYTES
    _ready()
    while True:
        read_exactly(sock, message_bytes)
        sock.sendall(answer)


async def nats(port: int) -> None:
    """The same through our bus."""
    from tickmesh.bus.nats import NatsBus

    url = f"nats://127.0.0.1:{port}"
    bus = await NatsBus.connect(url, name="bench-peer", connect_timeout_s=5, apply_layout=False)
    await bus.subscribe("ping", lambda _, payload: bus.publish("pong", payload))
    await bus.flush()
    _ready()
    await asyncio.Event().wait()


def ring(home: str, out: str, count: int, core: int) -> None:
    """Busy-poll the ring and write down how long each message took, in ns."""
    from tickmesh.bus.ring import poll_reader

    os.sched_setaffinity(0, {core})
    durations: list[int] = []
    with poll_reader(home, "bench") as reader:
        _ready()
        while len(durations) < count:
            taken = reader.read()
            if taken is not None and taken.subject:
                durations.append(time.monotonic_ns() - int.from_bytes(taken.payload[:8], "little"))
    Path(out).write_text("\n".join(map(str, durations)), encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Be the peer that ``arguments`` name, until told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    kind, rest = arguments[0], arguments[1:]
    if kind == "tcp":
        tcp(int(rest[0]))
    elif kind == "nats-raw":
        nats_raw(int(rest[0]))
    elif kind == "nats":
        import uvloop

        uvloop.run(nats(int(rest[0])))
    elif kind == "ring":
        ring(rest[0], rest[1], int(rest[2]), int(rest[3]))
    else:
        raise SystemExit(f"there is no peer {kind!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
