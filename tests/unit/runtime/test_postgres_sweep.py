"""Database clusters in the machine's temporary folder: those whose data directory is gone go, all others stay."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tickmesh.runtime import postgres


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def cluster(temporary: Path, name: str, owner: Path | None, pid: int = 0) -> Path:
    home = temporary / f"tickmesh-postgres-{name}"
    (home / "data").mkdir(parents=True)
    if owner is not None:
        (home / "owner").write_text(str(owner))
    if pid:
        (home / "data" / "postmaster.pid").write_text(f"{pid}\n/somewhere\n")
    return home


def test_only_what_lost_its_owner_and_does_not_run_is_removed(temporary: Path, tmp_path: Path) -> None:
    password = tmp_path / "postgres.password"
    password.touch()
    gone = tmp_path / "removed" / "postgres.password"
    left_by_a_kill = 2**22 + 1  # above the largest pid
    removed = [cluster(temporary, "a", gone), cluster(temporary, "b", gone, left_by_a_kill)]
    kept = [
        cluster(temporary, "c", password),
        cluster(temporary, "d", None),
        cluster(temporary, "e", gone, os.getpid()),
        temporary / "tickmesh-postgres-link",
    ]
    elsewhere = cluster(tmp_path, "target", gone)
    kept[-1].symlink_to(elsewhere)
    postgres._sweep()
    assert [home for home in removed if home.exists()] == []
    assert [home for home in (*kept, elsewhere) if not home.exists()] == []
