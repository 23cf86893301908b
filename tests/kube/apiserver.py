"""A real kube-apiserver with a real etcd, for tests; no kubelet and no controllers, as in envtest.

Which one: ``KUBECONFIG`` (a cluster), else the binaries in ``KUBEBUILDER_ASSETS``, else those that ``make envtest``
built into the user's cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TOKEN = "tickmesh-test-admin"
_READY_S = 90.0


@dataclass(slots=True)
class ApiServer:
    """How to reach it. ``kubeconfig`` is a file for kubectl, helm and kopf."""

    kubeconfig: Path
    url: str
    processes: tuple[subprocess.Popen[bytes], ...] = ()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; look at ``returncode`` yourself."""
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def apply(self, manifest: str, *arguments: str) -> str:
        """Apply, and fail with the server's own words if it refuses."""
        done = self.kubectl("apply", "-f", "-", *arguments, stdin=manifest)
        assert done.returncode == 0, done.stderr
        return done.stdout


def assets() -> Path | None:
    """The folder with etcd and kube-apiserver, or None."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tickmesh"
    found = sorted(cache.glob("envtest-*/kube-apiserver"), key=lambda p: p.stat().st_mtime)
    return found[-1].parent if found else None


@contextlib.contextmanager
def running() -> Iterator[ApiServer]:
    """Start one (or use the cluster of KUBECONFIG) and stop it at the end."""
    given = os.environ.get("KUBECONFIG")
    if given:
        yield ApiServer(Path(given), "")
        return
    folder = assets()
    assert folder is not None, "no kube-apiserver: make envtest"
    home = Path(tempfile.mkdtemp(prefix="tickmesh-kube-"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        etcd_url = _start_etcd(folder, home, processes)
        url = _start_apiserver(folder, home, etcd_url, processes)
        yield ApiServer(_write_kubeconfig(home, url), url, tuple(processes))
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_etcd(folder: Path, home: Path, processes: list[subprocess.Popen[bytes]]) -> str:
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    with (home / "etcd.log").open("wb") as log:
        processes.append(
            subprocess.Popen(
                [
                    str(folder / "etcd"),
                    f"--data-dir={home / 'etcd'}",
                    f"--listen-client-urls={client}",
                    f"--advertise-client-urls={client}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster=default={peer}",
                    "--unsafe-no-fsync",
                ],
                stdout=log,
                stderr=log,
            )
        )
    return client


def _start_apiserver(folder: Path, home: Path, etcd_url: str, processes: list[subprocess.Popen[bytes]]) -> str:
    port = free_port()
    key = home / "service-account.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    tokens = home / "tokens.csv"
    tokens.write_text(f"{_TOKEN},admin,admin,system:masters\n", encoding="utf-8")
    with (home / "apiserver.log").open("wb") as log:
        processes.append(
            subprocess.Popen(
                [
                    str(folder / "kube-apiserver"),
                    f"--etcd-servers={etcd_url}",
                    f"--cert-dir={home / 'certificates'}",
                    "--bind-address=127.0.0.1",
                    f"--secure-port={port}",
                    "--service-cluster-ip-range=10.0.0.0/24",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    f"--service-account-key-file={key}",
                    f"--service-account-signing-key-file={key}",
                    f"--token-auth-file={tokens}",
                    "--authorization-mode=RBAC",
                    "--disable-admission-plugins=ServiceAccount",
                    "--allow-privileged=true",
                ],
                stdout=log,
                stderr=log,
            )
        )
    url = f"https://127.0.0.1:{port}"
    _wait(url, processes, home)
    return url


def _wait(url: str, processes: list[subprocess.Popen[bytes]], home: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {_TOKEN}"})
    deadline = time.monotonic() + _READY_S
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(request, context=context):
            return
        for process in processes:
            logs = "\n".join(p.read_text(errors="replace")[-1500:] for p in home.glob("*.log"))
            assert process.poll() is None, f"{process.args[0]} ended:\n{logs}"  # type: ignore[index]
        assert time.monotonic() < deadline, f"kube-apiserver was not ready within {_READY_S:.0f} s"
        time.sleep(0.2)


def _write_kubeconfig(home: Path, url: str) -> Path:
    path = home / "kubeconfig"
    path.write_text(
        f"""apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: "{url}", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: {_TOKEN}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: admin, namespace: default}}}}]
current-context: test
""",
        encoding="utf-8",
    )
    return path
