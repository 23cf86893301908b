"""Grids: what the recorder asks of the config bucket, and who waits for the answer."""

import asyncio

import msgspec
from recording import INSTRUMENT, a_trade

from tickmesh.bus.memory import MemoryKeyValue
from tickmesh.domain.instrument import Instrument
from tickmesh.ports import KvEntry
from tickmesh.services.instruments import instrument_key
from tickmesh.services.recorder import Grids


class SlowBucket(MemoryKeyValue):
    """A bucket behind a network: every answer takes a turn of the loop, and is counted."""

    asked = 0

    async def get(self, key: str) -> KvEntry | None:
        self.asked += 1
        await asyncio.sleep(0.01)
        return await super().get(key)


async def test_lanes_that_meet_an_instrument_together_all_know_it_and_ask_once() -> None:
    bucket = SlowBucket("config")
    await bucket.put(instrument_key(INSTRUMENT.venue, INSTRUMENT.symbol), msgspec.json.encode(INSTRUMENT))
    grids = Grids(bucket)

    async def lane() -> Instrument | None:
        await grids.learn([a_trade(1)])
        return grids.find(INSTRUMENT.venue, INSTRUMENT.symbol)

    assert await asyncio.gather(lane(), lane(), lane()) == [INSTRUMENT] * 3
    assert bucket.asked == 1


async def test_what_nobody_published_is_asked_for_once_in_a_while() -> None:
    bucket = SlowBucket("config")
    grids = Grids(bucket)
    for _ in range(3):
        await grids.learn([a_trade(1)])
    assert grids.find(INSTRUMENT.venue, INSTRUMENT.symbol) is None
    assert bucket.asked == 1
