"""NATS as production runs it: three servers in a cluster, each syncing every write, replaced one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import DependencyError
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import free_ports, program

_CONFIG = """\
server_name: {name}
host: 127.0.0.1
port: {port}
http: "127.0.0.1:{monitor}"
lame_duck_duration: "30s"
lame_duck_grace_period: "1s"
jetstream {{ store_dir: "{store}", max_memory_store: 512MB, max_file_store: 64GB, sync_interval: always }}
cluster {{ name: desk, listen: "127.0.0.1:{route}", routes: [{routes}] }}
"""


class NatsCluster:
    """Its servers as ``children``; the first one listens at ``url``."""

    def __init__(self, home: Path, url: str, count: int) -> None:
        first = urlsplit(url).port
        ports = [first, *free_ports(count - 1)]
        routes, self.monitors = free_ports(count), free_ports(count)
        others = ", ".join(f'"nats://127.0.0.1:{route}"' for route in routes)
        self.children = []
        home.mkdir(parents=True, exist_ok=True)
        for number, (port, route, monitor) in enumerate(zip(ports, routes, self.monitors, strict=True)):
            name = f"nats-{number}"
            config = home / f"{name}.conf"
            store = home / name
            config.write_text(
                _CONFIG.format(name=name, port=port, monitor=monitor, store=store, route=route, routes=others)
            )
            self.children.append(
                Child(
                    name, [program("nats-server"), "-c", str(config)], env=dict(os.environ), log_dir=home,
                    ready=lambda monitor=monitor: _healthy(monitor),
                )
            )  # fmt: skip

    async def replace(self, number: int) -> None:
        """One step of a roll as the chart of NATS does it: the server becomes a lame duck (it gives leaderships away
        and sends its clients elsewhere, one by one), ends, and comes back; the next one may go once it is current."""
        child = self.children[number]
        pid = child.pid
        assert pid is not None
        os.kill(pid, signal.SIGUSR2)
        async with asyncio.timeout(60):
            while child.pid == pid:
                await asyncio.sleep(0.05)
        assert await child.wait_ready(60), child.last_lines(30)


class Probe:
    """Writes to a bucket of three copies all the time; ``worst_s`` is for how long at most no write got through."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self.worst_s = 0.0

    async def run(self) -> None:
        bucket = await self._bus.kv("leases")
        last = time.monotonic()
        while True:
            with contextlib.suppress(DependencyError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await bucket.put("probe", b"{}")
                now = time.monotonic()
                self.worst_s, last = max(self.worst_s, now - last), now
            await asyncio.sleep(0.05)


async def _healthy(monitor: int) -> bool:
    """What the readiness probe of the NATS chart asks: streams and consumers of this server are current."""
    timeout = aiohttp.ClientTimeout(total=2)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        url = f"http://127.0.0.1:{monitor}/healthz"
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as answer:
            return answer.status == 200
    return False
