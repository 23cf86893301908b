"""Desks from resources: building them at the start, changing them while they work.

In: what ResourceFiles saw. Out: desks on the floor. A resource or plugin that cannot be used leaves the last good
one at work and is reported in one sentence; a resource that is gone is retired: its orders go, then its desk.
"""

from __future__ import annotations

import logging

import msgspec

from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.domain.instrument import Instrument
from tickmesh.ports import Bus, Clock
from tickmesh.services.instruments import wait_for_instruments
from tickmesh.services.strategy_checkpoint import Checkpoint, restore
from tickmesh.services.strategy_plugin import fingerprint, load_plugin
from tickmesh.settings import Settings
from tickmesh.strategy.backoff import BackOffPolicy
from tickmesh.strategy.desk import Desk, DeskPolicy
from tickmesh.strategy.drafts import Moment
from tickmesh.strategy.first_steps import initialize
from tickmesh.strategy.floor import Floor
from tickmesh.strategy.guard import Guard, GuardPolicy, Watch
from tickmesh.strategy.interface import Strategy
from tickmesh.strategy.resource import Metadata, PluginRef, StrategyResource, StrategySpec
from tickmesh.strategy.share import Share

log = logging.getLogger(__name__)

_OTHER_SHARD_NS = 3_000_000_000
"""How long a shard waits before it trades a symbol that another one had: a look at the resource and a cancel."""


