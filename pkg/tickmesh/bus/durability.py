"""Whether the order journals are as durable as declared: file, replicated, every write synced before the ack.

In: what JetStream says of its streams, and what each server says of itself on its monitoring port, the only place
where NATS tells `sync_interval: always`. Out: a verdict with sentences. What NATS does not tell: whether the disk
keeps its own promise, and how a server is configured that could not be asked; the latter makes the verdict UNKNOWN.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import PersistMode, StorageType
from nats.js.errors import APIError, NotFoundError

from tickmesh.bus.layout import STREAMS

_SERVERS_MOST = 32


class Verdict(StrEnum):
    """What is known."""

    DURABLE = "durable"
    UNKNOWN = "unknown"
    NOT_DURABLE = "not durable"


@dataclass(frozen=True, slots=True)
class Durability:
    """``because`` has a sentence for everything that is wrong or cannot be told."""

    verdict: Verdict
    because: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            "; ".join(self.because) or "order journals are on disk, replicated and synced before they are acknowledged"
        )


async def judge(js: JetStreamContext, *, replicas: int, monitor_url: str, timeout_s: float = 3.0) -> Durability:
    """Ask once; never raises for a server that does not answer."""
    wrong: list[str] = []
    unknown: list[str] = []
    for spec in STREAMS:
        if not spec.durable_order:
            continue
        try:
            async with asyncio.timeout(timeout_s):
                have = (await js.stream_info(spec.name)).config
        except NotFoundError:
            wrong.append(f"stream {spec.name} is not there")
            continue
        except (NatsError, APIError, TimeoutError, OSError) as error:
            unknown.append(f"stream {spec.name} cannot be asked about: {error or type(error).__name__}")
            continue
        if have.storage != StorageType.FILE:
            wrong.append(f"stream {spec.name} is kept in memory")
        if (have.num_replicas or 1) < replicas:
            wrong.append(f"stream {spec.name} has {have.num_replicas or 1} of {replicas} copies")
        if have.persist_mode == PersistMode.ASYNC:
            wrong.append(f"stream {spec.name} is acknowledged before it is written (persist_mode async)")
    await _ask_servers(monitor_url, replicas, timeout_s, wrong, unknown)
    if wrong:
        return Durability(Verdict.NOT_DURABLE, (*wrong, *unknown))
    return Durability(Verdict.UNKNOWN if unknown else Verdict.DURABLE, tuple(unknown))


async def _ask_servers(monitor_url: str, replicas: int, timeout_s: float, wrong: list[str], unknown: list[str]) -> None:
    if not monitor_url:
        unknown.append("whether the servers sync every write cannot be told: nats.monitor_url is empty")
        return
    try:
        urls = await _each_address(monitor_url)
    except OSError as error:
        unknown.append(f"the servers behind {monitor_url} cannot be found: {error}")
        return
    told: set[str] = set()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session:
        for url in urls:
            try:
                async with session.get(f"{url}/varz") as response:
                    answer = await response.json(content_type=None)
                name, config = str(answer["server_name"]), answer["jetstream"].get("config") or {}
            except (
                aiohttp.ClientError,
                TimeoutError,
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
            ) as error:
                unknown.append(f"the NATS server at {url} does not say how it syncs ({type(error).__name__})")
                continue
            if not config:
                continue  # a server without JetStream keeps no journal
            told.add(str(answer["server_id"]))
            if not config.get("sync_always"):
                seconds = int(config.get("sync_interval", 0)) / 1e9
                wrong.append(f"NATS server {name} syncs every {seconds:g} s; set jetstream.sync_interval: always there")
    if told and len(told) < replicas:
        unknown.append(f"only {len(told)} of {replicas} NATS servers could be asked how they sync")


async def _each_address(url: str) -> list[str]:
    """One URL per address behind the name: a headless Service names every server of a cluster."""
    parts = urlsplit(url)
    found = await asyncio.get_running_loop().getaddrinfo(
        parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), type=socket.SOCK_STREAM
    )
    if parts.scheme == "https":
        return [url.rstrip("/")]  # the certificate is for the name
    addresses = sorted({str(entry[4][0]) for entry in found})[:_SERVERS_MOST]
    hosts = [f"[{a}]" if ":" in a else a for a in addresses]
    return [urlunsplit((parts.scheme, f"{h}:{parts.port or 80}", parts.path.rstrip("/"), "", "")) for h in hosts]
