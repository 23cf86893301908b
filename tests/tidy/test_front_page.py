"""What a newcomer meets first is there: the layout, two commands, pinned dependencies, a README of one screen."""

import re
import shlex
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tickmesh.runtime.cli import build_parser
from tickmesh.runtime.table import SERVICE_NAMES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_everything_has_its_place() -> None:
    for place in ("cmd", "pkg/tickmesh", "operators", "charts", "k8s", "tests", "docs/decisions"):
        assert (ROOT / place).is_dir(), place
    for name in ("pyproject.toml", "Tiltfile", "README.md", "Makefile", "CHANGELOG.md", "Dockerfile", ".ci/run"):
        assert (ROOT / name).is_file(), name


def test_there_is_one_program_per_pod_and_one_command() -> None:
    assert {program.parent.name for program in (ROOT / "cmd").glob("*/__main__.py")} == set(SERVICE_NAMES)
    (command,) = (found for found in entry_points(group="console_scripts") if found.name == "tickmesh")
    assert callable(command.load())
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_every_dependency_is_pinned_with_its_hash() -> None:
    """Those for comparison only (`rivals`) are installed by whoever wants to compare."""
    optional = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + [
        w for extra in optional if extra != "rivals" for w in optional[extra]
    ]
    names = {re.split(r"[\[<>=;]", each)[0].strip().lower().replace("_", "-") for each in wanted} - {"tickmesh"}
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)(?: ;.*)? \\$", LOCK, re.M))
    assert names <= pinned.keys()
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.M)[1:]
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert "requirements.lock" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_ci_runs_the_tests() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "make test" in lines and "set -eu" in lines


def test_the_readme_is_one_screen_with_a_picture() -> None:
    assert len(README.splitlines()) <= 45
    (picture,) = re.findall(r"!\[[^]]*\]\((\S+)\)", README)
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
    assert "make run" in README and "make test" in README


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
)
def test_no_link_leads_nowhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or ((ROOT / page).parent / target).exists(), f"{page}: {target}"


UNFINISHED = {"halt": ["--reason", "why"], "--set": ["max_daily_drawdown=0.1"]}
"""What a text leaves out that only names a command."""


@pytest.mark.parametrize(
    "page", ["README.md", "docs/operations.md", "docs/strategies.md", "docs/one-machine.md", "docs/native.md"]
)
def test_every_command_of_a_page_is_one_that_the_program_takes(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = [c for c in re.findall(r"`(tickmesh [^`]*)`", text) if "..." not in c and "[" not in c]
    assert commands or page == "docs/strategies.md"
    for command in commands:
        words = shlex.split(command)[1:]
        words += UNFINISHED.get(words[-1], [])
        build_parser().parse_args(words)
