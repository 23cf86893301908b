"""Strategy pods for tests: real processes with a name each, their resource in the bucket as the operator writes it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from strategy_world import World, free_port

from tickmesh.domain.lease import LeaseRecord
from tickmesh.kube.desired import hot_document
from tickmesh.kube.status import PodReport

ROOT = Path(__file__).resolve().parents[2]
TTL_MS = 1200


def resource(name: str = "quoter", generation: int = 1, **spec: Any) -> dict[str, Any]:
    """A Strategy as the API server holds it."""
    return {
        "apiVersion": "tickmesh.io/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": name, "generation": generation, "uid": "u"},
        "spec": {
            "plugin": {"entryPoint": "market-making"}, "mode": "Live", "symbols": ["BTCUSDT"], "account": "main",
            "parameters": {"orderNotional": 300, "halfSpreadBps": 1},
            "limits": {"coolDownMs": 20, "maxOrdersPerSecond": 100},
            "replicas": 2,
        } | spec,
    }  # fmt: skip


async def put(world: World, document: dict[str, Any] | bytes, name: str = "quoter") -> None:
    """Write a resource as the operator does, or any bytes."""
    value = document if isinstance(document, bytes) else hot_document(document)
    await (await world.bus.kv("strategies")).put(f"spec.{name}", value)


async def report(world: World, key: str = "quoter") -> PodReport | None:
    entry = await (await world.bus.kv("strategies")).get(f"report.{key}")
    return msgspec.json.decode(entry.value, type=PodReport) if entry and entry.value else None


async def lease(world: World, key: str = "strategy.main.quoter") -> LeaseRecord:
    entry = await (await world.bus.kv("leases")).get(key)
    return msgspec.json.decode(entry.value, type=LeaseRecord) if entry and entry.value else LeaseRecord(
        holder="", epoch=0, ttl_ms=0
    )  # fmt: skip


class Pod:
    """``python cmd/strategy`` as the Deployment runs it: by name, with nothing writable."""

    def __init__(self, world: World, name: str, *, shard: int = 0, strategy: str = "quoter") -> None:
        self.name = name
        self.admin_port = free_port()
        self.log = world.folder / f"{name}.log"
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "pkg"),
            "TICKMESH_NATS__URL": world.server.url,
            "TICKMESH_OBSERVE__INSTANCE": name,
            "TICKMESH_LOCAL__DATA_DIR": "/proc/none",
            "TICKMESH_STRATEGY__RESOURCES": f"bucket:{strategy}",
            "TICKMESH_STRATEGY__SHARD": str(shard),
            "TICKMESH_STRATEGY__ADMIN_PORT": str(self.admin_port),
            "TICKMESH_STRATEGY__LEASE_TTL_MS": str(TTL_MS),
        }
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "cmd/strategy")], env=environ, stdout=output, stderr=output
            )

    def said(self, text: str) -> bool:
        return text in self.log.read_text(errors="replace")

    async def until_said(self, text: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.said(text):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text(errors="replace")
            await asyncio.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
