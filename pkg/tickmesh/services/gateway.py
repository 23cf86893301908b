"""gateway pod: rebuilds a Replica from the streams, follows the bus, serves REST, WebSocket and the web page.

It owns nothing: after a restart ORDERS, ACCOUNT, CTL and ALERTS give back the same picture. Live messages come
by core subscription; every few seconds the streams are read on from where they were last read, so that what a
broken connection swallowed is there a moment later.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

import aiohttp
from aiohttp import web

from tickmesh.domain import subjects
from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.gateway.api import Api, Watch
from tickmesh.gateway.guard import Access, is_loopback
from tickmesh.gateway.record import record_routes
from tickmesh.gateway.replica import Replica
from tickmesh.gateway.view import Market, ServiceView
from tickmesh.risk.breaker import BreakerConfig
from tickmesh.services.breakers import NATS, BreakerBoard
from tickmesh.services.instruments import wait_for_instruments
from tickmesh.services.service import Service
from tickmesh.store.cache import Cache
from tickmesh.store.history import History

log = logging.getLogger(__name__)

_SUBJECTS = ("md.book.>", "order.event.>", "fill.>", "account.>", "signal.>", "alert.>", "ctl.>")
_STREAMS = ("ORDERS", "CTL", "ALERTS")
_WATCHED = ("feed", "strategy", "execution", "account", "risk", "recorder", "simvenue")
_POLL_S = 1.0
_CATCH_UP_S = 5.0
_RELOAD_S = 30.0
_ASIDE = BreakerConfig(failures=5, window_ns=30_000_000_000, open_ns=5_000_000_000, probes=1)
_NEWEST = 200_000
"""Messages of each stream that a start reads: more than the replica keeps of orders, and a few seconds' work."""


async def run(service: Service) -> None:
    """Serve until told to stop."""
    settings = service.settings
    replica, watch = Replica(), Watch()
    access = _access(service)
    board = BreakerBoard(service)
    board.add("bus-gateway", NATS, target="bus", probe=lambda: service.bus.connected)
    # The gateway answers without its cache and its history; neither takes it out of service.
    for_cache = board.gate(board.add("cache-gateway", _ASIDE, target="cache", is_readiness=False))
    for_history = board.gate(board.add("postgres-gateway", _ASIDE, target="database", is_readiness=False))
    cache = Cache(settings.redis.url.get_secret_value(), timeout_s=settings.redis.timeout_s, gate=for_cache)
    history = History(
        settings.postgres.dsn.get_secret_value(), cache=cache, pool_size=settings.postgres.pool_size,
        timeout_s=settings.postgres.timeout_s, gate=for_history,
    )  # fmt: skip
    api = Api(
        replica,
        service.bus,
        service.clock,
        service.metrics,
        watch=watch,
        access=access,
        requests_per_s=settings.gateway.requests_per_s,
        max_sockets=settings.gateway.max_sockets,
        send_timeout_s=settings.gateway.send_timeout_s,
        more_routes=record_routes(history, service.clock),
    )
    decode_errors = service.metrics.counter("decode_errors_total", "messages on the bus that could not be decoded")
    for subject in _SUBJECTS:
        await service.bus.subscribe(subject, replica.on_message)
    reader = StreamReader(service, replica)
    await reader.rebuild()
    runner = await _listen(api, settings.observe.host, settings.gateway.port)
    tasks = [
        asyncio.create_task(_load_instruments(service, replica)),
        asyncio.create_task(_watch_services(service, watch)),
        asyncio.create_task(reader.follow()),
        asyncio.create_task(board.run()),
    ]
    service.health.set_started()
    try:
        while not service.stopping.is_set():
            decode_errors.value = replica.decode_errors
            api.sample()
            try:
                async with asyncio.timeout(_POLL_S):
                    await service.stopping.wait()
            except TimeoutError:
                for task in tasks:
                    if task.done():
                        task.result()  # a task that ended by an error ends the service; the supervisor restarts it
                continue
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *(s.close() for s in list(api.sockets)), return_exceptions=True)
        await runner.cleanup()
        await asyncio.gather(history.close(), cache.close())


