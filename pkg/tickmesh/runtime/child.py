"""One supervised process: start, watch, restart with back-off, stop; its output goes to a log file of its own.

On Linux it dies with its supervisor, whatever that one died of: nothing is left behind that holds ports and trades on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tickmesh.domain.errors import ConfigError
from tickmesh.runtime.priority import shorten_slice, step_back

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

CONFIGURATION_EXIT = 2
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
_STABLE_AFTER_S = 10.0


class Child:
    """A process that is kept alive until ``stop``.

    ``nice`` above 0 makes it a background process, ``slice_us`` above 0 a hot one (``runtime.priority``).
    A child that ends with exit code 2 has a configuration mistake: it is not restarted, ``broken`` says why.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log_dir: Path,
        prepare: Callable[[], None] | None = None,
        ready: Callable[[], Awaitable[bool]] | None = None,
        cwd: str | None = None,
        user: int | None = None,
        group: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_timeout_s: float = 30.0,
        nice: int = 0,
        slice_us: int = 0,
    ) -> None:
        self.name = name
        self.log_path = log_dir / f"{name}.log"
        self.restarts = 0
        self.broken = ""
        self.cpu_s = 0.0
        self.rss_mb = 0.0
        self._argv = list(argv)
        self._env = dict(env)
        self._cwd = cwd
        self._user = user
        self._group = group
        self._prepare = prepare
        self._ready = ready
        self._stop_signal = stop_signal
        self._stop_timeout_s = stop_timeout_s
        self._nice = nice
        self._slice_us = slice_us
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self._past_cpu_s = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the process and keep it alive from now on."""
        if self._prepare is not None:
            await asyncio.to_thread(self._prepare)
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep:{self.name}")

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until its readiness probe holds; False when it did not in time or cannot any more."""
        if self._ready is None:
            return True
        deadline = asyncio.get_running_loop().time() + timeout_s
        while asyncio.get_running_loop().time() < deadline and not self.broken:
            if self.pid is not None and await self._ready():
                return True
            await asyncio.sleep(0.05)
        return False

    async def stop(self, within_s: float = 3600.0) -> None:
        """Ask it to drain, wait for its own time or ``within_s`` if that is less, and kill it only when it does not."""
        patience_s = min(self._stop_timeout_s, within_s)
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            self.sample()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self._stop_signal)
            try:
                async with asyncio.timeout(patience_s):
                    await process.wait()
            except TimeoutError:
                log.warning("%s did not stop within %.0f s; killing it", self.name, patience_s)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def restart(self) -> None:
        """Ask it to end; as it is kept alive, it starts again."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self._stop_signal)

    def sample(self) -> None:
        """Read CPU time and memory of the process with its children (Postgres forks)."""
        pid = self.pid
        if pid is None:
            return
        try:
            root = psutil.Process(pid)
            cpu, rss = 0.0, 0
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    cpu += times.user + times.system
                    rss += process.memory_info().rss
            cpu += root.cpu_times().children_user + root.cpu_times().children_system
            self.cpu_s = max(self.cpu_s, self._past_cpu_s + cpu)
            self.rss_mb = max(self.rss_mb, rss / 1e6)
        except psutil.Error:
            return

    def last_lines(self, count: int = 5) -> str:
        """The end of its log, for a message to the user."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return ""

    async def _spawn(self) -> None:
        privileges: dict[str, Any] = {}
        if self._user is not None:
            privileges = {"user": self._user, "group": self._group, "extra_groups": []}
        with self.log_path.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                env=self._env,
                cwd=self._cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Its own group: Ctrl-C reaches the supervisor only, which then drains in order.
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()) if _libc is not None else None,
                **privileges,
            )
        step_back(self._process.pid, self._nice)
        shorten_slice(self._process.pid, self._slice_us)

    async def _keep(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            assert self._process is not None
            born = loop.time()
            code = await self._process.wait()
            self._past_cpu_s = self.cpu_s
            if self._stopping:
                return
            if code == CONFIGURATION_EXIT:
                lines = self.last_lines(1)
                self.broken = lines.partition(": ")[2] or lines or "configuration mistake"
                return
            if loop.time() - born > _STABLE_AFTER_S:
                backoff_s = _BACKOFF_FIRST_S
            log.warning("%s ended with %s; starting it again", self.name, _ending(code))
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
            if self._stopping:
                return
            self.restarts += 1
            try:
                if self._prepare is not None:
                    await asyncio.to_thread(self._prepare)
                await self._spawn()
            except (ConfigError, OSError) as error:
                self.broken = str(error)
                return


def _die_with(parent: int) -> Callable[[], None]:
    """For the new process, between fork and exec: SIGKILL when ``parent`` is gone; everything here survives a kill."""

    def arrange() -> None:
        assert _libc is not None
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def _ending(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
