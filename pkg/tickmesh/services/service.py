"""Service: everything a pod's ``run`` is given."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

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
