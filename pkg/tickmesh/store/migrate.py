"""Migrations: numbered SQL files of this package in, a schema of exactly this release out.

All that is pending runs in one transaction under an advisory lock, so several processes may start at once
and a kill in the middle leaves nothing. Refuses a schema that is newer than the release, or whose files were
edited after they ran. Never goes backwards.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from tickmesh.domain.errors import ConfigError

_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_LOCK_KEY = 0x7469636B  # "tick": any constant that nobody else in this database uses
_LOCK_TIMEOUT_MS = 60_000

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name, its text."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Hash of the text; line ends and trailing blanks do not count."""
        lines = [line.rstrip() for line in self.sql.strip().splitlines()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def packaged() -> list[Migration]:
    """The migrations of this release, in order.

    Raises:
        ConfigError: a file's name does not fit or a number is missing; the installation is broken.
    """
    found: list[Migration] = []
    for file in files(__package__).joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            match = _NAME.match(file.name)
            if match is None:
                raise ConfigError(f"the migration {file.name} must be named like 0001_words.sql")
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda m: m.version)
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise ConfigError(f"the migrations {[m.version for m in found]} must be numbered from 1 without a hole")
    return found


def pending(known: list[Migration], applied: dict[int, tuple[str, str]]) -> list[Migration]:
    """What is left to run, given (name, checksum) of each version the database has.

    Raises:
        ConfigError: the database is newer than this release, or a file was edited after it ran.
    """
    by_version = {m.version: m for m in known}
    for version, (name, checksum) in sorted(applied.items()):
        migration = by_version.get(version)
        if migration is None:
            raise ConfigError(
                f"the database schema is at version {max(applied)} and this release knows {len(known)}; "
                "upgrade tickmesh or point TICKMESH_POSTGRES__DSN at another database"
            )
        if migration.checksum != checksum:
            raise ConfigError(
                f"migration {version:04d}_{name} was edited after it ran in this database; "
                "restore the file and put the change into a new migration"
            )
    return [m for m in known if m.version not in applied]


async def migrate(connection: asyncpg.Connection, known: list[Migration] | None = None) -> list[Migration]:
    """Bring the schema of ``connection``'s database to this release; returns what was run.

    Raises:
        ConfigError: see ``pending``.
        asyncpg.PostgresError: the server refused; nothing was changed.
    """
    known = packaged() if known is None else known
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_KEY)
        await connection.execute(_TABLE)
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations")
        todo = pending(known, {row["version"]: (row["name"], row["checksum"]) for row in rows})
        for migration in todo:
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.checksum,
            )
    return todo
