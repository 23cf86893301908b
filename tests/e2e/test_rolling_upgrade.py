"""A rolling upgrade under load, with real processes: every service is replaced by a new process beside it. Nothing is
lost or doubled, the strategy is never without a leader for long, and a consumer of market data misses nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from upgrade_rig import FLEET, UpgradeRig

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


async def quoting(rig: UpgradeRig) -> None:
    """Wait until the strategy gets orders through."""
    before = len((await rig.journal()).orders)
    for _ in range(200):
        if len((await rig.journal()).orders) >= before + 3:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("no order gets through:\n" + "\n".join(rig.log(service, 4) for service in FLEET))


async def test_replacing_every_process_under_load_loses_and_doubles_nothing(rig: UpgradeRig) -> None:
    await quoting(rig)
    for service in FLEET:
        await rig.replace(service)
        await quoting(rig)
    await rig.replace("strategy")
    await rig.replace("execution")
    await quoting(rig)

    rig.consumer.assert_continuous()
    assert len(rig.consumer.publishers) == 2

    epochs = [intent.epoch for _, intent in rig.intents if intent.action is IntentAction.PLACE]
    assert epochs == sorted(epochs), "a former holder spoke after its successor"
    assert len(set(epochs)) == 3
    places = [intent.intent_id for _, intent in rig.intents if intent.action is IntentAction.PLACE]
    assert len(set(places)) == len(places)
    assert len(rig.leaders.gaps_s) == 2
    print("without a leader:", [f"{gap * 1000:.0f} ms" for gap in rig.leaders.gaps_s])
    assert max(rig.leaders.gaps_s) < LEADERLESS_S
    silences = [
        (b - a) / 1e9
        for (a, one), (b, two) in itertools.pairwise(rig.intents)
        if one.epoch != two.epoch and one.epoch and two.epoch
    ]
    print("from a holder's last intent to its successor's first:", [f"{s * 1000:.0f} ms" for s in silences])

    await rig.drained("strategy")
    ours, record = await rig.settle(40)
    print(f"{len(record['orders'])} orders, {len(record['fills'])} fills, {len(rig.intents)} intents")
    assert len(record["orders"]) > 50
    assert len(ours.fills) == len(record["fills"])
    assert await rig.differences() == []
