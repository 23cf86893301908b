"""gateway pod: replays the journal into a Replica, follows the bus, serves REST, WebSocket and the web page."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import aiohttp
from aiohttp import web

from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.gateway.api import Api
from tickmesh.gateway.replica import Replica
from tickmesh.services.instruments import wait_for_instruments
from tickmesh.services.service import Service

_SUBJECTS = ("md.book.>", "md.mark.>", "order.event.>", "fill.>", "account.>", "signal.>", "alert.>", "ctl.>")
_WATCHED = ("feed", "strategy", "execution", "account", "risk", "recorder", "simvenue")
_POLL_S = 1.0


async def run(service: Service) -> None:
    """Serve until told to stop."""
    settings = service.settings
    replica = Replica()
    health: dict[str, Any] = {}
    api = Api(
        replica,
        service.bus,
        service.clock,
        services=lambda: health,
        token=settings.gateway.token.get_secret_value(),
        requests_per_s=settings.gateway.requests_per_s,
        max_sockets=settings.gateway.max_sockets,
    )
    decode_errors = service.metrics.counter("decode_errors_total", "messages on the bus that could not be decoded")
    clients = service.metrics.gauge("websocket_clients", "connected WebSocket clients")
    for subject in _SUBJECTS:
        await service.bus.subscribe(subject, _taker(replica))
    async for subject, payload, _ in service.bus.replay("ORDERS"):
        replica.on_message(subject, payload)
    runner = await _listen(api, settings.observe.host, settings.gateway.port)
    tasks = [
        asyncio.create_task(_load_instruments(service, replica)),
        asyncio.create_task(_watch_services(service, health)),
    ]
    service.health.set_started()
    try:
        while not service.stopping.is_set():
            decode_errors.value = replica.decode_errors
            clients.set(len(api.sockets))
            try:
                await asyncio.wait_for(service.stopping.wait(), _POLL_S)
            except TimeoutError:
                continue
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *(s.close() for s in list(api.sockets)), return_exceptions=True)
        await runner.cleanup()


def _taker(replica: Replica) -> Any:
    def take(subject: str, payload: bytes) -> None:
        replica.on_message(subject, payload)

    return take


async def _listen(api: Api, host: str, port: int) -> web.AppRunner:
    runner = web.AppRunner(api.app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is busy; stop what uses it or set TICKMESH_GATEWAY__PORT") from None
        raise
    return runner


async def _load_instruments(service: Service, replica: Replica) -> None:
    venue = service.settings.venue
    while not service.stopping.is_set():
        try:
            found = await wait_for_instruments(service.bus, venue.name, venue.symbols, timeout_s=60.0)
        except DependencyError:
            continue  # the feed is not there yet; the page shows that
        replica.instruments = {(venue.name, symbol): instrument for symbol, instrument in found.items()}
        return


async def _watch_services(service: Service, health: dict[str, Any]) -> None:
    """Ask every service's /stats once a second; what does not answer is shown as down."""
    host = service.settings.observe.host
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as session:

        async def ask(name: str) -> None:
            port = getattr(service.settings, name).admin_port
            try:
                async with session.get(f"http://{host}:{port}/readyz") as response:
                    health[name] = await response.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                health[name] = {"ready": False, "because": {"down": "it does not answer"}}

        while True:
            await asyncio.gather(*(ask(name) for name in _WATCHED))
            await asyncio.sleep(_POLL_S)
