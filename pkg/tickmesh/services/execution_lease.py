"""AccountLock: one execution process per account, on this machine by a file lock, beyond it by a lease.

The kernel drops the file lock with the process, so a successor on the same machine takes the lease at once; one on
another machine waits for its time to live. It refuses nothing itself: ``valid`` is asked before every new order.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from tickmesh.domain.errors import ConfigError
from tickmesh.services.lease import Lease
from tickmesh.services.service import Service

log = logging.getLogger(__name__)

_POLL_S = 0.1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@contextlib.asynccontextmanager
async def sole_writer(service: Service, state_dir: Path) -> AsyncIterator[Lease | None]:
    """Wait until this process is the account's writer; None when it was told to stop before.

    Raises:
        ConfigError: ``state_dir`` cannot be written.
    """
    account = service.settings.venue.account
    path = state_dir / f"{account}.lock"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        handle = path.open("a")
    except OSError as error:
        raise ConfigError(f"execution.state_dir {state_dir} cannot be written ({error.strerror})") from error
    with handle:
        if not await _locked(service, handle.fileno(), path):
            yield None
            return
        boot = _BOOT_ID.read_text().strip()[:8] if _BOOT_ID.exists() else "-"
        # The same name for every life under this lock: a successor need not wait for a predecessor that is dead.
        me = f"{socket.gethostname()}:{boot}:{os.fstat(handle.fileno()).st_ino}"
        lease = Lease(
            service.bus, service.clock, f"execution.{account}", me, ttl_ms=service.settings.execution.lease_ttl_ms
        )
        async with lease.running():
            yield lease if await _held(service, lease) else None


async def _locked(service: Service, handle: int, path: Path) -> bool:
    told = False
    while not service.stopping.is_set():
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not told:
                log.warning("another process of this machine holds %s; standing by", path)
                told = True
            await asyncio.sleep(_POLL_S)
    return False


async def _held(service: Service, lease: Lease) -> bool:
    service.health.require("lease", "another execution process is the writer of this account; standing by")
    held, stopping = asyncio.ensure_future(lease.held.wait()), asyncio.ensure_future(service.stopping.wait())
    await asyncio.wait({held, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for waiting in (held, stopping):
        waiting.cancel()
    if not lease.held.is_set():
        return False
    service.health.satisfy("lease")
    return True
