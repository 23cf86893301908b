"""simvenue pod: the simulated exchange behind Binance USD-M Futures' wire protocol, REST and WebSocket on one port.

In: settings. Out: market data and order handling for anyone who speaks to that venue. It uses no bus.
"""

from __future__ import annotations

import asyncio
import errno
import logging

from aiohttp import web

from tickmesh.domain.errors import ConfigError
from tickmesh.services.service import Service
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.flow.driver import FlowDriver, replay_instruments
from tickmesh.venues.simvenue.server.accounts import Accounts
from tickmesh.venues.simvenue.server.admin import Admin
from tickmesh.venues.simvenue.server.app import build
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.hub import Hub
from tickmesh.venues.simvenue.server.keys import ApiKeys
from tickmesh.venues.simvenue.server.listing import complete, instruments_for
from tickmesh.venues.simvenue.server.public import Public
from tickmesh.venues.simvenue.server.rest import Rest
from tickmesh.venues.simvenue.server.sockets import Sockets
from tickmesh.venues.simvenue.server.trading import Trading
from tickmesh.venues.simvenue.server.venue import Venue

NEEDS_BUS = False
TICK_S = 0.02

log = logging.getLogger("tickmesh.simvenue")


async def run(service: Service) -> None:
    """Serve until told to stop."""
    keys = service.settings.simvenue
    replay_finished = service.metrics.gauge("replay_finished", "1 when the replayed capture is through")
    if keys.replay:
        instruments = {s: complete(i) for s, i in replay_instruments(keys.replay).items()}
    else:
        instruments = instruments_for(service.settings.venue.symbols)
    hub = Hub(max_buffer_bytes=keys.max_buffer_kb * 1024, replay_wait_s=keys.replay_wait_s)
    exchange = Exchange(list(instruments.values()))
    clock = VenueClock(service.clock.wall_ns)
    venue = Venue(exchange, instruments, hub, clock, replay=bool(keys.replay))
    api_keys = ApiKeys()
    account = service.settings.venue.account
    api_keys.add(
        service.settings.venue.api_key.get_secret_value(), service.settings.venue.api_secret.get_secret_value(), account
    )
    exchange.add_account(account, keys.deposit, clock.now_ms())
    service.admin.add_get("/record", Admin(venue).record)
    flow = FlowDriver(
        exchange,
        hub,
        instruments,
        wall_ns=service.clock.wall_ns,
        mono_ns=service.clock.mono_ns,
        replay=keys.replay,
        replay_speed=keys.replay_speed,
        seed=keys.seed,
        rate=keys.flow_rate,
    )
    venue.captured_depth = flow.depth
    rest = Rest(clock, api_keys, venue.commit)
    for part in (Public(venue), Trading(venue), Accounts(venue), venue.users):
        rest.add(part.endpoints())
    runner = await listen(build(rest, Sockets(hub, clock.now_ms)), service.settings.observe.host, keys.port)
    service.health.set_started()
    log.info("listing %s", ", ".join(instruments))
    frames = service.metrics.counter("frames_total", "WebSocket frames written")
    cut_off = service.metrics.counter("slow_connections_total", "connections cut off because they did not read")
    flowing = asyncio.create_task(flow.run(service.stopping), name="flow")
    try:
        while not service.stopping.is_set():
            venue.tick()
            frames.value, cut_off.value = hub.sent, hub.cut_off
            if flowing.done():
                flowing.result()
                replay_finished.set(float(flow.finished is not None))
            await asyncio.sleep(TICK_S)
    finally:
        flowing.cancel()
        await asyncio.gather(flowing, return_exceptions=True)
        for listener in list(hub.listeners):
            listener.wire.abort()
        await runner.cleanup()


async def listen(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Open the venue's port. Raises ConfigError when it is taken."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=512).start()
    except OSError as error:
        await runner.cleanup()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is busy; stop what uses it or set TICKMESH_SIMVENUE__PORT") from None
        raise
    return runner
