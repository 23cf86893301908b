"""Service: everything a pod's ``run`` is given."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from tickmesh.observe.admin import AdminServer
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.ports import Bus, Clock
from tickmesh.settings import Settings


@dataclass(slots=True)
class Service:
    """The ports of one running service.

    ``run`` adds its own routes to ``admin`` before its first await; the host starts the server after that,
    calls ``health.set_started`` never: the service does, when it has what it needs.
    """

    name: str
    settings: Settings
    bus: Bus
    clock: Clock
    metrics: Metrics
    health: Health
    admin: AdminServer
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_stopping(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` until it ends or the service is told to stop; what it raises is raised here."""
        task = asyncio.create_task(work, name=self.name)
        stop = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            task.cancel()
            stop.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)
