"""Benchmarks of one hop between two processes: TCP, raw NATS, our NATS bus, the shared-memory ring.

Round trips: this process sends, the peer (``runtime.bench.peer``) answers, over loopback, one message in flight, so
that nothing is hidden by batching. The ring is measured one way, on CLOCK_MONOTONIC, which both processes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.result import Result, from_ns
from tickmesh.runtime.servers import free_ports

PAYLOAD_BYTES = 300
"""About what a BookUpdate of ten levels takes."""
_WARM, _COUNT = 500, 10_000


@contextlib.contextmanager
def peer(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A second process; it prints one line when it is ready."""
    command = [sys.executable, "-m", "tickmesh.runtime.bench.peer", *arguments]
    # Not in the terminal's foreground group: Ctrl-C is ours, and we end it; it could get it while it still starts.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line.strip() != b"ready":
            raise RuntimeError(f"the bench's peer {' '.join(arguments)} did not start: {line!r}")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def nats_server() -> Iterator[int]:
    """A plain nats-server without JetStream; yields its port."""
    from tickmesh.runtime.servers import program

    port = free_ports(1)[0]
    with tempfile.TemporaryDirectory() as home:
        command = [program("nats-server"), "-a", "127.0.0.1", "-p", str(port), "-l", str(Path(home) / "log")]
        process = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + 10
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError("nats-server did not start within 10 s")
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """Blocking read of ``count`` bytes."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("the other side closed")
        data += more
    return data


def _round_trips(
    sock: socket.socket, request: bytes, answer_bytes: int, *, count: int = _WARM + _COUNT, pause_s: float = 0.0
) -> list[int]:
    durations = []
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        began = time.perf_counter_ns()
        sock.sendall(request)
        read_exactly(sock, answer_bytes)
        durations.append(time.perf_counter_ns() - began)
    return durations[_WARM:]


def hop_tcp(_: Frames) -> Result:
    """There and back over one TCP connection: the floor of everything that goes through a socket."""
    port = free_ports(1)[0]
    with peer("tcp", str(port)), socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        durations = _round_trips(sock, b"x" * PAYLOAD_BYTES, PAYLOAD_BYTES)
    return from_ns("hop_tcp", durations, "round trip over one TCP connection, blocking sockets")


def raw_nats(port: int, subject: str) -> socket.socket:
    """A subscribed NATS connection on a bare socket."""
    sock = socket.create_connection(("127.0.0.1", port), 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while not sock.recv(65536).endswith(b"\r\n"):
        pass
    sock.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB ' + subject.encode() + b" 1\r\nPING\r\n")
    while b"PONG" not in sock.recv(65536):
        pass
    return sock


def hop_nats_raw(_: Frames) -> Result:
    """There and back through nats-server, as fast as it can: what the server itself costs."""
    what = "round trip of two hops through nats-server, bare blocking sockets, back to back"
    return from_ns("hop_nats_raw", _raw_round_trips(), what)


def hop_nats_raw_2ms(_: Frames) -> Result:
    """The same at the pace of a market: everybody has gone to sleep and to other things in between."""
    what = "the same with 2 ms between two messages, as a market has them: sleeping processes, cold caches"
    return from_ns("hop_nats_raw_2ms", _raw_round_trips(count=_WARM + 3_000, pause_s=0.002), what)


def _raw_round_trips(**pace: Any) -> list[int]:
    with nats_server() as port, peer("nats-raw", str(port)), raw_nats(port, "pong") as sock:
        size = str(PAYLOAD_BYTES).encode()
        request = b"PUB ping " + size + b"\r\n" + b"x" * PAYLOAD_BYTES + b"\r\n"
        answer_bytes = len(b"MSG pong 1 " + size + b"\r\n\r\n") + PAYLOAD_BYTES
        return _round_trips(sock, request, answer_bytes, **pace)


def hop_nats(_: Frames) -> Result:
    """There and back through our bus: what a message between two services costs."""
    with nats_server() as port, peer("nats", str(port)):
        import uvloop

        durations = uvloop.run(_bus_round_trips(f"nats://127.0.0.1:{port}"))
    return from_ns("hop_nats", durations, "round trip of two hops through our bus (nats-py, event loops)")


async def _bus_round_trips(url: str) -> list[int]:
    from tickmesh.bus.nats import NatsBus

    bus = await NatsBus.connect(url, name="bench", connect_timeout_s=5, apply_layout=False)
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()

    def on_pong(_: str, __: bytes) -> None:
        if not answered.done():
            answered.set_result(None)

    await bus.subscribe("pong", on_pong)
    await bus.flush()
    payload = b"x" * PAYLOAD_BYTES
    durations = []
    for _ in range(_WARM + _COUNT // 2):
        answered = loop.create_future()
        began = time.perf_counter_ns()
        bus.publish("ping", payload)
        await answered
        durations.append(time.perf_counter_ns() - began)
    await bus.close()
    return durations[_WARM:]


def hop_ring(_: Frames) -> Result:
    """One way, busy poll: the writer stamps, the reader in the other process compares."""
    with tempfile.TemporaryDirectory() as home:
        from tickmesh.bus.ring import RingWriter

        writer = RingWriter(home, "bench")
        out = Path(home) / "durations"
        own, other = _two_cores()
        try:
            with _pinned(own), peer("ring", home, str(out), str(_WARM + _COUNT), str(other)) as process:
                tail = b"x" * (PAYLOAD_BYTES - 8)
                for _i in range(_WARM + _COUNT):
                    writer.publish("bench", time.monotonic_ns().to_bytes(8, "little") + tail)
                    pause = time.monotonic_ns() + 50_000
                    while time.monotonic_ns() < pause:
                        pass
                process.wait(20)
        finally:
            writer.close()
        durations = [int(line) for line in out.read_text().split()]
    return from_ns("hop_ring", durations[_WARM:], "one way through the shared-memory ring, busy poll, a core each")


def _two_cores() -> tuple[int, int]:
    """A core for each side of a spinning pair; the same one twice where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextlib.contextmanager
def _pinned(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
