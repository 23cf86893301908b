"""The feed on real servers: right books through kills and replays, and nothing lost on the way to the bus."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from feed_rig import DATA, Process, Running, connect, nats_server, running_feed, simvenue, until

from tickmesh.bus.memory import MemoryBus
from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import ConfigError
from tickmesh.services.instruments import wait_for_instruments
from tickmesh.venues.capture import Capture, Kind, rebuild_book

CAPTURE = DATA / "btcusdt_20240808.gz"


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[tuple[NatsBus, Process]]:
    async with nats_server(tmp_path) as (url, process):
        bus = await connect(url)
        yield bus, process
        await bus.close()


async def venue_book(address: str) -> tuple[int, list[list[str]], list[list[str]]]:
    url = f"http://{address}/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        body = await response.json()
    return body["lastUpdateId"], body["bids"], body["asks"]


def numbers(levels: list[list[str]]) -> dict[Decimal, Decimal]:
    return {Decimal(p): Decimal(q) for p, q in levels}


async def assert_equals_the_venue(feed: Running, address: str) -> None:
    """Both at the same update id have the same levels; the market moves, so it may take a few looks."""
    for _ in range(200):
        ours, (update_id, bids, asks) = await asyncio.gather(feed.get("/book/BTCUSDT?depth=0"), venue_book(address))
        if ours["update_id"] == update_id and not ours["stale"]:
            assert numbers(ours["bids"]) == numbers(bids)
            assert numbers(ours["asks"]) == numbers(asks)
            return
        await asyncio.sleep(0.01)
    raise AssertionError("feed and venue were never seen at the same update id")


async def test_books_trades_and_marks_of_a_running_market_reach_the_bus(nats: tuple[NatsBus, Process]) -> None:
    bus, _ = nats
    async with (
        simvenue(symbols="BTCUSDT,ETHUSDT") as (address, _),
        running_feed(address, bus, venue__symbols="BTCUSDT,ETHUSDT") as feed,
    ):
        await until(lambda: {b.symbol for b in feed.books if not b.stale} == {"BTCUSDT", "ETHUSDT"} and feed.trades)
        await until(lambda: feed.marks, what="a mark price")
        instruments = await wait_for_instruments(bus, "binance", ["BTCUSDT", "ETHUSDT"], timeout_s=5)
        await assert_equals_the_venue(feed, address)
        update = next(b for b in reversed(feed.books) if b.symbol == "BTCUSDT")
        assert 0 < update.receive_mono_ns <= update.publish_mono_ns
        assert 0 < update.receive_ns <= update.publish_ns
        books = [b for b in feed.books if b.symbol == "BTCUSDT"]  # a side may be thin for a moment
        assert max(len(b.bids) for b in books) == max(len(b.asks) for b in books) == 10
        assert update.bids == sorted(update.bids, reverse=True) and update.asks == sorted(update.asks)
        assert update.bids[0][0] < update.microprice_ticks < update.asks[0][0]
        assert instruments["BTCUSDT"].tick_size > 0
        for messages in (feed.trades, [b for b in feed.books if b.symbol == "BTCUSDT"]):
            mine = [m.seq for m in messages if m.symbol == "BTCUSDT"]
            assert mine == list(range(mine[0], mine[0] + len(mine)))
        assert feed.count("gaps_total") == 0
        assert feed.count("malformed_total") == 0


async def test_an_unknown_symbol_ends_the_start_with_a_sentence_that_names_it() -> None:
    async with simvenue(symbols="BTCUSDT") as (address, _):
        with pytest.raises(ConfigError, match=r"does not list NOSUCH; correct TICKMESH_VENUE__SYMBOLS"):
            async with running_feed(address, MemoryBus(), venue__symbols="NOSUCH"):
                pass


async def test_a_killed_venue_leaves_a_stale_book_and_its_return_a_right_one() -> None:
    async with simvenue(symbols="BTCUSDT") as (address, process), running_feed(address, MemoryBus()) as feed:
        await until(lambda: feed.books and not feed.books[-1].stale)
        process.kill()
        await until(lambda: feed.books[-1].stale, 5, "a stale book")
        assert feed.books[-1].bids, "the last known levels stay"
        assert feed.gauge("books_stale") == 1 or await _soon(feed, "books_stale", 1)
        assert not feed.service.health.ready or await _unready(feed)
        resyncs = feed.count("resyncs_total")
        process.start()
        await until(lambda: not feed.books[-1].stale, 20, "a right book again")
        await until(lambda: feed.service.health.ready)
        assert feed.count("disconnects_total") >= 1
        assert feed.count("resyncs_total") > resyncs
        trades = len(feed.trades)
        await until(lambda: len(feed.trades) > trades, what="trades of a venue that began its numbers anew")
        await assert_equals_the_venue(feed, address)
        assert feed.count("gaps_total") == 0


async def _soon(feed: Running, gauge: str, value: float) -> bool:
    await until(lambda: feed.gauge(gauge) == value)
    return True


async def _unready(feed: Running) -> bool:
    await until(lambda: not feed.service.health.ready)
    return True


@pytest.mark.skipif(not CAPTURE.exists(), reason=f"there is no capture {CAPTURE}")
@pytest.mark.parametrize("max_age_s", ["84600", "1"], ids=["one connection", "connections replaced all the time"])
async def test_the_replayed_capture_ends_in_the_independently_rebuilt_book(max_age_s: str) -> None:
    oracle = rebuild_book(CAPTURE, "BTCUSDT")
    assert oracle.gaps == 0 and oracle.bids
    trades = sum(1 for r in Capture(CAPTURE).records() if r.kind is Kind.TRADE)
    async with (
        simvenue(replay=str(CAPTURE), replay_speed="0") as (address, _),
        running_feed(address, MemoryBus(), feed__connection_max_age_s=max_age_s) as feed,
    ):
        await until(lambda: feed.books and feed.books[-1].update_id >= oracle.last_id, 90, "the end of the replay")
        await until(lambda: len(feed.trades) == trades, 10, "the last trade")
        book = await feed.get("/book/BTCUSDT?depth=0")
        assert book["update_id"] == oracle.last_id
        assert numbers(book["bids"]) == oracle.bids
        assert numbers(book["asks"]) == oracle.asks
        assert feed.count("gaps_total") == 0
        assert feed.count("malformed_total") == 0
        assert feed.count("trades_missing_total") == 0
        assert len({t.trade_id for t in feed.trades}) == trades
        assert feed.count("events_total") >= trades + oracle.applied
        if max_age_s == "1":
            assert feed.count("rollovers_total") >= 2
            assert feed.count("disconnects_total") == 0


async def test_connections_are_replaced_without_a_gap_or_a_doubled_trade() -> None:
    async with (
        simvenue(symbols="BTCUSDT", flow_rate="5") as (address, _),
        running_feed(address, MemoryBus(), feed__connection_max_age_s="0.5") as feed,
    ):
        await until(lambda: feed.count("rollovers_total") >= 3)
        await assert_equals_the_venue(feed, address)
        assert not any(b.stale for b in feed.books[1:])
        assert feed.count("gaps_total") == feed.count("disconnects_total") == feed.count("trades_missing_total") == 0
        ids = [t.trade_id for t in feed.trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_while_the_bus_is_away_books_conflate_and_trades_wait(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as (url, server), simvenue(symbols="BTCUSDT", flow_rate="3") as (address, _):
        bus, listen = await connect(url), await connect(url)
        async with running_feed(address, bus, listen=listen) as feed:
            await until(lambda: len(feed.trades) > 5 and feed.books)
            server.kill()
            await until(lambda: not bus.connected)
            before = feed.count("trades_published_total")
            await until(lambda: feed.count("trades_held_total") >= 20, what="trades that wait")
            books = len(feed.books)
            server.start()
            await until(lambda: bus.connected and listen.connected and feed.gauge("trades_held") == 0)
            held = feed.count("trades_published_total") - before
            await until(lambda: len(feed.books) > books)
            await until(lambda: feed.trades[-1].seq > before)
            await asyncio.sleep(0.3)
            # Lost is at most what was in the dead server's hands; everything held afterwards arrives, in order.
            seqs = [t.seq for t in feed.trades]
            assert seqs == sorted(set(seqs))
            assert len([s for s in seqs if s > before]) >= held - 5
            assert feed.count("trades_dropped_total") == 0
        await bus.close()
        await listen.close()


async def test_trades_beyond_the_bound_are_dropped_oldest_first_counted_and_alerted(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with (
        simvenue(symbols="BTCUSDT", flow_rate="5") as (address, _),
        running_feed(address, bus, feed__queue_trades="10") as feed,
    ):
        await until(lambda: feed.trades)
        bus.connected = False
        await until(lambda: feed.count("trades_dropped_total") >= 5)
        bus.connected = True
        await until(lambda: "alert.critical.trades-dropped" in feed.alerts)
        dropped = feed.count("trades_dropped_total")
        seqs = [t.seq for t in feed.trades]
        assert seqs == sorted(set(seqs))
        assert seqs[-1] - len(seqs) == dropped - seqs[0] + 1


async def test_it_drains_and_says_goodbye_with_a_stale_book() -> None:
    async with simvenue(symbols="BTCUSDT") as (address, _), running_feed(address, MemoryBus()) as feed:
        await until(lambda: feed.books and not feed.books[-1].stale)
        await feed.stop()
        assert feed.books[-1].stale


async def test_with_the_shm_transport_the_ring_carries_what_the_bus_carries(tmp_path: Path) -> None:
    from tickmesh.bus.ring import RingReader

    async with (
        simvenue(symbols="BTCUSDT") as (address, _),
        running_feed(address, MemoryBus(), local__transport="shm", local__data_dir=str(tmp_path), wait=False) as feed,
    ):
        ring: list[tuple[str, bytes]] = []
        stopping = asyncio.Event()
        reader = RingReader(tmp_path)
        task = asyncio.create_task(reader.run(lambda s, p: ring.append((s, p)), stopping))
        await until(lambda: reader.attached)
        bus: list[tuple[str, bytes]] = []
        await feed.service.bus.subscribe("md.>", lambda s, p: bus.append((s, p)))
        await until(lambda: len(bus) > 50 and bus[50] in ring)
        stopping.set()
        await task
        first = ring.index(bus[0])
        assert ring[first : first + 50] == bus[:50]
        assert reader.lost == 0
        assert feed.count("ring_oversized_total") == 0


async def test_a_frozen_venue_is_noticed_by_its_missing_pongs(tmp_path: Path) -> None:
    async with (
        simvenue(symbols="BTCUSDT") as (address, process),
        running_feed(
            address,
            MemoryBus(),
            feed__ping_interval_s="0.3",
            feed__ping_timeout_s="0.3",
            feed__stale_after_s="0.3",
            feed__rest_timeout_s="0.5",
        ) as feed,
    ):
        await until(lambda: feed.books and not feed.books[-1].stale)
        process.pause()
        await until(lambda: feed.books[-1].stale, what="a stale book")
        await until(lambda: feed.count("disconnects_total") >= 1, what="the connection is given up")
        process.unpause()
        await until(lambda: not feed.books[-1].stale, what="a right book again")
        await assert_equals_the_venue(feed, address)


@pytest.mark.parametrize("kind", ["drop", "duplicate", "reorder", "disconnect"])
async def test_a_faulty_stream_ends_in_the_venues_own_book(kind: str) -> None:
    """What is lost or comes out of order is found by the sequence, counted, and repaired from a snapshot."""
    fault = {"kind": kind, "target": "stream", "stream": "btcusdt@depth*", "probability": 0.1}
    if kind == "disconnect":
        fault |= {"probability": 1.0, "count": 2}
    async with (
        simvenue(symbols="BTCUSDT", flow_rate="3") as (address, process),
        running_feed(address, MemoryBus()) as feed,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(f"{process.admin}/faults", json=fault) as response:
            assert response.status == 200, await response.text()
        if kind == "disconnect":
            await until(lambda: feed.count("disconnects_total") >= 1)
        elif kind == "duplicate":
            await until(lambda: feed.count("events_total") > 400)
            assert feed.count("gaps_total") == 0
        else:
            await until(lambda: feed.count("gaps_total") >= 2 and feed.count("resyncs_total") >= 2)
        async with session.delete(f"{process.admin}/faults") as response:
            assert response.status == 200
        await until(lambda: feed.books and not feed.books[-1].stale)
        await assert_equals_the_venue(feed, address)
        assert feed.count("malformed_total") == 0
