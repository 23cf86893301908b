"""The strategy service: ticks in, order intents out; a shell around ``strategy.floor``.

Follows the resources, keeps checkpoints, hears its own orders and fills live and catches up from the journal. An
intent is published once, on a subject that a stream captures. Stopping cancels what is open and waits for it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from tickmesh.domain import subjects
from tickmesh.domain.enums import Severity
from tickmesh.domain.errors import ConfigError, DependencyError, TickmeshError
from tickmesh.domain.messages import (
    Alert,
    BookUpdate,
    Control,
    FillEvent,
    OrderEvent,
    Trade,
    decode,
)
from tickmesh.observe.admin import json_response
from tickmesh.ports.bus import Subscription
from tickmesh.services import strategy_checkpoint as checkpoints
from tickmesh.services.service import Service
from tickmesh.services.strategy_desks import Desks, retire
from tickmesh.services.strategy_files import ResourceFiles, Seen
from tickmesh.services.strategy_intake import Intake
from tickmesh.services.strategy_lease import StrategyLeases
from tickmesh.services.strategy_outlet import Outlet
from tickmesh.services.strategy_report import status_of, update_gauges
from tickmesh.services.strategy_watchdog import PluginWatchdog
from tickmesh.strategy.desk import Desk
from tickmesh.strategy.drafts import Moment
from tickmesh.strategy.floor import Floor, Outgoing
from tickmesh.strategy.resource import StrategyResource

log = logging.getLogger(__name__)


class LeaseLostError(TickmeshError):
    """Another process has taken a strategy of ours over; the host ends this one, and the next one stands by."""


_INSTRUMENT_WAIT_S = 20.0


async def run(service: Service, shell: StrategyShell | None = None) -> None:
    """Work until ``service.stopping``; then cancel, wait, save, return."""
    shell = shell or StrategyShell(service)
    service.admin.add_get("/strategies", shell.on_status)
    try:
        if await shell.start():
            await shell.work()
            await shell.drain()
    finally:
        shell.watchdog.stop()
        await shell.leases.close()


class StrategyShell:
    """The floor on its bus."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.own = service.settings.strategy
        self.bus, self.clock, self.metrics = service.bus, service.clock, service.metrics
        self.account = service.settings.venue.account
        self.watchdog = PluginWatchdog(block_ms=self.own.plugin_block_ms, interrupt_s=self.own.plugin_interrupt_s)
        self.floor = Floor()
        self.leases = StrategyLeases(service)
        self.desks = Desks(self.floor, self.bus, service.settings, self.clock, self.watchdog)
        self.outlet = Outlet(service, self.leases)
        self.intake = Intake(self.clock, self.metrics, self._decide, conflate_after_us=self.own.conflate_after_us)
        self.files = ResourceFiles(self.own.resources)
        self.epoch = 0
        self.journal_seq = 0
        self.draining = False
        self._following: dict[tuple[str, str], list[Subscription]] = {}
        self._saved: dict[str, bytes] = {}
        self._mistakes: set[str] = set()
        self._shm = service.settings.local.transport == "shm"
        metrics = self.metrics
        self.reloads = metrics.counter("reloads_total", "edits of resources or plugins taken over")
        self.reload_errors = metrics.counter("reload_errors_total", "edits refused; the last good one stays")
        self.caught_up = metrics.counter("journal_events_total", "order events and fills read from the journal")

    # Start

    async def start(self) -> bool:
        """Load resources, plugins and checkpoints, hear our orders, catch up with the journal, follow the market.

        Returns False when told to stop while another process runs one of our strategies.
        """
        seen = self.files.look() or Seen()
        if seen.mistakes:
            raise ConfigError(seen.mistakes[0])
        if not seen.resources:
            raise ConfigError(f"there is no Strategy resource in {self.own.resources}; see k8s/examples")
        for name in seen.resources:
            if not await self.leases.acquire(name):
                return False
        saved = await checkpoints.read_all(self.bus)  # after the leases: nobody else writes them now
        self.epoch = self._next_epoch(saved)
        for resource in seen.resources.values():
            self.floor.put(await self._open(resource, saved.get(resource.name)))
        for name, checkpoint in saved.items():
            if name not in self.floor.desks and await self._is_orphan(name, checkpoint):
                self.floor.put(self.desks.orphanage(checkpoint, self._next_epoch(saved)))
        self.journal_seq = min(desk.journal_seq for desk in self.floor.desks.values())
        await self.bus.subscribe(f"order.event.{subjects.token(self.account)}.>", self._on_order)
        await self.bus.subscribe(f"fill.{subjects.token(self.account)}.>", self._on_fill)
        await self.bus.subscribe("ctl.>", self._on_control)
        await self._catch_up()
        await self._save(force=True)  # the epoch is safe before the first intent leaves
        for desk in self.floor.desks.values():
            desk.show_positions()
        await self._follow()
        gc.collect()
        gc.freeze()  # what start-up made is here to stay; the collector need not look at it on the hot path
        self.service.health.set_started()
        log.info("running %s", ", ".join(f"{d.name} ({d.mode.value})" for d in self.floor.desks.values()))
        return True

    async def _is_orphan(self, name: str, checkpoint: checkpoints.Checkpoint) -> bool:
        """Whether a strategy left orders behind and nobody runs it: then it is ours to clear up."""
        if not checkpoint.live.orders or checkpoint.account != self.account:
            return False
        return await self._acquire_soon(name, 2 * self.own.lease_ttl_ms / 1000)

    async def _acquire_soon(self, name: str, timeout_s: float = 1.0) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.leases.acquire(name)
        except TimeoutError:
            self.service.health.satisfy(f"lease {name}")
            return False

    def _next_epoch(self, saved: dict[str, checkpoints.Checkpoint]) -> int:
        """Later than every epoch before it, even when the wall clock was set back (decision 0051)."""
        earlier = max((c.epoch for c in saved.values()), default=0)
        self.epoch = max(self.epoch + 1, earlier + 1, self.clock.wall_ns() // 1_000_000)
        self.outlet.epoch = self.epoch
        return self.epoch

    async def _open(self, resource: StrategyResource, checkpoint: checkpoints.Checkpoint | None) -> Desk:
        epoch = self._next_epoch({"": checkpoint} if checkpoint else {})
        return await self.desks.open(resource, epoch=epoch, checkpoint=checkpoint, wait_s=_INSTRUMENT_WAIT_S)

    async def _follow(self) -> None:
        """Subscribe to the market data that somebody wants, drop what nobody wants any more."""
        wanted = self.floor.symbols()
        for key in set(self._following) - wanted:
            for subscription in self._following.pop(key):
                await subscription.unsubscribe()
        for venue, symbol in wanted - set(self._following):
            self._following[venue, symbol] = []
            if not self._shm:
                for subject in (subjects.book(venue, symbol), subjects.trade(venue, symbol)):
                    self._following[venue, symbol].append(await self.bus.subscribe(subject, self.intake.on_market))

    # Work

    async def work(self) -> None:
        """Run until told to stop; the end of any of the tasks is the end of the service."""
        jobs = [
            self._every(self.own.timer_interval_ms / 1000, self._on_timer),
            self._every(self.own.reload_interval_s, self._reload),
            self._every(self.own.checkpoint_interval_s, self._save),
            self._every(self.own.catch_up_interval_s, self._catch_up),
        ]
        if self._shm:
            from tickmesh.bus.ring import RingReader

            lost = self.metrics.counter("ring_lost_total", "ring messages overwritten before they were read")
            reader = RingReader(
                self.service.settings.local.data_dir, spin_us=self.own.ring_spin_us, on_lost=lambda n: lost.inc(n)
            )
            jobs.append(reader.run(self.intake.on_market, self.service.stopping))
        tasks = [asyncio.create_task(job) for job in jobs]
        stop = asyncio.create_task(self.service.stopping.wait())
        try:
            done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in [stop, *tasks]:
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)

    async def _every(self, interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await work()
            except DependencyError as error:
                # The server will be back; what was not done is done then.
                log.warning("%s", error)

    def _decide(self, data: BookUpdate | Trade, received: int) -> None:
        if self.draining:
            return
        moment = Moment(
            self.clock.wall_ns(), received, data.receive_mono_ns, data.publish_mono_ns, data.exchange_ns
        )  # fmt: skip
        self.outlet.send(self.floor.on_market_data(data, moment))

    def _on_order(self, subject: str, payload: bytes) -> None:
        try:
            event = decode(OrderEvent, payload)
        except msgspec.MsgspecError as error:
            return self.intake.on_malformed(subject, payload, error)
        return self.outlet.send(self.floor.on_order_event(event, self._now()))

    def _on_fill(self, subject: str, payload: bytes) -> None:
        try:
            fill = decode(FillEvent, payload)
        except msgspec.MsgspecError as error:
            return self.intake.on_malformed(subject, payload, error)
        return self.outlet.send(self.floor.on_fill(fill, self._now()))

    def _on_control(self, subject: str, payload: bytes) -> None:
        try:
            control = decode(Control, payload)
        except msgspec.MsgspecError as error:
            return self.intake.on_malformed(subject, payload, error)
        log.warning("%s %s by %s: %s", control.verb, control.scope, control.actor or "?", control.reason)
        return self.outlet.send(self.floor.on_control(control, self._now()))

    async def _on_timer(self) -> None:
        if self.outlet.overtaken:
            raise LeaseLostError(self.outlet.overtaken)
        self.outlet.send(self.floor.on_timer(self._now()))
        for desk in [d for d in self.floor.desks.values() if d.retired and not d.live.orders]:
            await self._close(desk)
        update_gauges(self.metrics, self.floor)

    async def _close(self, desk: Desk) -> None:
        await checkpoints.write(self.bus, desk.name, checkpoints.checkpoint_of(desk))
        if not any(held.qty_lots for held in desk.live.holdings.values()):
            await checkpoints.delete(self.bus, desk.name)
        self.floor.remove(desk.name)
        self.desks.forget(desk.name)
        self._saved.pop(desk.name, None)
        await self.leases.release(desk.name)
        await self._follow()
        log.info("%s is closed", desk.name)

    def _now(self) -> Moment:
        return Moment(self.clock.wall_ns(), self.clock.mono_ns())

    # Resources

    async def _reload(self) -> None:
        """Take over what was edited; what cannot be used is reported once and the last good one stays."""
        mistakes: set[str] = set()
        try:
            seen = self.files.look()
        except ConfigError as error:
            return self._report_mistakes({str(error)})
        if seen is None:
            seen = self.files.present
        mistakes |= set(seen.mistakes)
        for name, resource in seen.resources.items():
            try:
                await self._apply(name, resource)
            except TickmeshError as error:
                mistakes.add(str(error))
        if not seen.mistakes:
            for name in set(self.floor.desks) - set(seen.resources):
                desk = self.floor.desks[name]
                if not desk.retired:
                    log.info("the resource of %s is gone; cancelling its orders", name)
                    retire(desk, self._now())
        return self._report_mistakes(mistakes)

    async def _apply(self, name: str, resource: StrategyResource) -> None:
        desk = self.floor.desks.get(name)
        if desk is not None and not desk.retired:
            try:
                changed = await self.desks.change(desk, resource)
            except TickmeshError:
                self.reload_errors.inc()
                raise
            if changed:
                self.reloads.inc()
                log.info("%s: took over %s", name, changed)
                await self._follow()
        elif desk is None and self.desks.worth_a_try(resource):
            if not self.leases.holds(name) and not await self._acquire_soon(name):
                self.desks.forget(name)  # tried again at the next look
                raise ConfigError(f"{resource.file}: {name}: another process runs a strategy of this name")
            saved = (await checkpoints.read_all(self.bus)).get(name)
            self.floor.put(desk := await self._open(resource, saved))
            await self._catch_up_desk(desk)
            desk.show_positions()
            await self._follow()
            self.reloads.inc()
            log.info("%s: new, running in mode %s", name, desk.mode.value)

    def _report_mistakes(self, mistakes: set[str]) -> None:
        for sentence in sorted(mistakes - self._mistakes):
            text = f"{sentence}; the last good state stays"
            self.outlet.alert(Alert(severity=Severity.WARNING, kind="strategy_resource", text=text, source="strategy"))
        self._mistakes = mistakes

    # Journal and checkpoints

    async def _catch_up(self) -> None:
        """Read what the journal holds since the last time; what we heard live already changes nothing."""
        last = self.journal_seq
        async for subject, payload, seq in self.bus.replay("ORDERS", start_seq=self.journal_seq + 1):
            last = seq
            self._on_journal(subject, payload, seq)
        self.journal_seq = last
        for desk in self.floor.desks.values():
            if last > desk.journal_seq:
                desk.caught_up(last)

    async def _catch_up_desk(self, desk: Desk) -> None:
        """As ``_catch_up``, for one desk that came later."""
        last = desk.journal_seq
        async for subject, payload, seq in self.bus.replay("ORDERS", start_seq=desk.journal_seq + 1):
            last = seq
            self._on_journal(subject, payload, seq)
        desk.caught_up(max(last, desk.journal_seq))

    def _on_journal(self, subject: str, payload: bytes, seq: int) -> None:
        self.caught_up.value += 1
        try:
            if subject.startswith("fill."):
                self.outlet.send(self.floor.on_fill(decode(FillEvent, payload), self._now(), seq))
            else:
                self.outlet.send(self.floor.on_order_event(decode(OrderEvent, payload), self._now(), seq))
        except msgspec.MsgspecError as error:
            self.intake.on_malformed(subject, payload, error)

    async def _save(self, *, force: bool = False) -> None:
        for desk in list(self.floor.desks.values()):
            if not self.outlet.ours(desk):
                continue  # whoever runs it now writes its checkpoint
            picture = checkpoints.checkpoint_of(desk)
            if force or picture != self._saved.get(desk.name):
                await checkpoints.write(self.bus, desk.name, picture)
                self._saved[desk.name] = picture

    # Stop

    async def drain(self) -> None:
        """Cancel everything, wait until the events say that nothing is open, save."""
        self.draining = True
        deadline = self.clock.mono_ns() + int(self.own.drain_timeout_s * 1e9)
        asked = 0
        while True:
            now = self._now()
            if now.now_mono_ns - asked > 1_000_000_000:
                asked = now.now_mono_ns
                for desk in self.floor.desks.values():
                    desk.cancel_all(now)
            self.outlet.send([Outgoing(desk, m) for desk in self.floor.desks.values() for m in desk.take()])
            still_open = {d.name: len(d.live.orders) for d in self.floor.desks.values() if d.live.orders}
            if not still_open or now.now_mono_ns >= deadline:
                break
            await asyncio.sleep(0.02)
        if still_open:
            log.error("orders are still open: %s", ", ".join(f"{n} of {name}" for name, n in still_open.items()))
        try:
            await self._catch_up()
            await self._save(force=True)
            await self.bus.flush()
        except DependencyError as error:
            log.error("the last checkpoint was not saved: %s", error)

    async def on_status(self, _: web.Request) -> web.Response:
        """GET /strategies: what each strategy does and holds."""
        return json_response({"strategies": status_of(self.floor, self.clock), "mistakes": sorted(self._mistakes)})
