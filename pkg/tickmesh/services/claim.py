"""Claim: one process holds a name (a strategy, an account, a feed); the others stand by, warm, and are told when it
is theirs.

In: a key of the ``leases`` bucket (decision 0004). Out: ``held`` when we may begin, ``valid`` as the fence before every
act, ``successor`` which tells whether somebody warm would take over at once. A process that was given a name
(``observe.instance``: a pod) is known by it in the lease. One without a name takes a file lock first: the kernel drops
it with the process, so that a successor on this machine need not wait for the time to live of one that is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TextIO

from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.ports import Subscription
from tickmesh.services.lease import Lease
from tickmesh.services.service import Service

log = logging.getLogger(__name__)

_POLL_S = 0.02
_ASK_S = 0.15
_HEARD_AFTER_NS = 1_000_000_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def instance(service: Service) -> str:
    """Who we are among our replicas."""
    return service.settings.observe.instance or f"{socket.gethostname()}-{os.getpid()}"


class Claim:
    """One contender for one name, in the event loop of its service.

    ``held`` is set once, when the name is ours for the first time; after that ``valid`` and ``overtaken`` tell.
    ``settled`` is set as soon as it is known whether the name is ours or somebody else's.
    """

    def __init__(self, service: Service, key: str, lock: Path, *, ttl_ms: int) -> None:
        self.key = key
        self.held = asyncio.Event()
        self.settled = asyncio.Event()
        self.lease: Lease | None = None
        self._service = service
        self._lock = lock
        self._ttl_ms = ttl_ms
        self._epoch = 0
        self._lapsed_mono_ns = 0
        self._answering: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    # What it says

    @property
    def epoch(self) -> int:
        """The lease's epoch under which we act; 0 before the first time."""
        return self._epoch

    def valid(self) -> bool:
        """The fence: whether we may act at this moment, with the state that we have."""
        lease = self.lease
        if lease is None or not self.held.is_set() or not lease.valid():
            return False
        self._lapsed_mono_ns = 0
        if lease.core.reign <= self._epoch:  # it may have lapsed, but nobody took it in between
            self._epoch = lease.epoch
        return lease.epoch == self._epoch

    @property
    def overtaken(self) -> bool:
        """Whether somebody else has acted since we held it: our state is old, only a fresh start helps."""
        lease = self.lease
        if lease is None or not self.held.is_set():
            return False
        return lease.core.holder not in ("", lease.core.me) or lease.core.reign > self._epoch

    def unopposed(self) -> bool:
        """The weaker fence, for what does less harm done twice than not done (cancels, market data): valid, or lapsed
        because the bucket is away, for longer than it takes a process that was stopped to hear of its successor."""
        if self.valid():
            return True
        if not self.held.is_set() or self.overtaken:
            return False
        now = self._service.clock.mono_ns()
        self._lapsed_mono_ns = self._lapsed_mono_ns or now
        return now - self._lapsed_mono_ns > _HEARD_AFTER_NS

    # What it does

    def start(self) -> None:
        """Contend in the background until ``release``.

        Raises:
            ConfigError: the lock file cannot be written.
        """
        handle = None
        if not self._service.settings.observe.instance:
            try:
                self._lock.parent.mkdir(parents=True, exist_ok=True)
                handle = self._lock.open("a")
            except OSError as error:
                raise ConfigError(
                    f"{self._lock} cannot be written ({error.strerror}); make its directory writable, or give this "
                    "process a name in TICKMESH_OBSERVE__INSTANCE"
                ) from None
        self._task = asyncio.create_task(self._contend(handle), name=f"claim-{self.key}")

    async def announce(self) -> None:
        """Say, to a holder that is told to stop, that we are warm and would take over."""
        if self._answering is None and not self.held.is_set():
            self._answering = await self._service.bus.respond(_subject(self.key), self._answer)

    async def successor(self) -> str:
        """Who would take over at once; empty when nobody answers."""
        try:
            answer = await self._service.bus.request(_subject(self.key), b"", timeout_s=_ASK_S)
        except (DependencyError, TimeoutError):
            return ""
        return answer.decode(errors="replace")

    async def release(self) -> None:
        """Stop acting and let the next one in."""
        self._end.set()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        await self._quiet()

    async def _contend(self, handle: TextIO | None) -> None:
        service = self._service
        with contextlib.ExitStack() as stack:
            me = service.settings.observe.instance
            if handle is not None:
                file = stack.enter_context(handle)
                await self._locked(file.fileno())
                if self._end.is_set():
                    return
                boot = _BOOT_ID.read_text().strip()[:8] if _BOOT_ID.exists() else "-"
                # The same name for every life under this lock, which the kernel gives to one at a time.
                me = f"{socket.gethostname()}:{boot}:{os.fstat(file.fileno()).st_ino}"
            lease = self.lease = Lease(service.bus, service.clock, self.key, me, ttl_ms=self._ttl_ms)
            async with lease.running():
                await self._await(lease)
                if not self._end.is_set():
                    self._epoch = lease.epoch
                    self.held.set()
                    self.settled.set()
                    await self._quiet()
                    await self._end.wait()

    async def _await(self, lease: Lease) -> None:
        """Until the lease is held or we are told to end."""
        waits = [asyncio.ensure_future(lease.held.wait()), asyncio.ensure_future(self._end.wait())]
        try:
            while not any(wait.done() for wait in waits):
                if lease.core.holder not in ("", lease.core.me):
                    self.settled.set()
                await asyncio.wait(waits, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _locked(self, handle: int) -> None:
        while not self._end.is_set():
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not self.settled.is_set():
                    log.warning("another process of this machine holds %s; standing by", self._lock)
                    self.settled.set()
                await asyncio.sleep(_POLL_S)

    async def _answer(self, subject: str, payload: bytes) -> bytes:
        return instance(self._service).encode()

    async def _quiet(self) -> None:
        answering, self._answering = self._answering, None
        if answering is not None:
            with contextlib.suppress(DependencyError):
                await answering.unsubscribe()


def _subject(key: str) -> str:
    return f"standby.{key}"


@contextlib.asynccontextmanager
async def sole_holder(service: Service, claim: Claim, stands_by: Callable[[], None]) -> AsyncIterator[Lease | None]:
    """Wait until ``claim`` is ours; None when the service was told to stop before.

    ``stands_by`` is called when it is known that somebody else holds it: standing by counts as ready.
    """
    service.health.require("lease", "it is not known yet who holds the lease")
    claim.start()
    try:
        stopping = asyncio.ensure_future(service.stopping.wait())
        settled, held = asyncio.ensure_future(claim.settled.wait()), asyncio.ensure_future(claim.held.wait())
        try:
            await asyncio.wait({settled, stopping}, return_when=asyncio.FIRST_COMPLETED)
            service.health.satisfy("lease")
            if claim.settled.is_set() and not claim.held.is_set():
                stands_by()
                await claim.announce()
            await asyncio.wait({held, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (stopping, settled, held):
                waiting.cancel()
        yield claim.lease if claim.held.is_set() else None
    finally:
        await claim.release()


async def work_alone(service: Service, claim: Claim, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Stand by until ``claim`` is ours, then do ``work()`` until it ends or the service is told to stop.

    Raises:
        DependencyError: another process has taken over meanwhile; only a fresh start knows what it did.
    """

    def stands_by() -> None:
        log.info("another process holds %s; standing by", claim.key)
        service.health.set_started()

    async with sole_holder(service, claim, stands_by) as lease:
        if lease is not None:
            await service.until_stopping(_until_overtaken(claim, work()))


async def _until_overtaken(claim: Claim, work: Coroutine[Any, Any, None]) -> None:
    working, losing = asyncio.ensure_future(work), asyncio.ensure_future(_overtaken(claim))
    try:
        await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        for ended in (working, losing):
            if ended.done():
                ended.result()
    finally:
        working.cancel()
        losing.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)


async def _overtaken(claim: Claim) -> None:
    while not claim.overtaken:
        await asyncio.sleep(_POLL_S)
    raise DependencyError("nats", f"another process holds {claim.key} now; starting over as its standby")
