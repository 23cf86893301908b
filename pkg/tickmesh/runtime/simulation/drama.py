"""Drama: one seed from the first start to the last comparison.

In: a Plan. Out: an Outcome. The execution service in it is the real one; feed, strategies, supervisor and the people
who halt and resume are played. At the end the faults are over, everything is cancelled, and what we hold of orders,
fills and positions must be what the venue holds.
"""

from __future__ import annotations

import random as global_random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tickmesh.domain import subjects
from tickmesh.domain.client_order_id import is_ours
from tickmesh.domain.enums import IntentAction, OrderState, OrderType, Side, TimeInForce, Urgency
from tickmesh.domain.messages import BookUpdate, Control, MarkPrice, OrderIntent, encode
from tickmesh.engine.replay import Replay
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.runtime.simulation.nats import NatsServer, SimBus
from tickmesh.runtime.simulation.network import Link, client_factory, connect_factory
from tickmesh.runtime.simulation.plan import FAULTS_END_S, Fault, Plan
from tickmesh.runtime.simulation.venue import ACCOUNT, SimVenue, Temper
from tickmesh.runtime.simulation.watch import Watch
from tickmesh.runtime.simulation.world import EPOCH_NS, InvariantError, Machine, Process, S, World
from tickmesh.runtime.summary import OurRecord, compare
from tickmesh.services import execution
from tickmesh.services.execution_outside import Outside
from tickmesh.services.instruments import instrument_key
from tickmesh.services.service import Service
from tickmesh.settings import Settings, load
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.exchange.types import PlaceRequest
from tickmesh.venues.simvenue.server.listing import instruments_for

VENUE = "binance"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
LIMIT_LOTS = 12
_HEALED_S = FAULTS_END_S + 5.0
_GIVE_UP_S = 150.0
_START_NS = 1000 * S


@dataclass(slots=True)
class Outcome:
    """How a run ended. ``broken`` is the invariant's name, empty when every promise held."""

    seed: int
    broken: str = ""
    detail: str = ""
    plan: Plan | None = None
    faults: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    fills: int = 0
    lives: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    fingerprint: str = ""
    trace: list[str] = field(default_factory=list)


class _Routes:
    """An admin server that nobody asks over HTTP."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}

    def add_get(self, path: str, handler: Any) -> None:
        self.routes[f"GET {path}"] = handler

    add_post = add_delete = add_get

    def ask(self, route: str) -> Any:
        """The JSON that a route answers; it may not wait for anything."""
        answer = self.routes[route](None)
        try:
            answer.send(None)
        except StopIteration as done:
            return msgspec.json.decode(done.value.body)
        raise RuntimeError(f"{route} waited")


def base_settings() -> Settings:
    """The service's own defaults, with waits that suit a run of a minute."""
    return load(
        {
            "TICKMESH_VENUE__SYMBOLS": msgspec.json.encode(SYMBOLS).decode(),
            "TICKMESH_EXECUTION__RECONCILE_S": "2.0",
            "TICKMESH_EXECUTION__STREAM_BACKOFF_S": "0.3",
            "TICKMESH_EXECUTION__REQUEST_TIMEOUT_S": "2.0",
            "TICKMESH_EXECUTION__UNKNOWN_SPACING_S": "0.4",
            "TICKMESH_EXECUTION__DEADMAN_S": "15",
            "TICKMESH_EXECUTION__MISMATCH_HALT": "1000",
        }
    )


