"""The whole system as processes that are replaced one by one, as a rolling upgrade does: the new one is started beside
the old one with its own ports and name, becomes ready, then the old one is told to stop. Servers and venue stay. Each
service has one address that does not change and leads to whichever process is the newest ready one, as a Kubernetes
Service does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
from market_consumer import Consumer
from nats_cluster import NatsCluster
from order_rig import ACCOUNT, SYMBOL, OrderRig, _child

from tickmesh.bus.nats import NatsBus
from tickmesh.bus.ring import RingReader
from tickmesh.domain.messages import OrderIntent, decode
from tickmesh.kube.desired import hot_document
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import SERVER_NAMES, free_ports, local_servers
from tickmesh.settings import load

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
TWICE = ("feed", "risk", "account", "execution", "strategy")
"""What values-production.yaml runs two of."""


class Leaders:
    """Who leads the strategy since when. A leader stores its epoch before its first intent; from then on it may act."""

    def __init__(self) -> None:
        self.acting_ns: dict[int, int] = {}
        self.stopped_ns: list[int] = []
        """When each former leader was told to stop; from then on it makes no order."""

    async def follow(self, bus: NatsBus, key: str) -> None:
        async for entry in (await bus.kv("checkpoints")).watch(key):
            self.acting_ns.setdefault(msgspec.json.decode(entry.value or b"{}").get("epoch", 0), time.monotonic_ns())

    @property
    def gaps_s(self) -> list[float]:
        """How long nobody led, at each change of leader."""
        began = sorted(self.acting_ns.values())[1:]
        return [(act - stop) / 1e9 for stop, act in zip(self.stopped_ns, began, strict=True)]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


class UpgradeRig(OrderRig):
    """Use ``start`` and ``stop``; the processes that run now are in ``children`` by service."""

    def __init__(self, home: Path, nats_servers: int = 1) -> None:
        """With three NATS servers every stream has three copies, and ``nats.url`` is that of the first one."""
        super().__init__(home, execution__drain="hand_over", simvenue__flow_rate="1", nats__replicas=nats_servers)
        self.nats = NatsCluster(home, self.settings.nats.url, nats_servers) if nats_servers > 1 else None
        postgres, valkey, *admin = free_ports(2 + len(FLEET))
        self.environ |= {
            f"TICKMESH_{name.upper()}__ADMIN_PORT": str(port) for name, port in zip(FLEET, admin, strict=True)
        }
        self.environ |= {
            "TICKMESH_POSTGRES__DSN": f"postgresql://tickmesh@127.0.0.1:{postgres}/tickmesh",
            "TICKMESH_REDIS__URL": f"redis://127.0.0.1:{valkey}/0",
            "TICKMESH_STRATEGY__RESOURCES": "bucket:mm",
            "TICKMESH_STRATEGY__SHARD": "0",
        }
        self.settings = load(self.environ)
        self.consumer = Consumer()
        self.on_ring = Consumer()
        """What a consumer of the first feed's ring hears; only with several NATS servers does that feed write one."""
        self.intents: list[tuple[int, OrderIntent]] = []
        self.leaders = Leaders()
        self.generation = 0
        self._following: list[asyncio.Task[None]] = []
        self._addresses: list[asyncio.Server] = []
        self._behind: dict[str, int] = {}

    async def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3))
        for service in FLEET:  # first of all: until they are bound, a connection of somebody else may take their ports
            port = getattr(self.settings, service).admin_port
            self._addresses.append(await asyncio.start_server(partial(self._forward, service), "127.0.0.1", port))
        data = self.home / "data"
        if self.nats is not None:
            for child in self.nats.children:
                self.children[child.name] = child
                await child.start()
            for child in self.nats.children:
                await self.ready(child.name)
        for spec in local_servers(self.settings, data, ("postgres", "valkey") if self.nats else SERVER_NAMES):
            self.environ |= {f"TICKMESH_{k.replace('.', '__').upper()}": v for k, v in spec.overrides.items()}
            await self._start(_child(spec, self.home))
        await self._start(self._service("simvenue"))
        self.bus = await NatsBus.connect(self.settings.nats.url, name="rig", replicas=self.settings.nats.replicas)
        await self.consumer.listen(self.bus)
        await self.bus.subscribe("md.book.*.*", self._on_book)
        await self.bus.subscribe(f"order.intent.{ACCOUNT}", self._on_any_intent)
        if self.nats is not None:
            reader = RingReader(self.home / "feed-0")
            self._following.append(asyncio.create_task(reader.run(self.on_ring.take, asyncio.Event())))
        await (await self.bus.kv("strategies")).put("spec.mm", hot_document(STRATEGY))
        self._following.append(asyncio.create_task(self.leaders.follow(self.bus, "strategy.mm")))
        for service in FLEET:
            self.children[service] = await self._new(service)

    async def replace(self, service: str) -> None:
        """One step of a rolling upgrade."""
        old = self.children[service]
        self.generation += 1
        new = await self._new(service)
        await asyncio.sleep(0.5)  # the old one trades on beside a new one that is warm
        if service == "strategy":
            self.leaders.stopped_ns.append(time.monotonic_ns())
        await old.stop()
        self.children[service] = new
        del self.children[old.name]

    async def drain_node(self) -> None:
        """Every process of this node is told to stop at once. What runs twice has its warm
        second on the other node; of the others a new one starts there as the old one goes, as a ReplicaSet does."""
        self.generation += 1
        old = {service: self.children[service] for service in FLEET}
        new = {service: await self._new(service) for service in TWICE}
        await asyncio.sleep(0.5)
        self.leaders.stopped_ns.append(time.monotonic_ns())
        async with asyncio.TaskGroup() as group:
            for child in old.values():
                group.create_task(child.stop())
            started = {s: group.create_task(self._new(s)) for s in FLEET if s not in TWICE}
        for service in FLEET:
            self.children[service] = new.get(service) or started[service].result()
            del self.children[old[service].name]

    def lapses_s(self, name: str) -> list[float]:
        """How long a process that held its lease all the time did not have it, each time, by its own log."""
        found, since = [], 0.0
        for line in (self.home / f"{name}.log").read_text().splitlines():
            at = datetime.fromisoformat(line.split(" ", 1)[0]).timestamp() if ": lease " in line else 0.0
            if "not renewed in time" in line:
                since = at
            elif since and "held by us" in line:
                found.append(at - since)
                since = 0.0
        assert not since, f"{name} never got its lease back"
        return found

    async def stop(self) -> None:
        for task in self._following:
            task.cancel()
        for address in self._addresses:
            address.close()
        for service in reversed(FLEET):
            if service in self.children:
                await self.children[service].stop()
        for name in list(self.children):
            if not name.startswith(("nats", "postgres", "valkey")):
                await self.children[name].stop()
        if self.bus is not None:
            await self.bus.close()
        for name in list(self.children):
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
        if service == "feed" and self.nats is not None:
            environ["TICKMESH_LOCAL__TRANSPORT"] = "shm"
        if service == "gateway":
            environ["TICKMESH_GATEWAY__PORT"] = str(more)
        child = self._service(service, name, environ)
        await self._start(child)
        self._behind[service] = port
        return child

    async def _forward(self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the service's address."""
        try:
            inward, outward = await asyncio.open_connection("127.0.0.1", self._behind[service])
        except (OSError, KeyError):
            writer.close()
            return
        await asyncio.gather(_pump(reader, outward), _pump(inward, writer))

    def _on_any_intent(self, subject: str, payload: bytes) -> None:
        self.intents.append((time.monotonic_ns(), decode(OrderIntent, payload)))
