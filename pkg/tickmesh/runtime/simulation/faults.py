"""Faults: each kind of the plan carried out on the stage, and undone when its time is over.

In: Faults as they come due. Out: killed and stopped processes, cut lines, a venue that lies, people who interfere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

from tickmesh.domain.client_order_id import is_ours
from tickmesh.domain.enums import OrderType, Side, TimeInForce
from tickmesh.runtime.simulation.pens import Pens
from tickmesh.runtime.simulation.plan import Fault
from tickmesh.runtime.simulation.stage import SYMBOLS, Stage
from tickmesh.runtime.simulation.venue import ACCOUNT, Temper
from tickmesh.runtime.simulation.world import S
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.types import PlaceRequest


class Faults:
    """Of one run; ``struck`` counts them by kind."""

    def __init__(self, stage: Stage, pens: Pens) -> None:
        self._stage = stage
        self._pens = pens
        self._chance = Random(f"faults {stage.plan.seed}")
        self.struck: Counter[str] = Counter()

    def begin(self) -> None:
        """Every fault of the plan at its time."""
        for fault in self._stage.plan.faults:
            self._stage.world.after(fault.at_s, partial(self._strike, fault))

    def _strike(self, fault: Fault) -> None:
        self.struck[fault.kind] += 1
        self._stage.world.note(f"FAULT {fault}")
        strike: Callable[[Fault], None] = getattr(self, f"_f_{fault.kind}")
        strike(fault)

    def _of(self, fault: Fault) -> str:
        return fault.detail if fault.detail in self._stage.machines else "first"

    def _later(self, fault: Fault, undo: Callable[[], None]) -> None:
        self._stage.world.after(fault.for_s, undo)

    def _f_kill(self, fault: Fault) -> None:
        for name, life in list(self._stage.lives.items()):
            if life.process.alive and life.process is (self._stage.server.lease_writer or life.process):
                life.process.kill()
                self._stage.start_again(name)
                return

    def _f_stop(self, fault: Fault) -> None:
        """SIGTERM to the writer, as in a roll-out: it drains or leaves its orders to a successor; then a new start."""
        life = self._stage.writer
        if life is not None:
            life.service.settings.execution.drain = fault.detail
            life.process.call(life.service.stopping.set)

    def _f_kill_after_send(self, fault: Fault) -> None:
        for name in self._stage.machines:
            self._stage.kill_on_send[name] = int(fault.size)

    def _f_pause(self, fault: Fault) -> None:
        process = (
            self._stage.server.lease_writer if fault.detail == "first" else self._stage.lives[self._of(fault)].process
        )
        if process is not None and process.alive:
            process.paused_until_ns = self._stage.world.now_ns + int(fault.for_s * S)

    def _f_nats_cut(self, fault: Fault) -> None:
        lives, name = self._stage.lives, self._of(fault)
        lives[name].bus.cut = True
        self._later(fault, lambda: lives[name].bus.restore())

    def _f_nats_down(self, fault: Fault) -> None:
        self._stage.server.up = False

        def up() -> None:
            self._stage.server.up = True
            for life in self._stage.lives.values():
                if not life.bus.cut:
                    life.bus.restore()

        self._later(fault, up)

    def _mode(self, fault: Fault, mode: str) -> None:
        lives, name = self._stage.lives, self._of(fault)
        lives[name].link.mode = mode

        def heal() -> None:
            lives[name].link.mode = "open"
            if mode == "silent":
                lives[name].link.break_all()

        self._later(fault, heal)

    def _f_venue_silent(self, fault: Fault) -> None:
        self._mode(fault, "silent")

    def _f_venue_refused(self, fault: Fault) -> None:
        self._stage.lives[self._of(fault)].link.break_all()
        self._mode(fault, "refused")

    def _f_venue_breaks(self, fault: Fault) -> None:
        for life in self._stage.lives.values():
            life.link.break_all()

    def _f_temper(self, fault: Fault) -> None:
        until_ns = self._stage.world.now_ns + int(fault.for_s * S)
        self._stage.venue.tempers.append(Temper(fault.detail, until_ns, fault.size, fault.paths))

    def _stream(self, fault: Fault, name: str) -> None:
        for life in self._stage.lives.values():
            setattr(life.link, name, fault.size)

        def heal() -> None:
            for life in self._stage.lives.values():
                setattr(life.link, name, 0.0)

        self._later(fault, heal)

    def _f_stream_lost(self, fault: Fault) -> None:
        self._stream(fault, "stream_loss")

    def _f_stream_late(self, fault: Fault) -> None:
        self._stream(fault, "stream_late")

    def _f_stream_repeated(self, fault: Fault) -> None:
        self._stream(fault, "stream_repeat")

    def _f_stream_cut(self, fault: Fault) -> None:
        for life in self._stage.lives.values():
            for found in list(life.link.sockets):
                found.break_off("the venue cut the connection")

    def _f_listen_key(self, fault: Fault) -> None:
        self._stage.venue.users.expire_all()

    def _f_maintenance(self, fault: Fault) -> None:
        until_ns = self._stage.world.now_ns + int(fault.for_s * S)
        self._stage.venue.tempers.insert(0, Temper("unavailable_503", until_ns, 1.0, ("",)))
        self._f_stream_cut(fault)

    def _f_venue_clock(self, fault: Fault) -> None:
        self._stage.venue.clock.offset_ms = int(fault.size)
        self._later(fault, lambda: setattr(self._stage.venue.clock, "offset_ms", 0))

    def _f_machine_clock(self, fault: Fault) -> None:
        machine = self._stage.machines[self._of(fault)]
        machine.offset_ns = int(fault.size * 1e6)
        self._later(fault, lambda: setattr(machine, "offset_ns", 0))

    def _f_halt(self, fault: Fault) -> None:
        if self._stage.server.up:
            self._pens.control("halt", fault.detail)
            self._later(fault, lambda: self._pens.control("resume", fault.detail))

    def _f_reduce(self, fault: Fault) -> None:
        """A person lets a scope only reduce for a while."""
        if self._stage.server.up:
            self._pens.control("reduce", fault.detail)
            self._later(fault, lambda: self._pens.control("resume", fault.detail))

    def _f_amend_by_hand(self, fault: Fault) -> None:
        """Somebody changes price and quantity of an open order of ours with the venue's own app."""
        found = [o for o in self._stage.venue.orders() if o.is_open and is_ours(o.client_order_id)]
        if not found:
            return
        order = self._chance.choice(found)
        instrument = self._stage.instruments[order.symbol]
        lots = max(1, order.lots + self._chance.choice((-2, -1, 1, 3)))
        ticks = order.price_ticks + self._chance.choice((-4, -1, 0, 1, 4))
        self._stage.watch.slack_lots[order.symbol] += max(0, lots - order.lots)
        try:
            self._stage.venue.exchange.modify(
                ACCOUNT, order.symbol, self._stage.venue.clock.now_ms(), side=order.side,
                quantity=instrument.qty(lots), price=instrument.price(ticks), order_id=order.order_id,
            )  # fmt: skip
            self._stage.venue.commit()
        except VenueError as error:
            self._stage.world.note(f"amend by hand: refused {error}")

    def _f_flatten(self, fault: Fault) -> None:
        """An emergency stop that also closes what is held; a person resumes later."""
        if self._stage.server.up:
            self._pens.control("halt", fault.detail, flatten="true")
            self._later(fault, lambda: self._pens.control("resume", fault.detail))

    def _f_succession(self, fault: Fault) -> None:
        if self._stage.server.up:
            self._pens.succeed(fault.detail, fault.for_s)

    def _f_runaway(self, fault: Fault) -> None:
        """A strategy runs into the execution throttle; sometimes a person reopens it ``size`` seconds after."""
        world = self._stage.world
        self._pens.run_away(fault.detail, world.now_ns + int(fault.for_s * S))
        if fault.size:
            scope = f"strategy.{fault.detail}"
            world.after(fault.for_s + fault.size, lambda: self._pens.control("resume", scope))

    def _f_by_hand(self, fault: Fault) -> None:
        """Somebody trades on the same account with the venue's own app."""
        symbol, side = self._stage.world.random.choice(SYMBOLS), self._stage.world.random.choice((Side.BUY, Side.SELL))
        lots, instrument = self._stage.world.random.randint(2, 5), self._stage.instruments[symbol]
        price = self._stage.venue.middle[symbol] + side * self._stage.world.random.choice((-9, -4, 3, 8))
        request = PlaceRequest(
            symbol=symbol, side=side, type=OrderType.LIMIT, quantity=instrument.qty(lots),
            price=instrument.price(price), time_in_force=TimeInForce.GTC, client_order_id=f"web_{fault.number}",
        )  # fmt: skip
        self._stage.watch.slack_lots[symbol] += lots
        try:
            self._stage.venue.by_hand(request)
        except VenueError as error:
            self._stage.world.note(f"by hand: refused {error}")

    def _f_stop_by_hand(self, fault: Fault) -> None:
        """Somebody leaves a conditional order at the venue's algo service: no stream tells of it until it triggers."""
        symbol, side = self._chance.choice(SYMBOLS), self._chance.choice((Side.BUY, Side.SELL))
        lots, instrument = self._chance.randint(2, 5), self._stage.instruments[symbol]
        trigger = self._stage.venue.middle[symbol] + side * self._chance.choice((3, 6, 9, 4000))
        request = PlaceRequest(
            symbol=symbol, side=side, type=OrderType.STOP_MARKET, quantity=instrument.qty(lots),
            stop_price=instrument.price(trigger), client_order_id=f"web_{fault.number}", algo=True,
        )  # fmt: skip
        self._stage.watch.slack_lots[symbol] += lots
        try:
            self._stage.venue.by_hand(request)
        except VenueError as error:
            self._stage.world.note(f"stop by hand: refused {error}")

    def _f_liquidate(self, fault: Fault) -> None:
        """The venue reduces a position of ours on its own, as auto-deleveraging does."""
        symbol = self._stage.world.random.choice(SYMBOLS)
        held = self._stage.venue.position_lots(symbol)
        if not held:
            return
        self._stage.watch.slack_lots[symbol] += abs(held)
        request = PlaceRequest(
            symbol=symbol, side=Side.SELL if held > 0 else Side.BUY, type=OrderType.MARKET, reduce_only=True,
            quantity=self._stage.instruments[symbol].qty(abs(held)), client_order_id=f"adl_autoclose_{fault.number}",
        )  # fmt: skip
        try:
            self._stage.venue.by_hand(request)
        except VenueError as error:
            self._stage.world.note(f"liquidation: refused {error}")

    def _f_redelivery(self, fault: Fault) -> None:
        """Every intent that is still in its stream is delivered again, whatever was answered."""
        for durable in self._stage.server.durables.values():
            for seq in list(durable.waiting):
                durable.waiting[seq] = 0
            durable.settled.clear()
            durable.next_seq = 1
        self._stage.server.pump()
