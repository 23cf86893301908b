"""The whole system as processes that are replaced one by one, as a rolling upgrade does: the new one is started beside
the old one with its own ports and name, becomes ready, then the old one is told to stop. Servers and venue stay.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import msgspec
from market_consumer import Consumer
from order_rig import ACCOUNT, SYMBOL, OrderRig, _child

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.messages import OrderIntent, decode
from tickmesh.kube.desired import hot_document
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import free_ports, local_servers

ROOT = Path(__file__).resolve().parents[2]
STRATEGY = {
    "apiVersion": "tickmesh.io/v1alpha1",
    "kind": "Strategy",
    "metadata": {"name": "mm", "generation": 1, "uid": "u"},
    "spec": {
        "plugin": {"entryPoint": "market-making"}, "mode": "Live", "account": ACCOUNT, "symbols": [SYMBOL],
        "parameters": {"orderNotional": 200, "halfSpreadBps": 0.5, "requoteBps": 0.1},
        "limits": {"maxPosition": "1", "coolDownMs": 50, "maxOrdersPerSecond": 20},
    },
}  # fmt: skip
FLEET = ("feed", "risk", "account", "execution", "recorder", "gateway", "strategy")


class Leaders:
    """When a key of the ``leases`` bucket was held, told by the bucket itself."""

    def __init__(self) -> None:
        self.gaps_s: list[float] = []
        self.epochs: list[int] = []
        self.acting_ns: dict[int, int] = {}
        """When the successor's first checkpoint came, by its epoch: from then on it may send."""

    async def follow_lease(self, bus: NatsBus, key: str) -> None:
        given_ns = 0
        async for entry in (await bus.kv("leases")).watch(key):
            record = msgspec.json.decode(entry.value or b"{}")
            if not record.get("holder"):
                given_ns = time.monotonic_ns()
            elif record["epoch"] not in self.epochs:
                self.epochs.append(record["epoch"])
                if given_ns:
                    self.gaps_s.append((time.monotonic_ns() - given_ns) / 1e9)


class UpgradeRig(OrderRig):
    """Use ``start`` and ``stop``; the processes that run now are in ``children`` by service."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, execution__drain="hand_over", simvenue__flow_rate="1")
        (postgres, valkey) = free_ports(2)
        self.environ |= {
            "TICKMESH_POSTGRES__DSN": f"postgresql://tickmesh@127.0.0.1:{postgres}/tickmesh",
            "TICKMESH_REDIS__URL": f"redis://127.0.0.1:{valkey}/0",
            "TICKMESH_STRATEGY__RESOURCES": "bucket:mm",
            "TICKMESH_STRATEGY__SHARD": "0",
        }
        from tickmesh.settings import load

        self.settings = load(self.environ)
        self.consumer = Consumer()
        self.intents: list[tuple[int, OrderIntent]] = []
        self.leaders = Leaders()
        self.generation = 0
        self._following: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3))
        data = self.home / "data"
        for spec in local_servers(self.settings, data):
            self.environ |= {f"TICKMESH_{k.replace('.', '__').upper()}": v for k, v in spec.overrides.items()}
            await self._start(_child(spec, self.home))
        await self._start(self._service("simvenue"))
        self.bus = await NatsBus.connect(self.settings.nats.url, name="rig")
        await self.consumer.listen(self.bus)
        await self.bus.subscribe("md.book.*.*", self._on_book)
        await self.bus.subscribe(f"order.intent.{ACCOUNT}", self._on_any_intent)
        await (await self.bus.kv("strategies")).put("spec.mm", hot_document(STRATEGY))
        follow = self.leaders.follow_lease(self.bus, f"strategy.{ACCOUNT}.mm")
        self._following.append(asyncio.create_task(follow))
        for service in FLEET:
            self.children[service] = await self._new(service)

    async def replace(self, service: str) -> None:
        """One step of a rolling upgrade."""
        old = self.children[service]
        self.generation += 1
        new = await self._new(service)
        await asyncio.sleep(0.5)  # the old one trades on beside a new one that is warm
        await old.stop()
        self.children[service] = new
        del self.children[old.name]

    async def stop(self) -> None:
        for task in self._following:
            task.cancel()
        for service in reversed(FLEET):
            if service in self.children:
                await self.children[service].stop()
        for name in list(self.children):
            if name not in ("nats", "postgres", "valkey"):
                await self.children[name].stop()
        if self.bus is not None:
            await self.bus.close()
        for name in ("valkey", "postgres", "nats"):
            if name in self.children:
                await self.children[name].stop()
        await self._http.close()

    async def drained(self, service: str) -> None:
        """Stop a service for good."""
        await self.children.pop(service).stop()

    async def _new(self, service: str) -> Child:
        name = f"{service}-{self.generation}"
        port, more = free_ports(2)
        self.admin[name] = port
        environ = {
            f"TICKMESH_{service.upper()}__ADMIN_PORT": str(port),
            "TICKMESH_OBSERVE__INSTANCE": name,
            "TICKMESH_LOCAL__DATA_DIR": str(self.home / name),
        }
        if service == "gateway":
            environ["TICKMESH_GATEWAY__PORT"] = str(more)
        child = self._service(service, name, environ)
        await self._start(child)
        return child

    def _on_any_intent(self, subject: str, payload: bytes) -> None:
        self.intents.append((time.monotonic_ns(), decode(OrderIntent, payload)))