class Drama:
    """One run."""

    def __init__(self, plan: Plan, *, keep_trace: bool = False) -> None:
        self.plan = plan
        self.world = World(plan.seed, keep_trace=keep_trace)
        self.random = global_random.Random(f"pens {plan.seed}")
        self.settings = base_settings()
        self.instruments = instruments_for(SYMBOLS)
        venue = self.settings.venue
        self.server = NatsServer(self.world)
        self.venue = SimVenue(
            self.world, self.instruments, (venue.api_key.get_secret_value(), venue.api_secret.get_secret_value())
        )
        self.watch = Watch(self.world, self.server, self.venue, dict.fromkeys(SYMBOLS, LIMIT_LOTS))
        self.outcome = Outcome(plan.seed, plan=plan)
        self.home = Path(tempfile.mkdtemp(prefix="tickmesh-simulation-"))
        self.current: dict[str, Process] = {}
        self.links: dict[str, Link] = {}
        self.buses: dict[str, SimBus] = {}
        self.healths: dict[str, Health] = {}
        self.routes: dict[str, _Routes] = {}
        self.machines = {name: Machine(self.world, name) for name in self._machines()}
        self._lives: Counter[str] = Counter()
        self._intents = 0
        self._updates = 0
        self._healed = False
        self._kill_on_send: dict[str, int] = {}

    def _machines(self) -> list[str]:
        return ["first", "second"] if self.plan.standby else ["first"]

    # The run.

    def run(self, *, steps: int = 0) -> Outcome:
        """Play it to the end, or for so many steps."""
        global_random.seed(self.plan.seed)
        try:
            self._play(steps)
        except InvariantError as error:
            self.outcome.broken, self.outcome.detail = error.name, str(error)
            self.world.note(f"BROKEN {error}")
        finally:
            for process in self.world.processes:
                process.exited = lambda _: None
                process.kill()
            shutil.rmtree(self.home, ignore_errors=True)
        outcome = self.outcome
        outcome.orders, outcome.fills = len(self.watch.venue_orders), len(self.venue.trades())
        outcome.lives = sum(self._lives.values())
        outcome.steps, outcome.fingerprint = self.world.steps, self.world.fingerprint
        outcome.virtual_s = (self.world.now_ns - _START_NS) / S
        outcome.faults.update(self.venue.faults_hit)
        outcome.trace = list(self.world.trace)
        return outcome

    def _play(self, steps: int) -> None:
        self._prepare()
        for name in self._machines():
            self._start(name)
        world, healed_ns = self.world, _START_NS + int(_HEALED_S * S)
        if steps:
            for _ in range(steps):
                if not world.step(healed_ns):
                    return
            return
        world.run(healed_ns)
        self._heal()
        give_up_ns = _START_NS + int(_GIVE_UP_S * S)
        problems = ["nothing was compared"]
        while world.now_ns < give_up_ns:
            self._cancel_everything()
            world.run(world.now_ns + 3 * S)
            problems = self.differences()
            if not problems:
                break
        if problems:
            name = "alive-again" if problems[0].startswith("nobody") else "ours-equals-the-venue"
            raise InvariantError(name, "; ".join(problems[:6]))
        self._check_alive()
        self._check_replay()

    def _prepare(self) -> None:
        for symbol, instrument in self.instruments.items():
            self.server.put("config", instrument_key(VENUE, symbol), msgspec.json.encode(instrument))
        lots = {s: {"max_position_qty": str(i.qty(LIMIT_LOTS))} for s, i in self.instruments.items()}
        limits = {"symbols": lots, "max_messages_per_s": 1000, "max_identical_open": 50, "mark_collar_bps": 2000}
        self.server.put("limits", "default", msgspec.json.encode(limits))
        healed_ns = _START_NS + int(_HEALED_S * S)
        end_ns = _START_NS + int(_GIVE_UP_S * S)
        self.world.every(0.25, self._feed, end_ns)
        self.world.every(0.1, self.venue.tick, end_ns)
        self.world.every(0.15, self._market, healed_ns)
        self.world.every(0.12, self._pen, healed_ns)
        self.world.every(0.5, self.server.pump, end_ns)
        for fault in self.plan.faults:
            self.world.after(fault.at_s, partial(self._strike, fault))

    # Played parts.

    def _feed(self) -> None:
        if not self.server.up:
            return
        for symbol in SYMBOLS:
            depth = self.venue.exchange.depth(symbol, 5)
            self._updates += 1
            wall_ns, mono_ns = EPOCH_NS + self.world.now_ns, self.world.now_ns
            book = BookUpdate(
                venue=VENUE, symbol=symbol, update_id=self._updates, bids=depth.bids, asks=depth.asks,
                receive_ns=wall_ns, publish_ns=wall_ns, receive_mono_ns=mono_ns, publish_mono_ns=mono_ns,
            )  # fmt: skip
            self.server.publish(subjects.book(VENUE, symbol), encode(book))
            mark = self.venue.exchange.markets[symbol].mark
            if mark:
                message = MarkPrice(venue=VENUE, symbol=symbol, mark_price=mark, publish_ns=wall_ns, receive_ns=wall_ns)
                self.server.publish(subjects.mark(VENUE, symbol), encode(message))

    def _market(self) -> None:
        symbol = self.world.random.choice(SYMBOLS)
        if self.world.random.random() < 0.6:
            self.venue.trade(symbol)
        else:
            self.venue.quote(symbol)

    def _pen(self) -> None:
        """A strategy writes: mostly orders, some cancels, now and then the same intent once more."""
        roll = self.random.random()
        if roll < 0.70:
            self._write(self._order())
        elif roll < 0.92 and self.watch.intents:
            target = self.random.choice(list(self.watch.intents)[-8:])
            intent = self._intent(action=IntentAction.CANCEL, target_client_order_id=target,
                                  symbol=self.watch.intents[target].symbol)  # fmt: skip
            self._write(intent)
        elif roll < 0.95:
            self._write(self._intent(action=IntentAction.CANCEL_ALL, symbol="", strategy="s1"))
        elif self.watch.intents:
            again = self.random.choice(list(self.watch.intents.values())[-5:])
            self._write(again)

    def _order(self) -> OrderIntent:
        random = self.random
        symbol, side = random.choice(SYMBOLS), random.choice((Side.BUY, Side.SELL))
        middle = self.venue.middle[symbol]
        if random.random() < 0.4:
            price = middle + side * random.randint(0, 6)
            intent = self._intent(
                symbol=symbol, side=side, price_ticks=price, qty_lots=random.randint(2, 6),
                urgency=Urgency.IMMEDIATE, time_in_force=random.choice((TimeInForce.IOC, TimeInForce.GTC)),
            )  # fmt: skip
        else:
            price = middle - side * random.randint(1, 6)
            intent = self._intent(
                symbol=symbol, side=side, price_ticks=price, qty_lots=random.randint(2, 6),
                time_in_force=random.choice((TimeInForce.GTX, TimeInForce.GTC)),
            )  # fmt: skip
        self.watch.expect(intent)
        return intent

    def _intent(self, **fields: Any) -> OrderIntent:
        self._intents += 1
        fields.setdefault("strategy", self.random.choice(("s1", "s2")))
        return OrderIntent(
            intent_id=f"i{self._intents}", account=ACCOUNT, venue=VENUE, ttl_ns=self.random.choice((S // 4, 2 * S)),
            publish_ns=EPOCH_NS + self.world.now_ns, **fields,
        )  # fmt: skip

    def _write(self, intent: OrderIntent) -> None:
        """Publish; the strategy's own connection is good while the server is up, else it waits and repeats."""
        if self.server.up:
            self.server.publish(subjects.intent(ACCOUNT), encode(intent))

    def _control(self, verb: str, scope: str) -> None:
        control = Control(verb=verb, scope=scope, reason="drama", actor="seed", publish_ns=EPOCH_NS + self.world.now_ns)
        self.world.note(f"control {verb} {scope}")
        self.server.publish(subjects.control(verb, scope), encode(control))

    # Processes.

    def _start(self, name: str) -> None:
        self._lives[name] += 1
        machine, life = self.machines[name], self._lives[name]
        process = Process(self.world, name, machine, life)
        link = Link(self.world, self.venue, process, self._on_sent)
        bus = SimBus(self.world, self.server, process)
        bus.heard = lambda subject, data, seq: self.watch.on_heard(process, subject, data, seq)
        old_link, old_bus = self.links.get(name), self.buses.get(name)
        if old_link is not None and old_bus is not None:
            link.mode, bus.cut = old_link.mode, old_bus.cut
            link.stream_loss, link.stream_late, link.stream_repeat = (
                old_link.stream_loss, old_link.stream_late, old_link.stream_repeat,
            )  # fmt: skip
        self.links[name], self.buses[name], self.current[name] = link, bus, process
        self.healths[name], self.routes[name] = Health(), _Routes()
        local = self.settings.local.model_copy(update={"data_dir": str(self.home / name)})
        settings = self.settings.model_copy(update={"local": local})
        service = Service("execution", settings, bus, machine, Metrics("execution"), self.healths[name],
                          self.routes[name])  # type: ignore[arg-type]  # fmt: skip
        outside = Outside(client_factory(link), connect_factory(link), lambda: None)
        process.exited = partial(self._on_exit, name)
        self.watch.started_ns[id(process)] = self.world.now_ns
        self.world.processes = [p for p in self.world.processes if p.alive] + [process]
        self.world.note(f"{name}#{life} starts")
        process.start(execution.run(service, outside))

    def _on_exit(self, name: str, error: BaseException | None) -> None:
        """The supervisor starts it again."""
        self.world.after(self.world.random.uniform(0.2, 1.5), lambda: self._start(name))

    def _on_sent(self, process: Process, data: bytes) -> None:
        self.watch.on_sent(process, data)
        if data.startswith(b"POST /fapi/v1/order?"):
            callbacks = self._kill_on_send.pop(process.name, 0)
            if callbacks:
                process.kill_after_callbacks = callbacks

    # Faults.

    def _strike(self, fault: Fault) -> None:
        self.outcome.faults[fault.kind] += 1
        self.world.note(f"FAULT {fault}")
        strike: Callable[[Fault], None] = getattr(self, f"_f_{fault.kind}")
        strike(fault)

    def _later(self, fault: Fault, undo: Callable[[], None]) -> None:
        self.world.after(fault.for_s, undo)

    def _of(self, fault: Fault) -> str:
        return fault.detail if fault.detail in self.machines else "first"

    def _f_kill(self, fault: Fault) -> None:
        for name, process in list(self.current.items()):
            if process.alive and process is (self.server.lease_writer or process):
                process.kill()
                self._on_exit(name, None)
                return

    def _f_kill_after_send(self, fault: Fault) -> None:
        for name in self._machines():
            self._kill_on_send[name] = int(fault.size)

    def _f_pause(self, fault: Fault) -> None:
        process = self.server.lease_writer if fault.detail == "first" else self.current[self._of(fault)]
        if process is not None and process.alive:
            process.paused_until_ns = self.world.now_ns + int(fault.for_s * S)

    def _f_nats_cut(self, fault: Fault) -> None:
        name = self._of(fault)
        self.buses[name].cut = True
        self._later(fault, lambda: self.buses[name].restore())

    def _f_nats_down(self, fault: Fault) -> None:
        self.server.up = False

        def up() -> None:
            self.server.up = True
            for bus in self.buses.values():
                if not bus.cut:
                    bus.restore()

        self._later(fault, up)

    def _mode(self, fault: Fault, mode: str) -> None:
        name = self._of(fault)
        self.links[name].mode = mode

        def heal() -> None:
            self.links[name].mode = "open"
            if mode == "silent":
                self.links[name].break_all()

        self._later(fault, heal)

    def _f_venue_silent(self, fault: Fault) -> None:
        self._mode(fault, "silent")

    def _f_venue_refused(self, fault: Fault) -> None:
        self.links[self._of(fault)].break_all()
        self._mode(fault, "refused")

    def _f_venue_breaks(self, fault: Fault) -> None:
        for link in self.links.values():
            link.break_all()

    def _f_temper(self, fault: Fault) -> None:
        until_ns = self.world.now_ns + int(fault.for_s * S)
        self.venue.tempers.append(Temper(fault.detail, until_ns, fault.size, fault.paths))

    def _stream(self, fault: Fault, name: str) -> None:
        for link in self.links.values():
            setattr(link, name, fault.size)

        def heal() -> None:
            for link in self.links.values():
                setattr(link, name, 0.0)

        self._later(fault, heal)

    def _f_stream_lost(self, fault: Fault) -> None:
        self._stream(fault, "stream_loss")

    def _f_stream_late(self, fault: Fault) -> None:
        self._stream(fault, "stream_late")

    def _f_stream_repeated(self, fault: Fault) -> None:
        self._stream(fault, "stream_repeat")

    def _f_stream_cut(self, fault: Fault) -> None:
        for link in self.links.values():
            for found in list(link.sockets):
                found.break_off("the venue cut the connection")

    def _f_listen_key(self, fault: Fault) -> None:
        self.venue.users.expire_all()

    def _f_maintenance(self, fault: Fault) -> None:
        until_ns = self.world.now_ns + int(fault.for_s * S)
        self.venue.tempers.insert(0, Temper("unavailable_503", until_ns, 1.0, ("",)))
        self._f_stream_cut(fault)

    def _f_venue_clock(self, fault: Fault) -> None:
        self.venue.clock.offset_ms = int(fault.size)
        self._later(fault, lambda: setattr(self.venue.clock, "offset_ms", 0))

    def _f_machine_clock(self, fault: Fault) -> None:
        machine = self.machines[self._of(fault)]
        machine.offset_ns = int(fault.size * 1e6)
        self._later(fault, lambda: setattr(machine, "offset_ns", 0))

    def _f_halt(self, fault: Fault) -> None:
        if self.server.up:
            self._control("halt", fault.detail)
            self._later(fault, lambda: self._control("resume", fault.detail))

    def _f_by_hand(self, fault: Fault) -> None:
        """Somebody trades on the same account with the venue's own app."""
        symbol, side = self.world.random.choice(SYMBOLS), self.world.random.choice((Side.BUY, Side.SELL))
        lots, instrument = self.world.random.randint(2, 5), self.instruments[symbol]
        price = self.venue.middle[symbol] + side * self.world.random.choice((-9, -4, 3, 8))
        request = PlaceRequest(
            symbol=symbol, side=side, type=OrderType.LIMIT, quantity=instrument.qty(lots),
            price=instrument.price(price), time_in_force=TimeInForce.GTC, client_order_id=f"web_{fault.number}",
        )  # fmt: skip
        self.watch.slack_lots[symbol] += lots
        try:
            self.venue.by_hand(request)
        except VenueError as error:
            self.world.note(f"by hand: refused {error}")

    def _f_liquidate(self, fault: Fault) -> None:
        """The venue reduces a position of ours on its own, as auto-deleveraging does."""
        symbol = self.world.random.choice(SYMBOLS)
        held = self.venue.position_lots(symbol)
        if not held:
            return
        self.watch.slack_lots[symbol] += abs(held)
        request = PlaceRequest(
            symbol=symbol, side=Side.SELL if held > 0 else Side.BUY, type=OrderType.MARKET, reduce_only=True,
            quantity=self.instruments[symbol].qty(abs(held)), client_order_id=f"adl_autoclose_{fault.number}",
        )  # fmt: skip
        try:
            self.venue.by_hand(request)
        except VenueError as error:
            self.world.note(f"liquidation: refused {error}")

    def _f_redelivery(self, fault: Fault) -> None:
        """Every intent that is still in its stream is delivered again, whatever was answered."""
        for durable in self.server.durables.values():
            for seq in list(durable.waiting):
                durable.waiting[seq] = 0
            durable.settled.clear()
            durable.next_seq = 1
        self.server.pump()

    # The end.

    def _heal(self) -> None:
        self.world.note("everything is whole again")
        self.venue.tempers.clear()
        self.venue.clock.offset_ms = 0
        self._kill_on_send.clear()
        self.server.up = True
        for machine in self.machines.values():
            machine.offset_ns = 0
        for name, link in self.links.items():
            link.mode = "open"
            link.stream_loss = link.stream_late = link.stream_repeat = 0.0
            self.buses[name].restore()
            self.current[name].paused_until_ns = 0
            self.current[name].kill_after_callbacks = None
        self._control("resume", "all")
        end_ns = _START_NS + int(_GIVE_UP_S * S)
        self.world.every(0.8, self._quote_all, end_ns)

    def _quote_all(self) -> None:
        for symbol in SYMBOLS:
            self.venue.quote(symbol)

    def _cancel_everything(self) -> None:
        for strategy in ("s1", "s2"):
            self._write(self._intent(action=IntentAction.CANCEL_ALL, symbol="", strategy=strategy))
        for order in self.venue.orders():
            if order.is_open and order.client_order_id.startswith(("web_", "adl_")):
                self.venue.exchange.cancel(ACCOUNT, order.symbol, self.venue.clock.now_ms(), order.order_id)
        self.venue.commit()

    def journal(self) -> OurRecord:
        record = OurRecord()
        for line in self.server.streams["ORDERS"]:
            record.add(line.subject, line.data)
        return record

    def differences(self) -> list[str]:
        """What is not as it should be now that nothing is wrong any more; empty when all is well."""
        writer = self.server.lease_writer
        if writer is None or not writer.alive or not self.healths[writer.name].ready:
            because = {name: health.unready_because for name, health in self.healths.items()}
            return [f"nobody is ready: {because}"]
        ours = self.journal()
        record = self.venue.record()
        # What others placed and took back while nobody told us concerns nobody.
        record["orders"] = [
            o for o in record["orders"]
            if is_ours(o["clientOrderId"]) or o["clientOrderId"] in ours.orders or Decimal(o["executedQty"])
        ]  # fmt: skip
        comparison = compare(ours, record)
        problems = comparison.duplicated + comparison.lost
        problems += [f"{c} is still {e.state}" for c, e in ours.orders.items() if not e.state.terminal]
        held: Counter[str] = Counter()
        for fill in ours.fills.values():
            held[fill.symbol] += fill.side * fill.qty_lots
        for symbol in SYMBOLS:
            if held[symbol] != self.venue.position_lots(symbol):
                problems.append(f"position of {symbol}: {held[symbol]} here, {self.venue.position_lots(symbol)} there")
        for client_id, intent in self.watch.intents.items():
            if client_id not in ours.orders and client_id in self.watch.sent:
                problems.append(f"{client_id} of {intent.intent_id} was sent and is not journaled")
        return problems

    def _check_replay(self) -> None:
        """The journal alone rebuilds the state that the running service shows."""
        writer = self.server.lease_writer
        if writer is None:
            return
        self.world.run(self.world.now_ns + 2 * S)
        live = self.routes[writer.name].ask("GET /state")
        replay = Replay(ACCOUNT, VENUE)
        for line in self.server.streams["ORDERS"]:
            if line.seq >= live["from_seq"]:
                replay.apply(line.subject, line.data, line.seq)
        picture = replay.picture()
        if live["waiting"] == 0 and picture.hash != live["hash"]:
            raise InvariantError("journal-rebuilds-state", f"live {live}, replayed {picture}")

    def _check_alive(self) -> None:
        """A new order goes through: nothing is stuck closed."""
        for symbol in SYMBOLS:
            held = self.venue.position_lots(symbol)
            side = Side.SELL if held > 0 else Side.BUY
            middle = self.venue.middle[symbol]
            client_id = ""
            for _ in range(8):
                intent = self._intent(symbol=symbol, side=side, price_ticks=middle - side * 30, qty_lots=6,
                                      time_in_force=TimeInForce.GTC, strategy="s1")  # fmt: skip
                intent.ttl_ns = 2 * S
                client_id = self.watch.expect(intent)
                self._write(intent)
                self.world.run(self.world.now_ns + 3 * S)
                if client_id in self.watch.venue_orders:
                    break
            else:
                last = self.journal().orders.get(client_id)
                why = f"{last.state}: {last.reason}" if last else "no trace"
                raise InvariantError("alive-again", f"no order in {symbol} passes any more ({why})")
            if (last := self.journal().orders.get(client_id)) is None or last.state is OrderState.UNKNOWN:
                raise InvariantError("alive-again", f"{client_id} was accepted and is not journaled")


def play(plan: Plan, *, keep_trace: bool = False, steps: int = 0) -> Outcome:
    """Run one plan."""
    return Drama(plan, keep_trace=keep_trace).run(steps=steps)
