"""Writer: rows in, one committed transaction out, each row at most once however often it comes.

COPY into a temporary staging table, then INSERT ... ON CONFLICT DO NOTHING by natural key; with the rows goes
how far the stream is recorded. One connection, one writer at a time. Refuses to retry: whoever calls knows
what to do with the messages meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

import asyncpg
import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.ports.gate import Gate, NoGate
from tickmesh.store.errors import AWAY, BadRowError, classify
from tickmesh.store.progress import Hole, Progress
from tickmesh.store.rows import COLUMNS, SERIES, Rows

_UNWRITABLE = (ValueError, TypeError, OverflowError)
"""What asyncpg raises for a value before it is sent."""

Advance = Callable[[Progress], Progress]

_STAGE = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS stage_{table} ON COMMIT DELETE ROWS AS "
    "SELECT {columns} FROM {table} WITH NO DATA"
)
_KEEP_NEW_FILLS = """
WITH fresh AS (
    INSERT INTO fill_identities (account, venue, symbol, trade_id, ts)
    SELECT account, venue, symbol, trade_id, min(ts) FROM stage_fills GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4
    ON CONFLICT DO NOTHING
    RETURNING account, venue, symbol, trade_id
), one AS (
    SELECT DISTINCT ON (account, venue, symbol, trade_id) s.*
    FROM stage_fills s JOIN fresh USING (account, venue, symbol, trade_id)
    ORDER BY account, venue, symbol, trade_id, ts
)
INSERT INTO fills ({columns}) SELECT {columns} FROM one ON CONFLICT DO NOTHING"""
_SAVE_PROGRESS = """
INSERT INTO recorder_progress (lane, high_seq, holes, missed) VALUES ($1, $2, $3, $4)
ON CONFLICT (lane) DO UPDATE SET high_seq = $2, holes = $3, missed = $4, updated_at = now()"""


@dataclass(slots=True)
class Written:
    """What one transaction did: rows new by table, rows that were there already, progress by lane."""

    rows: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    missed: int = 0


class Writer:
    """A connection of its own, opened when needed and dropped at the first error."""

    def __init__(self, dsn: str, *, name: str, timeout_s: float, gate: Gate | None = None) -> None:
        self._dsn = dsn
        self._name = name
        self._timeout_s = timeout_s
        self._connection: asyncpg.Connection | None = None
        self._staged: set[str] = set()
        self._days: set[tuple[str, date]] = set()
        self._busy = asyncio.Lock()
        self._gate: Gate = gate or NoGate()

    async def write(self, rows: Rows, advances: Mapping[str, Advance] | None = None) -> Written:
        """Commit ``rows`` and the progress of the lanes in ``advances``.

        Raises:
            BadRowError: nothing was written; one of the rows can never be.
            DependencyError: it may or may not be committed; repeating it is safe, rows have natural keys.
        """
        async with self._busy:
            ticket = self._gate.enter()
            if ticket is None:
                raise DependencyError("postgres", "the circuit breaker before Postgres is open; rows wait in JetStream")
            try:
                written = await self._attempt(rows, advances or {})
            except DependencyError as error:
                self._gate.failure(ticket, str(error))
                raise
            except BadRowError:
                self._gate.success(ticket)  # an answer, about the row
                raise
            except BaseException:
                self._gate.neutral(ticket)
                raise
            self._gate.success(ticket)
            return written

    async def _attempt(self, rows: Rows, advances: Mapping[str, Advance]) -> Written:
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self.connection()
                await self._make_room(connection, rows)
                try:
                    return await self._write(connection, rows, advances)
                except asyncpg.CheckViolationError:
                    # A day that we knew was dropped by retention meanwhile.
                    self._days.clear()
                    await self._make_room(connection, rows)
                    return await self._write(connection, rows, advances)
        except (*AWAY, *_UNWRITABLE) as error:
            found = classify(error)
            if not isinstance(error, asyncpg.DataError):
                self._drop()
            raise found from error
        except asyncio.CancelledError:
            self._drop()
            raise

    async def connection(self) -> asyncpg.Connection:
        """The open connection; errors are asyncpg's own."""
        if self._connection is None or self._connection.is_closed():
            self._staged.clear()
            self._days.clear()
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=self._timeout_s,
                command_timeout=self._timeout_s,
                server_settings={"application_name": f"tickmesh-{self._name}", "timezone": "UTC"},
            )
        return self._connection

    async def close(self) -> None:
        """Close politely, within a second."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=1.0)
            except AWAY:
                connection.terminate()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _make_room(self, connection: asyncpg.Connection, rows: Rows) -> None:
        """Partitions are made ahead; this is for a day that nobody foresaw, as in a replay of last month."""
        for table, found in rows.items():
            if table not in SERIES:
                continue
            for day in {row[0].date() for row in found}:
                if (table, day) not in self._days:
                    await connection.execute("SELECT series_day($1, $2)", table, day)
                    self._days.add((table, day))

    async def _write(self, connection: asyncpg.Connection, rows: Rows, advances: Mapping[str, Advance]) -> Written:
        written = Written()
        async with connection.transaction():
            for table, found in rows.items():
                if not found:
                    continue
                if table not in self._staged:
                    await connection.execute(_STAGE.format(table=table, columns=", ".join(COLUMNS[table])))
                columns = COLUMNS[table]
                await connection.copy_records_to_table(f"stage_{table}", records=found, columns=columns)
                status = await connection.execute(_insert(table))
                new = int(status.rsplit(" ", 1)[1])
                written.rows[table] = new
                written.duplicates[table] = len(found) - new
            for lane in sorted(advances):  # one order, so that two recorders never wait for each other in a ring
                written.missed += await _advance(connection, lane, advances[lane])
        self._staged.update(table for table, found in rows.items() if found)
        return written


def _insert(table: str) -> str:
    columns = ", ".join(COLUMNS[table])
    if table == "fills":
        return _KEEP_NEW_FILLS.format(columns=columns)
    return f"INSERT INTO {table} ({columns}) SELECT {columns} FROM stage_{table} ON CONFLICT DO NOTHING"


async def _advance(connection: asyncpg.Connection, lane: str, advance: Advance) -> int:
    """Move one lane on, under a row lock; returns how many numbers were given up."""
    row = await connection.fetchrow(
        "SELECT high_seq, holes, missed FROM recorder_progress WHERE lane = $1 FOR UPDATE", lane
    )
    before = Progress()
    if row is not None:
        holes = msgspec.json.decode(row["holes"], type=tuple[Hole, ...])
        before = Progress(row["high_seq"], holes, row["missed"])
    after = advance(before)
    if after != before or row is None:
        holes_text = msgspec.json.encode(after.holes).decode()
        await connection.execute(_SAVE_PROGRESS, lane, after.high_seq, holes_text, after.missed)
    return after.missed - before.missed
