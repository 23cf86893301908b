"""Two feeds, one publishes: what a consumer sees when the publisher is drained, killed or stopped. Real nats-server and
simvenue; the feeds that are killed are processes. The venue numbers its trades and updates without holes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from feed_rig import ROOT, Process, connect, nats_server, running_feed, simvenue, until
from market_consumer import Consumer

from tickmesh.bus.nats import NatsBus
from tickmesh.bus.ring import RingReader
from tickmesh.runtime.servers import free_ports
from tickmesh.settings.feed import FeedSettings

SYMBOLS = '["BTCUSDT", "ETHUSDT"]'


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[tuple[str, NatsBus]]:
    async with nats_server(tmp_path) as (url, _):
        bus = await connect(url)
        yield url, bus
        await bus.close()


async def test_a_consumer_misses_and_doubles_nothing_when_feeds_are_replaced_one_after_the_other(
    nats: tuple[str, NatsBus],
) -> None:
    url, bus = nats
    consumer = await Consumer().listen(bus)
    async with simvenue(symbols=SYMBOLS, flow_rate="3") as (venue, _):
        stack, before = [], None
        for life in range(5):
            own = await connect(url)
            feed = running_feed(venue, own, venue__symbols=SYMBOLS, observe__instance=f"feed-{life}")
            running = await feed.__aenter__()
            stack.append((feed, own))
            if before is None:
                await until(lambda: len(consumer.trades) == len(consumer.books) == 2)
            else:
                await asyncio.sleep(0.4)
                assert running.gauge("publishing") == 0 and running.service.health.ready
                await before.stop()
                await until(lambda running=running: running.gauge("publishing") == 1, 5, "the standby publishes")
            await asyncio.sleep(0.4)
            before = running
        consumer.assert_continuous()
        assert len(consumer.publishers) == 5
        for feed, own in reversed(stack):
            await feed.__aexit__(None, None, None)
            await own.close()


def process(url: str, venue: str, name: str, home: Path, **more: str) -> Process:
    (port,) = free_ports(1)
    env = {
        **os.environ, "PYTHONPATH": str(ROOT / "pkg"), "TICKMESH_NATS__URL": url,
        "TICKMESH_VENUE__REST_URL": f"http://{venue}", "TICKMESH_VENUE__STREAM_URL": f"ws://{venue}",
        "TICKMESH_VENUE__SYMBOLS": SYMBOLS, "TICKMESH_FEED__ADMIN_PORT": str(port),
        "TICKMESH_OBSERVE__INSTANCE": name, "TICKMESH_LOCAL__DATA_DIR": str(home),
        "TICKMESH_FEED__LEASE_TTL_MS": "800", **more,
    }  # fmt: skip
    made = Process([sys.executable, str(ROOT / "cmd" / "feed")], env)
    made.admin = f"http://127.0.0.1:{port}"
    return made


async def ready(feed: Process) -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(30):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{feed.admin}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


async def test_a_consumer_of_the_ring_misses_and_doubles_nothing_when_the_feed_is_upgraded(
    nats: tuple[str, NatsBus], tmp_path: Path
) -> None:
    """Processes of one node, one after the other under load: each is hot beside the last, takes the ring over from it,
    and goes on with it; the consumer attaches once."""
    url, bus = nats
    over_nats, ring, stopping = await Consumer().listen(bus), Consumer(), asyncio.Event()
    reader = RingReader(tmp_path, spin_us=0)
    reading = asyncio.create_task(reader.run(ring.take, stopping))
    feeds: list[Process] = []
    try:
        async with simvenue(symbols=SYMBOLS, flow_rate="3") as (venue, _):
            for life in range(4):
                feeds.append(process(url, venue, f"feed-{life}", tmp_path, TICKMESH_LOCAL__TRANSPORT="shm"))
                feeds[-1].start()
                await ready(feeds[-1])
                if life:
                    await until(lambda: ring.publishers, what="the ring is read")
                    await asyncio.to_thread(feeds[-2].kill, signal.SIGTERM)
                    await until(lambda life=life: len(ring.publishers) == life + 1, 30, "the next one writes the ring")
            heard = {subject: len(trades) for subject, trades in ring.trades.items()}
            await until(lambda: all(len(ring.trades[s]) > n for s, n in heard.items()), 30, "it goes on")
            ring.assert_continuous()
            over_nats.assert_continuous()
            assert ring.publishers == over_nats.publishers and len(ring.publishers) == 4
            assert reader.lost == 0 and reader.restarts == 3
    finally:
        stopping.set()
        await reading
        for feed in feeds:
            feed.end()


@pytest.mark.parametrize("how", ["killed", "stopped for a while"])
async def test_a_standby_goes_on_where_a_publisher_ended(nats: tuple[str, NatsBus], tmp_path: Path, how: str) -> None:
    url, bus = nats
    consumer = await Consumer().listen(bus)
    async with simvenue(symbols=SYMBOLS, flow_rate="3") as (venue, _):
        first = process(url, venue, "feed-a", tmp_path)
        first.start()
        own = await connect(url)
        try:
            await until(lambda: len(consumer.trades) == len(consumer.books) == 2)
            settings = {"venue__symbols": SYMBOLS, "observe__instance": "feed-b", "feed__lease_ttl_ms": "800"}
            async with running_feed(venue, own, **settings) as second:
                await asyncio.sleep(0.5)
                if how == "killed":
                    first.kill()
                else:
                    first.pause()
                await until(lambda: second.gauge("publishing") == 1, 10, "the standby publishes")
                await until(lambda: len(consumer.publishers) == 2)
                if how != "killed":
                    first.unpause()
                await asyncio.sleep(1.5)
                assert len(consumer.publishers) == 2
                assert consumer.drop_late_words() <= (0 if how == "killed" else FeedSettings().batch_frames)
                consumer.assert_continuous()
        finally:
            first.end()
            await own.close()
