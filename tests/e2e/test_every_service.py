"""Every process answers its probes, also while what it depends on hangs, and shows no secret anywhere."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import ROOT, SERVICES, Run, assert_sound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECRETS = {
    "TICKMESH_VENUE__API_KEY": "Zq7-distinct-api-key-51c0ffee",
    "TICKMESH_VENUE__API_SECRET": "Zq7-distinct-api-secret-0ddba11",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TICKMESH_OBSERVE__LOG_LEVEL", "DEBUG")
    started = Run(tmp_path / "data")
    try:
        started.wait_for("dashboard:")
        yield started
    finally:
        if started.process.poll() is None:
            started.kill_all()


def admin_urls(run: Run) -> dict[str, str]:
    children = run.children()
    return {
        name: f"http://127.0.0.1:{children[name].environ()[f'TICKMESH_{name.upper()}__ADMIN_PORT']}"
        for name in SERVICES
    }


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_for_status(url: str, status: int, timeout_s: float = 40.0) -> str:
    deadline = time.monotonic() + timeout_s
    while True:
        found, text = get(url)
        if found == status:
            return text
        assert time.monotonic() < deadline, f"{url} says {found}: {text}"
        time.sleep(0.2)


def test_every_service_answers_its_probes_and_no_secret_is_shown_anywhere(run: Run) -> None:
    urls = admin_urls(run)
    shown: dict[str, str] = {}
    for name, url in urls.items():
        for probe in ("healthz", "startupz"):
            assert get(f"{url}/{probe}")[0] == 200, (name, probe)
        wait_for_status(f"{url}/readyz", 200)
        status, metrics = get(f"{url}/metrics")
        assert status == 200
        assert "# TYPE" in metrics, name
        status, stats = get(f"{url}/stats")
        assert status == 200
        assert {"counters", "gauges", "latency_us"} <= json.loads(stats).keys(), name
        shown |= {f"{name}/metrics": metrics, f"{name}/stats": stats}
    gateway = run.output().partition("dashboard: ")[2].split()[0]
    for path in (
        "live",
        *(f"trading/{name}" for name in ("positions", "orders", "balances", "accounts", "batch/snapshot")),
    ):
        status, shown[path] = get(f"{gateway}/api/v1/{path}")
        assert status == 200, (path, shown[path])
    config = subprocess.run(
        [sys.executable, "-m", "tickmesh.runtime.cli", "config"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "pkg")}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    shown["config"] = config.stdout + config.stderr
    run.process.terminate()
    assert_sound(run.summary())
    shown |= {str(path): path.read_text(errors="replace") for path in (run.data_dir / "logs").iterdir()}
    shown["output"] = run.output()
    password = next(iter((run.data_dir).glob("postgres.password"))).read_text().strip()
    leaks = [where for where, text in shown.items() if any(s in text for s in (*SECRETS.values(), password))]
    assert not leaks


@pytest.mark.parametrize(
    ("away", "unready"),
    [("nats", ("strategy", "execution", "account")), ("postgres", ("recorder",)), ("simvenue", ("execution",))],
)
def test_readiness_is_honest_while_a_dependency_is_away_and_comes_back(
    run: Run, away: str, unready: tuple[str, ...]
) -> None:
    urls, server = admin_urls(run), run.children()[away]
    victims = [server, *server.children(recursive=True)]  # Postgres answers from processes of its own
    for name in unready:
        wait_for_status(f"{urls[name]}/readyz", 200)
    for victim in victims:
        victim.suspend()
    try:
        for name in unready:
            reason = wait_for_status(f"{urls[name]}/readyz", 503)
            assert reason.strip(), name
            assert get(f"{urls[name]}/healthz")[0] == 200, "an ill dependency is no reason to be restarted"
    finally:
        for victim in reversed(victims):
            victim.resume()
    for name in unready:
        wait_for_status(f"{urls[name]}/readyz", 200)
    run.process.terminate()
    assert_sound(run.summary())
