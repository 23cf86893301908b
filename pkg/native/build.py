"""Builds the native half where a Rust toolchain is present; says in one sentence why not where it cannot.

In: the sources beside this file. Out: ``tickmesh_native.abi3.so`` copied to ``--into``. A build is kept in the
user's cache folder under the hash of its sources, compiler and flags, so that a second one costs nothing. It never
fails the caller: the pure-Python twin serves as well. ``--required`` makes it fail (for a release).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "tickmesh_native"
_TIMEOUT_S = 900


class CannotBuildError(Exception):
    """There is no native half to be had here; the sentence says why."""


def cache_root() -> Path:
    """The user's cache folder, as the XDG base directory specification has it."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    except RuntimeError as error:  # a user without a home, as containers have them
        raise CannotBuildError(f"there is no place to build in ({error}); set HOME or XDG_CACHE_HOME") from None
    return Path(base) / "tickmesh" / "native"


def sources() -> list[Path]:
    """Every file that decides what comes out."""
    return sorted([HERE / "Cargo.toml", HERE / "Cargo.lock", *(HERE / "src").rglob("*.rs")])


def library_name() -> str:
    return f"{NAME}.pyd" if sys.platform == "win32" else f"{NAME}.abi3.so"


def _cargo() -> str:
    if sys.implementation.name != "cpython":
        raise CannotBuildError(f"the native half needs CPython, this is {sys.implementation.name}")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise CannotBuildError("there is no cargo on the PATH")
    return cargo


def _environment() -> dict[str, str]:
    env = dict(os.environ, PYO3_BUILD_EXTENSION_MODULE="1", PYO3_PYTHON=sys.executable)
    if sys.platform == "darwin":
        flags = "-C link-arg=-undefined -C link-arg=dynamic_lookup"
        env["RUSTFLAGS"] = f"{env.get('RUSTFLAGS', '')} {flags}".strip()
    return env


def _digest(cargo: str, env: dict[str, str]) -> str:
    try:
        version = subprocess.run([cargo, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotBuildError(f"cargo does not run: {error}") from None
    found = hashlib.sha256()
    for part in (version, env.get("RUSTFLAGS", ""), platform.machine(), sys.platform):
        found.update(part.encode() + b"\0")
    for path in sources():
        found.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:24]


def build() -> Path:
    """The built library, from the cache when nothing changed. Raises CannotBuildError."""
    cargo = _cargo()
    env = _environment()
    kept = cache_root() / _digest(cargo, env) / library_name()
    if kept.is_file():
        return kept
    print("building the native hot path with cargo (once; about a minute) ...", flush=True)
    target = cache_root() / "target"
    target.mkdir(parents=True, exist_ok=True)
    command = [cargo, "build", "--release", "--locked", "--quiet", "--target-dir", str(target)]
    try:
        done = subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotBuildError(f"cargo could not build it: {error}") from None
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-20:]
        raise CannotBuildError("cargo could not build it:\n" + "\n".join(last))
    prefix, suffix = {"win32": ("", "dll"), "darwin": ("lib", "dylib")}.get(sys.platform, ("lib", "so"))
    _place(target / "release" / f"{prefix}{NAME}.{suffix}", kept)
    return kept


def _place(source: Path, destination: Path) -> None:
    """Copy so that whoever has the old file mapped keeps it: a new file takes over the name (decision 0116)."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    fresh = destination.with_name(f"{destination.name}.{os.getpid()}")
    shutil.copyfile(source, fresh)
    if sys.platform != "win32":
        fresh.chmod(0o555)  # so that nobody writes into it in place by mistake
    fresh.replace(destination)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--into", type=Path, required=True, help="folder that gets the library, on the import path")
    parser.add_argument("--required", action="store_true", help="fail where it cannot be built")
    arguments = parser.parse_args()
    reason = arguments.into / f"{NAME}_absent.txt"
    destination = arguments.into / library_name()
    try:
        built = build()
        if not destination.is_file() or destination.read_bytes() != built.read_bytes():
            _place(built, destination)
        reason.unlink(missing_ok=True)
        return 0
    except (CannotBuildError, OSError) as error:
        destination.unlink(missing_ok=True)  # one that is out of date must not be taken for this version's
        print(f"no native hot path, the pure-Python one serves: {error}", file=sys.stderr)
        if arguments.into.is_dir():
            reason.write_text(f"{error}\n")
        return 1 if arguments.required else 0


if __name__ == "__main__":
    sys.exit(main())
