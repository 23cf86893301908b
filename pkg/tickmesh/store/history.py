"""History: what the recorder wrote, read back for people: fills, order events, account curve, minute bars.

Questions with a bound on rows and on time in, JSON out (money as strings, exact), through the cache when there is
one. Never on the path of an order; refuses unbounded questions.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.ports.gate import Gate, NoGate
from tickmesh.store.cache import Cache, Kind
from tickmesh.store.errors import AWAY, classify

MAX_ROWS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_FILLS = """
SELECT ts, account, venue, symbol, trade_id, order_id, client_order_id, strategy, side, price, quantity, commission,
       commission_asset, pnl, is_maker
FROM fills WHERE ts >= $1 AND ts < $2 AND ($3 = '' OR account = $3) AND ($4 = '' OR symbol = $4)
ORDER BY ts DESC, trade_id DESC LIMIT $5"""
_STEPS = """
SELECT ts, account, venue, symbol, order_id, client_order_id, strategy, side, type, price, quantity, filled,
       average_price, event_type, status, reason
FROM order_events WHERE ts >= $1 AND ts < $2 AND ($3 = '' OR account = $3) AND ($4 = '' OR symbol = $4)
ORDER BY ts DESC, stream_seq DESC LIMIT $5"""
_ACCOUNT = """
SELECT DISTINCT ON (date_bin($4, ts, 'epoch')) ts, account, equity, available, realized_pnl, unrealized_pnl,
       daily_pnl, commission, funding, drawdown, fills, maker_fills
FROM account_snapshots WHERE ts >= $1 AND ts < $2 AND account = $3
ORDER BY date_bin($4, ts, 'epoch') DESC, ts DESC LIMIT $5"""
_BARS = """
SELECT ts, venue, symbol, open_ticks, high_ticks, low_ticks, close_ticks, lots, notional, trades
FROM trade_bars WHERE ts >= $1 AND ts < $2 AND venue = $3 AND symbol = $4 ORDER BY ts DESC LIMIT $5"""


class History:
    """Reads with a small pool of its own, opened at the first question."""

    def __init__(
        self,
        dsn: str,
        *,
        cache: Cache | None = None,
        pool_size: int = 2,
        timeout_s: float = 5.0,
        gate: Gate | None = None,
    ) -> None:
        self._dsn = dsn
        self._cache = cache
        self._pool_size = pool_size
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._gate: Gate = gate or NoGate()

    async def fills(self, since_ns: int, until_ns: int, *, account: str = "", symbol: str = "", limit: int) -> bytes:
        """Newest first, a JSON array. Empty ``account`` or ``symbol`` is all of them.

        Raises:
            DependencyError: Postgres does not answer; a retry may help.
            ValueError: ``limit`` is out of range.
        """
        return await self._ask("fills", _FILLS, since_ns, until_ns, account, symbol, limit)

    async def order_events(
        self, since_ns: int, until_ns: int, *, account: str = "", symbol: str = "", limit: int
    ) -> bytes:
        """Steps of orders, newest first; otherwise as ``fills``."""
        return await self._ask("steps", _STEPS, since_ns, until_ns, account, symbol, limit)

    async def account(self, since_ns: int, until_ns: int, account: str, *, every_s: int, limit: int) -> bytes:
        """The account's newest snapshot of every ``every_s`` seconds, newest first; otherwise as ``fills``."""
        if every_s < 1:
            raise ValueError(f"every_s must be at least 1, not {every_s}")
        every = timedelta(seconds=every_s)
        return await self._ask("account", _ACCOUNT, since_ns, until_ns, account, every, limit)

    async def bars(self, since_ns: int, until_ns: int, venue: str, symbol: str, *, limit: int) -> bytes:
        """Minute bars in ticks and lots, newest first; otherwise as ``fills``."""
        return await self._ask("bars", _BARS, since_ns, until_ns, venue, symbol, limit)

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _ask(self, what: str, sql: str, since_ns: int, until_ns: int, *arguments: Any) -> bytes:
        limit = arguments[-1]
        if not 1 <= limit <= MAX_ROWS:
            raise ValueError(f"limit must be 1 to {MAX_ROWS}, not {limit}")

        async def load() -> bytes:
            return await self._read(sql, _time(since_ns), _time(until_ns), *arguments)

        if self._cache is None:
            return await load()
        key = "|".join((what, str(since_ns), str(until_ns), *map(str, arguments)))
        return await self._cache.get_or_load(Kind.ORDERS, key, load)

    async def _read(self, sql: str, *arguments: Any) -> bytes:
        ticket = self._gate.enter()
        if ticket is None:
            raise DependencyError("postgres", "the history cannot be read: the circuit breaker before Postgres is open")
        try:
            async with asyncio.timeout(self._timeout_s):
                pool = await self._open()
                rows = await pool.fetch(sql, *arguments)
        except AWAY as error:
            found = classify(error)
            self._gate.failure(ticket, str(found))
            raise DependencyError("postgres", f"the history cannot be read: {found}") from error
        except BaseException:
            self._gate.neutral(ticket)
            raise
        self._gate.success(ticket)
        return msgspec.json.encode([dict(row) for row in rows])

    async def _open(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=self._pool_size,
                    timeout=self._timeout_s,
                    command_timeout=self._timeout_s,
                    server_settings={
                        "application_name": "tickmesh-history",
                        "timezone": "UTC",
                        "default_transaction_read_only": "on",
                    },
                )
            return self._pool


def _time(ns: int) -> datetime:
    """Clamped to what a timestamp can be; the future and the past ask for nothing, not for an error."""
    microseconds = min(max(ns // 1000, 0), 4_102_444_800_000_000)
    return _EPOCH + timedelta(microseconds=microseconds)
