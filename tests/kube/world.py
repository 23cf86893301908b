"""An installation's namespace on the real API server, with a real nats-server and real operator processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from apiserver import ApiServer, free_port

from tickmesh.bus.nats import NatsBus

ROOT = Path(__file__).resolve().parents[2]


def eventually(check: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> Any:
    """The first truthy answer of ``check``; fails with its last one."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what} (last: {found!r})"
        time.sleep(0.05)


class World:
    """One namespace; everything it started is stopped by ``close``."""

    def __init__(self, api: ApiServer, home: Path) -> None:
        self.api = api
        self.home = home
        self.namespace = f"t-{uuid.uuid4().hex[:8]}"
        self.operators: list[subprocess.Popen[bytes]] = []
        self.ports: dict[int, int] = {}
        self.nats_port = free_port()
        self.start_nats()
        assert self.kubectl("create", "namespace", self.namespace).returncode == 0
        (home / "installation.json").write_text(json.dumps({"image": "tickmesh:1", "namespace": self.namespace}))

    def start_nats(self) -> None:
        beside = Path(sys.executable).parent / "nats-server"
        program = str(beside) if beside.exists() else shutil.which("nats-server")
        assert program, "nats-server is not installed"
        self.nats = subprocess.Popen(
            [program, "-a", "127.0.0.1", "-p", str(self.nats_port), "-js", "-sd", str(self.home / "js"), "-l",
             str(self.home / "nats.log")]
        )  # fmt: skip

        def listens() -> bool:
            try:
                socket.create_connection(("127.0.0.1", self.nats_port), 1).close()
                return True
            except OSError:
                return False

        eventually(listens, what="nats-server listens")

    def operator(self, **env: str) -> subprocess.Popen[bytes]:
        """Start one more operator and wait until it answers."""
        port = free_port()
        log = (self.home / f"operator-{len(self.operators)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "operators")],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "pkg"),
                "KUBECONFIG": str(self.api.kubeconfig),
                "TICKMESH_NATS__URL": f"nats://127.0.0.1:{self.nats_port}",
                "TICKMESH_OPERATOR__NAMESPACE": self.namespace,
                "TICKMESH_OPERATOR__ADMIN_PORT": str(port),
                "TICKMESH_OPERATOR__INSTALLATION_FILE": str(self.home / "installation.json"),
                "TICKMESH_OPERATOR__LEASE_TTL_MS": "3000",
                **env,
            },
        )
        self.operators.append(process)
        self.ports[process.pid] = port

        def answers() -> bool:
            assert process.poll() is None, self.log(-1)
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False

        eventually(answers, 40, "the operator answers")
        return process

    def log(self, number: int) -> str:
        files = sorted(self.home.glob("operator-*.log"))
        return files[number].read_text(errors="replace")[-6000:]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.api.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def apply(self, *documents: dict[str, Any]) -> None:
        done = self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
        assert done.returncode == 0, done.stderr

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        done = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] | None = json.loads(done.stdout) if done.stdout.strip() else None
        return found

    def status(self, kind: str, name: str) -> dict[str, Any]:
        found = self.get(kind, name)
        status: dict[str, Any] = (found or {}).get("status", {})
        return status

    def condition(self, name: str, kind: str) -> str:
        listed = self.status("strategy", name).get("conditions", [])
        return next((str(c["status"]) for c in listed if c["type"] == kind), "")

    def events(self, name: str) -> list[str]:
        done = self.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "json")
        return [e["reason"] for e in json.loads(done.stdout)["items"]]

    def bus(self, work: Callable[[NatsBus], Any]) -> Any:
        """Run ``await work(bus)`` on a connection of its own."""

        async def run() -> Any:
            url = f"nats://127.0.0.1:{self.nats_port}"
            bus = await NatsBus.connect(url, name="test", connect_timeout_s=10)
            try:
                return await work(bus)
            finally:
                await bus.close()

        return asyncio.run(run())

    def bucket(self, bucket: str, key: str) -> dict[str, Any] | None:
        async def read(bus: NatsBus) -> Any:
            entry = await (await bus.kv(bucket)).get(key)
            return json.loads(entry.value) if entry is not None and entry.value else None

        found: dict[str, Any] | None = self.bus(read)
        return found

    def put(self, bucket: str, key: str, value: dict[str, Any] | None) -> None:
        async def write(bus: NatsBus) -> None:
            kv = await bus.kv(bucket)
            if value is None:
                await kv.delete(key)
            else:
                await kv.put(key, json.dumps(value).encode())

        self.bus(write)

    def _let_go(self) -> None:
        """Take our finalizers away: nobody is left who would, and the definitions could never be deleted."""
        listed = json.loads(self.kubectl("get", "strategies", "-o", "json").stdout or '{"items":[]}')
        held = [item for item in listed["items"] if item["metadata"].get("finalizers")]
        for item in held:
            item["metadata"] = {k: item["metadata"][k] for k in ("name", "namespace")}
        if held:
            self.kubectl("replace", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": held}))

    def close(self) -> None:
        for process in (*self.operators, self.nats):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self._let_go()
        self.api.kubectl("delete", "namespace", self.namespace, "--wait=false")


def strategy(name: str = "mm", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "tickmesh.io/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": name},
        "spec": {"plugin": {"entryPoint": "market-making"}, "symbols": ["BTCUSDT"], "limits": {}, **spec},
    }


def account(name: str = "main") -> dict[str, Any]:
    return {
        "apiVersion": "tickmesh.io/v1alpha1",
        "kind": "TradingAccount",
        "metadata": {"name": name},
        "spec": {"secretRef": {"name": "keys"}},
    }


def breaker(name: str, kind: str, **spec: Any) -> dict[str, Any]:
    target = {"kind": kind}
    if "of" in spec:
        target["name"] = spec.pop("of")
    return {
        "apiVersion": "tickmesh.io/v1alpha1",
        "kind": "CircuitBreaker",
        "metadata": {"name": name},
        "spec": {"target": target, **spec},
    }
