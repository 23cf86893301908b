"""Stage: everything one run is made of, and the supervisor that starts the service again.

In: a Plan. Out: the venue, the bus, the machines and, for each of them, the newest life of the real execution service.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tickmesh.domain.errors import TickmeshError
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.runtime.simulation.bus import SimBus
from tickmesh.runtime.simulation.nats import NatsServer
from tickmesh.runtime.simulation.network import Link, client_factory, connect_factory
from tickmesh.runtime.simulation.plan import FAULTS_END_S, Plan
from tickmesh.runtime.simulation.venue import SimVenue
from tickmesh.runtime.simulation.watch import Watch
from tickmesh.runtime.simulation.world import Machine, Process, S, World
from tickmesh.services import execution
from tickmesh.services.execution_outside import Outside
from tickmesh.services.instruments import instrument_key
from tickmesh.services.service import Service
from tickmesh.settings import Settings, load
from tickmesh.venues.simvenue.server.listing import instruments_for

VENUE = "binance"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
STRATEGIES = ("s1", "s2")
LIMIT_LOTS = 12
THROTTLE_ORDERS = 60
START_NS = 1000 * S
HEALED_NS = START_NS + int((FAULTS_END_S + 5.0) * S)
"""When everything is whole again."""
GIVE_UP_NS = START_NS + int(150.0 * S)
_PLACE = b"POST /fapi/v1/order?"


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


@dataclass(slots=True)
class Life:
    """One machine's newest process with what ties it to the others."""

    process: Process
    link: Link
    bus: SimBus
    health: Health
    routes: _Routes
    service: Service


class Stage:
    """One run's world; deterministic from the plan's seed."""

    def __init__(self, plan: Plan, *, keep_trace: bool = False) -> None:
        self.plan = plan
        self.world = World(plan.seed, keep_trace=keep_trace)
        self.settings = base_settings()
        self.instruments = instruments_for(SYMBOLS)
        venue = self.settings.venue
        self.server = NatsServer(self.world)
        self.venue = SimVenue(
            self.world, self.instruments, (venue.api_key.get_secret_value(), venue.api_secret.get_secret_value())
        )
        self.watch = Watch(self.world, self.server, self.venue, dict.fromkeys(SYMBOLS, LIMIT_LOTS), THROTTLE_ORDERS)
        self.machines = {
            name: Machine(self.world, name) for name in (("first", "second") if plan.standby else ("first",))
        }
        self.lives: dict[str, Life] = {}
        self.lived: Counter[str] = Counter()
        self.kill_on_send: dict[str, int] = {}
        """By machine: how many callbacks after its next order left the process dies."""
        self._home = Path(tempfile.mkdtemp(prefix="tickmesh-simulation-"))

    def prepare(self) -> None:
        """Put into the buckets what operators would have put there."""
        for symbol, instrument in self.instruments.items():
            self.server.put("config", instrument_key(VENUE, symbol), msgspec.json.encode(instrument))
        lots = {s: {"max_position_qty": str(i.qty(LIMIT_LOTS))} for s, i in self.instruments.items()}
        limits = {"symbols": lots, "max_messages_per_s": 1000, "max_identical_open": 50, "mark_collar_bps": 2000,
                  "throttle_orders": THROTTLE_ORDERS, "throttle_window_s": 10}  # fmt: skip
        self.server.put("limits", "default", msgspec.json.encode(limits))

    def start(self, name: str) -> None:
        """A new life on a machine; the network is as it was for the last one."""
        self.lived[name] += 1
        machine, number = self.machines[name], self.lived[name]
        process = Process(self.world, name, machine, number)
        link = Link(self.world, self.venue, process, self._on_sent)
        bus = SimBus(self.world, self.server, process)
        bus.heard = lambda subject, data: self.watch.on_heard(process, subject, data)
        former = self.lives.get(name)
        if former is not None:
            link.mode, bus.cut = former.link.mode, former.bus.cut
            link.stream_loss, link.stream_late, link.stream_repeat = (
                former.link.stream_loss, former.link.stream_late, former.link.stream_repeat,
            )  # fmt: skip
        health, routes = Health(), _Routes()
        local = self.settings.local.model_copy(update={"data_dir": str(self._home / name)})
        settings = self.settings.model_copy(update={"local": local})
        service = Service(
            "execution", settings, bus, machine, Metrics("execution"), health, routes  # type: ignore[arg-type]
        )  # fmt: skip
        self.lives[name] = Life(process, link, bus, health, routes, service)
        outside = Outside(client_factory(link), connect_factory(link), lambda: None)
        process.exited = partial(self.start_again, name)
        self.world.processes = [p for p in self.world.processes if p.alive] + [process]
        self.world.note(f"{name}#{number} starts")
        process.start(execution.run(service, outside))

    def start_again(self, name: str, error: BaseException | None = None) -> None:
        """What the supervisor does with a process that ended or was killed."""
        if error is not None and not isinstance(error, TickmeshError):
            self.world.fail("no-unhandled-error", f"{name} ended with {type(error).__name__}: {error}")
        self.world.after(self.world.random.uniform(0.2, 1.5), lambda: self.start(name))

    @property
    def writer(self) -> Life | None:
        """Who holds the account's lease, when it is alive."""
        process = self.server.lease_writer
        return self.lives[process.name] if process is not None and process.alive else None

    def close(self) -> None:
        for process in self.world.processes:
            process.exited = lambda _: None
            process.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def _on_sent(self, process: Process, data: bytes) -> None:
        self.watch.on_sent(process, data)
        if data.startswith(_PLACE):
            callbacks = self.kill_on_send.pop(process.name, 0)
            if callbacks:
                process.kill_after_callbacks = callbacks
