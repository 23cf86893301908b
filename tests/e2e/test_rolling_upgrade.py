"""A rolling upgrade under load, with real processes: every service is replaced by a new process beside it. Nothing is
lost or doubled, the strategy is never without a leader for long, and a consumer of market data misses nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats_cluster import Probe
from pace import Pace
from upgrade_rig import FLEET, TWICE, UpgradeRig

from tickmesh.domain.enums import IntentAction

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LEADERLESS_S = 0.5


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[UpgradeRig]:
    rig = UpgradeRig(tmp_path)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


@pytest.fixture
async def clustered(tmp_path: Path) -> AsyncIterator[UpgradeRig]:
    rig = UpgradeRig(tmp_path, nats_servers=3)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


async def quoting(rig: UpgradeRig) -> None:
    """Wait until the strategy gets orders through."""
    before = len((await rig.journal()).orders)
    for _ in range(200):
        if len((await rig.journal()).orders) >= before + 3:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("no order gets through:\n" + "\n".join(rig.log(service, 4) for service in FLEET))


async def assert_sound(rig: UpgradeRig, orders: int, *, asked_again: bool = False) -> None:
    """Nothing lost, nothing doubled: the strategy's intents, our journal, the venue's record.

    With ``asked_again`` an intent whose answer was lost with a NATS server may come again: the same one, of that time.
    """
    places = [intent for _, intent in rig.intents if intent.action is IntentAction.PLACE]
    meant = {(i.intent_id, i.epoch, i.symbol, i.side, i.price_ticks, i.qty_lots, i.publish_ns) for i in places}
    assert len({i.intent_id for i in places}) == len(meant if asked_again else places)
    await rig.drained("strategy")
    ours, record = await rig.settle(40)
    print(f"{len(record['orders'])} orders, {len(record['fills'])} fills, {len(rig.intents)} intents")
    assert len(record["orders"]) > orders
    assert len(ours.fills) == len(record["fills"])
    assert await rig.differences() == []


async def test_replacing_every_process_under_load_loses_and_doubles_nothing(rig: UpgradeRig) -> None:
    await quoting(rig)
    for service in (*FLEET, "strategy", "execution"):
        with Pace() as pace:
            await rig.replace(service)
            await quoting(rig)
            if service == "strategy":
                pace.assert_within(LEADERLESS_S, rig.leaders.gaps_s[-1])
    assert len(rig.leaders.gaps_s) == 2
    print("without a leader:", [f"{gap * 1000:.0f} ms" for gap in rig.leaders.gaps_s])

    rig.consumer.assert_continuous()
    assert len(rig.consumer.publishers) == 2

    epochs = [intent.epoch for _, intent in rig.intents if intent.action is IntentAction.PLACE]
    assert epochs == sorted(epochs), "a former holder spoke after its successor"
    assert len(set(epochs)) == 3
    silences = [
        (b - a) / 1e9
        for (a, one), (b, two) in itertools.pairwise(rig.intents)
        if one.epoch != two.epoch and one.epoch and two.epoch
    ]
    print("from a holder's last intent to its successor's first:", [f"{s * 1000:.0f} ms" for s in silences])

    await assert_sound(rig, 50)


async def test_draining_a_node_under_load_loses_and_doubles_nothing(rig: UpgradeRig) -> None:
    await quoting(rig)
    with Pace() as pace:
        await rig.drain_node()
        await quoting(rig)
        (gap_s,) = rig.leaders.gaps_s
        print(f"without a leader: {gap_s * 1000:.0f} ms")
        pace.assert_within(LEADERLESS_S, gap_s)
    rig.consumer.assert_continuous()
    assert len(rig.consumer.publishers) == 2
    await assert_sound(rig, 6)


async def test_rolling_nats_under_load_loses_and_doubles_nothing(clustered: UpgradeRig) -> None:
    """Three servers, three copies of each stream, replaced one after the other. What goes over the ring is not touched;
    nobody is without a leader for longer than NATS itself was without one and half a second."""
    rig = clustered
    assert rig.nats is not None
    assert (await rig.bus.jetstream.stream_info("ORDERS")).config.num_replicas == 3
    probe = Probe(rig.bus)
    probing = asyncio.create_task(probe.run())
    await quoting(rig)
    for number in range(3):
        await rig.nats.replace(number)
        await quoting(rig)
    probing.cancel()
    print(f"NATS took no write for {probe.worst_s * 1000:.0f} ms at most")
    for service in TWICE:
        lapses = rig.lapses_s(f"{service}-0")
        print(f"{service} was without its lease for:", [f"{lapse * 1000:.0f} ms" for lapse in lapses])
        assert max(lapses, default=0.0) < LEADERLESS_S + probe.worst_s
    rig.on_ring.assert_continuous()
    counters = (await rig.get("feed-0", "/stats"))["counters"]
    assert (counters["gaps_total"], counters["trades_missing_total"], counters["trades_dropped_total"]) == (0, 0, 0)
    await assert_sound(rig, 9, asked_again=True)
