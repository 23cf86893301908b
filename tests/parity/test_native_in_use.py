"""Where a Rust toolchain is present, the native half is what runs; nothing falls back silently."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tickmesh import hotpath


def _version(**environment: str) -> str:
    command = [sys.executable, "-c", "import sys; from tickmesh.runtime.cli import main; sys.exit(main(['version']))"]
    path = os.pathsep.join(p for p in sys.path if p)
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.skipif(shutil.which("cargo") is None, reason="no Rust toolchain here: the pure twin is what is expected")
@pytest.mark.skipif(hotpath.FORCED, reason="TICKMESH_PURE asks for the pure twin")
def test_with_a_toolchain_the_native_half_is_loaded() -> None:
    assert hotpath.HALF == "native", hotpath.WHY_PURE


def test_version_says_which_half_is_in_use_and_why_not_the_native_one() -> None:
    assert f"hot path: {hotpath.HALF}" in _version()
    assert "hot path: pure: TICKMESH_PURE is set" in _version(TICKMESH_PURE="1")
