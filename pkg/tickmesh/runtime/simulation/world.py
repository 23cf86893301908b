"""World: virtual time, the one source of chance, and the processes; nothing in it depends on the real clock.

In: processes with their loops, events at a time. Out: one thing happens at a time, in an order that the seed decides.
The trace is what happened, its hash tells whether two runs were the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from tickmesh.runtime.simulation.loop import VirtualLoop

MS = 1_000_000
S = 1_000_000_000
EPOCH_NS = 1_767_225_600 * S
"""Wall time of the simulation's start: 2026-01-01, UTC."""
_TRACE_KEPT = 20_000
_CALLBACK_NS = 5_000
"""What one callback costs in virtual time; without it a loop that spins would stop the clock."""


class ProcessKilledError(BaseException):
    """Thrown through a killed process's frames so that what the kernel would close is closed; it reaches nobody."""


class InvariantError(AssertionError):
    """A promise was broken. ``name`` is the invariant's."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


class Machine:
    """A machine's clocks, as the Clock port. The monotonic one is the world's; the wall clock may be wrong and jump."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.offset_ns = 0

    def wall_ns(self) -> int:
        return EPOCH_NS + self._world.now_ns + self.offset_ns

    def mono_ns(self) -> int:
        return self._world.now_ns


class Process:
    """One life of a service: from start to exit, crash or the end of the simulation."""

    def __init__(self, world: World, name: str, machine: Machine, life: int) -> None:
        self.world = world
        self.name = name
        self.machine = machine
        self.life = life
        self.loop = VirtualLoop(machine.mono_ns, self._on_error)
        self.alive = True
        self.paused_until_ns = 0
        self.main: asyncio.Task[Any] | None = None
        self.exited: Callable[[BaseException | None], None] = lambda _: None
        self.on_death: list[Callable[[], None]] = []
        self.kill_after_callbacks: int | None = None
        self._closed: set[Any] = set()

    @property
    def paused(self) -> bool:
        return self.paused_until_ns > self.world.now_ns

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio._set_running_loop(self.loop)
        try:
            self.main = self.loop.create_task(work)
        finally:
            asyncio._set_running_loop(None)
        self.main.add_done_callback(self._on_end)

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Something reached this process (a message, an answer): it runs in its loop, unless it is dead."""
        if self.alive:
            self.loop.call_soon(function, *arguments)

    def kill(self) -> None:
        """SIGKILL: no further callback; the kernel closes what was open."""
        if not self.alive:
            return
        self.alive = False
        self.world.note(f"{self.name}#{self.life} killed")
        for undo in self.on_death:
            undo()
        self._unwind()

    def _unwind(self) -> None:
        """Close the frames of every task (files and locks in them); whatever they try has no effect any more."""
        self.loop.forget()
        asyncio._set_running_loop(self.loop)
        try:
            for _ in range(20):  # closing one may have made others
                tasks = asyncio.all_tasks(self.loop)
                for task in sorted(tasks, key=lambda t: t is not self.main):
                    _close(task)
                if not tasks or all(task.get_coro() in self._closed for task in tasks):
                    break
                self._closed.update(task.get_coro() for task in tasks)
        finally:
            asyncio._set_running_loop(None)
        self.loop.forget()

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        if not self.alive:
            return
        self.alive = False
        error = None if task.cancelled() else task.exception()
        for undo in self.on_death:
            undo()
        self._unwind()
        self.world.note(f"{self.name}#{self.life} ended: {type(error).__name__}")
        self.exited(error)

    def _on_error(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.alive and error is not None and not isinstance(error, ProcessKilledError):
            self.world.crashed_callbacks.append((self.name, error))


def _close(task: asyncio.Task[Any]) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine: Any = task.get_coro()
    for _ in range(50):
        try:
            coroutine.throw(ProcessKilledError())
        except BaseException:  # however it ends, it has ended, as a killed process has
            return


class World:
    """Time, chance and everybody in it."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        self.seed = seed
        self.random = Random(f"world {seed}")
        self.now_ns = 1000 * S
        self.processes: list[Process] = []
        self.crashed_callbacks: list[tuple[str, BaseException]] = []
        self.trace: deque[str] = deque(maxlen=None if keep_trace else _TRACE_KEPT)
        self.steps = 0
        self.broken: InvariantError | None = None
        self.after_step: Callable[[], None] = lambda: None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = 0
        self._hash = hashlib.blake2b(digest_size=12)

    def note(self, line: str) -> None:
        """Add a line to the trace; lines hold nothing that differs between two runs of one seed."""
        text = f"{(self.now_ns - 1000 * S) / S:11.6f}  {line}"
        self._hash.update(text.encode())
        self.trace.append(text)

    def fail(self, name: str, detail: str) -> None:
        """A promise is broken. The run ends after this step: raised here, a service might swallow it."""
        if self.broken is None:
            self.broken = InvariantError(name, detail)

    @property
    def fingerprint(self) -> str:
        """The same for two runs exactly when their traces are."""
        return self._hash.hexdigest()

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (max(time_ns, self.now_ns), self._numbers, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now_ns + int(delay_s * S), action)

    def every(self, period_s: float, action: Callable[[], None], until_ns: int) -> None:
        """Repeat ``action`` until a time, at intervals of about ``period_s``."""

        def again() -> None:
            if self.now_ns < until_ns:
                action()
                self.after(period_s * self.random.uniform(0.5, 1.5), again)

        self.after(period_s * self.random.random(), again)

    def run(self, until_ns: int) -> None:
        """Let everything happen that is due before ``until_ns``."""
        while self.step(until_ns):
            pass

    def step(self, until_ns: int) -> bool:
        """One event or one callback; False when nothing is left before ``until_ns``."""
        events = self._events
        if events and events[0][0] <= self.now_ns:
            _, _, action = heapq.heappop(events)
            action()
            return self._done()
        able = [p for p in self.processes if p.alive and not p.paused]
        for process in able:
            process.loop.wake_due()
        ready = [p for p in able if p.loop.ready]
        if ready:
            process = ready[0] if len(ready) == 1 else self.random.choice(ready)
            self._run_one(process)
            self.now_ns += _CALLBACK_NS
            return self._done()
        moments = [events[0][0]] if events else []
        for process in self.processes:
            if process.alive:
                due_ns = process.loop.next_due_ns()
                if due_ns is not None:
                    moments.append(max(due_ns, process.paused_until_ns))
                elif process.loop.ready:
                    moments.append(process.paused_until_ns)
                if process.paused and process.loop.ready:
                    moments.append(process.paused_until_ns)
        if not moments or min(moments) > until_ns:
            self.now_ns = max(self.now_ns, until_ns)
            return False
        self.now_ns = max(self.now_ns + 1, min(moments))
        return True

    def _run_one(self, process: Process) -> None:
        process.loop.run_one()
        if process.kill_after_callbacks is not None and process.alive:
            process.kill_after_callbacks -= 1
            if process.kill_after_callbacks <= 0:
                process.kill()
                process.exited(None)

    def _done(self) -> bool:
        self.steps += 1
        self.after_step()
        if self.broken is not None:
            raise self.broken
        if self.crashed_callbacks:
            name, error = self.crashed_callbacks[0]
            raise InvariantError("no-unhandled-error", f"{name}: {type(error).__name__}: {error}") from error
        return True
