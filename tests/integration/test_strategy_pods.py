"""Strategies as pods, with real processes on a real NATS server: hot changes from the bucket, shards, reports, and
hand-over on SIGTERM, SIGKILL and SIGSTOP. An account writer that answers as execution does keeps the orders."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from pace import Pace
from strategy_pods import TTL_MS, Pod, lease, put, report, resource
from strategy_world import NatsServer, World

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.enums import Side
from tickmesh.domain.messages import OrderIntent
from tickmesh.kube.status import combine

Start = Callable[..., Pod]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    server = NatsServer(tmp_path)
    bus = await NatsBus.connect(server.url, name="test")
    world = World(bus)
    world.server, world.folder = server, tmp_path
    await world.start()
    yield world
    await bus.close()
    server.kill()


@pytest.fixture
def start(world: World) -> AsyncIterator[Start]:
    pods: list[Pod] = []

    def begin(name: str, **more: int) -> Pod:
        pods.append(Pod(world, name, **more))
        return pods[-1]

    yield begin  # type: ignore[misc]
    for pod in pods:
        pod.kill()


async def quoting(world: World, orders: int = 2) -> None:
    await world.until(lambda: len(world.open_orders()) == orders, 30)


async def test_a_pod_waits_for_its_resource_and_follows_it_within_a_second(world: World, start: Start) -> None:
    pod = start("pod-a")
    await asyncio.sleep(1.5)
    assert pod.process.poll() is None and not world.intents
    await put(world, resource())
    await quoting(world)
    bid = min(world.open_orders(), key=lambda o: o.price_ticks)
    await world.fill(bid, bid.qty_lots)
    await quoting(world)
    await until_report(world, lambda r: (r.holder, r.mode, r.generation) == ("pod-a", "Live", 1))

    began = time.monotonic()
    await put(world, resource(generation=2, parameters={"orderNotional": 300, "halfSpreadBps": 40}))
    await world.until(lambda: all(abs(o.price_ticks - 618_000) > 2000 for o in world.open_orders()) and
                      len(world.open_orders()) == 2, 5)  # fmt: skip
    print(f"a parameter was in force after {time.monotonic() - began:.3f} s")

    began = time.monotonic()
    await put(world, resource(generation=3, paused=True))
    await world.until(lambda: not world.open_orders(), 5)
    print(f"paused after {time.monotonic() - began:.3f} s")
    await until_report(world, lambda r: r.paused and r.open_orders == 0 and r.generation == 3)
    told = await report(world)
    assert told is not None and told.positions == {"BTCUSDT": f"{bid.qty_lots / 1000:g}"}
    count = len(world.places())
    await tick_for(world, 0.5)
    assert len(world.places()) == count, "a paused strategy placed an order"
    assert (await lease(world)).epoch == 1 and not pod.said("Traceback")


async def test_a_broken_document_keeps_the_last_good_one_and_is_reported(world: World, start: Start) -> None:
    pod = start("pod-a")
    await put(world, resource())
    await quoting(world)
    await put(world, b'{"apiVersion": "tickmesh.io/v1alpha1", "kind": "Strategy"')
    await until_report(world, lambda r: "not JSON" in r.problem)
    await put(world, resource(limits={"maxOpenOrders": 0}))
    await until_report(world, lambda r: "spec.limits.maxOpenOrders" in r.problem)
    await put(world, resource(parameters={"noSuchThing": 1}))
    await until_report(world, lambda r: "noSuchThing" in r.problem)
    await quoting(world)
    await put(world, resource(generation=5))
    await until_report(world, lambda r: not r.problem and r.generation == 5)
    assert pod.process.poll() is None


async def test_a_removed_key_cancels_the_orders_and_takes_the_report_along(world: World, start: Start) -> None:
    pod = start("pod-a")
    await put(world, resource())
    await quoting(world)
    await until_report(world, lambda r: r.open_orders > 0)
    bucket = await world.bus.kv("strategies")
    await bucket.delete("spec.quoter")
    await world.until(lambda: not world.open_orders(), 10)
    deadline = time.monotonic() + 10
    while await report(world) is not None:
        assert time.monotonic() < deadline, "the report stays behind"
        await asyncio.sleep(0.05)
    await put(world, resource())
    await quoting(world)
    assert pod.process.poll() is None


async def test_shards_share_the_symbols_out_and_leave_each_others_orders_alone(world: World, start: Start) -> None:
    start("pod-0", shard=0)
    start("pod-1", shard=1)
    await put(world, resource(symbols=["BTCUSDT", "ETHUSDT"], shards=2))

    def tick() -> None:
        world.tick()
        world.tick(symbol="ETHUSDT", bid=250_000, ask=250_001)

    await tick_until(world, lambda: len(world.open_orders()) == 4, tick)
    await asyncio.sleep(1)
    before = {o.client_order_id for o in world.open_orders()}
    for order in world.open_orders():
        if order.side is Side.BUY:
            await world.fill(order, 1)
    await tick_until(world, lambda: len(world.open_orders()) == 4, tick)
    assert before & {o.client_order_id for o in world.open_orders()}
    by_shard = {(i.shard, i.symbol) for i in world.places()}
    assert by_shard == {(0, "BTCUSDT"), (1, "ETHUSDT")}
    await until_report(world, lambda r: "BTCUSDT" in r.positions)
    await until_report(world, lambda r: "ETHUSDT" in r.positions, "quoter.1")
    zero, one = await report(world), await report(world, "quoter.1")
    assert zero is not None and one is not None
    both = combine({0: zero, 1: one})
    assert both is not None and both.holder == "pod-0,pod-1"
    assert both.positions == {"BTCUSDT": "0.001", "ETHUSDT": "0.001"}


async def test_a_warm_standby_takes_orders_and_position_over_on_sigterm(world: World, start: Start) -> None:
    old = start("pod-a")
    await put(world, resource())
    await quoting(world)
    bid = min(world.open_orders(), key=lambda o: o.price_ticks)
    await world.fill(bid, bid.qty_lots)
    await quoting(world)
    new = start("pod-b")
    await new.until_said("standing by")
    await tick_for(world, 0.5)
    assert {i.epoch for i in world.places()} == {world.places()[0].epoch}, "a standby placed an order"
    standing = {o.client_order_id for o in world.open_orders()}
    watching = asyncio.Event()
    watch = asyncio.create_task(leaderless(world, watching))
    await watching.wait()
    with Pace() as pace:
        old.send(signal.SIGTERM)
        await tick_for(world, 1.5)
        assert await old.ended() == 0
        gap_s = await asyncio.wait_for(watch, 30)
        print(f"the strategy was without a leader for {gap_s * 1000:.0f} ms")
        pace.assert_within(0.5, gap_s)
    assert old.said("handed over to pod-b"), old.log.read_text()
    assert standing & {o.client_order_id for o in world.orders.values()}
    await tick_until(world, lambda: len({i.epoch for i in world.places()}) == 2, lambda: world.tick(619_000, 619_001))
    await quoting(world)
    assert_fenced(world.places())
    told = await report(world)
    assert told is not None and (told.holder, told.epoch) == ("pod-b", 2)
    assert told.positions == {"BTCUSDT": f"{world.position['BTCUSDT'] / 1000:g}"}


async def test_a_standby_takes_over_from_a_killed_holder_after_its_time_to_live(world: World, start: Start) -> None:
    old = start("pod-a")
    await put(world, resource())
    await quoting(world)
    new = start("pod-b")
    await new.until_said("standing by")
    old.kill()
    began = time.monotonic()
    await tick_until(world, lambda: len({i.epoch for i in world.places()}) == 2,
                     lambda: world.tick(619_000, 619_001))  # fmt: skip
    print(f"a killed holder was followed after {time.monotonic() - began:.3f} s; time to live {TTL_MS} ms")
    await tick_until(world, lambda: len(world.open_orders()) == 2, lambda: world.tick(619_000, 619_001))
    assert_fenced(world.places())
    assert (await lease(world)).holder == "pod-b"


async def test_a_holder_that_was_stopped_and_goes_on_sends_nothing(world: World, start: Start) -> None:
    old = start("pod-a")
    await put(world, resource())
    await quoting(world)
    new = start("pod-b")
    await new.until_said("standing by")
    old.send(signal.SIGSTOP)
    first = world.intents[0].epoch
    await tick_until(world, lambda: {i.epoch for i in world.intents} != {first}, lambda: world.tick(619_000, 619_001))
    mark = len(world.intents)
    for step in range(20):  # what it wakes up to: books that would make it move both quotes
        world.tick(620_000 + 500 * step, 620_001 + 500 * step)
    old.send(signal.SIGCONT)
    await tick_for(world, 2.0)
    late = [i for i in world.intents[mark:] if i.epoch == first]
    assert not late, f"the former holder sent {late}"
    assert await old.ended() == 1  # it starts over, as a standby
    assert_fenced(world.places())


def assert_fenced(intents: list[OrderIntent]) -> None:
    """Once a successor has spoken, nobody before it does."""
    epochs = [i.epoch for i in intents]
    assert epochs == sorted(epochs), epochs
    assert len({i.intent_id for i in intents}) == len(intents)


async def leaderless(world: World, watching: asyncio.Event) -> float:
    """Seconds from the moment the lease was given back until a successor has stored the epoch under which it acts.

    Sets ``watching`` with the first record seen: a hand-over takes milliseconds, and a bucket keeps only the last one.
    """
    old = msgspec.json.decode((await checkpoint(world)) or b"{}")["epoch"]
    async for entry in (await world.bus.kv("leases")).watch("strategy.main.quoter"):
        watching.set()
        if b'"holder":""' in (entry.value or b""):
            break
    given_ns = time.monotonic_ns()
    async for entry in (await world.bus.kv("checkpoints")).watch("strategy.quoter"):
        if msgspec.json.decode(entry.value or b"{}")["epoch"] > old:
            break
    return (time.monotonic_ns() - given_ns) / 1e9


async def checkpoint(world: World) -> bytes | None:
    entry = await (await world.bus.kv("checkpoints")).get("strategy.quoter")
    return entry.value if entry else None


async def until_report(world: World, holds: Callable[..., bool], key: str = "quoter", timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not ((told := await report(world, key)) is not None and holds(told)):
        assert time.monotonic() < deadline, f"the report says {told}"
        world.tick()
        await asyncio.sleep(0.02)


async def tick_until(world: World, holds: Callable[[], bool], tick: Callable[[], None], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"intents so far: {world.intents[-5:]}"
        tick()
        await asyncio.sleep(0.02)


async def tick_for(world: World, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        world.tick()
        await asyncio.sleep(0.02)
