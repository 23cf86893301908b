"""simvenue pod: the simulated exchange behind Binance USD-M Futures' wire protocol, REST and WebSocket on one port.

In: settings and the state saved in the data directory. Out: market data and order handling for anyone who speaks to
that venue. It uses no bus.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

from aiohttp import web

from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.services.service import Service
from tickmesh.settings import Settings
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.flow.driver import FlowDriver, replay_instruments
from tickmesh.venues.simvenue.server.accounts import Accounts
from tickmesh.venues.simvenue.server.admin import Admin
from tickmesh.venues.simvenue.server.algo import Algo
from tickmesh.venues.simvenue.server.app import build
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.faults import Faults
from tickmesh.venues.simvenue.server.hub import Hub
from tickmesh.venues.simvenue.server.keys import ApiKeys, Credentials
from tickmesh.venues.simvenue.server.limits import Limits, Quota
from tickmesh.venues.simvenue.server.listing import complete, instruments_for
from tickmesh.venues.simvenue.server.public import Public
from tickmesh.venues.simvenue.server.rest import Rest
from tickmesh.venues.simvenue.server.sockets import Sockets
from tickmesh.venues.simvenue.server.store import Store
from tickmesh.venues.simvenue.server.trading import Trading
from tickmesh.venues.simvenue.server.venue import Venue

NEEDS_BUS = False
TICK_S = 0.01

log = logging.getLogger("tickmesh.simvenue")


async def run(service: Service) -> None:
    """Serve until told to stop."""
    keys = service.settings.simvenue
    store = Store(Path(service.settings.local.data_dir) / "simvenue")
    clock = VenueClock(service.clock.wall_ns)
    flowing = background(service.settings)
    instruments = store.reconcile_listing(flowing)
    hub = Hub(max_buffer_bytes=keys.max_buffer_kb * 1024, replay_wait_s=keys.replay_wait_s)
    exchange, api_keys = restore(instruments, store), ApiKeys()
    faults = Faults(clock, Random(keys.seed), time.monotonic)
    venue = Venue(exchange, instruments, hub, clock, store, faults, replay=bool(keys.replay))
    open_accounts(service.settings, venue, api_keys)
    flow = FlowDriver(
        exchange,
        hub,
        {symbol: instruments[symbol] for symbol in flowing},
        wall_ns=service.clock.wall_ns,
        mono_ns=service.clock.mono_ns,
        replay=keys.replay,
        replay_speed=keys.replay_speed,
        replay_hold_s=keys.replay_hold_s,
        seed=keys.seed,
        rate=keys.flow_rate,
        start_prices={s: float(m.mark) for s, m in exchange.markets.items() if m.mark},
    )
    venue.captured_depth = flow.depth
    add_admin_routes(service, Admin(venue, api_keys, flow.go))
    quota = Quota(keys.weight_limit_1m, keys.order_limit_10s, keys.order_limit_1m, keys.ban_after)
    rest = Rest(clock, api_keys, Limits(quota), faults, venue.commit)
    for part in (Public(venue, quota), Trading(venue), Algo(venue), Accounts(venue, quota), venue.users):
        rest.add(part.endpoints())
    sockets = Sockets(hub, clock.now_ms, lambda: faults.in_maintenance)
    runner = await listen(build(rest, sockets), service.settings.observe.host, keys.port)
    service.health.set_started()
    log.info("listing %s", ", ".join(instruments))
    checkpoints = asyncio.create_task(store.checkpoint_for_ever(), name="checkpoints")
    try:
        await serve(service, venue, flow)
    finally:
        checkpoints.cancel()
        await asyncio.gather(checkpoints, return_exceptions=True)
        for listener in list(hub.listeners):
            listener.wire.abort()
        await runner.cleanup()
        store.close()


def add_admin_routes(service: Service, admin: Admin) -> None:
    """The venue's record and what tests and people switch."""
    service.admin.add_get("/record", admin.record)
    service.admin.add_post("/accounts", admin.add_account)
    service.admin.add_post("/positions", admin.move_position)
    service.admin.add_get("/faults", admin.faults)
    service.admin.add_post("/faults", admin.add_fault)
    service.admin.add_delete("/faults", admin.remove_faults)
    service.admin.add_post("/replay/go", admin.start_replay)


async def serve(service: Service, venue: Venue, flow: FlowDriver) -> None:
    """Timers, flow and figures until told to stop. Raises DependencyError when the state cannot be kept."""
    hub = venue.hub
    replay_finished = service.metrics.gauge("replay_finished", "1 when the replayed capture is through")
    replay_held = service.metrics.gauge("replay_held", "1 while the replay waits for POST /replay/go")
    frames = service.metrics.counter("frames_total", "WebSocket frames written")
    cut_off = service.metrics.counter("slow_connections_total", "connections cut off because they did not read")
    flowing = asyncio.create_task(flow.run(service.stopping), name="flow")
    try:
        while not service.stopping.is_set():
            venue.tick()
            replay_held.set(float(flow.held))
            frames.value, cut_off.value = hub.sent, hub.cut_off
            if flowing.done():
                flowing.result()
                replay_finished.set(float(flow.finished is not None))
            await asyncio.sleep(TICK_S)
    finally:
        flowing.cancel()
        await asyncio.gather(flowing, return_exceptions=True)


def background(settings: Settings) -> dict[str, Instrument]:
    """The symbols that this run has a market in. Raises ConfigError for a capture or a symbol that is none."""
    if settings.simvenue.replay:
        return {s: complete(i) for s, i in replay_instruments(settings.simvenue.replay).items()}
    return instruments_for(settings.venue.symbols)


def restore(instruments: Mapping[str, Instrument], store: Store) -> Exchange:
    """An exchange in the saved state, or a new one."""
    exchange = Exchange(list(instruments.values()))
    saved = store.load(exchange.config.history_limit)
    if saved is not None:
        exchange.from_state(saved)
    return exchange


def open_accounts(settings: Settings, venue: Venue, api_keys: ApiKeys) -> None:
    """Our account with its deposit, once, and the accounts that were added while it ran."""
    for api_key, credentials in venue.store.api_keys().items():
        api_keys.add(api_key, credentials)
    ours = settings.venue
    api_keys.add(ours.api_key.get_secret_value(), Credentials(ours.account, ours.api_secret.get_secret_value()))
    venue.exchange.add_account(ours.account, settings.simvenue.deposit, venue.clock.now_ms())
    venue.commit()


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
