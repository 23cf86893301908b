"""One process runs a strategy: on this machine by a file lock, beyond it by a lease (decision 0004).

In: names of strategies. Out: whether we may trade for them now. The kernel drops the file lock with its process, so a
successor on this machine takes over at once; one on another machine waits for the lease's time to live.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from pathlib import Path

from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.services.lease import Lease
from tickmesh.services.service import Service

log = logging.getLogger(__name__)

_POLL_S = 0.1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StrategyLeases:
    """The leases of this process by strategy name; ``valid`` is asked before every new order."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._folder = Path(service.settings.local.data_dir) / "strategy"
        self._leases: dict[str, Lease] = {}
        self._epochs: dict[str, int] = {}
        self._stacks: dict[str, contextlib.AsyncExitStack] = {}

    def holds(self, name: str) -> bool:
        """Whether the strategy is ours, be its lease valid at this moment or not."""
        return name in self._leases

    def valid(self, name: str) -> bool:
        """The fence. Raises DependencyError when somebody else has run the strategy since: our state is old."""
        lease = self._leases.get(name)
        if lease is None or not lease.valid():
            return False
        if lease.epoch == self._epochs[name]:
            return True
        if lease.epoch == self._epochs[name] + 1:  # it lapsed and nobody took it in between
            self._epochs[name] = lease.epoch
            return True
        raise DependencyError("lease", f"another process has run {name} since we lost its lease; starting over")

    async def acquire(self, name: str) -> bool:
        """Wait until the strategy is ours; False when told to stop before.

        Raises:
            ConfigError: the lock file cannot be written.
        """
        service = self._service
        account = service.settings.venue.account
        stack = contextlib.AsyncExitStack()
        path = self._folder / f"{account}.{name}.lock"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(path.open("a"))
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written ({error.strerror}); set TICKMESH_LOCAL__DATA_DIR to a writable directory"
            ) from None
        try:
            boot = _BOOT_ID.read_text().strip()[:8] if _BOOT_ID.exists() else "-"
            # The same name for every life under this lock: a successor need not wait for a predecessor that is dead.
            me = f"{socket.gethostname()}:{boot}:{os.fstat(handle.fileno()).st_ino}"
            ttl_ms = service.settings.strategy.lease_ttl_ms
            lease = Lease(service.bus, service.clock, f"strategy.{account}.{name}", me, ttl_ms=ttl_ms)
            service.health.require(f"lease {name}", f"another process runs {name}; standing by")
            if not await self._locked(handle.fileno(), path) or not await self._held(stack, lease):
                await stack.aclose()
                return False
        except BaseException:
            await stack.aclose()
            raise
        service.health.satisfy(f"lease {name}")
        self._leases[name], self._epochs[name], self._stacks[name] = lease, lease.epoch, stack
        return True

    async def release(self, name: str) -> None:
        """Let the next one in."""
        self._leases.pop(name, None)
        stack = self._stacks.pop(name, None)
        if stack is not None:
            await stack.aclose()

    async def close(self) -> None:
        for name in list(self._stacks):
            await self.release(name)

    async def _locked(self, handle: int, path: Path) -> bool:
        told = False
        while not self._service.stopping.is_set():
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if not told:
                    log.warning("another process of this machine holds %s; standing by", path)
                    told = True
                await asyncio.sleep(_POLL_S)
        return False

    async def _held(self, stack: contextlib.AsyncExitStack, lease: Lease) -> bool:
        await stack.enter_async_context(lease.running())
        held = asyncio.ensure_future(lease.held.wait())
        stopping = asyncio.ensure_future(self._service.stopping.wait())
        await asyncio.wait({held, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (held, stopping):
            waiting.cancel()
        return lease.held.is_set()
