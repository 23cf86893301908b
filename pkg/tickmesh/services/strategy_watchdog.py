"""Watches, from a thread of its own, how long plugin code runs: a blocked event loop cannot watch itself.

In: ``enter`` and ``leave`` around every call of a plugin. Out: one log line per call that blocks, and after
``interrupt_s`` a PluginBlockedError raised into it, which ends loops of Python code. Code that blocks inside a C call
cannot be ended so; it is reported.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time

from tickmesh.strategy.guard import PluginBlockedError

log = logging.getLogger(__name__)

_ARRIVAL_S = 0.05


class PluginWatchdog:
    """Belongs to one thread, the one that makes it; ``stop`` ends the watching."""

    def __init__(self, *, block_ms: int, interrupt_s: float) -> None:
        self._block_ns = block_ms * 1_000_000
        self._interrupt_ns = int(interrupt_s * 1e9)
        self._watched = threading.get_ident()
        self._call: tuple[int, str] | None = None
        self._interrupted: tuple[int, str] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plugin-watchdog", daemon=True)
        self._thread.start()

    def enter(self, what: str) -> None:
        self._call = (time.monotonic_ns(), what)

    def leave(self) -> None:
        call, self._call = self._call, None
        if call is not None and self._interrupted is call:
            self._interrupted = None
            # The error is on its way into this thread; let it arrive here, where the guard expects it.
            time.sleep(_ARRIVAL_S)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        period_s = min(0.05, self._block_ns / 4e9)
        reported: tuple[int, str] | None = None
        while not self._stopping.wait(period_s):
            call = self._call
            if call is None:
                continue
            took_ns = time.monotonic_ns() - call[0]
            if took_ns > self._block_ns and reported is not call:
                reported = call
                log.error("the plugin of %s has not returned for %d ms; it blocks this process", call[1], took_ns / 1e6)
            if self._interrupt_ns and took_ns > self._interrupt_ns and self._interrupted is not call:
                self._interrupted = call
                if self._call is call:
                    log.error("the plugin of %s is interrupted after %.1f s", call[1], took_ns / 1e9)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(self._watched), ctypes.py_object(PluginBlockedError)
                    )
