"""The package builds where there is a Rust toolchain and where there is none; only what is in it differs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _wheel(into: Path, path: str) -> list[str]:
    """Names of the files in the wheel that pip makes with this PATH."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(into)]
    done = subprocess.run(
        [*command, str(ROOT)], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = into.glob("tickmesh-*.whl")
    return zipfile.ZipFile(made).namelist()


def _native(names: list[str]) -> list[str]:
    return [name for name in names if "tickmesh_native" in name and name.endswith((".so", ".pyd"))]


def test_without_a_toolchain_the_package_is_pure_and_complete(tmp_path: Path) -> None:
    names = _wheel(tmp_path, str(tmp_path / "nothing"))
    assert _native(names) == []
    assert "tickmesh/hotpath/pure/market.py" in names


def test_with_a_toolchain_the_package_carries_the_native_half(tmp_path: Path) -> None:
    if shutil.which("cargo") is None:
        pytest.skip("there is no cargo on the PATH")
    names = _wheel(tmp_path, os.environ["PATH"])
    assert len(_native(names)) == 1 and "tickmesh/hotpath/pure/market.py" in names
