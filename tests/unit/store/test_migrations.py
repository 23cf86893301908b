"""The packaged migrations and what may be run on what."""

import pytest

from tickmesh.domain.errors import ConfigError
from tickmesh.store.migrate import Migration, packaged, pending

KNOWN = [Migration(1, "a", "SELECT 1"), Migration(2, "b", "SELECT 2")]


def applied(*migrations: Migration) -> dict[int, tuple[str, str]]:
    return {m.version: (m.name, m.checksum) for m in migrations}


def test_the_package_holds_its_migrations_numbered_without_a_hole() -> None:
    assert [m.version for m in packaged()] == list(range(1, len(packaged()) + 1))


def test_only_what_is_missing_is_pending() -> None:
    assert pending(KNOWN, {}) == KNOWN
    assert pending(KNOWN, applied(KNOWN[0])) == KNOWN[1:]
    assert pending(KNOWN, applied(*KNOWN)) == []


def test_a_newer_database_or_an_edited_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="version 2 and this release knows 1"):
        pending(KNOWN[:1], applied(*KNOWN))
    with pytest.raises(ConfigError, match="0001_a was edited"):
        pending(KNOWN, applied(Migration(1, "a", "SELECT 3")))


def test_line_ends_and_trailing_blanks_are_no_edit() -> None:
    assert Migration(1, "a", "SELECT 1;\nSELECT 2\n").checksum == Migration(1, "a", "SELECT 1;  \r\nSELECT 2").checksum
