"""The strategy service: ticks in, order intents out; a shell around ``strategy.floor``.

Follows the resources, keeps checkpoints, hears its own orders and fills live and catches up from the journal. An
intent is published once, on a subject that a stream captures. A strategy that another process runs is stood by for,
warm, and taken over at once. Stopping hands over to a standby, or else cancels what is open and waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from tickmesh.services.breakers import NATS, BreakerBoard
from tickmesh.services.claim import Claim, instance
from tickmesh.services.service import Service
from tickmesh.services.strategy_bucket import PREFIX, BucketResources
from tickmesh.services.strategy_desks import Desks, retire
from tickmesh.services.strategy_files import ResourceFiles, Seen
from tickmesh.services.strategy_intake import Intake
from tickmesh.services.strategy_lease import StrategyLeases
from tickmesh.services.strategy_memory import Memory
from tickmesh.services.strategy_outlet import Outlet
from tickmesh.services.strategy_report import status_of, update_gauges
from tickmesh.services.strategy_reporter import Reporter
from tickmesh.services.strategy_watchdog import PluginWatchdog
from tickmesh.strategy.desk import Desk
from tickmesh.strategy.drafts import Moment
from tickmesh.strategy.floor import Floor, Outgoing
from tickmesh.strategy.resource import StrategyResource

log = logging.getLogger(__name__)


class LeaseLostError(TickmeshError):
    """Another process has taken a strategy of ours over; the host ends this one, and the next one stands by."""

    def __init__(self, strategies: str) -> None:
        super().__init__(f"another process has run {strategies} since we did; starting over as its standby")
        self.strategies = strategies


_INSTRUMENT_WAIT_S = 20.0
_RESOURCE_LOOK_S = 0.1
_REPORT_S = 0.1
_RING_LOOK_S = 0.5


async def run(service: Service, shell: StrategyShell | None = None) -> None:
    """Work until ``service.stopping``; then hand over or cancel, save, return."""
    shell = shell or StrategyShell(service)
    service.admin.add_get("/strategies", shell.on_status)
    try:
        if await shell.start():
            await shell.work()
            await shell.drain()
    finally:
        shell.watchdog.stop()
        shell.outlet.close()
        await shell.close()


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
        self.intake = Intake(
            self.clock, self.metrics, self._decide, conflate_after_us=self.own.conflate_after_us,
            hears_trades=self.floor.hears_trades,
        )  # fmt: skip
        named = self.own.resources.startswith(PREFIX)
        self.bucket = (
            BucketResources(self.bus, self.own.resources.removeprefix(PREFIX), self.own.shard) if named else None
        )
        self.files = self.bucket or ResourceFiles(self.own.resources)
        self.memory = Memory(self.bus, self.clock, self.floor, self._on_journal)
        self.reporter = Reporter(self.bus, self.clock, instance(service))
        self.board = BreakerBoard(service)
        self.board.add("bus-strategy", NATS, target="bus", probe=lambda: service.bus.connected)
        self.draining = False
        self._following: dict[str, Subscription] = {}
        self._changing_what_we_follow = asyncio.Lock()
        self._mistakes: set[str] = set()
        self._refused: dict[str, tuple[StrategyResource, str]] = {}
        self._taking_over: dict[str, asyncio.Task[None]] = {}
        self._following_bucket: asyncio.Task[None] | None = None
        self._shm = service.settings.local.transport == "shm"
        metrics = self.metrics
        self.reloads = metrics.counter("reloads_total", "edits of resources or plugins taken over")
        self.reload_errors = metrics.counter("reload_errors_total", "edits refused; the last good one stays")
        self.caught_up = metrics.counter("journal_events_total", "order events and fills read from the journal")
        self.takeover = metrics.latency("takeover_latency_us", "lease held until orders may leave")

    # Start

    async def start(self) -> bool:
        """Load resources, plugins and checkpoints, hear our orders, catch up with the journal, follow the market.

        Then each strategy is contended for; until it is ours its desk stands by. False when told to stop before.
        """
        seen = await self._first_look()
        if seen is None:
            return False
        await self.board.load()
        saved = await self._checkpoints(seen)
        waiting = self._waiting(set(seen.resources) - set(saved))
        for resource in seen.resources.values():
            if resource.name not in waiting:
                self.floor.put(await self._open(resource, saved.get(resource.name)))
        for name, checkpoint in saved.items():
            if name not in self.floor.desks and checkpoint.live.orders and checkpoint.account == self.account:
                self.floor.put(desk := self.desks.orphanage(checkpoint, 0))
                desk.standby = True
        self.memory.journal_seq = min((d.journal_seq for d in self.floor.desks.values()), default=0)
        await self.bus.subscribe(f"order.event.{subjects.token(self.account)}.>", self._on_order)
        await self.bus.subscribe(f"fill.{subjects.token(self.account)}.>", self._on_fill)
        await self.bus.subscribe("ctl.>", self._on_control)
        await self.memory.catch_up()
        for desk in self.floor.desks.values():
            desk.show_positions()
        await self._follow()
        if self._shm:
            await self._take_ring()
        gc.collect()
        gc.freeze()  # what start-up made is here to stay; the collector need not look at it on the hot path
        for desk in list(self.floor.desks.values()):
            await self._contend(desk)
        self.service.health.set_started()
        log.info("warm for %s", ", ".join(f"{d.name} ({d.mode.value})" for d in self.floor.desks.values()))
        return True

    async def _first_look(self) -> Seen | None:
        """The resources to begin with; in a pod the operator may still be about to write them."""
        stopping = self.service.stopping
        if self.bucket is None:
            seen = self.files.look() or Seen()
            if seen.mistakes:
                raise ConfigError(seen.mistakes[0])
            if not seen.resources:
                raise ConfigError(f"there is no Strategy resource in {self.own.resources}; see k8s/examples")
            return seen
        self._following_bucket = asyncio.create_task(self.bucket.run(), name="resource")
        while not stopping.is_set():
            seen = self.bucket.present
            if seen.resources:
                self.bucket.look()
                return seen
            self.service.health.require(
                "resource", f"no usable Strategy in the bucket yet: {seen.mistakes or 'absent'}"
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RESOURCE_LOOK_S):
                    await self.bucket.changed.wait()
            self.bucket.changed.clear()
        return None

    async def _checkpoints(self, seen: Seen) -> dict[str, checkpoints.Checkpoint]:
        """Of our strategies, and on one machine of those that nobody may run any more."""
        self.service.health.satisfy("resource")
        if self.bucket is None and self.own.shard < 0:
            return await checkpoints.read_all(self.bus)
        found = {}
        for resource in seen.resources.values():
            checkpoint = await checkpoints.read(self.bus, self.desks.plan(resource).share.key(resource.name))
            if checkpoint is not None:
                found[resource.name] = checkpoint
        return found

    async def _open(self, resource: StrategyResource, checkpoint: checkpoints.Checkpoint | None) -> Desk:
        desk = await self.desks.open(resource, epoch=0, checkpoint=checkpoint, wait_s=_INSTRUMENT_WAIT_S)
        desk.standby = True
        return desk

    async def _contend(self, desk: Desk) -> None:
        """Stand by for a strategy; ready once it is known who runs it."""
        name = desk.name
        claim = self.leases.claim(name, desk.plan.share)
        if not desk.retired:
            self.service.health.require(f"lease {name}", f"it is not known yet who runs {name}")
        self._taking_over[name] = asyncio.create_task(self._stand_by(desk, claim), name=f"standby-{name}")

    async def _stand_by(self, desk: Desk, claim: Claim) -> None:
        name, health = desk.name, self.service.health
        if desk.retired:  # nobody's any more as far as we know: cleared up when it is free, else somebody runs it
            try:
                async with asyncio.timeout(2 * self.own.lease_ttl_ms / 1000):
                    await claim.held.wait()
            except TimeoutError:
                self.floor.remove(name)
                await self.leases.release(name)
                return
        await claim.settled.wait()
        if not claim.held.is_set():
            health.satisfy(f"lease {name}")
            log.info("another process runs %s; standing by", name)
            await claim.announce()
            await claim.held.wait()
        held_ns = self.clock.mono_ns()
        while self.floor.desks.get(name) is desk:
            try:
                self.outlet.epoch = await self.memory.take_over(desk)
                break
            except DependencyError as error:
                log.warning("%s is ours, but not yet at work: %s", name, error)
                await asyncio.sleep(0.1)
        health.satisfy(f"lease {name}")
        self.takeover.record_ns(self.clock.mono_ns() - held_ns)
        log.info("running %s (%s), lease epoch %d", name, desk.mode.value, claim.epoch)

    async def _follow(self) -> None:
        """Subscribe to the market data that somebody wants, drop what nobody wants any more; the ring has all of it."""
        if self._shm:
            return
        async with self._changing_what_we_follow:
            wanted = self.floor.market_data()
            for subject in self._following.keys() - wanted:
                await self._following.pop(subject).unsubscribe()
            for subject in wanted - self._following.keys():
                self._following[subject] = await self.bus.subscribe(subject, self.intake.on_market)

    # Work

    async def work(self) -> None:
        """Run until told to stop; the end of any of the tasks is the end of the service."""
        jobs = [
            self._every(self.own.timer_interval_ms / 1000, self._on_timer),
            self._every(self.own.reload_interval_s, self._reload),
            self._every(self.own.checkpoint_interval_s, self._save),
            self._every(self.own.catch_up_interval_s, self.memory.catch_up),
            self.board.run(),
        ]
        if self.bucket is not None:
            jobs.append(self._every(_REPORT_S, self._report))
        if self._shm:
            from tickmesh.bus.ring import SPIN_US, RingReader

            lost = self.metrics.counter("ring_lost_total", "ring messages overwritten before they were read")
            reader = RingReader(
                self.service.settings.local.data_dir,
                spin_us=SPIN_US if self.service.settings.local.spin else self.own.ring_spin_us,
                on_lost=lambda n: lost.inc(n),
            )
            jobs.append(self._every(_RING_LOOK_S, self._take_ring))
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

    async def _take_ring(self) -> None:
        """Write intents to the ring as soon as a process that we replace has let go of it; NATS carries them anyway."""
        self.outlet.open_ring(self.service.settings.local.data_dir)

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
        overtaken = self.leases.overtaken
        if overtaken:
            raise LeaseLostError(overtaken)
        self.outlet.send(self.floor.on_timer(self._now()))
        for desk in [d for d in self.floor.desks.values() if d.retired and not d.live.orders]:
            await self._close(desk)
        await self._follow()  # a command may have changed a mode, and with it who hears trades
        update_gauges(self.metrics, self.floor)

    async def _close(self, desk: Desk) -> None:
        if not desk.standby:
            await self.memory.close(desk)
            if self.bucket is not None:
                await self.reporter.gone(desk)
        self.floor.remove(desk.name)
        self.desks.forget(desk.name)
        task = self._taking_over.pop(desk.name, None)
        if task is not None:
            task.cancel()
        await self.leases.release(desk.name)
        self.service.health.satisfy(f"lease {desk.name}")
        await self._follow()
        log.info("%s is closed", desk.name)

    async def _report(self) -> None:
        for desk in self.floor.desks.values():
            claim = self.leases.get(desk.name)
            if claim is not None and not desk.standby and claim.valid():
                await self.reporter.turn(desk, claim, "; ".join(sorted(self._mistakes)))

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
        waiting = self._waiting(set(seen.resources) - set(self.floor.desks))
        mistakes |= {f"{name} is new, and nothing new is loaded while the database is away" for name in waiting}
        for name, resource in seen.resources.items():
            if name in waiting:
                continue
            try:
                if await self._apply(name, resource):
                    self._refused.pop(name, None)
            except TickmeshError as error:
                self._refused[name] = (resource, str(error))
            refused = self._refused.get(name)
            if refused is not None and refused[0] == resource:
                mistakes.add(refused[1])  # as long as it stands there, though it is tried only once
        if not seen.mistakes:
            for name in set(self.floor.desks) - set(seen.resources):
                desk = self.floor.desks[name]
                if not desk.retired:
                    log.info("the resource of %s is gone; cancelling its orders", name)
                    retire(desk, self._now())
        return self._report_mistakes(mistakes)

    def _waiting(self, new: set[str]) -> set[str]:
        """Those of ``new`` that must wait: what is known trades on without the database, nothing is added to it."""
        away = self.board.away("database") if new else ""
        if not away:
            self.service.health.satisfy("database")
            return set()
        self.service.health.require("database", f"it is away ({away}); not loaded: {', '.join(sorted(new))}")
        return new

    async def _apply(self, name: str, resource: StrategyResource) -> bool:
        """Make the desk what the resource says; whether anything changed."""
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
                return True
        elif desk is None and self.desks.worth_a_try(resource):
            saved = await checkpoints.read(self.bus, self.desks.plan(resource).share.key(name))
            self.floor.put(desk := await self._open(resource, saved))
            await self.memory.catch_up_desk(desk)
            desk.show_positions()
            await self._follow()
            await self._contend(desk)
            self.reloads.inc()
            log.info("%s: new, running in mode %s", name, desk.mode.value)
            return True
        return False

    def _report_mistakes(self, mistakes: set[str]) -> None:
        for sentence in sorted(mistakes - self._mistakes):
            text = f"{sentence}; the last good state stays"
            self.outlet.alert(Alert(severity=Severity.WARNING, kind="strategy_resource", text=text, source="strategy"))
        self._mistakes = mistakes

    # Journal and checkpoints

    def _on_journal(self, subject: str, payload: bytes, seq: int) -> None:
        self.caught_up.value += 1
        try:
            if subject.startswith("fill."):
                self.outlet.send(self.floor.on_fill(decode(FillEvent, payload), self._now(), seq))
            else:
                self.outlet.send(self.floor.on_order_event(decode(OrderEvent, payload), self._now(), seq))
        except msgspec.MsgspecError as error:
            self.intake.on_malformed(subject, payload, error)

    async def _save(self) -> None:
        for desk in list(self.floor.desks.values()):
            if not desk.standby and self.outlet.ours(desk):  # else whoever runs it now writes its checkpoint
                await self.memory.save(desk)

    # Stop

    async def drain(self) -> None:
        """Hand each strategy over to whoever stands by for it; cancel what is open of the others, wait, save."""
        self.draining = True
        ours = [d for d in self.floor.desks.values() if not d.standby]
        left = [desk for desk in ours if not await self._hand_over(desk)]
        deadline = self.clock.mono_ns() + int(self.own.drain_timeout_s * 1e9)
        asked = 0
        while left:
            now = self._now()
            if now.now_mono_ns - asked > 1_000_000_000:
                asked = now.now_mono_ns
                for desk in left:
                    desk.cancel_all(now)
            self.outlet.send([Outgoing(desk, m) for desk in left for m in desk.take()])
            still_open = {d.name: len(d.live.orders) for d in left if d.live.orders}
            if not still_open or now.now_mono_ns >= deadline:
                if still_open:
                    log.error(
                        "orders are still open: %s", ", ".join(f"{n} of {name}" for name, n in still_open.items())
                    )
                break
            await asyncio.sleep(0.02)
        try:
            await self.memory.catch_up()
            for desk in left:
                if self.outlet.ours(desk):
                    await self.memory.save(desk, force=True)
            await self._report()
            await self.bus.flush()
        except DependencyError as error:
            log.error("the last checkpoint was not saved: %s", error)

    async def _hand_over(self, desk: Desk) -> bool:
        """Leave the strategy, orders and all, to a standby that answers; False when there is none."""
        claim = self.leases.get(desk.name)
        if self.own.drain != "hand_over" or desk.retired or claim is None or not claim.valid():
            return False
        successor = await claim.successor()
        if not successor:
            return False
        desk.standby = True  # from here on nothing leaves
        try:
            await self.bus.flush()
            await self.memory.save(desk, force=True)
        except DependencyError as error:
            log.error("the last checkpoint of %s was not saved: %s", desk.name, error)
        await self.leases.release(desk.name)
        log.info("%s is handed over to %s with %d orders open", desk.name, successor, len(desk.live.orders))
        return True

    async def close(self) -> None:
        """Give everything back."""
        tasks = [*self._taking_over.values(), *([self._following_bucket] if self._following_bucket else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.leases.close()

    async def on_status(self, _: web.Request) -> web.Response:
        """GET /strategies: what each strategy does and holds."""
        return json_response({"strategies": status_of(self.floor, self.clock), "mistakes": sorted(self._mistakes)})
