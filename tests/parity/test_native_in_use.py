"""Where a Rust toolchain is present, the native half is what runs; nothing falls back silently."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tickmesh import hotpath
from tickmesh.domain.errors import ConfigError
from tickmesh.runtime.host import refuse_other_half

NATIVE = Path(__file__).resolve().parents[2] / "pkg" / "native"


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


@pytest.mark.parametrize("name", ["feed", "execution", "hot"])
def test_a_service_that_must_run_native_refuses_the_pure_half_in_one_sentence(name: str) -> None:
    module = "fused" if name == "hot" else "host"
    call = "main()" if name == "hot" else f"main({name!r})"
    command = [sys.executable, "-c", f"import sys; from tickmesh.runtime.{module} import main; sys.exit({call})"]
    settings = {"TICKMESH_PURE": "1", "TICKMESH_HOTPATH__REQUIRE": "native", "TICKMESH_NATS__URL": "nats://127.0.0.1:1"}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **settings}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "hotpath.require (TICKMESH_HOTPATH__REQUIRE) is native" in done.stderr
    assert "TICKMESH_PURE is set" in done.stderr


def test_either_half_will_do_unless_the_native_one_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    for half in ("native", "pure"):
        monkeypatch.setattr(hotpath, "HALF", half)
        refuse_other_half("any")
    with pytest.raises(ConfigError, match="require"):
        refuse_other_half("native")
    monkeypatch.setattr(hotpath, "HALF", "native")
    refuse_other_half("native")


_LIVES_ON = """
import sys
sys.path.insert(0, sys.argv[1])
import tickmesh_native
held = [tickmesh_native.L2Book() for _ in range(10)]
print("loaded", flush=True)
sys.stdin.readline()
book = tickmesh_native.L2Book()
book.set_bid(5, 1)
print(book.best_bid, tickmesh_native.INTERFACE, flush=True)
"""


@pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")
@pytest.mark.skipif(sys.platform == "win32", reason="a library in use cannot be replaced there at all")
def test_a_process_outlives_the_replacement_of_its_library(tmp_path: Path) -> None:
    assert hotpath.native is not None and hotpath.native.__file__ is not None
    spec = importlib.util.spec_from_file_location("tickmesh_native_build", NATIVE / "build.py")
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    library = tmp_path / "lib" / Path(hotpath.native.__file__).name
    build._place(Path(hotpath.native.__file__), library)
    command = [sys.executable, "-c", _LIVES_ON, str(library.parent)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        other = tmp_path / "other"
        other.write_bytes(b"\0" * 4096)
        build._place(other, library)
        assert library.read_bytes() == other.read_bytes()
        answer, _ = process.communicate("\n", timeout=60)
    assert answer == f"(5, 1) {hotpath.INTERFACE}\n"
    assert process.returncode == 0, "what was mapped must stay whole, to the last deallocation"
    assert not os.access(library, os.W_OK) or os.geteuid() == 0
