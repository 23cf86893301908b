"""A process is ready only while its bus is connected, whatever its services know of it."""

from __future__ import annotations

import asyncio

from tickmesh.bus.memory import MemoryBus
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.runtime.host import tell_bus
from tickmesh.services.service import Service
from tickmesh.settings import Settings


def service_on(bus: MemoryBus) -> Service:
    metrics, health = Metrics("t"), Health()
    health.set_started()
    admin = AdminServer("127.0.0.1", 0, metrics, health)
    return Service("t", Settings(), bus, SystemClock(), metrics, health, admin)


async def test_every_service_of_a_process_is_unready_while_the_bus_is_away_and_ready_when_it_is_back() -> None:
    bus = MemoryBus()
    services = [service_on(bus), service_on(bus)]
    telling = asyncio.create_task(tell_bus(services, bus))
    try:
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
            assert all(service.health.ready for service in services)
            bus.connected = False
            while any(service.health.ready for service in services):
                await asyncio.sleep(0.01)
            assert "NATS" in services[0].health.unready_because["bus"]
            bus.connected = True
            while not all(service.health.ready for service in services):
                await asyncio.sleep(0.01)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
