"""Two feeds, one publishes: what a consumer sees when the publisher is drained, killed or stopped. Real nats-server and
simvenue; the feeds that are killed are processes. The venue numbers its trades and updates without holes."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from feed_rig import ROOT, Process, connect, nats_server, running_feed, simvenue, until

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.messages import BookUpdate, Trade, decode
from tickmesh.runtime.servers import free_ports

SYMBOLS = '["BTCUSDT", "ETHUSDT"]'


class Consumer:
    """Hears everything, remembers the order."""

    def __init__(self) -> None:
        self.trades: dict[str, list[Trade]] = {}
        self.books: dict[str, list[BookUpdate]] = {}

    async def listen(self, bus: NatsBus) -> Consumer:
        await bus.subscribe("md.trade.>", self._trade)
        await bus.subscribe("md.book.>", self._book)
        return self

    def _trade(self, subject: str, payload: bytes) -> None:
        self.trades.setdefault(subject, []).append(decode(Trade, payload))

    def _book(self, subject: str, payload: bytes) -> None:
        self.books.setdefault(subject, []).append(decode(BookUpdate, payload))

    @property
    def publishers(self) -> list[int]:
        """Lives that published, in the order in which they were heard."""
        return list(dict.fromkeys(b.epoch for books in self.books.values() for b in books))

    def assert_continuous(self) -> None:
        """Every trade once and in order, at a change of publisher no older and no stale book, no seq left out by one."""
        assert len(self.trades) == len(self.books) == 2
        for subject, trades in self.trades.items():
            ids = [t.trade_id for t in trades]
            assert ids == list(range(ids[0], ids[0] + len(ids))), (subject, _steps(ids))
        for subject, books in self.books.items():
            lives = [list(life) for _, life in itertools.groupby(books, key=lambda b: b.epoch)]
            for old, new in itertools.pairwise(lives):  # inside a life a book may be begun again; that is said there
                assert new[0].update_id >= old[-1].update_id, (subject, old[-1].update_id, new[0].update_id)
                assert not old[-1].stale and not new[0].stale, subject
        for messages in (*self.trades.values(), *self.books.values()):
            for _, life in itertools.groupby(messages, key=lambda m: m.epoch):
                seqs = [m.seq for m in life]
                assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def _steps(ids: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in itertools.pairwise(ids) if b != a + 1][:5]


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


def process(url: str, venue: str, name: str, home: Path) -> Process:
    (port,) = free_ports(1)
    env = {
        **os.environ, "PYTHONPATH": str(ROOT / "pkg"), "TICKMESH_NATS__URL": url,
        "TICKMESH_VENUE__REST_URL": f"http://{venue}", "TICKMESH_VENUE__STREAM_URL": f"ws://{venue}",
        "TICKMESH_VENUE__SYMBOLS": SYMBOLS, "TICKMESH_FEED__ADMIN_PORT": str(port),
        "TICKMESH_OBSERVE__INSTANCE": name, "TICKMESH_LOCAL__DATA_DIR": str(home),
        "TICKMESH_FEED__LEASE_TTL_MS": "800",
    }  # fmt: skip
    return Process([sys.executable, str(ROOT / "cmd" / "feed")], env)


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
                consumer.assert_continuous()
        finally:
            first.end()
            await own.close()
