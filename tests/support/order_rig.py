"""The order path as real processes, for tests: nats-server, simvenue, feed and execution, with a strategy's pen.

The rig's own part plays the strategy: it follows the books on the bus and publishes intents. ``settle`` and
``differences`` set the journal against the venue's record, as the summary of a run does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tickmesh.bus.nats import NatsBus
from tickmesh.domain import subjects
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, OrderState, Side, Urgency
from tickmesh.domain.messages import BookUpdate, Control, FillEvent, OrderEvent, OrderIntent, decode, encode
from tickmesh.observe.clock import SystemClock
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import ServerSpec, free_ports, local_servers
from tickmesh.runtime.summary import OurRecord, compare
from tickmesh.settings import Settings, load
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, VENUE, SYMBOL = "main", "binance", "BTCUSDT"


class OrderRig:
    """One instance per test; use ``order_rig`` below."""

    def __init__(self, home: Path, **keys: object) -> None:
        nats, venue, *admin = free_ports(5)
        self.home = home
        self.environ = {
            "TICKMESH_NATS__URL": f"nats://127.0.0.1:{nats}",
            "TICKMESH_VENUE__REST_URL": f"http://127.0.0.1:{venue}",
            "TICKMESH_VENUE__STREAM_URL": f"ws://127.0.0.1:{venue}",
            "TICKMESH_VENUE__SYMBOLS": f'["{SYMBOL}"]',
            "TICKMESH_LOCAL__DATA_DIR": str(home / "data"),
            "TICKMESH_SIMVENUE__PORT": str(venue),
            "TICKMESH_SIMVENUE__FLOW_RATE": "0.3",
            "TICKMESH_EXECUTION__RECONCILE_S": "1.0",
            "TICKMESH_EXECUTION__STREAM_BACKOFF_S": "0.2",
            "TICKMESH_EXECUTION__REQUEST_TIMEOUT_S": "2.0",
            "TICKMESH_EXECUTION__UNKNOWN_SPACING_S": "0.2",
            **{
                f"TICKMESH_{name.upper()}__ADMIN_PORT": str(port)
                for name, port in zip(("simvenue", "feed", "execution"), admin, strict=True)
            },
            **{f"TICKMESH_{name.replace('__', '__').upper()}": str(value) for name, value in keys.items()},
        }
        self.settings: Settings = load(self.environ)
        self.admin = dict(zip(("simvenue", "feed", "execution"), admin, strict=True))
        self.children: dict[str, Child] = {}
        self.books: dict[str, BookUpdate] = {}
        self.events: list[OrderEvent] = []
        self.fills: list[FillEvent] = []
        self.bus: NatsBus = None  # type: ignore[assignment]
        self._http: aiohttp.ClientSession = None  # type: ignore[assignment]
        self._count = 0

    # Processes.

    async def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3))
        (spec,) = local_servers(self.settings, self.home / "data", only=("nats",))
        await self._start(_child(spec, self.home))
        await self._start(self._service("simvenue"))
        self.bus = await NatsBus.connect(self.settings.nats.url, name="rig")
        await self.bus.subscribe(f"md.book.{VENUE}.*", self._on_book)
        marked = asyncio.Event()
        await self.bus.subscribe(f"md.mark.{VENUE}.{SYMBOL}", lambda *_: marked.set())
        await self.bus.subscribe(f"order.event.{ACCOUNT}.*", lambda _, p: self.events.append(decode(OrderEvent, p)))
        await self.bus.subscribe(f"fill.{ACCOUNT}.*", lambda _, p: self.fills.append(decode(FillEvent, p)))
        await self._start(self._service("feed"))
        await self._start(self._service("execution"))
        async with asyncio.timeout(20):
            while SYMBOL not in self.books or self.books[SYMBOL].stale:
                await asyncio.sleep(0.02)
            await marked.wait()

    async def start_second(self) -> None:
        """Another execution process for the same account, as on another machine: it shares no file with the first."""
        (port,) = free_ports(1)
        self.admin["execution-2"] = port
        environ = {
            "TICKMESH_EXECUTION__ADMIN_PORT": str(port),
            "TICKMESH_EXECUTION__STATE_DIR": str(self.home / "second"),
        }
        await self._start(self._service("execution", "execution-2", environ))

    async def writes(self, name: str, timeout_s: float = 20.0) -> None:
        """Wait until the execution process ``name`` is the account's writer and ready; a standby is ready as well."""
        async with asyncio.timeout(timeout_s):
            while "execution: ready:" not in self.log(name, 100):
                await asyncio.sleep(0.01)

    async def add(self, program: str, **environ: str) -> None:
        """Another service of the same system, for example account or risk."""
        (port,) = free_ports(1)
        self.admin[program] = port
        self.environ[f"TICKMESH_{program.upper()}__ADMIN_PORT"] = str(port)
        await self._start(self._service(program, program, environ))

    async def command(self, *arguments: str) -> tuple[int, str]:
        """The ``tickmesh`` command as a person types it: exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tickmesh.runtime.cli", *arguments, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "pkg"), **self.environ}, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode or 0, output.decode()

    async def stop(self) -> None:
        for name in [n for n in reversed(self.children) if n not in ("nats", "simvenue")] + ["simvenue"]:
            if name in self.children:
                await self.children[name].stop()
        if self.bus is not None:
            await self.bus.close()
        if "nats" in self.children:
            await self.children["nats"].stop()
        await self._http.close()

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and, unless it only pauses, wait for its successor to run."""
        child = self.children[name]
        pid = child.pid
        assert pid is not None
        os.kill(pid, number)
        if number is signal.SIGKILL:
            async with asyncio.timeout(30):
                while child.pid in (None, pid):
                    await asyncio.sleep(0.01)

    async def ready(self, name: str, timeout_s: float = 40.0) -> None:
        assert await self.children[name].wait_ready(timeout_s), self.children[name].last_lines(30)

    async def get(self, name: str, path: str) -> Any:
        async with self._http.get(f"http://127.0.0.1:{self.admin[name]}{path}") as response:
            return await response.json(content_type=None)

    async def post(self, name: str, path: str, body: object = None) -> Any:
        async with self._http.post(f"http://127.0.0.1:{self.admin[name]}{path}", json=body) as response:
            return await response.json(content_type=None)

    async def heal(self) -> None:
        """Switch every fault of the venue off."""
        async with self._http.delete(f"http://127.0.0.1:{self.admin['simvenue']}/faults") as response:
            assert response.status == 200

    def log(self, name: str = "execution", lines: int = 60) -> str:
        return self.children[name].last_lines(lines)

    async def _start(self, child: Child) -> None:
        self.children[child.name] = child
        await child.start()
        await self.ready(child.name)

    def _service(self, program: str, name: str = "", environ: dict[str, str] | None = None) -> Child:
        name = name or program

        async def is_ready() -> bool:
            try:
                async with self._http.get(f"http://127.0.0.1:{self.admin[name]}/readyz") as response:
                    return response.status == 200
            except (aiohttp.ClientError, TimeoutError, OSError):
                return False

        return Child(
            name, [sys.executable, str(ROOT / "cmd" / program)], log_dir=self.home, ready=is_ready,
            env={**os.environ, "PYTHONPATH": str(ROOT / "pkg"), **self.environ, **(environ or {})},
        )  # fmt: skip

    def _on_book(self, subject: str, payload: bytes) -> None:
        book = decode(BookUpdate, payload)
        if book.bids and book.asks:
            self.books[book.symbol] = book

    @contextlib.asynccontextmanager
    async def by_hand(self) -> AsyncIterator[BinanceUsdmRest]:
        """The venue as somebody else with the account's keys uses it, past our services."""
        venue = self.settings.venue
        rest = BinanceUsdmRest(
            venue.rest_url, venue.api_key.get_secret_value(), venue.api_secret.get_secret_value(), 5000, SystemClock()
        )
        try:
            yield rest
        finally:
            await rest.close()

    # A strategy's pen.

    def intent(self, **changes: Any) -> OrderIntent:
        """A passive buy a little below the best bid, stamped as a strategy does."""
        self._count += 1
        book = self.books[SYMBOL]
        side = changes.get("side", Side.BUY)
        behind = changes.pop("behind_ticks", 50)
        touch = book.bids[0][0] - behind if side is Side.BUY else book.asks[0][0] + behind
        if changes.get("urgency") is Urgency.IMMEDIATE:
            touch = book.asks[0][0] + 20 if side is Side.BUY else book.bids[0][0] - 20
        fields: dict[str, Any] = {
            "intent_id": f"rig-{os.getpid()}-{id(self)}-{self._count}", "strategy": "rig", "account": ACCOUNT,
            "venue": VENUE, "symbol": SYMBOL, "side": side, "price_ticks": touch, "qty_lots": 3,
            "publish_ns": time.time_ns(), "ttl_ns": 2_000_000_000, **changes,
        }  # fmt: skip
        intent = OrderIntent(**fields)
        intent.stamps.tick_receive_mono_ns = book.receive_mono_ns
        intent.stamps.intent_publish_mono_ns = time.monotonic_ns()
        return intent

    def send(self, intent: OrderIntent) -> str:
        """Publish; returns the client order id."""
        self.bus.publish(subjects.intent(ACCOUNT), encode(intent))
        return client_order_id(intent.strategy, intent.intent_id)

    def cancel(self, client_id: str) -> None:
        self.send(self.intent(action=IntentAction.CANCEL, target_client_order_id=client_id))

    def cancel_all(self) -> None:
        self.send(self.intent(action=IntentAction.CANCEL_ALL))

    def control(self, verb: str, scope: str) -> None:
        control = Control(verb=verb, scope=scope, reason="test", actor="rig", publish_ns=time.time_ns())
        self.bus.publish(subjects.control(verb, scope), encode(control))

    # What became of it.

    def last(self, client_id: str) -> OrderEvent | None:
        return next((e for e in reversed(self.events) if e.client_order_id == client_id and not e.anomaly), None)

    def state(self, client_id: str) -> OrderState | None:
        event = self.last(client_id)
        return event.state if event is not None else None

    async def until(self, client_id: str, *states: OrderState, timeout_s: float = 15.0) -> OrderEvent:
        """Wait until the order was announced in one of ``states``; returns its newest event."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.state(client_id) not in states:
                    await asyncio.sleep(0.005)
        except TimeoutError:
            seen = [(e.state.value, e.reason) for e in self.events if e.client_order_id == client_id]
            raise AssertionError(f"{client_id} went {seen}, not {states}\n{self.log()}") from None
        found = self.last(client_id)
        assert found is not None
        return found

    async def journal(self) -> OurRecord:
        record = OurRecord()
        async for subject, payload, _ in self.bus.replay("ORDERS"):
            record.add(subject, payload)
        return record

    async def record(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.get("simvenue", f"/record?account={ACCOUNT}")
        return found

    async def differences(self) -> list[str]:
        """What the venue's record and the journal disagree about now."""
        comparison = compare(await self.journal(), await self.record())
        return comparison.lost + comparison.duplicated

    async def settle(self, timeout_s: float = 25.0) -> tuple[OurRecord, dict[str, Any]]:
        """Cancel everything, wait until nothing is open and both records agree; fails with the differences."""
        deadline = time.monotonic() + timeout_s
        problems: list[str] = ["not compared yet"]
        next_cancel = 0.0
        while time.monotonic() < deadline:
            if time.monotonic() > next_cancel:
                self.cancel_all()
                next_cancel = time.monotonic() + 2.0
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                record = await self.record()
                ours = await self.journal()
                comparison = compare(ours, record)
                problems = comparison.lost + comparison.duplicated
                venue = {o["clientOrderId"]: o["status"] for o in record["orders"]}
                still = [e for e in ours.orders.values() if not e.state.terminal]
                if not problems and not still:
                    return ours, record
                problems = problems or [self._of_open(e, venue.get(e.client_order_id, "not")) for e in still]
            await asyncio.sleep(0.2)
        raise AssertionError("\n".join(problems[:20]) + "\n" + self.log())

    def _of_open(self, event: OrderEvent, status: str) -> str:
        heard = [(e.state.value, e.epoch, e.seq) for e in self.events if e.client_order_id == event.client_order_id]
        return f"still open: {event.client_order_id} {event.state.value}, {status} at the venue; heard: {heard}"


def _child(spec: ServerSpec, log_dir: Path) -> Child:
    return Child(
        spec.name, spec.argv, env=spec.env, log_dir=log_dir, prepare=spec.prepare, ready=spec.ready, cwd=spec.cwd,
        user=spec.user, group=spec.group, stop_signal=spec.stop_signal, stop_timeout_s=spec.stop_timeout_s,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def order_rig(home: Path, **keys: object) -> AsyncIterator[OrderRig]:
    """A running rig; everything is stopped at the end, whatever happened."""
    rig = OrderRig(home, **keys)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()
