"""A feed on real servers: nats-server, simvenue as a process, or a scripted venue that says what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.messages import BookUpdate, MarkPrice, Trade, decode
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.ports import Bus
from tickmesh.runtime.servers import free_ports
from tickmesh.services import feed
from tickmesh.services.service import Service
from tickmesh.settings import load

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data")) / "binance-usdm"


async def until(holds: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> None:
    """Wait until a condition holds."""
    try:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"did not come true within {timeout_s:g} s: {what}") from None


class Process:
    """A child process that can be killed and started again on the same address."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._argv, self._env = argv, env
        self.popen: subprocess.Popen[bytes] | None = None
        self.admin = ""

    def start(self) -> None:
        self.popen = subprocess.Popen(self._argv, env=self._env, stdout=subprocess.DEVNULL, start_new_session=True)

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.popen is not None
        self.popen.send_signal(number)
        self.popen.wait(20)

    def pause(self) -> None:
        """Frozen, not dead: its connections stay open."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        assert self.popen is not None
        self.popen.send_signal(signal.SIGCONT)

    def end(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(20)


@contextlib.asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[tuple[str, Process]]:
    found = shutil.which("nats-server") or str(Path(sys.executable).parent / "nats-server")
    (port,) = free_ports(1)
    argv = [found, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder), "-l", str(folder / "nats.log")]
    server = Process(argv, dict(os.environ))
    server.start()
    try:
        yield f"nats://127.0.0.1:{port}", server
    finally:
        server.end()


@contextlib.asynccontextmanager
async def simvenue(**settings: str) -> AsyncIterator[tuple[str, Process]]:
    """``settings`` are those of the simvenue section, and ``symbols``.

    Request weight is plenty unless a test says otherwise: looking at the venue's whole book until ours is at the same
    update id may weigh more than the venue allows an address in a minute.
    """
    port, admin = free_ports(2)
    settings.setdefault("weight_limit_1m", "100000")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pkg"), "TICKMESH_OBSERVE__LOG_LEVEL": "ERROR"}
    env |= {"TICKMESH_SIMVENUE__PORT": str(port), "TICKMESH_SIMVENUE__ADMIN_PORT": str(admin)}
    if symbols := settings.pop("symbols", ""):
        env["TICKMESH_VENUE__SYMBOLS"] = symbols
    env |= {f"TICKMESH_SIMVENUE__{name.upper()}": value for name, value in settings.items()}
    home = tempfile.mkdtemp(prefix="simvenue-")
    env["TICKMESH_LOCAL__DATA_DIR"] = home
    process = Process([sys.executable, str(ROOT / "cmd" / "simvenue")], env)
    process.admin = f"http://127.0.0.1:{admin}"
    process.start()
    try:
        yield f"127.0.0.1:{port}", process
    finally:
        process.end()
        shutil.rmtree(home, ignore_errors=True)


class Running:
    """A feed in this process, with what it publishes."""

    task: asyncio.Task[None]

    def __init__(self, service: Service) -> None:
        self.service = service
        self.books: list[BookUpdate] = []
        self.trades: list[Trade] = []
        self.marks: list[MarkPrice] = []
        self.alerts: list[str] = []

    def count(self, name: str) -> int:
        counters = self.service.metrics.stats()["counters"]
        return sum(value for key, value in counters.items() if key.partition("{")[0] == name)

    def gauge(self, name: str) -> float:
        return float(self.service.metrics.stats()["gauges"].get(name, 0.0))

    def take(self, subject: str, payload: bytes) -> None:
        if subject.startswith("md.book."):
            self.books.append(decode(BookUpdate, payload))
        elif subject.startswith("md.trade."):
            self.trades.append(decode(Trade, payload))
        elif subject.startswith("md.mark."):
            self.marks.append(decode(MarkPrice, payload))
        else:
            self.alerts.append(subject)

    async def get(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.service.admin.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.json()

    async def stop(self) -> None:
        self.service.stopping.set()
        await asyncio.wait_for(self.task, 20)


@contextlib.asynccontextmanager
async def running_feed(
    venue: str, bus: Bus, *, listen: Bus | None = None, wait: bool = True, **settings: str
) -> AsyncIterator[Running]:
    """A feed on ``venue`` (host:port); setting names as in the environment, without the prefix."""
    (admin_port,) = free_ports(1)
    environ = {
        "TICKMESH_VENUE__REST_URL": f"http://{venue}",
        "TICKMESH_VENUE__STREAM_URL": f"ws://{venue}",
        "TICKMESH_FEED__ADMIN_PORT": str(admin_port),
        "TICKMESH_VENUE__SYMBOLS": "BTCUSDT",
        "TICKMESH_LOCAL__DATA_DIR": (home := tempfile.mkdtemp(prefix="feed-")),
    }
    loaded = load(environ | {f"TICKMESH_{name.upper()}": value for name, value in settings.items()})
    metrics, health = Metrics("feed"), Health()
    admin = AdminServer("127.0.0.1", admin_port, metrics, health)
    service = Service("feed", loaded, bus, SystemClock(), metrics, health, admin)
    running = Running(service)
    for subject in ("md.>", "alert.>"):
        await (listen or bus).subscribe(subject, running.take)
    task = running.task = asyncio.create_task(feed.run(service))
    await asyncio.sleep(0)  # it registers its routes before its first await
    await admin.start()
    try:
        if wait:
            await until(lambda: health.ready or task.done(), what="the feed is ready")
            if task.done():
                task.result()
        yield running
    finally:
        service.stopping.set()
        await asyncio.wait([task], timeout=20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await admin.stop()
        shutil.rmtree(home, ignore_errors=True)


async def connect(url: str) -> NatsBus:
    return await NatsBus.connect(url, name="test", connect_timeout_s=20)


INFO = {
    "symbols": [
        {
            "symbol": symbol,
            "baseAsset": symbol.removesuffix("USDT"),
            "quoteAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": "0.1", "minPrice": "0.10", "maxPrice": "1000000"},
                {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
            ],
        }
        for symbol in ("BTCUSDT", *(f"X{number}USDT" for number in range(300)))
    ]
}


class ScriptedVenue:
    """A venue of one symbol that does as it is told: real HTTP and WebSocket, no market behind it."""

    def __init__(self) -> None:
        self.sockets: list[web.WebSocketResponse] = []
        self.connects = 0
        self.info = msgspec.json.encode(INFO)
        self.heartbeat_s: float | None = None
        self.heard: list[str] = []
        self.asked: list[str] = []
        self.snapshots = 0
        self.depth_status = 200
        self.last_id = 100
        self.bids = [["100.0", "1.000"], ["99.9", "2.000"]]
        self.asks = [["100.1", "1.500"], ["100.3", "2.500"]]
        self.address = ""

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[ScriptedVenue]:
        (port,) = free_ports(1)
        app = web.Application()
        app.router.add_get("/fapi/v1/exchangeInfo", self._info)
        app.router.add_get("/fapi/v1/depth", self._depth)
        app.router.add_get("/stream", self._stream)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.address = f"127.0.0.1:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _info(self, _: web.Request) -> web.Response:
        return web.Response(body=self.info)

    async def _depth(self, _: web.Request) -> web.Response:
        self.snapshots += 1
        if self.depth_status != 200:
            return web.Response(status=self.depth_status, text="no", headers={"Retry-After": "0"})
        body = {"lastUpdateId": self.last_id, "bids": self.bids, "asks": self.asks, "E": 1, "T": 1}
        return web.Response(body=msgspec.json.encode(body))

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=True, heartbeat=self.heartbeat_s)
        await socket.prepare(request)
        self.connects += 1
        self.sockets.append(socket)
        self.asked += request.query["streams"].split("/")
        try:
            async for message in socket:
                self.heard.append(str(message.data))
        finally:
            self.sockets.remove(socket)
        return socket

    def say_raw(self, data: bytes) -> None:
        """Bytes onto the wire below the WebSocket."""
        for socket in self.sockets:
            assert socket._req is not None and socket._req.transport is not None
            socket._req.transport.write(data)

    async def say(self, frame: str | bytes) -> None:
        for socket in self.sockets:
            if isinstance(frame, bytes):
                await socket.send_bytes(frame)
            else:
                await socket.send_str(frame)

    async def send(self, stream: str, **data: Any) -> None:
        await self.say(msgspec.json.encode({"stream": f"btcusdt@{stream}", "data": data}).decode())

    async def diff(self, first: int, last: int, previous: int, bids: list[list[str]], asks: list[list[str]]) -> None:
        await self.send(
            "depth@0ms", e="depthUpdate", E=1000, T=1000, s="BTCUSDT", U=first, u=last, pu=previous, b=bids, a=asks
        )

    async def trade(self, number: int, price: str = "100.0") -> None:
        await self.send(
            "trade", e="trade", E=1000, T=1000, s="BTCUSDT", t=number, p=price, q="0.500", X="MARKET", m=True
        )
