"""Host one service in this process: settings, logs, bus, admin endpoints, signals, exit code.

Exit codes: 0 drained, 2 a configuration mistake (a restart does not help), 1 anything else.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import uvloop
from pydantic import SecretStr

from tickmesh import hotpath
from tickmesh.bus.memory import MemoryBus
from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import ConfigError, TickmeshError
from tickmesh.observe import logs
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.ports import Bus
from tickmesh.runtime import waiting
from tickmesh.runtime.table import hot_services
from tickmesh.services.service import Service
from tickmesh.settings import Settings, load

log = logging.getLogger("tickmesh.host")

Run = Callable[[Service], Awaitable[None]]

_BUS_LOOK_S = 0.5
_BUS_LOOKS = 2


def main(name: str) -> int:
    """Run service ``name`` until it is told to stop."""
    waiting.mend()
    return hosted(name, lambda settings: _host(name, settings))


def hosted(name: str, work: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    """Run ``work`` as the process ``name``: settings, logs, event loop, exit code."""
    try:
        settings = load()
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    logs.set_up(name, settings.observe.log_level, settings.observe.log_format)
    _hide_secrets(settings)
    try:
        refuse_other_half(settings.hotpath.require)
        uvloop.run(work(settings))
    except ConfigError as error:
        log.error("%s", error)
        return 2
    except TickmeshError as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def make_service(name: str, settings: Settings, bus: Bus) -> Service:
    """The ports of one service."""
    metrics, health = Metrics(name), Health()
    admin = AdminServer(settings.observe.host, getattr(settings, name).admin_port, metrics, health)
    return Service(name, settings, bus, SystemClock(), metrics, health, admin)


async def connect(kind: type[NatsBus], name: str, settings: Settings) -> NatsBus:
    """A bus of ``kind`` as the settings have it."""
    return await kind.connect(
        settings.nats.url,
        name=f"tickmesh-{name}",
        user_credentials=settings.nats.credentials_file or None,
        token=settings.nats.token.get_secret_value() or None,
        connect_timeout_s=settings.nats.connect_timeout_s,
        replicas=settings.nats.replicas,
    )


def spin(loop: asyncio.AbstractEventLoop) -> None:
    """Keep ``loop`` from ever sleeping: whatever comes is seen within microseconds, for the price of a core."""
    loop.call_soon(spin, loop)


async def tell_bus(services: Sequence[Service], bus: Bus) -> None:
    """Keep readiness honest about the bus, for ever: not ready while two looks in a row find it not connected.

    A server that accepts connections and answers nothing counts as not connected as soon as its pings are overdue.
    """
    away = 0
    while True:
        away = 0 if bus.connected else away + 1
        for service in services:
            if away >= _BUS_LOOKS:
                service.health.require("bus", "NATS does not answer; see its log and load, work goes on by itself")
            elif not away:
                service.health.satisfy("bus")
        await asyncio.sleep(_BUS_LOOK_S)


async def _host(name: str, settings: Settings) -> None:
    module = importlib.import_module(f"tickmesh.services.{name}")
    run: Run = module.run
    bus: Bus = await connect(NatsBus, name, settings) if getattr(module, "NEEDS_BUS", True) else MemoryBus()
    service = make_service(name, settings, bus)
    admin = service.admin
    loop = asyncio.get_running_loop()
    if settings.local.spin and name in hot_services():
        spin(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stopping.set)
    running = asyncio.create_task(_as_coroutine(run(service)), name=name)
    telling = asyncio.create_task(tell_bus((service,), bus), name="bus-readiness")
    try:
        await asyncio.sleep(0)  # run registers its routes before its first await
        await admin.start()
        say_which_half()
        await running
        log.info("drained")
    finally:
        running.cancel()
        telling.cancel()
        await asyncio.gather(running, telling, return_exceptions=True)
        await admin.stop()
        await bus.close()


def refuse_other_half(require: str) -> None:
    """Nothing trades Live on a half that its owner did not mean.

    Raises:
        ConfigError: ``require`` is native and the native half is not in use; says why not.
    """
    if require == "native" and hotpath.HALF != "native":
        raise ConfigError(
            f"hotpath.require (TICKMESH_HOTPATH__REQUIRE) is native, and this process would run on the pure-Python hot "
            f"path: {hotpath.WHY_PURE}"
        )


def say_which_half() -> None:
    """A fall-back to Python that nobody asked for is never silent."""
    if hotpath.HALF == "native" or hotpath.FORCED:
        log.info("started; hot path: %s", hotpath.HALF)
    else:
        log.warning("started on the pure-Python hot path, about 20 times slower: %s", hotpath.WHY_PURE)


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def _hide_secrets(settings: Settings) -> None:
    for section in Settings.model_fields:
        for value in dict(getattr(settings, section)).values():
            if isinstance(value, SecretStr):
                logs.hide(value.get_secret_value())
