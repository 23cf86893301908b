"""Style as an executable test: layers, programs, openings; sizes, names and words are in ``test_style``."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pkg" / "tickmesh"


def test_imports_go_downwards_only() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "pkg")}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def test_nobody_waits_with_wait_for() -> None:
    """Before Python 3.12 it loses a cancellation that comes together with the result: the task then never ends."""
    assert not [str(p) for p in PACKAGE.rglob("*.py") if "asyncio.wait_for(" in p.read_text()]


def test_cmd_never_shadows_the_standard_library() -> None:
    assert not (ROOT / "cmd" / "__init__.py").exists()
    places = [ROOT, *(ROOT / d for d in ("cmd", "pkg", "operators", "tests"))]
    assert not [p for place in places for p in place.glob("cmd.py" if place == ROOT else "**/cmd.py")]
    for program in (ROOT / "cmd").glob("*/__main__.py"):
        assert len(program.read_text().splitlines()) <= 30


def test_every_module_opens_with_a_docstring() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text().lstrip()
        assert not text or text.startswith(('"""', "'''")), path
