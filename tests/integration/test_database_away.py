"""reference/architecture.md, Graceful Degradation, "database unavailable", with a real Postgres that is stopped."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from recording import ROOT, Rig, publish_fills, rig
from strategy_pods import resource
from strategy_world import World, free_port

from tickmesh.domain.messages import Alert, decode
from tickmesh.runtime.child import Child
from tickmesh.services.breaker_records import BreakerRecord


class Floor:
    """The strategy service on a directory of resources."""

    def __init__(self, r: Rig, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.port = free_port()
        env = {
            **r.env, "TICKMESH_STRATEGY__RESOURCES": str(folder), "TICKMESH_STRATEGY__ADMIN_PORT": str(self.port),
            "TICKMESH_LOCAL__DATA_DIR": str(folder.parent / "data"),
        }  # fmt: skip
        self.child = Child("strategy", [sys.executable, str(ROOT / "cmd/strategy")], env=env, log_dir=r.log_dir)

    def write(self, name: str) -> None:
        document = resource(name)
        document["spec"].pop("replicas")
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(document))

    async def get(self, path: str) -> Any:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as response,
            ):
                return json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return {}

    async def names(self) -> set[str]:
        return {strategy["name"] for strategy in (await self.get("/strategies")).get("strategies", [])}


async def breaker(r: Rig) -> str:
    entry = await (await r.bus.kv("breakers")).get("state.postgres-recorder")
    return msgspec.json.decode(entry.value, type=BreakerRecord).state if entry is not None and entry.value else ""


async def test_without_the_database_strategies_trade_on_and_new_ones_are_loaded_when_it_is_back(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        world, floor, number = World(r.bus), Floor(r, tmp_path / "resources"), itertools.count(1)
        alerts: list[Alert] = []
        await r.bus.subscribe("alert.>", lambda _, payload: alerts.append(decode(Alert, payload)))
        await world.start()
        await r.recorder()

        async def until(what: Any) -> None:
            """Trading goes on meanwhile: books, and fills that want to be recorded."""
            async with asyncio.timeout(60):
                while not await what():
                    n = next(number)
                    world.tick(618_000 + n % 40 * 100, 618_001 + n % 40 * 100)
                    await publish_fills(r.bus, n, n)
                    await asyncio.sleep(0.05)

        async def trades_on() -> bool:
            return len(world.places("quoter")) > before

        async def knows_both() -> bool:
            return await floor.names() == {"quoter", "newcomer"}

        async def is_told() -> bool:
            because = (await floor.get("/readyz")).get("because", {})
            return any("newcomer is new" in a.text for a in alerts) and "newcomer" in because.get("database", "")

        async def is_open() -> bool:
            return await breaker(r) == "Open"

        async def quotes() -> bool:
            return bool(world.places("quoter"))

        async def is_back() -> bool:
            return floor.child.restarts == 1 and await floor.names() == {"quoter"}

        try:
            floor.write("quoter")
            await floor.child.start()
            await until(quotes)
            await r.postgres.stop()
            await until(is_open)
            floor.write("newcomer")
            await until(is_told)
            before = len(world.places("quoter"))
            await until(trades_on)
            assert floor.child.pid is not None
            os.kill(floor.child.pid, signal.SIGKILL)  # what is known comes back without the database, too
            await until(is_back)
            await until(is_told)
            assert await floor.names() == {"quoter"} and not world.places("newcomer")
            await r.postgres.start()
            await until(knows_both)
            assert "database" not in (await floor.get("/readyz"))["because"]
            count = next(number)
            await publish_fills(r.bus, count, count)
            assert await r.count("fills", count) == count, "what was not recorded meanwhile is not lost"
        finally:
            await floor.child.stop()