class Desks:
    """Keeps the floor as the resources say."""

    def __init__(self, floor: Floor, bus: Bus, settings: Settings, clock: Clock, watch: Watch) -> None:
        self.floor = floor
        self.fingerprints: dict[str, str] = {}
        self._tried: dict[str, tuple[StrategyResource, str]] = {}
        self._bus = bus
        self._settings = settings
        self._clock = clock
        self._watch = watch
        own = settings.strategy
        self.guard_policy = GuardPolicy(
            max_errors=own.plugin_max_errors,
            window_ns=int(own.plugin_error_window_s * 1e9),
            block_ns=own.plugin_block_ms * 1_000_000,
        )
        self.policy = DeskPolicy(
            late_ns=own.late_ms * 1_000_000,
            stale_ns=int(own.stale_after_s * 1e9),
            unanswered_ns=int(own.unanswered_after_s * 1e9),
            back_off=BackOffPolicy(
                max_rejections=own.max_rejections, observe_ns=int(own.observe_after_rejections_s * 1e9)
            ),
        )

    def plan(self, resource: StrategyResource) -> StrategyResource:
        """``resource`` with what it leaves to the settings filled in."""
        venue, spec = self._settings.venue, resource.spec
        filled = msgspec.structs.replace(
            spec,
            venue=spec.venue or venue.name,
            account=spec.account or venue.account,
            symbols=spec.symbols or tuple(venue.symbols),
        )
        if filled.venue != venue.name:
            raise ConfigError(f"{resource.file}: {resource.name}: spec.venue: {filled.venue} is not {venue.name}")
        if filled.account != venue.account:
            raise ConfigError(
                f"{resource.file}: {resource.name}: spec.account: {filled.account} is not {venue.account}"
            )
        if self._settings.strategy.shard < 0:
            return msgspec.structs.replace(resource, spec=filled)
        share = Share(shard=self._settings.strategy.shard, shards=filled.shards, everything=filled.symbols)
        if not share.symbols:
            raise ConfigError(
                f"{resource.file}: {resource.name}: spec.shards: no symbol is left for shard {share.shard}"
            )
        filled = msgspec.structs.replace(filled, symbols=share.symbols)
        return msgspec.structs.replace(resource, spec=filled, share=share)

    async def open(
        self, resource: StrategyResource, *, epoch: int, checkpoint: Checkpoint | None, wait_s: float
    ) -> Desk:
        """A new desk with its plugin loaded and its state taken over.

        Raises:
            ConfigError: plugin, parameters or symbols are wrong; the sentence names file and key.
        """
        plan = self.plan(resource)
        guard, digest = self._guard(plan)
        instruments = await self._instruments(plan, wait_s)
        initialize(guard, plan, instruments)
        desk = Desk(plan, guard, instruments, epoch=epoch, policy=self.policy, crosses=self.floor.crosses)
        if checkpoint is not None:
            restore(desk, checkpoint, self._clock.mono_ns())
        self.fingerprints[plan.name] = digest
        return desk

    async def change(self, desk: Desk, resource: StrategyResource) -> str:
        """Make ``desk`` what ``resource`` says, keeping its state; what changed, or an empty text.

        A new plugin instance is made, initialised and given the old one's state before anything is replaced.

        Raises:
            ConfigError: as ``open``; the desk goes on as it was.
        """
        plan, digest = self.plan(resource), fingerprint(resource)
        old, new = desk.plan.spec, plan.spec
        moved = desk.plan.share != plan.share
        edited = bool(digest) and digest != self.fingerprints.get(desk.name)
        if self._tried.get(desk.name) == (plan, digest) or (plan == desk.plan and not edited):
            return ""
        self._tried[desk.name] = (plan, digest)
        remake = edited or desk.guard.disabled or any(
            getattr(old, field) != getattr(new, field) for field in ("plugin", "parameters", "symbols")
        ) or old.limits.max_position != new.limits.max_position  # fmt: skip
        if remake:
            guard, digest = self._guard(plan)
            instruments = await self._instruments(plan, 2.0)
            initialize(guard, plan, instruments)
            state = desk.guard.state()
            desk.guard, desk.instruments = guard, instruments
            desk.live.instruments = desk.paper.instruments = {**desk.live.instruments, **instruments}
            desk.plan = plan
            if state:
                guard.call("restore", state)
            if edited or old.plugin != new.plugin:
                desk.clear()  # other code may know nothing of the old quotes
            self.fingerprints[desk.name] = digest
        else:
            desk.plan = plan
        if old.mode != new.mode:
            desk.mode = new.mode
        desk.filter.limits = new.limits
        if moved:
            desk.gained(set(new.symbols) - set(old.symbols), self._clock.mono_ns() + _OTHER_SHARD_NS)
        desk.show_positions()
        self.floor.put(desk)
        changed = [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]
        return ", ".join(changed + ["plugin code"] * edited)

    def worth_a_try(self, resource: StrategyResource) -> bool:
        """Whether a new resource, or its plugin, is other than the one that failed last."""
        attempt = (resource, fingerprint(resource))
        if self._tried.get(resource.name) == attempt:
            return False
        self._tried[resource.name] = attempt
        return True

    def orphanage(self, checkpoint: Checkpoint, epoch: int) -> Desk:
        """A desk for a strategy that has no resource any more but had orders: it only cancels them."""
        symbols = tuple(sorted({order.symbol for order in checkpoint.live.orders}))
        plan = StrategyResource(
            metadata=Metadata(name=checkpoint.name),
            spec=StrategySpec(
                plugin=PluginRef(), symbols=symbols, account=checkpoint.account, venue=checkpoint.venue, paused=True
            ),
        )
        guard = Guard(Strategy(), checkpoint.name, self._clock, self.guard_policy, self._watch)
        desk = Desk(plan, guard, {}, epoch=epoch, policy=self.policy)
        restore(desk, checkpoint, self._clock.mono_ns())
        desk.retired = True
        return desk

    def forget(self, name: str) -> None:
        """A desk is closed."""
        self.fingerprints.pop(name, None)
        self._tried.pop(name, None)

    def _guard(self, plan: StrategyResource) -> tuple[Guard, str]:
        plugin = load_plugin(plan)
        try:
            made = plugin.make()
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{plan.file}: {plan.name}: the plugin cannot be made: {error}") from None
        return Guard(made, plan.name, self._clock, self.guard_policy, self._watch), plugin.fingerprint

    async def _instruments(self, plan: StrategyResource, wait_s: float) -> dict[str, Instrument]:
        symbols = list(plan.spec.symbols)
        unknown = [s for s in symbols if s not in self._settings.venue.symbols]
        if unknown:
            raise ConfigError(
                f"{plan.file}: {plan.name}: spec.symbols: the feed does not follow {', '.join(unknown)}; add it to "
                "TICKMESH_VENUE__SYMBOLS or take it out"
            )
        try:
            return await wait_for_instruments(self._bus, plan.spec.venue, symbols, wait_s)
        except DependencyError as error:
            raise DependencyError(error.dependency, f"{plan.name}: {error}") from None


def retire(desk: Desk, now: Moment) -> None:
    """No more orders; the working ones are cancelled."""
    if not desk.retired:
        desk.retired = True
        desk.cancel_all(now)
