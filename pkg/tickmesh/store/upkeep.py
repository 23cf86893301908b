"""Upkeep of the history: the schema itself, days made ahead, days past their keeping."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import asyncpg

from tickmesh.store.migrate import Migration, migrate
from tickmesh.store.rows import SERIES


async def open_schema(dsn: str, timeout_s: float) -> list[Migration]:
    """Migrate the database; returns what was run.

    Raises:
        ConfigError: see ``migrate.pending``.
        OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError: Postgres is away.
    """
    connection = await asyncpg.connect(dsn, timeout=timeout_s)
    try:
        return await migrate(connection)
    finally:
        await connection.close(timeout=1.0)


async def make_days(connection: asyncpg.Connection, today: date, ahead: int) -> int:
    """Make the partitions of today and ``ahead`` days more; returns how many were missing."""
    made = 0
    for table in SERIES:
        for offset in range(ahead + 1):
            made += await connection.fetchval("SELECT series_day($1, $2)", table, today + timedelta(days=offset))
    return made


async def drop_days(connection: asyncpg.Connection, today: date, keep_days: Mapping[str, int]) -> int:
    """Drop what ended more than ``keep_days[table]`` days ago (0 keeps for ever); returns how many days went."""
    gone = 0
    for table, days in keep_days.items():
        if days > 0:
            gone += await connection.fetchval("SELECT series_keep($1, $2, $3)", table, days, today)
            if table == "fills":
                limit = datetime.combine(today - timedelta(days=days), datetime.min.time(), UTC)
                await connection.execute("DELETE FROM fill_identities WHERE ts < $1", limit)
    return gone
