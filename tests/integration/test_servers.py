"""The three servers start from their wheels, survive a kill with their data, and say when a port is taken."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import ConfigError
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import ServerSpec, free_ports, local_servers
from tickmesh.settings import Settings, load


def settings_for_free_ports() -> Settings:
    nats, postgres, valkey = free_ports(3)
    return load(
        {
            "TICKMESH_NATS__URL": f"nats://127.0.0.1:{nats}",
            "TICKMESH_POSTGRES__DSN": f"postgresql://tickmesh@127.0.0.1:{postgres}/tickmesh",
            "TICKMESH_REDIS__URL": f"redis://127.0.0.1:{valkey}/0",
        }
    )


@contextlib.asynccontextmanager
async def running(spec: ServerSpec, tmp_path: Path) -> AsyncIterator[Child]:
    child = Child(
        spec.name, spec.argv, env=spec.env, log_dir=tmp_path, prepare=spec.prepare, ready=spec.ready, cwd=spec.cwd,
        user=spec.user, group=spec.group, stop_signal=spec.stop_signal, stop_timeout_s=spec.stop_timeout_s,
    )  # fmt: skip
    await child.start()
    try:
        assert await child.wait_ready(60), child.last_lines(20)
        yield child
    finally:
        await child.stop()
        if spec.cwd is not None:
            shutil.rmtree(spec.cwd, ignore_errors=True)  # may lie outside tmp_path, see runtime.postgres


async def kill(child: Child) -> None:
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(30):
        while child.pid in (None, first):
            await asyncio.sleep(0.02)
    assert await child.wait_ready(60), child.last_lines(20)


async def test_postgres_keeps_committed_rows_over_a_kill_and_never_runs_as_root(tmp_path: Path) -> None:
    spec = local_servers(settings_for_free_ports(), tmp_path)[1]
    dsn = spec.overrides["postgres.dsn"]
    async with running(spec, tmp_path) as child:
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
        await connection.close()
        await kill(child)
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT n FROM kept") == 42
        await connection.close()
        assert child.pid is not None
        assert Path(f"/proc/{child.pid}").stat().st_uid != 0
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(dsn, password="wrong")


async def test_nats_keeps_acknowledged_messages_over_a_kill(tmp_path: Path) -> None:
    settings = settings_for_free_ports()
    spec = local_servers(settings, tmp_path)[0]
    async with running(spec, tmp_path) as child:
        bus = await NatsBus.connect(settings.nats.url, name="test")
        try:
            await bus.publish_durable("order.event.main.a", b"kept", message_id="1")
            await kill(child)
            async with asyncio.timeout(20):
                while not bus.connected:
                    await asyncio.sleep(0.05)
            assert [payload async for _, payload, _ in bus.replay("ORDERS")] == [b"kept"]
        finally:
            await bus.close()


async def test_valkey_answers(tmp_path: Path) -> None:
    settings = settings_for_free_ports()
    spec = local_servers(settings, tmp_path)[2]
    async with running(spec, tmp_path):
        client = redis.Redis.from_url(settings.redis.url.get_secret_value())
        assert await client.set("k", "v", px=1000)
        assert await client.get("k") == b"v"
        await client.aclose()


def test_a_busy_port_is_named_with_its_key(tmp_path: Path) -> None:
    settings = settings_for_free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(settings.nats.url.rsplit(":", 1)[1])))
        taken.listen()
        with pytest.raises(ConfigError, match="TICKMESH_NATS__URL"):
            local_servers(settings, tmp_path)
