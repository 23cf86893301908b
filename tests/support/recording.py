"""A real Postgres, a real nats-server and recorder processes for the tests of the recorder."""

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import asyncpg

from tickmesh.bus.nats import NatsBus
from tickmesh.domain import subjects
from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import FillEvent, OrderEvent, Trade, encode
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import ServerSpec, free_ports, local_servers
from tickmesh.services.instruments import publish_instrument
from tickmesh.settings import load

_DAY_NS = 86_400_000_000_000
# Noon of yesterday: inside what retention keeps, and far from the turn of a day.
START_NS = (time.time_ns() // _DAY_NS - 1) * _DAY_NS + _DAY_NS // 2
INSTRUMENT = Instrument(
    venue="binance_usdm",
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.1"),
    lot_size=Decimal("0.001"),
)
ROOT = Path(__file__).resolve().parents[2]


def child_of(spec: ServerSpec, log_dir: Path) -> Child:
    return Child(
        spec.name, spec.argv, env=spec.env, log_dir=log_dir, prepare=spec.prepare, ready=spec.ready, cwd=spec.cwd,
        user=spec.user, group=spec.group, stop_signal=spec.stop_signal, stop_timeout_s=spec.stop_timeout_s,
    )  # fmt: skip


@dataclass
class Rig:
    """What a test needs; ``recorder()`` makes one more recorder, stopped at the end of the test."""

    env: dict[str, str]
    dsn: str
    bus: NatsBus
    nats: Child
    postgres: Child
    log_dir: Path
    recorders: list[Child] = field(default_factory=list)

    async def recorder(self, *, wait: bool = True, **settings: str) -> Child:
        port = free_ports(1)[0]
        env = {**self.env, "TICKMESH_RECORDER__ADMIN_PORT": str(port)}
        env |= {f"TICKMESH_RECORDER__{name.upper()}": value for name, value in settings.items()}

        async def ready() -> bool:
            return await answers(port, "/readyz")

        child = Child(
            f"recorder-{len(self.recorders)}", [sys.executable, str(ROOT / "cmd/recorder")], env=env,
            log_dir=self.log_dir, ready=ready,
        )  # fmt: skip
        self.recorders.append(child)
        await child.start()
        if wait:
            assert await child.wait_ready(60), child.last_lines(20)
        return child

    async def query(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsn, timeout=5)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def count(self, table: str, wanted: int, within_s: float = 30) -> int:
        """Rows of ``table`` once there are ``wanted``, or after ``within_s``."""
        found = -1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while found < wanted:
                    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                        found = (await self.query(f"SELECT count(*) FROM {table}"))[0][0]
                    await asyncio.sleep(0.05)
        return found


async def answers(port: int, path: str) -> bool:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
            return b" 200 " in line
    except (OSError, TimeoutError):
        return False


@contextlib.asynccontextmanager
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    nats, postgres, valkey = free_ports(3)
    urls = {
        "TICKMESH_NATS__URL": f"nats://127.0.0.1:{nats}",
        "TICKMESH_POSTGRES__DSN": f"postgresql://tickmesh@127.0.0.1:{postgres}/tickmesh",
        "TICKMESH_REDIS__URL": f"redis://127.0.0.1:{valkey}/0",
    }
    specs = local_servers(load(urls), tmp_path, only=("nats", "postgres"))
    dsn = specs[1].overrides["postgres.dsn"]
    children = [child_of(spec, tmp_path) for spec in specs]
    env = {**os.environ, **urls, "TICKMESH_POSTGRES__DSN": dsn, "PYTHONPATH": str(ROOT / "pkg")}
    try:
        for child in children:
            await child.start()
        for child in children:
            assert await child.wait_ready(60), child.last_lines(20)
        bus = await NatsBus.connect(urls["TICKMESH_NATS__URL"], name="test")
        await publish_instrument(bus, INSTRUMENT)
        the_rig = Rig(env, dsn, bus, children[0], children[1], tmp_path)
        try:
            yield the_rig
        finally:
            await asyncio.gather(*(r.stop() for r in the_rig.recorders))
            await bus.close()
    finally:
        for child in reversed(children):
            await child.stop()
        for spec in specs:
            if spec.cwd is not None:
                shutil.rmtree(spec.cwd, ignore_errors=True)


def a_fill(n: int, account: str = "main") -> FillEvent:
    return FillEvent(
        exchange_ns=START_NS + n * 1_000_000, receive_ns=START_NS + n * 1_000_000, publish_ns=START_NS + n * 1_000_000,
        seq=n, epoch=1, account=account, venue="binance_usdm", symbol="BTCUSDT", trade_id=n, client_order_id=f"c{n}",
        venue_order_id=n, side=Side.BUY, price_ticks=650_000 + n, qty_lots=5, commission=Decimal("0.0123"),
        commission_asset="USDT", maker=True,
    )  # fmt: skip


def a_step(n: int, state: OrderState = OrderState.FILLED) -> OrderEvent:
    return OrderEvent(
        exchange_ns=START_NS + n * 1_000_000, receive_ns=START_NS + n * 1_000_000, publish_ns=START_NS + n * 1_000_000,
        seq=1, epoch=1, account="main", venue="binance_usdm", symbol="BTCUSDT", client_order_id=f"c{n}",
        venue_order_id=n, price_ticks=650_000 + n, qty_lots=5, cum_lots=5, previous_state=OrderState.SUBMITTED,
        state=state,
    )  # fmt: skip


def a_trade(n: int) -> Trade:
    return Trade(
        exchange_ns=START_NS + n * 1_000_000, receive_ns=START_NS + n * 1_000_000, publish_ns=START_NS + n * 1_000_000,
        seq=n, epoch=1, venue="binance_usdm", symbol="BTCUSDT", trade_id=n, price_ticks=650_000 + n % 50, qty_lots=3,
        taker_side=Side.SELL,
    )  # fmt: skip


async def publish_fills(bus: NatsBus, first: int, last: int) -> None:
    """Fills first..last, each acknowledged by its stream."""
    for start in range(first, last + 1, 200):
        await asyncio.gather(
            *(
                bus.publish_durable(
                    subjects.fill("main", "BTCUSDT"), encode(a_fill(n)), message_id=f"fill-{n}", timeout_s=10
                )
                for n in range(start, min(start + 200, last + 1))
            )
        )
