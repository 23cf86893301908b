"""The order journals and the rest of the JetStream layout, as services look at them.

``wait_until_durable`` holds execution's start: no order leaves while the journals are known not to be durable, or, with
``nats.sync_check=require``, not known to be. ``LayoutWatch`` is risk's: drift and durability as metrics, alerts and
``GET /layout``, for as long as the system runs.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from tickmesh.bus import layout
from tickmesh.bus.durability import Durability, Verdict, judge
from tickmesh.bus.nats import NatsBus
from tickmesh.domain.enums import Severity
from tickmesh.observe.admin import json_response
from tickmesh.services.notices import alert
from tickmesh.services.service import Service

log = logging.getLogger(__name__)

CONDITION = "journals"
_RETRY_S = 2.0
_LOOK_S = 30.0


async def wait_until_durable(service: Service) -> None:
    """Return when Live trading may start; says in readiness, log and alert why not yet."""
    keys, bus = service.settings.nats, service.bus
    if keys.sync_check == "off" or not isinstance(bus, NatsBus):
        return
    told = ""
    while True:
        found = await judge(bus.jetstream, replicas=keys.replicas, monitor_url=keys.monitor_url)
        if _may_trade(found, keys.sync_check):
            service.health.satisfy(CONDITION)
            log.log(logging.INFO if found.verdict is Verdict.DURABLE else logging.WARNING, "journals: %s", found)
            return
        words = f"no live trading: {found}"
        service.health.require(CONDITION, words)
        if words != told:
            alert(service, Severity.CRITICAL, "journals_not_durable", words)
            told = words
        await asyncio.sleep(_RETRY_S)


def _may_trade(found: Durability, sync_check: str) -> bool:
    if found.verdict is Verdict.UNKNOWN:
        return sync_check == "warn"
    return found.verdict is Verdict.DURABLE


class LayoutWatch:
    """What was found last, for ``GET /layout``, metrics and alerts."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._drift: list[layout.Drift] = []
        self._durability = Durability(Verdict.UNKNOWN, ("not asked yet",))
        self._told: set[str] = set()
        metrics = service.metrics
        self._drifted = metrics.gauge("layout_drift", "streams and buckets that are not as declared")
        self._durable = metrics.gauge("journals_durable", "1 durable, 0 not, -1 cannot be told")

    async def show(self, _: web.Request) -> web.Response:
        """For people and tests."""
        return json_response(
            {
                "drift": [{"stream": d.stream, "fields": d.fields} for d in self._drift],
                "journals": str(self._durability.verdict),
                "because": self._durability.because,
            }
        )

    async def run(self) -> None:
        """Look for ever."""
        bus = self._service.bus
        if not isinstance(bus, NatsBus):
            return
        while True:
            try:
                await self._look(bus)
            except (NatsError, APIError, TimeoutError, OSError) as error:
                log.info("the JetStream layout cannot be looked at now: %s", error or type(error).__name__)
            await asyncio.sleep(_LOOK_S)

    async def _look(self, bus: NatsBus) -> None:
        keys = self._service.settings.nats
        self._drift = await layout.compare(bus.jetstream, replicas=keys.replicas)
        self._durability = await judge(bus.jetstream, replicas=keys.replicas, monitor_url=keys.monitor_url)
        self._drifted.set(len(self._drift))
        values = {Verdict.DURABLE: 1.0, Verdict.NOT_DURABLE: 0.0, Verdict.UNKNOWN: -1.0}
        self._durable.set(values[self._durability.verdict])
        now = {
            d.stream: f"stream {d.stream} is not as declared: {', '.join(d.fields) or 'missing'}" for d in self._drift
        }
        for stream in now.keys() - self._told:
            alert(self._service, Severity.WARNING, "layout_drift", f"{now[stream]}; run `tickmesh layout --apply`")
        if self._durability.verdict is Verdict.NOT_DURABLE:
            now[CONDITION] = str(self._durability)
            if CONDITION not in self._told:
                alert(self._service, Severity.CRITICAL, "journals_not_durable", str(self._durability))
        self._told = set(now)
