"""simvenue as a process of its own, for tests: started, killed, started again on the same state."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data")) / "binance-usdm"
CAPTURE = DATA / "btcusdt_20240808.gz"
KEY = "tickmesh-local-key"
SECRET = "tickmesh-local-secret"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


class VenueProcess:
    """Args: ``keys`` are settings of the section simvenue; ``environ`` any other variables."""

    def __init__(self, data_dir: Path, environ: dict[str, str] | None = None, **keys: object) -> None:
        self.port, self.admin_port = free_ports(2)
        self.data_dir = data_dir
        self.log = data_dir / "simvenue.out"
        settings = {"port": self.port, "admin_port": self.admin_port, **keys}
        self._environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "pkg"),
            "TICKMESH_LOCAL__DATA_DIR": str(data_dir),
            **{f"TICKMESH_SIMVENUE__{name.upper()}": str(value) for name, value in settings.items()},
            **(environ or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def start(self, timeout_s: float = 30.0) -> VenueProcess:
        """Start and wait until it serves."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "cmd" / "simvenue")],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environ,
            )
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if self.get(f"{self.admin}/startupz") == "ok\n":
                    return self
            except (OSError, urllib.error.URLError):
                pass
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"simvenue did not start:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, as a test of what survives."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def get(self, url: str) -> Any:
        """Body of a GET: JSON when it is some, else text."""
        with urllib.request.urlopen(url, timeout=5) as response:
            return _parsed(response.read().decode())

    def admin_call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.admin + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=5) as response:
            return _parsed(response.read().decode())

    def record(self, account: str = "main") -> dict[str, Any]:
        """The venue's own record."""
        found = self.get(f"{self.admin}/record?account={account}")
        assert isinstance(found, dict)
        return found

    def __enter__(self) -> VenueProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
