"""Cache: answers that may be a moment old, kept in Valkey (or Redis) for all gateways together.

A question is asked of the cache first, then of its source, once for however many ask at the same time. Refuses
to be needed: a cache that is away, slow or full of nonsense is a slower answer and a counter, never an error;
after a failure it is left alone for a second, so that requests do not queue up behind its timeout.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import redis.asyncio as redis
from redis.exceptions import RedisError

from tickmesh.ports.gate import Gate, NoGate

log = logging.getLogger(__name__)

Load = Callable[[], Awaitable[bytes]]

_PREFIX = "tickmesh:1:"  # a release that stores another form takes another number
_LEAVE_ALONE_S = 1.0
_MAX_VALUE_BYTES = 1024 * 1024


class Kind(StrEnum):
    """What is kept, each with its own age (ARCHITECTURE.md section 6)."""

    POSITIONS = "positions"
    ORDERS = "orders"
    BALANCES = "balances"
    ACCOUNTS = "accounts"


TTL_MS: dict[Kind, int] = {Kind.POSITIONS: 1000, Kind.ORDERS: 1000, Kind.BALANCES: 2000, Kind.ACCOUNTS: 60_000}


@dataclass(slots=True)
class CacheCounts:
    """Since the start: answered from the cache, not there, cache failed, joined somebody else's load."""

    hits: int = 0
    misses: int = 0
    failures: int = 0
    joined: int = 0


class Cache:
    """See the module. One per process; ``close`` it."""

    def __init__(self, url: str, *, timeout_s: float = 0.25, pool_size: int = 8, gate: Gate | None = None) -> None:
        self.counts = CacheCounts()
        self._timeout_s = timeout_s
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            max_connections=pool_size,
            retry=None,
            retry_on_timeout=False,
        )
        self._away_until_s = 0.0
        self._gate: Gate = gate or NoGate()
        self._loading: dict[str, asyncio.Task[bytes]] = {}

    @property
    def up(self) -> bool:
        """Whether the last use of the cache worked, or is long enough ago to try again."""
        return time.monotonic() >= self._away_until_s

    async def get_or_load(self, kind: Kind, key: str, load: Load) -> bytes:
        """The cached answer for ``key``, or what ``load`` returns, which is then kept for the kind's time.

        Raises:
            whatever ``load`` raises; nothing is kept then. Errors of the cache are never raised.
        """
        name = f"{_PREFIX}{kind}:{key}"
        found = await self._get(name)
        if found is not None:
            self.counts.hits += 1
            return found
        self.counts.misses += 1
        loading = self._loading.get(name)
        if loading is None:
            loading = asyncio.create_task(self._load(name, TTL_MS[kind], load), name=f"cache:{name}")
            self._loading[name] = loading
            loading.add_done_callback(lambda _: self._loading.pop(name, None))
        else:
            self.counts.joined += 1
        # One who gives up must not take the answer from the others.
        return await asyncio.shield(loading)

    async def forget(self, kind: Kind, key: str) -> None:
        """Drop an answer that is known to be wrong now, for example after an order."""
        await self._guarded(self._client.delete(f"{_PREFIX}{kind}:{key}"))

    async def close(self) -> None:
        for task in list(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), self._client.aclose(), return_exceptions=True)

    async def _load(self, name: str, ttl_ms: int, load: Load) -> bytes:
        value = await load()
        if len(value) <= _MAX_VALUE_BYTES:
            await self._guarded(self._client.set(name, value, px=ttl_ms))
        return value

    async def _get(self, name: str) -> bytes | None:
        found = await self._guarded(self._client.get(name))
        return found if isinstance(found, bytes) else None

    async def _guarded(self, operation: Awaitable[object]) -> object:
        """Await one operation of the cache, or nothing of it."""
        ticket = self._gate.enter() if self.up else None
        if ticket is None:
            if asyncio.iscoroutine(operation):
                operation.close()
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await operation
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            if self.counts.failures == 0:
                log.warning("the cache does not answer (%s); answers come from their source", error or "timeout")
            self.counts.failures += 1
            self._away_until_s = time.monotonic() + _LEAVE_ALONE_S
            self._gate.failure(ticket, str(error) or "no answer in time")
            return None
        except BaseException:
            self._gate.neutral(ticket)
            raise
        self._gate.success(ticket)
        return found
