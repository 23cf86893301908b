"""Pages of promises name a test for each; a promise without one, and a test that is gone, are noticed here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"kubernetes.md": 40, "native.md": 40, "one-machine.md": 60}
"""With how many promises each has at least: a page that is read wrongly has none."""
TEXT = {page: (ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES}
NAMED = sorted({found for text in TEXT.values() for found in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)})


def promises(page: str) -> list[str]:
    """The rows of a page's table, without headings."""
    rows = [line for line in TEXT[page].splitlines() if line.startswith("| ")]
    return [row for row in rows if not row.startswith(("| **", "| promise"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_promise_names_a_test(page: str) -> None:
    assert len(promises(page)) >= PAGES[page]
    assert [row for row in promises(page) if "`tests/" not in row.rpartition(" | ")[2]] == []


@pytest.mark.parametrize("page", PAGES)
def test_nothing_in_the_column_of_tests_is_named_otherwise(page: str) -> None:
    """A test in another spelling would be looked at by nobody."""
    for row in promises(page):
        for name in re.findall(r"`(tests/[^`]*)`", row):
            assert re.fullmatch(r"tests/[\w/]+\.py(::\w+)?", name), name


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_is_named_is_there(file: str, name: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    wanted = rf"{name}\(" if name else "test_"
    assert re.search(rf"^(async )?def {wanted}", text, re.M), f"{file} has no {name}"
