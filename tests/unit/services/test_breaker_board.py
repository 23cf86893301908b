"""The breakers of a process and the bucket: forces, configurations, resets by target; records as the operator reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from tickmesh.bus.memory import MemoryBus, MemoryKeyValue
from tickmesh.domain.enums import BreakerState
from tickmesh.kube.breaker import StateRecord
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.ports import KvEntry
from tickmesh.risk.breaker import BreakerConfig
from tickmesh.services.breaker_records import is_target
from tickmesh.services.breakers import BreakerBoard
from tickmesh.services.service import Service
from tickmesh.settings import Settings

S = 1_000_000_000
WALL = 1_700_000_000 * S


class Clock:
    """Stands still until told."""

    now_ns = 100 * S

    def mono_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return WALL + self.now_ns


@pytest.fixture
def service() -> Iterator[Service]:
    metrics, health = Metrics("t"), Health()
    health.set_started()
    yield Service("t", Settings(), MemoryBus(), Clock(), metrics, health, AdminServer("127.0.0.1", 0, metrics, health))


def entry(key: str, **fields: object) -> KvEntry:
    return KvEntry("breakers", key, msgspec.json.encode(fields) if fields else None, 1)


def test_a_force_holds_every_breaker_of_its_target_and_no_other_until_it_is_deleted(service: Service) -> None:
    board = BreakerBoard(service)
    one, two = board.add("rest-a", target="venue-rest"), board.add("rest-b", target="venue-rest")
    other = board.add("db", target="database")
    board.on_entry(entry("force.venue-rest", state="Open", actor="ann", reason="maintenance"))
    late = board.add("rest-c", target="venue-rest")
    now = service.clock.mono_ns()
    assert [b.state(now) for b in (one, two, late)] == [BreakerState.OPEN] * 3
    assert one.enter(now) is None and one.reason == "forced Open by ann: maintenance"
    assert other.state(now) is BreakerState.CLOSED
    assert not service.health.ready and "maintenance" in service.health.unready_because["breaker rest-a"]
    board.on_entry(entry("force.venue-rest"))
    assert [b.state(now) for b in (one, two, late)] == [BreakerState.CLOSED] * 3 and service.health.ready


def test_a_configuration_holds_for_its_target_and_the_built_in_one_again_when_it_is_deleted(service: Service) -> None:
    board = BreakerBoard(service)
    breaker = board.add("rest", target="venue-rest")
    gate = board.gate(breaker)
    board.on_entry(entry("config.venue-rest", failures=2, window_ns=5 * S, open_ns=7 * S, probes=1))
    for _ in range(2):
        gate.note("it did not answer")
    assert gate.enter() is None
    record = board.records[0]
    assert record.next_probe_ns == service.clock.wall_ns() + 7 * S
    board.on_entry(entry("reset.venue-rest", at="now"))
    assert gate.enter() is not None, "a reset closes it"
    board.on_entry(entry("config.venue-rest"))
    for _ in range(4):
        gate.note("it did not answer")
    assert gate.enter() is not None, "five in 30 s again"


def test_a_reset_leaves_what_a_person_holds(service: Service) -> None:
    board = BreakerBoard(service)
    gate = board.gate(board.add("rest", target="venue-rest"))
    board.on_entry(entry("force.venue-rest", state="Open", actor="ann"))
    board.on_entry(entry("reset.venue-rest", at="now"))
    assert gate.enter() is None


@pytest.mark.parametrize("bad", [b"{", b'{"state": "HalfOpen"}', b'{"state": "Ajar"}', b"[]", b'{"actor": "x"}'])
def test_a_force_that_makes_no_sense_changes_nothing(service: Service, bad: bytes) -> None:
    board = BreakerBoard(service)
    gate = board.gate(board.add("rest", target="venue-rest"))
    board.on_entry(KvEntry("breakers", "force.venue-rest", bad, 1))
    assert gate.enter() is not None and board.stopping("main") == set()


def test_what_stops_an_account_is_what_is_before_it_and_nobody_elses(service: Service) -> None:
    board = BreakerBoard(service)
    rest = board.gate(board.add("venue-rest-execution-main", target="venue-rest", stops="account.main"))
    board.add("db", target="database")
    for target in ("account.other", "strategy.mm", "database", "account.main", "everything"):
        board.on_entry(entry(f"force.{target}", state="Open", actor="ann"))
    assert board.stopping("main") == {"strategy.mm", "account.main", "everything"}
    for target in ("account.other", "strategy.mm", "account.main"):
        board.on_entry(entry(f"force.{target}"))
    board.on_entry(entry("force.everything", state="Closed", actor="ann"))
    assert board.stopping("main") == set()
    for _ in range(5):
        rest.note("silence")
    assert board.stopping("main") == {"venue-rest-execution-main"} and board.stopping("other") == set()


def test_half_open_lets_probes_of_a_dependency_through_but_no_new_risk(service: Service) -> None:
    board = BreakerBoard(service)
    breaker = board.add("venue-rest-x", target="venue-rest", stops="all")
    gate = board.gate(breaker)
    for _ in range(5):
        gate.note("silence")
    service.clock.now_ns += 31 * S  # type: ignore[attr-defined]
    board.look()
    assert board.records[0].state is BreakerState.HALF_OPEN and board.stopping("main") == {"venue-rest-x"}
    for _ in range(3):
        gate.note()
    assert board.records[0].state is BreakerState.CLOSED and board.stopping("main") == set()


def test_a_connection_is_watched_without_a_call(service: Service) -> None:
    board, there = BreakerBoard(service), [True]
    board.add("bus", target="bus", probe=lambda: there[0])
    for _ in range(10):
        board.look()
    assert board.records[0].state is BreakerState.CLOSED
    there[0] = False
    for _ in range(5):
        board.look()
    assert board.records[0].state is BreakerState.OPEN and board.records[0].reason.endswith("bus is not connected")


async def test_a_connection_is_watched_while_the_bucket_does_not_answer(service: Service) -> None:
    class Hung(MemoryBus):
        async def kv(self, bucket: str) -> MemoryKeyValue:
            await asyncio.Event().wait()
            raise AssertionError("never")

    service.bus = Hung()
    board = BreakerBoard(service)
    looks = 0

    def probe() -> bool:
        nonlocal looks
        looks += 1
        return False

    board.add("bus", BreakerConfig(failures=2), target="bus", probe=probe)
    running = asyncio.create_task(board.run())
    try:
        async with asyncio.timeout(10):
            while service.health.ready:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert looks >= 2 and "not connected" in service.health.unready_because["breaker bus"]


async def test_the_record_is_what_the_operator_reads(service: Service) -> None:
    board = BreakerBoard(service)
    gate = board.gate(board.add("postgres-recorder", target="database"))
    for turn in range(15):
        for _ in range(5):
            gate.note("refused")
        service.clock.now_ns += 30 * S  # type: ignore[attr-defined]
        board.look()
        if turn < 14:
            for _ in range(3):
                gate.note()
    task = asyncio.create_task(board.run())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    stored = await (await service.bus.kv("breakers")).get("state.postgres-recorder")
    assert stored is not None and stored.value is not None
    record = msgspec.json.decode(stored.value, type=StateRecord)
    assert (record.name, record.owner, record.target) == ("postgres-recorder", "t", "database")
    assert record.state == "HalfOpen" and record.forced is False and record.next_probe_ns == 0
    assert len(record.transitions) == 20, "the newest, and no more"
    assert record.transitions[-1].after == "HalfOpen" and record.transitions[-1].at_ns == record.since_ns
    assert record.since_ns == service.clock.wall_ns()


@pytest.mark.parametrize(
    ("text", "good"),
    [("venue-rest", True), ("everything", True), ("account.main", True), ("strategy.mm-1", True), ("account.", False),
     ("account", False), ("symbol.BTCUSDT", False), ("strategy.a.b", False), ("", False), ("rest", False)],
)  # fmt: skip
def test_targets_are_told_from_other_words(text: str, good: bool) -> None:
    assert is_target(text) is good


def replica(service: Service, instance: str) -> Service:
    settings = Settings(observe={"instance": instance})  # type: ignore[arg-type]
    return Service(service.name, settings, service.bus, service.clock, service.metrics, Health(), service.admin)


def tell(board: BreakerBoard, other: BreakerBoard) -> None:
    for record in board.records:
        other.on_entry(KvEntry("breakers", f"state.{record.name}", msgspec.json.encode(record), 1))


def test_replicas_have_records_of_their_own_and_what_one_sees_stops_only_itself(service: Service) -> None:
    one, two = BreakerBoard(replica(service, "pod-1")), BreakerBoard(replica(service, "pod.2"))
    gate = one.gate(one.add("venue-rest-execution-main", target="venue-rest", stops="account.main"))
    two.add("venue-rest-execution-main", target="venue-rest", stops="account.main")
    for _ in range(5):
        gate.note("silence")
    tell(one, two)
    assert [(r.name, r.instance, r.state.value) for r in two.records] == [
        ("venue-rest-execution-main-pod-1", "pod-1", "Open"), ("venue-rest-execution-main-pod_2", "pod.2", "Closed"),
    ]  # fmt: skip
    assert one.stopping("main") == {"venue-rest-execution-main-pod-1"} and two.stopping("main") == set()
    assert two.away("venue-rest") == "venue-rest-execution-main-pod-1: 5 failures within 30 s, the last: silence"
    assert two.away("database") == ""


def test_a_replica_that_no_longer_renews_is_forgotten_unless_it_is_we_who_cannot_hear(service: Service) -> None:
    bus, clock = service.bus, service.clock
    one, two = BreakerBoard(replica(service, "one")), BreakerBoard(replica(service, "two"))
    gate = one.gate(one.add("postgres-recorder", target="database"))
    for _ in range(5):
        gate.note("away")

    def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            clock.now_ns += S  # type: ignore[attr-defined]
            two.look()

    tell(one, two)
    pass_time(35)
    tell(one, two)  # renewed
    pass_time(35)
    assert two.away("database")
    bus.connected = False  # type: ignore[misc]
    pass_time(35)
    bus.connected = True  # type: ignore[misc]
    clock.now_ns += 60 * S  # type: ignore[attr-defined]
    two.look()  # we were stopped
    pass_time(35)
    assert two.away("database")
    pass_time(10)
    assert two.away("database") == "" and not two.records


async def test_a_living_replica_renews_and_the_key_of_a_dead_one_is_deleted(service: Service) -> None:
    clock = service.clock
    one, two = BreakerBoard(replica(service, "one")), BreakerBoard(replica(service, "two"))
    one.add("bus-x", target="bus")
    two.add("bus-x", target="bus")
    bucket = await service.bus.kv("breakers")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run()), group.create_task(two.run())]
        async with asyncio.timeout(30):
            while sorted(await bucket.keys()) != ["state.bus-x-one", "state.bus-x-two"] or len(two.records) != 2:
                await asyncio.sleep(0.01)
            tasks[0].cancel()
            while "state.bus-x-one" in await bucket.keys():
                clock.now_ns += S  # type: ignore[attr-defined]
                await asyncio.sleep(0.05)
        assert await bucket.keys() == ["state.bus-x-two"]
        tasks[1].cancel()
