"""A real nats-server, simvenue, and account and risk processes: a desk without execution, whose part the test plays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from venue_process import KEY, SECRET, VenueProcess

from tickmesh.bus.nats import NatsBus
from tickmesh.domain import subjects
from tickmesh.domain.enums import Side
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import AccountSnapshot, Alert, Control, FillEvent, MarkPrice, decode, encode
from tickmesh.observe.clock import SystemClock
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import ServerSpec, free_ports, local_servers
from tickmesh.services.instruments import publish_instrument
from tickmesh.settings import load
from tickmesh.venues.binance_usdm.codec_trading import VenueTrade
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.simvenue.server.listing import instruments_for

ROOT = Path(__file__).resolve().parents[2]
S = "BTCUSDT"


@dataclass
class Desk:
    """What a test needs; everything is stopped at its end."""

    env: dict[str, str]
    bus: NatsBus
    nats: Child
    venue: VenueProcess
    rest: BinanceUsdmRest
    instruments: dict[str, Instrument]
    log_dir: Path
    snapshots: list[AccountSnapshot] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    published: set[int] = field(default_factory=set)

    async def start(self, name: str, **settings: str) -> Child:
        """Start a service and wait until it has started."""
        port = self.ports.setdefault(name, free_ports(1)[0])
        env = {**self.env, f"TICKMESH_{name.upper()}__ADMIN_PORT": str(port)}
        env |= {f"TICKMESH_{name.upper()}__{key.upper()}": value for key, value in settings.items()}

        async def ready() -> bool:
            return (await asyncio.to_thread(self.get, name, "/readyz") or {}).get("ready", False)

        child = Child(
            name, [sys.executable, str(ROOT / "cmd" / name)], env=env, log_dir=self.log_dir, ready=ready,
            stop_timeout_s=5.0,
        )  # fmt: skip
        self.children.append(child)
        await child.start()
        return child

    def get(self, name: str, path: str) -> Any:
        """JSON of an admin endpoint; None when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=2) as response:
                return json.loads(response.read())
        except (OSError, ValueError):
            return None

    def counter(self, name: str, counter: str) -> float:
        found = self.get(name, "/stats") or {"counters": {}}
        return sum(v for k, v in found["counters"].items() if k.partition("{")[0] == counter)

    async def until(self, what: Callable[[], object], within_s: float = 30.0) -> None:
        """Wait until ``what`` is true."""
        try:
            async with asyncio.timeout(within_s):
                while not what():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(
                f"not within {within_s} s; last snapshot {self.snapshots[-1:]}, alerts {self.alerts[-3:]}\n"
                + "\n".join(child.last_lines(15) for child in self.children)
            ) from None

    async def trade(self, side: str, quantity: str, *, publish: bool = True) -> list[VenueTrade]:
        """A market order at the venue; its fills on the bus, as execution publishes them."""
        placed = await self.rest.place(
            {"symbol": S, "side": side, "type": "MARKET", "quantity": quantity, "newOrderRespType": "RESULT"}
        )
        assert placed.status == "FILLED", placed
        trades = [t for t in await self.rest.user_trades(S) if t.orderId == placed.orderId]
        for trade in trades if publish else ():
            await self.publish_fill(trade)
        return trades

    async def publish_fill(self, trade: VenueTrade) -> None:
        instrument = self.instruments[trade.symbol]
        fill = FillEvent(
            account="main", venue="binance", symbol=trade.symbol, trade_id=trade.id, client_order_id="c",
            venue_order_id=trade.orderId, side=Side.BUY if trade.side == "BUY" else Side.SELL,
            price_ticks=instrument.to_ticks(trade.price), qty_lots=instrument.to_lots(trade.qty),
            commission=trade.commission, commission_asset=trade.commissionAsset, maker=trade.maker,
        )  # fmt: skip
        await self.bus.publish_durable(
            subjects.fill("main", trade.symbol), encode(fill), message_id=f"f-{trade.symbol}-{trade.id}"
        )

    def mark(self, price: str) -> None:
        self.bus.publish(
            subjects.mark("binance", S), encode(MarkPrice(venue="binance", symbol=S, mark_price=Decimal(price)))
        )

    @property
    def lots(self) -> int:
        """Our position as the newest snapshot has it."""
        found = [p.qty_lots for p in self.snapshots[-1].positions if p.symbol == S] if self.snapshots else []
        return found[0] if found else 0


@contextlib.asynccontextmanager
async def desk(tmp_path: Path, **venue_keys: object) -> AsyncIterator[Desk]:
    """Start nats, the venue and a bus client."""
    port = free_ports(1)[0]
    urls = {"TICKMESH_NATS__URL": f"nats://127.0.0.1:{port}"}
    (spec,) = local_servers(load(urls), tmp_path, only=("nats",))
    nats = _child(spec, tmp_path)
    venue = VenueProcess(tmp_path / "venue", **{"flow_rate": 0.2, **venue_keys})
    env = {
        **os.environ, **urls, "PYTHONPATH": str(ROOT / "pkg"), "TICKMESH_VENUE__REST_URL": venue.url,
        "TICKMESH_VENUE__STREAM_URL": venue.stream_url, "TICKMESH_LOCAL__DATA_DIR": str(tmp_path / "data"),
        "TICKMESH_ACCOUNT__RECONCILE_INTERVAL_S": "0.5", "TICKMESH_ACCOUNT__SNAPSHOT_INTERVAL_S": "0.2",
        "TICKMESH_RISK__CRITICAL_SERVICES": "[]",
    }  # fmt: skip
    await nats.start()
    bus = rest = found = None
    try:
        assert await nats.wait_ready(30), nats.last_lines(20)
        await asyncio.to_thread(venue.start)
        bus = await NatsBus.connect(urls["TICKMESH_NATS__URL"], name="desk")
        rest = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock())
        found = Desk(env, bus, nats, venue, rest, instruments_for([S, "ETHUSDT"]), tmp_path)
        for instrument in found.instruments.values():
            await publish_instrument(bus, instrument)
        here = found
        await bus.subscribe("account.>", lambda _, p: here.snapshots.append(decode(AccountSnapshot, p)))
        await bus.subscribe("alert.>", lambda _, p: here.alerts.append(decode(Alert, p)))
        await bus.subscribe("ctl.>", lambda _, p: here.controls.append(decode(Control, p)))
        yield found
    finally:
        for child in reversed(found.children if found is not None else []):
            await child.stop()
        if rest is not None:
            await rest.close()
        if bus is not None:
            await bus.close()
        venue.stop()
        await nats.stop()


def _child(spec: ServerSpec, log_dir: Path) -> Child:
    return Child(
        spec.name, spec.argv, env=spec.env, log_dir=log_dir, prepare=spec.prepare, ready=spec.ready, cwd=spec.cwd,
        user=spec.user, group=spec.group, stop_signal=spec.stop_signal, stop_timeout_s=spec.stop_timeout_s,
    )  # fmt: skip
