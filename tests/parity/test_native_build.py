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


def _wheel(into: Path, path: str, **environment: str) -> Path:
    """The wheel that pip makes with this PATH."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(into)]
    done = subprocess.run(
        [*command, str(ROOT)],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = into.glob("tickmesh-*.whl")
    return made


def _native(names: list[str]) -> list[str]:
    return [name for name in names if "tickmesh_native" in name and name.endswith((".so", ".pyd"))]


_VERSION = """
import sys
sys.modules["tickmesh_native"] = None  # the one of the environment that the tests run in
if len(sys.argv) > 1:
    del sys.modules["tickmesh_native"]
    sys.path.insert(0, sys.argv[1])
from tickmesh.runtime.cli import main
sys.exit(main(["version"]))
"""


def _version(wheel: Path, home: Path, *beside: Path) -> str:
    """What ``tickmesh version`` prints when the wheel is what is installed, and perhaps another library beside it."""
    zipfile.ZipFile(wheel).extractall(home)
    environment = {**os.environ, "PYTHONPATH": str(home)}
    environment.pop("TICKMESH_PURE", None)
    command = [sys.executable, "-c", _VERSION, *map(str, beside)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def test_without_a_toolchain_the_package_is_pure_and_complete_and_knows_why(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, str(tmp_path / "nothing"))
    names = zipfile.ZipFile(wheel).namelist()
    assert _native(names) == []
    assert "tickmesh/hotpath/pure/market.py" in names
    version = _version(wheel, tmp_path / "installed")
    assert (
        "(hot path: pure: it could not be built when tickmesh was installed: there is no cargo on the PATH)" in version
    )


def _cargo() -> str:
    if shutil.which("cargo") is None:
        pytest.skip("there is no cargo on the PATH")
    return os.environ["PATH"]


def test_with_a_toolchain_the_package_carries_the_native_half(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, _cargo())
    names = zipfile.ZipFile(wheel).namelist()
    assert len(_native(names)) == 1 and "tickmesh/hotpath/pure/market.py" in names
    assert not [name for name in names if name.endswith("_absent.txt")]
    assert "(hot path: native)" in _version(wheel, tmp_path / "installed")
    left_over = tmp_path / "left_over"
    left_over.mkdir()
    (left_over / "tickmesh_native.py").write_text("INTERFACE = 1\n")
    assert "(hot path: native)" in _version(wheel, tmp_path / "installed", left_over), "its own comes first"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("INTERFACE = 1", "what is installed has interface 1, not "),
        ("", "what is installed has interface None, not "),
        ("raise ImportError('GLIBC_9.9 not found')", "it is installed and does not load: GLIBC_9.9 not found"),
    ],
)
def test_a_library_that_does_not_fit_is_not_used_and_told(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "tickmesh_native.py").write_text(content)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "pkg")])}
    environment.pop("TICKMESH_PURE", None)
    command = [sys.executable, "-m", "tickmesh.runtime.cli", "version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert f"(hot path: pure: {reason}" in done.stdout and "Traceback" not in done.stderr


def test_with_a_toolchain_and_no_registry_the_package_is_pure_and_knows_why(tmp_path: Path) -> None:
    cargo_home = tmp_path / "cargo"
    cargo_home.mkdir()
    nowhere = (
        '[source.crates-io]\nreplace-with = "nowhere"\n[source.nowhere]\nregistry = "sparse+http://127.0.0.1:9/"\n'
    )
    (cargo_home / "config.toml").write_text(nowhere)
    places = {"CARGO_HOME": str(cargo_home), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CARGO_NET_RETRY": "0"}
    wheel = _wheel(tmp_path, _cargo(), **places)
    assert _native(zipfile.ZipFile(wheel).namelist()) == []
    version = _version(wheel, tmp_path / "installed")
    assert "hot path: pure: it could not be built when tickmesh was installed: cargo could not build it" in version
    assert "127.0.0.1" in version and version.count("\n") == 1
