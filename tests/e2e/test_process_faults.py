"""Rounds of faults against one running system of real processes, under load: nothing lost, nothing doubled.

Each service and nats-server is killed, stopped (shorter than the lease of the account's writer and longer), and cut off
from NATS and from the venue (half-open: neither end is told; refused: connections die). The system is that of
`tickmesh up` with its own strategy, and a second pen that places and cancels all the time. Nobody helps: what does not
come back by itself fails the round. At the end the journal is compared with the venue's record.

The order of the rounds comes from a seed, 1 unless TICKMESH_SEED names another; TICKMESH_ROUNDS plays more.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cut_proxy import CutProxy, Line
from order_rig import OrderRig, _child

from tickmesh.domain.enums import OrderState, Side, Urgency
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import free_ports, local_servers
from tickmesh.runtime.summary import compare
from tickmesh.settings import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Taken out of the environment: a service refuses keys that it does not know.
ROUNDS = int(os.environ.pop("TICKMESH_ROUNDS", "20"))
SEED = int(os.environ.pop("TICKMESH_SEED", "1"))
LEASE_MS = 1_500
OTHERS = ("risk", "account", "recorder", "gateway", "strategy")
AT_THE_VENUE = ("feed", "execution", "account")
ON_THE_BUS = ("feed", "execution", *OTHERS)
EVERYBODY = ("nats", "simvenue", *ON_THE_BUS)
Round = tuple[str, str, float]
"""Whom, what, for how long in seconds."""


class WholeRig(OrderRig):
    """Every service of a run; each one reaches NATS and the venue over a line of its own."""

    def __init__(self, home: Path, **keys: object) -> None:
        super().__init__(home, execution__lease_ttl_ms=LEASE_MS, **keys)
        self.lines: dict[tuple[str, str], CutProxy] = {}
        postgres, api, *admin = free_ports(2 + len(OTHERS))
        self.environ["TICKMESH_POSTGRES__DSN"] = f"postgresql://tickmesh@127.0.0.1:{postgres}/tickmesh"
        self.environ["TICKMESH_GATEWAY__PORT"] = str(api)
        for name, port in zip(OTHERS, admin, strict=True):
            self.admin[name] = port
            self.environ[f"TICKMESH_{name.upper()}__ADMIN_PORT"] = str(port)

    async def start(self) -> None:
        ports = {"nats": int(self.environ["TICKMESH_NATS__URL"].rsplit(":", 1)[1]),
                 "venue": int(self.environ["TICKMESH_SIMVENUE__PORT"])}  # fmt: skip
        for end, names in (("nats", ON_THE_BUS), ("venue", AT_THE_VENUE)):
            for name in names:
                self.lines[name, end] = line = CutProxy(ports[end])
                await line.start()
        self.home.mkdir(parents=True, exist_ok=True)
        (spec,) = local_servers(load(self.environ), self.home / "data", only=("postgres",))
        self.environ["TICKMESH_POSTGRES__DSN"] = spec.overrides["postgres.dsn"]
        await self._start(_child(spec, self.home))
        await super().start()
        for name in OTHERS:
            await self._start(self._service(name))

    async def stop(self) -> None:
        for line in self.lines.values():
            line.set(Line.WHOLE)
        postgres = self.children.pop("postgres", None)
        try:
            await super().stop()
        finally:
            if postgres is not None:
                await postgres.stop()
            for line in self.lines.values():
                await line.stop()

    def _service(self, program: str, name: str = "", environ: dict[str, str] | None = None) -> Child:
        mine = dict(environ or {})
        if (program, "nats") in self.lines:
            mine["TICKMESH_NATS__URL"] = f"nats://127.0.0.1:{self.lines[program, 'nats'].port}"
        if (program, "venue") in self.lines:
            port = self.lines[program, "venue"].port
            mine["TICKMESH_VENUE__REST_URL"] = f"http://127.0.0.1:{port}"
            mine["TICKMESH_VENUE__STREAM_URL"] = f"ws://127.0.0.1:{port}"
        return super()._service(program, name, mine)

    async def load(self, choose: random.Random) -> None:
        """Place and cancel until cancelled; some cross and fill at once."""
        ids: list[str] = []
        while True:
            urgency = Urgency.IMMEDIATE if choose.random() < 0.3 else Urgency.PASSIVE
            side = choose.choice((Side.BUY, Side.SELL))
            ids.append(self.send(self.intent(side=side, urgency=urgency, behind_ticks=choose.randrange(20, 200))))
            if len(ids) > 4:
                self.cancel(ids.pop(choose.randrange(len(ids))))
            await asyncio.sleep(choose.uniform(0.02, 0.12))

    async def strike(self, victim: str, what: str, for_s: float) -> None:
        """One fault, from its beginning to its end."""
        if what == "kill":
            await self.kill(victim)
        elif what == "pause":
            await self.kill(victim, signal.SIGSTOP)
            await asyncio.sleep(for_s)
            await self.kill(victim, signal.SIGCONT)
        else:
            end, line = what.split()
            self.lines[victim, end].set(Line(line))
            await asyncio.sleep(for_s)
            self.lines[victim, end].set(Line.WHOLE)

    async def trades_again(self, timeout_s: float = 60.0) -> float:
        """Wait until a new order rests at the venue; how long that took."""
        began = time.monotonic()
        last: object = None
        while time.monotonic() < began + timeout_s:
            client_id = self.send(self.intent(behind_ticks=300))
            for _ in range(100):
                if (last := self.state(client_id)) in (OrderState.SUBMITTED, OrderState.REJECTED, OrderState.EXPIRED):
                    break
                await asyncio.sleep(0.02)
            self.cancel(client_id)
            if last is OrderState.SUBMITTED:
                return time.monotonic() - began
        told = [(e.state.value, e.reason) for e in self.events[-3:]]
        raise AssertionError(f"no order for {timeout_s} s: {last} {told}\n{self.log()}\n{self.log('risk', 20)}")


def schedule(seed: int, rounds: int) -> list[Round]:
    """Everybody is struck, every kind of fault strikes; the rest is drawn. Longer runs come by every pair."""
    choose = random.Random(seed)
    kinds: dict[str, list[tuple[str, float]]] = {name: [("kill", 0.0)] for name in EVERYBODY}
    for name in EVERYBODY:
        kinds[name] += [("pause", LEASE_MS / 1e3 * 0.4), ("pause", LEASE_MS / 1e3 * 2)]
    for name in ON_THE_BUS:
        kinds[name] += [("nats half-open", 3.0), ("nats refused", 1.5)]
    for name in AT_THE_VENUE:
        kinds[name] += [("venue half-open", 3.0), ("venue refused", 1.5)]
    everything = [(name, what, for_s) for name, faults in kinds.items() for what, for_s in faults]
    choose.shuffle(everything)
    of_order_path = [r for r in everything if r[0] in ("execution", "nats")]
    first = [next(r for r in everything if r[0] == name) for name in EVERYBODY]
    first += [r for r in of_order_path if r not in first]
    rest = [r for r in everything if r not in first]
    chosen: list[Round] = []
    while len(chosen) < rounds:
        chosen += first + rest
    chosen = chosen[:rounds]
    choose.shuffle(chosen)
    return chosen


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[WholeRig]:
    rig = WholeRig(tmp_path, simvenue__flow_rate=1.0)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


async def test_rounds_of_kills_pauses_and_partitions_lose_and_double_nothing(whole: WholeRig) -> None:
    print("seed", SEED, "rounds", ROUNDS)
    choose = random.Random(SEED)
    pen = asyncio.create_task(whole.load(choose))
    began = time.monotonic()
    try:
        for number, (victim, what, for_s) in enumerate(schedule(SEED, ROUNDS)):
            await asyncio.sleep(choose.uniform(0.3, 1.0))
            await whole.strike(victim, what, for_s)
            await whole.ready(victim)
            took = await whole.trades_again()
            so_far = time.monotonic() - began
            print(f"{so_far:6.1f} s round {number}: {victim} {what} {for_s:g} s, trades after {took:.1f} s")
            assert not pen.done(), pen
    finally:
        pen.cancel()
        await asyncio.gather(pen, return_exceptions=True)
    await whole.children["strategy"].stop()  # it withdraws its own orders and leaves the settling to the rig
    ours, record = await whole.settle(60)
    comparison = compare(ours, record)
    print(f"orders {len(record['orders'])} fills {len(record['fills'])} of {len(ours.orders)} intents")
    assert (len(comparison.lost), len(comparison.duplicated)) == (0, 0), comparison
    assert len(record["orders"]) > 5 * ROUNDS and len(ours.fills) == len(record["fills"]) > 0


def test_a_schedule_strikes_everybody_and_comes_by_every_kind_of_fault() -> None:
    for seed in range(50):
        drawn = schedule(seed, 20)
        assert len(drawn) == 20 and {name for name, _, _ in drawn} == set(EVERYBODY)
        kinds = {(what, for_s) for name, what, for_s in drawn if name == "execution"}
        assert len(kinds) == 7, "the writer goes through all of them"
    assert len({*schedule(1, 100)}) == 3 * len(EVERYBODY) + 2 * len(ON_THE_BUS) + 2 * len(AT_THE_VENUE)
