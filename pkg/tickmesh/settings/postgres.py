"""Keys of the connection to Postgres."""

from __future__ import annotations

from typing import Annotated

from pydantic import SecretStr

from tickmesh.settings.key import Section, address, key


class PostgresSettings(Section):
    dsn: Annotated[SecretStr, address("postgresql", "postgres")] = key(
        SecretStr("postgresql://tickmesh@127.0.0.1:17432/tickmesh"),
        "Connection string; secret because it may hold a password.",
    )
    pool_size: int = key(4, "Connections of one service.", ge=1, le=64)
    timeout_s: float = key(10.0, "Bound on one statement.", unit="s", gt=0)
