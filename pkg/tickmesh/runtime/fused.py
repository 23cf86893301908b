"""Host feed, strategy and execution in one process: the shortest way from a tick to its order.

In: the settings. Out: three services that believe they are alone: each has its own metrics, health and admin port;
they share an event loop and a FusedBus. They share a fate too: when one ends, the process ends, and a restart brings
all three back the way each comes back by itself. Told to stop, they drain one after the other, the strategy first.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
from collections.abc import Awaitable

from tickmesh.bus.fused import FusedBus
from tickmesh.domain.errors import TickmeshError
from tickmesh.runtime.host import connect, hosted, make_service, say_which_half, spin, tell_bus
from tickmesh.runtime.table import FUSED, hot_services
from tickmesh.services.service import Service
from tickmesh.settings import Settings

log = logging.getLogger("tickmesh.fused")


def main() -> int:
    """Run until told to stop; the exit code is that of a single service."""
    return hosted(FUSED, _host)


async def _host(settings: Settings) -> None:
    bus = await connect(FusedBus, FUSED, settings)
    services = [make_service(name, settings, bus) for name in hot_services()]
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if settings.local.spin:
        spin(loop)
    running = {service.name: asyncio.create_task(_run(service), name=service.name) for service in services}
    telling = asyncio.create_task(tell_bus(services, bus), name="bus-readiness")
    rehearsing = asyncio.create_task(_rehearse(settings), name="rehearsal")
    try:
        await asyncio.sleep(0)  # each registers its routes before its first await
        for service in services:
            await service.admin.start()
        say_which_half()
        log.info("started %s in one process", ", ".join(running))
        await _until(stopping, running)
        for service in services:
            service.stopping.set()
            await running[service.name]
        log.info("drained")
    finally:
        for task in (telling, rehearsing, *running.values()):
            task.cancel()
        await asyncio.gather(telling, rehearsing, *running.values(), return_exceptions=True)
        for service in services:
            await service.admin.stop()
        await bus.close()


async def _rehearse(settings: Settings) -> None:
    """Keep the code between a tick and its order warm, if that is wanted; trading does not depend on it."""
    if not settings.local.rehearse_ms:
        return
    from tickmesh.services.rehearsal import Rehearsal

    try:
        async with Rehearsal.open(settings) as rehearsal:
            await rehearsal.run(settings.local.rehearse_ms)
    except Exception:  # rehearsing makes orders faster; trading never depends on it
        log.exception("rehearsing has ended; orders take longer from now on, nothing else changes")


async def _run(service: Service) -> None:
    module = importlib.import_module(f"tickmesh.services.{service.name}")
    work: Awaitable[None] = module.run(service)
    await work


async def _until(stopping: asyncio.Event, running: dict[str, asyncio.Task[None]]) -> None:
    """Wait for the order to stop. Raises what a service raised, or TickmeshError when one just ended."""
    stop = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait([stop, *running.values()], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
    for task in done - {stop}:
        task.result()
        raise TickmeshError(f"{task.get_name()} ended by itself; all three start again")
