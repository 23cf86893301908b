"""What an error of Postgres means for what we were writing: wait and repeat, or the rows themselves are bad."""

from __future__ import annotations

import asyncpg

from tickmesh.domain.errors import DependencyError, TickmeshError


class BadRowError(TickmeshError):
    """Postgres will never take one of these rows; a retry does not help, a smaller batch finds out which."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"Postgres refuses a row: {detail}")
        self.detail = detail


AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a statement may raise when Postgres goes away under it; the last one when it does so between two messages."""

_BAD_ROW = (
    asyncpg.exceptions.DataError,  # also what asyncpg raises before sending
    asyncpg.exceptions.NotNullViolationError,
    asyncpg.exceptions.ForeignKeyViolationError,
    asyncpg.exceptions.UniqueViolationError,
    asyncpg.exceptions.ProgramLimitExceededError,
    OverflowError,
    TypeError,
    ValueError,
)


def classify(error: BaseException) -> DependencyError | BadRowError:
    """One sentence that a person can act on; everything that is not about a row is worth repeating."""
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, _BAD_ROW) and not isinstance(error, asyncpg.InterfaceError):
        return BadRowError(words)
    match error:
        case asyncpg.DiskFullError():
            text = f"Postgres has no space left on its disk ({words}); free space there, recording resumes by itself"
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            text = f"Postgres refuses our login ({words}); correct TICKMESH_POSTGRES__DSN"
        case asyncpg.InvalidCatalogNameError():
            text = f"Postgres has no such database ({words}); create it or correct TICKMESH_POSTGRES__DSN"
        case asyncpg.TooManyConnectionsError():
            text = f"Postgres takes no more connections ({words}); raise max_connections or stop other clients"
        case asyncpg.ReadOnlySQLTransactionError():
            text = f"Postgres only reads ({words}); point TICKMESH_POSTGRES__DSN at the primary"
        case asyncpg.InsufficientPrivilegeError():
            text = f"Postgres lets our user do too little ({words}); grant it rights on the schema"
        case TimeoutError():
            text = "Postgres did not answer in time; see its log and load, recording resumes by itself"
        case OSError() | asyncpg.PostgresConnectionError() | asyncpg.InterfaceError():
            text = f"Postgres is away ({words}); start it, recording resumes by itself"
        case _:
            text = f"Postgres failed ({words}); recording is repeated"
    return DependencyError("postgres", text)
