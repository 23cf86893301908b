"""Migrations and upkeep on a real Postgres."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import pytest
from recording import INSTRUMENT, START_NS, a_fill, a_trade, child_of

from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.runtime.servers import free_ports, local_servers
from tickmesh.settings import load
from tickmesh.store import upkeep
from tickmesh.store.errors import BadRowError
from tickmesh.store.migrate import migrate, packaged
from tickmesh.store.rows import SERIES, fill_rows, trade_rows
from tickmesh.store.writer import Writer


def find(venue: str, symbol: str):
    return INSTRUMENT


@contextlib.asynccontextmanager
async def postgres(tmp_path: Path) -> AsyncIterator[str]:
    ports = free_ports(3)
    env = {
        "TICKMESH_NATS__URL": f"nats://127.0.0.1:{ports[0]}",
        "TICKMESH_POSTGRES__DSN": f"postgresql://tickmesh@127.0.0.1:{ports[1]}/tickmesh",
        "TICKMESH_REDIS__URL": f"redis://127.0.0.1:{ports[2]}/0",
    }
    spec = local_servers(load(env), tmp_path, only=("postgres",))[0]
    child = child_of(spec, tmp_path)
    await child.start()
    try:
        assert await child.wait_ready(60), child.last_lines(20)
        yield spec.overrides["postgres.dsn"]
    finally:
        await child.stop()
        if spec.cwd is not None:
            shutil.rmtree(spec.cwd, ignore_errors=True)


@contextlib.asynccontextmanager
async def database(dsn: str, name: str) -> AsyncIterator[asyncpg.Connection]:
    root = await asyncpg.connect(dsn)
    await root.execute(f"CREATE DATABASE {name}")
    await root.close()
    connection = await asyncpg.connect(dsn, database=name)
    try:
        yield connection
    finally:
        await connection.close()


async def schema_of(connection: asyncpg.Connection) -> list[tuple[str, str, str]]:
    rows = await connection.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def test_each_version_leads_to_the_next_and_all_ways_to_one_schema(tmp_path: Path) -> None:
    async with postgres(tmp_path) as dsn:
        known = packaged()
        async with database(dsn, "fresh") as connection:
            assert await migrate(connection) == known
            assert await migrate(connection) == []
            wanted = await schema_of(connection)
        for version in range(1, len(known)):
            async with database(dsn, f"from_{version}") as connection:
                assert await migrate(connection, known[:version]) == known[:version]
                assert await migrate(connection) == known[version:]
                assert await schema_of(connection) == wanted


async def test_a_newer_schema_and_an_edited_migration_are_refused_and_a_failing_one_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with postgres(tmp_path) as dsn, database(dsn, "a") as connection:
        known = packaged()
        broken = replace(known[-1], sql="CREATE TABLE half (a int); SELECT 1/0")
        with pytest.raises(asyncpg.PostgresError):
            await migrate(connection, [*known[:-1], broken])
        assert await schema_of(connection) == []
        await migrate(connection)
        with pytest.raises(ConfigError, match="upgrade tickmesh"):
            await migrate(connection, known[:-1])
        with pytest.raises(ConfigError, match="was edited after it ran"):
            await migrate(connection, [replace(known[0], sql=known[0].sql + "\nSELECT 1;"), *known[1:]])
        await migrate(connection, [replace(known[0], sql=known[0].sql + " \r\n\n"), *known[1:]])


async def test_many_that_migrate_at_once_do_it_once(tmp_path: Path) -> None:
    async with postgres(tmp_path) as dsn:
        ran = await asyncio.gather(*(upkeep.open_schema(dsn, 30) for _ in range(6)))
        assert sorted(len(migrations) for migrations in ran) == [0] * 5 + [len(packaged())]


async def test_days_are_made_ahead_and_whole_days_past_their_keeping_go(tmp_path: Path) -> None:
    async with postgres(tmp_path) as dsn:
        await upkeep.open_schema(dsn, 30)
        connection = await asyncpg.connect(dsn)
        today = datetime.fromtimestamp(START_NS / 1e9, UTC).date()
        assert await upkeep.make_days(connection, today, 3) == 4 * len(SERIES)
        assert await upkeep.make_days(connection, today, 3) == 0
        writer = Writer(dsn, name="test", timeout_s=10)
        old = a_trade(1)
        old.exchange_ns -= 91 * 86_400 * 10**9
        for trade in (old, a_trade(2)):
            await writer.write(trade_rows(trade, find))
        assert await upkeep.drop_days(connection, today, {"trades": 90}) == 1
        assert await upkeep.drop_days(connection, today, {"trades": 0}) == 0
        assert [row[0] for row in await connection.fetch("SELECT trade_id FROM trades")] == [2]
        assert await connection.fetchval("SELECT sum(trades) FROM trade_bars") == 2, "bars outlive their trades"
        await writer.write(trade_rows(old, find))  # its day is made again, though this writer had seen it before
        assert await connection.fetchval("SELECT count(*) FROM trades") == 2
        await writer.close()
        await connection.close()


async def test_a_row_that_no_column_takes_is_told_apart_from_a_server_that_is_away(tmp_path: Path) -> None:
    async with postgres(tmp_path) as dsn:
        await upkeep.open_schema(dsn, 30)
        writer = Writer(dsn, name="test", timeout_s=10)
        bad = a_fill(1)
        bad.account = "nul\x00"
        with pytest.raises(BadRowError):
            await writer.write(fill_rows(bad, find, 1))
        huge = a_fill(2)
        huge.qty_lots = 2**70
        with pytest.raises(BadRowError):
            await writer.write(fill_rows(huge, find, 1))
        written = await writer.write(fill_rows(a_fill(3), find, 1))
        assert written.rows == {"fills": 1}
        again = await writer.write(fill_rows(a_fill(3), find, 1))
        assert (again.rows, again.duplicates) == ({"fills": 0}, {"fills": 1})
        await writer.close()
        nowhere = Writer(dsn.replace(dsn.rsplit(":", 1)[1], "1/tickmesh"), name="test", timeout_s=2)
        with pytest.raises(DependencyError, match="recording resumes by itself"):
            await nowhere.write(fill_rows(a_fill(4), find, 1))


async def test_an_audit_row_cannot_be_changed_or_removed(tmp_path: Path) -> None:
    async with postgres(tmp_path) as dsn:
        await upkeep.open_schema(dsn, 30)
        connection = await asyncpg.connect(dsn)
        await connection.execute("INSERT INTO audit (ts, source, event, actor) VALUES (now(), 'a', 'b', 'c')")
        for change in ("UPDATE audit SET actor = 'd'", "DELETE FROM audit"):
            with pytest.raises(asyncpg.RaiseError, match="append only"):
                await connection.execute(change)
        await connection.close()


async def test_bars_are_the_same_in_whatever_order_trades_come(tmp_path: Path) -> None:
    async with postgres(tmp_path) as dsn:
        await upkeep.open_schema(dsn, 30)
        writer = Writer(dsn, name="test", timeout_s=10)
        order = [5, 1, 9, 3, 7, 2, 8, 4, 6, 5, 1]  # with two told twice
        for n in order:
            trade = a_trade(n)
            trade.price_ticks = 1000 + n
            await writer.write(trade_rows(trade, find))
        connection = await asyncpg.connect(dsn)
        bar = await connection.fetchrow("SELECT * FROM trade_bars")
        await connection.close()
        await writer.close()
        assert [bar[name] for name in ("open_ticks", "high_ticks", "low_ticks", "close_ticks", "lots", "trades")] == [
            1001, 1009, 1001, 1009, 27, 9,
        ]  # fmt: skip


async def test_many_that_make_the_same_days_at_once_make_each_once(tmp_path: Path) -> None:
    async with postgres(tmp_path) as dsn:
        await upkeep.open_schema(dsn, 30)
        connections = [await asyncpg.connect(dsn) for _ in range(4)]
        today = date(2026, 11, 21)
        made = await asyncio.gather(*(upkeep.make_days(connection, today, 3) for connection in connections))
        assert sum(made) == 4 * len(SERIES)
        for connection in connections:
            await connection.close()