def _access(service: Service) -> Access:
    settings = service.settings
    access = Access(
        token=settings.gateway.token.get_secret_value(),
        local=is_loopback(settings.observe.host),
        allowed_origins=tuple(settings.gateway.allowed_origins),
    )
    if not access.commands:
        log.warning(
            "the gateway listens on %s without a token: commands are off and others can read everything; "
            "set TICKMESH_GATEWAY__TOKEN",
            settings.observe.host,
        )
    return access


class StreamReader:
    """Reads the streams into the replica: their newest part at the start, then what is new."""

    def __init__(self, service: Service, replica: Replica) -> None:
        self._service = service
        self._replica = replica
        self._next = dict.fromkeys(_STREAMS, 1)

    async def rebuild(self) -> None:
        """Wait until every stream was read once; the service is not ready before."""
        while not self._service.stopping.is_set():
            try:
                await self._read_on()
                await self._last_values()
                return
            except DependencyError as error:
                log.warning("the picture cannot be rebuilt yet: %s", error)
                await asyncio.sleep(_POLL_S)

    async def follow(self) -> None:
        """For ever; repeats are harmless because the replica knows what it has seen."""
        while True:
            await asyncio.sleep(_CATCH_UP_S)
            try:
                await self._read_on()
            except DependencyError as error:
                log.warning("a stream cannot be read on: %s", error)

    async def _read_on(self) -> None:
        for stream in _STREAMS:
            async for subject, payload, seq in self._service.bus.replay(
                stream, start_seq=self._next[stream], newest=_NEWEST
            ):
                self._replica.on_message(subject, payload)
                self._next[stream] = seq + 1

    async def _last_values(self) -> None:
        """The newest snapshot of each account we know of, and the newest book of each symbol."""
        venue, bus = self._service.settings.venue, self._service.bus
        accounts = {venue.account, *(event.account for event in self._replica.orders.values())}
        wanted = [("ACCOUNT", subjects.account_snapshot(account)) for account in sorted(accounts)]
        wanted += [("MD", subjects.book(venue.name, symbol)) for symbol in venue.symbols]
        for stream, subject in wanted:
            payload = await bus.last(stream, subject)
            if payload is not None:
                self._replica.on_message(subject, payload)


async def _listen(api: Api, host: str, port: int) -> web.AppRunner:
    runner = web.AppRunner(api.app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is busy; stop what uses it or set TICKMESH_GATEWAY__PORT") from None
        raise ConfigError(
            f"the gateway cannot listen on {host}:{port} ({error.strerror}); check TICKMESH_OBSERVE__HOST"
        ) from None
    return runner


async def _load_instruments(service: Service, replica: Replica) -> None:
    venue = service.settings.venue
    while not service.stopping.is_set():
        try:
            found = await wait_for_instruments(service.bus, venue.name, venue.symbols, timeout_s=60.0)
        except DependencyError:
            # The feed is not there yet; the page shows that.
            await asyncio.sleep(_POLL_S)
            continue
        replica.instruments = {(venue.name, symbol): instrument for symbol, instrument in found.items()}
        # A venue changes its grid now and then; the feed then writes it again.
        await asyncio.sleep(_RELOAD_S)


async def _watch_services(service: Service, watch: Watch) -> None:
    """Ask every service's /stats once a second; what does not answer is shown as down."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as session:

        async def ask(name: str) -> dict[str, Any]:
            try:
                async with session.get(f"{service.settings.peer_url(name)}/stats") as response:
                    stats: dict[str, Any] = await response.json(content_type=None)
                    watch.services[name] = ServiceView(ready=bool(stats["ready"]), because=dict(stats["because"]))
                    return stats
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError):
                watch.services[name] = ServiceView(ready=False, because={"down": "it does not answer"})
                return {}

        while True:
            answers = dict(zip(_WATCHED, await asyncio.gather(*map(ask, _WATCHED)), strict=True))
            counters = answers["feed"].get("counters")
            if counters:
                watch.market = Market(events=_sum(counters, "events_total"), gaps=_sum(counters, "gaps_total"))
            watch.services["nats"] = ServiceView(
                ready=service.bus.connected, because={} if service.bus.connected else {"down": "connection lost"}
            )
            watch.services["gateway"] = ServiceView(ready=service.health.ready, because=service.health.unready_because)
            await asyncio.sleep(_POLL_S)


def _sum(counters: dict[str, Any], name: str) -> int:
    return int(sum(value for key, value in counters.items() if key.partition("{")[0] == name))
