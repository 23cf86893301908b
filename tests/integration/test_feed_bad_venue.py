"""A venue that misbehaves: malformed frames, gaps, silence, refusals, broken connections. No market behind it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
from feed_rig import Running, ScriptedVenue, running_feed, until

from tickmesh.bus.memory import MemoryBus
from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.services.instruments import wait_for_instruments

MALFORMED = {
    "not JSON": "{]",
    "cut off": '{"stream":"btcusdt@trade","data":{"e":"trade","E":1',
    "a price that is no number": (
        '{"stream":"btcusdt@trade","data":'
        '{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":1,"p":"abc","q":"1","X":"MARKET","m":true}}'
    ),
    "a price off the grid": (
        '{"stream":"btcusdt@trade","data":'
        '{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":1,"p":"1.23","q":"1","X":"MARKET","m":true}}'
    ),
    "an unknown event": '{"stream":"btcusdt@x","data":{"e":"surprise","E":1,"s":"BTCUSDT"}}',
    "a wrong type": '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":"x","s":"BTCUSDT"}}',
    "a trade of nothing": (
        '{"stream":"btcusdt@trade","data":'
        '{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":1,"p":"100.0","q":"0","X":"MARKET","m":true}}'
    ),
    "a list": "[1,2,3]",
    "empty": "",
    "deep nesting": '{"stream":"s","data":' + "[" * 5000,
    "a mark price that is NaN": (
        '{"stream":"btcusdt@markPrice","data":{"e":"markPriceUpdate","E":1,"s":"BTCUSDT","p":"NaN","r":"0","T":1}}'
    ),
    "a negative quantity": (
        '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":1000,"s":"BTCUSDT","b":"100.0","B":"-1.000",'
        '"a":"100.1","A":"1.000","T":1,"E":1}}'
    ),
    "a number beyond all bounds": '{"stream":"s","data":{"e":"aggTrade","E":' + "9" * 400 + "}}",
}


@pytest.fixture
async def venue() -> AsyncIterator[ScriptedVenue]:
    async with ScriptedVenue().serve() as served:
        yield served


@pytest.fixture
async def feed(venue: ScriptedVenue) -> AsyncIterator[Running]:
    async with running_feed(
        venue.address, MemoryBus(), feed__stale_after_s="0.5", feed__ping_interval_s="0.5", feed__ping_timeout_s="0.5"
    ) as running:
        await venue.diff(101, 110, 100, [["99.9", "2.500"]], [])
        await until(lambda: running.books and not running.books[-1].stale)
        yield running


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_frame_is_counted_logged_once_and_skipped(
    venue: ScriptedVenue, feed: Running, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "tickmesh.feed"):
        for _ in range(3):
            await venue.say(MALFORMED[name])
        await venue.trade(7)
        await until(lambda: feed.trades, what="the trade after the malformed frames")
    assert feed.count("malformed_total") == 3
    assert len([r for r in caplog.records if "skipped a frame" in r.message]) == 1
    assert [t.trade_id for t in feed.trades] == [7]
    assert (await feed.get("/book/BTCUSDT"))["bids"] == [["100.0", "1.000"], ["99.9", "2.500"]]


async def test_binary_and_invalid_utf8_frames_are_counted_and_skipped(venue: ScriptedVenue, feed: Running) -> None:
    await venue.say(b'{"stream":"\xff\xfe"')
    await venue.say(b"\x00\x01")
    await venue.trade(7)
    await until(lambda: feed.trades)
    assert feed.count("malformed_total") == 2


async def test_a_logged_malformed_frame_shows_no_secret(
    venue: ScriptedVenue, feed: Running, caplog: pytest.LogCaptureFixture
) -> None:
    from tickmesh.observe.logs import mask

    with caplog.at_level(logging.ERROR, "tickmesh.feed"):
        await venue.say('{"listenKey":"abcdefghijklmnop","e":"what"')
        await until(lambda: feed.count("malformed_total") == 1)
    shown = mask(caplog.records[-1].getMessage())
    assert "abcd****" in shown
    assert "abcdefghijklmnop" not in shown


async def test_a_gap_is_counted_and_the_book_is_right_again_after_a_snapshot(
    venue: ScriptedVenue, feed: Running
) -> None:
    venue.last_id, venue.bids = 200, [["50.0", "1.000"]]
    snapshots = venue.snapshots
    await venue.diff(150, 200, 140, [["60.0", "9.000"]], [])
    await until(lambda: feed.books[-1].stale, what="stale after the gap")
    await until(lambda: venue.snapshots > snapshots)
    await venue.diff(201, 210, 200, [["49.0", "3.000"]], [])
    await until(lambda: not feed.books[-1].stale)
    book = await feed.get("/book/BTCUSDT")
    assert book["bids"][-1] == ["49.0", "3.000"]
    assert ["50.0", "1.000"] in book["bids"]
    assert ["99.9", "2.500"] not in book["bids"]
    assert feed.count("gaps_total") == 1
    assert feed.count("resyncs_total") == 2


async def test_a_second_connection_that_is_far_ahead_does_not_take_over_and_nothing_is_lost(
    venue: ScriptedVenue,
) -> None:
    """The first one lags by more than may be held of the second: its frames in between would be nowhere."""
    async with running_feed(
        venue.address, MemoryBus(), wait=False, feed__connection_max_age_s="0.5", feed__queue_frames="16"
    ) as feed:
        await until(lambda: venue.snapshots)
        await venue.diff(101, 110, 100, [["99.9", "2.500"]], [])
        await venue.trade(1)
        await until(lambda: len(venue.sockets) == 2 and feed.trades)
        lagging = venue.sockets.pop(0)
        for number in range(20):
            await venue.diff(131 + number, 131 + number, 130 + number, [["98.0", f"{number + 1}.000"]], [])
            await venue.trade(100 + number)
        await until(lambda: feed.count("rollovers_total") + feed.count("rollovers_failed_total"))
        ahead, venue.sockets[:] = list(venue.sockets), [lagging]
        await venue.diff(111, 130, 110, [["97.0", "1.000"]], [])
        for number in range(2, 100):
            await venue.trade(number)
        await until(lambda: len(feed.trades) == 99, what="every trade")
        await until(lambda: feed.books[-1].update_id == 130)
        assert feed.count("rollovers_failed_total") == 1 and feed.count("rollovers_total") == 0
        assert feed.count("gaps_total") == feed.count("trades_missing_total") == 0 and not feed.books[-1].stale
        venue.sockets.extend(ahead)


async def test_doubled_and_old_diffs_change_nothing(venue: ScriptedVenue, feed: Running) -> None:
    await venue.diff(111, 120, 110, [["98.0", "1.000"]], [])
    await venue.diff(111, 120, 110, [["98.0", "5.000"]], [])
    await venue.diff(101, 110, 100, [["98.0", "6.000"]], [])
    await venue.diff(121, 130, 120, [["97.0", "1.000"]], [])
    await until(lambda: feed.books[-1].update_id == 130)
    assert ["98.0", "1.000"] in (await feed.get("/book/BTCUSDT"))["bids"]
    assert feed.count("gaps_total") == 0


async def test_silence_makes_the_last_book_stale_and_the_next_frame_revives_it(
    venue: ScriptedVenue, feed: Running
) -> None:
    levels = feed.books[-1].bids
    await until(lambda: feed.books[-1].stale, 5, "stale after half a second of silence")
    assert feed.books[-1].bids == levels
    await venue.diff(111, 120, 110, [["98.0", "1.000"]], [])
    await until(lambda: not feed.books[-1].stale)
    assert feed.count("gaps_total") == 0


async def test_a_depth_stream_that_stands_still_while_the_top_moves_is_begun_again(
    venue: ScriptedVenue, feed: Running
) -> None:
    snapshots = venue.snapshots
    for number in range(40):
        await venue.send(
            "bookTicker", e="bookTicker", u=1000 + number, s="BTCUSDT", b="100.0", B="1.000", a="100.1", A="1.000",
            T=1000, E=1000,
        )  # fmt: skip
        await asyncio.sleep(0.05)
        if venue.snapshots > snapshots:
            break
    assert venue.snapshots > snapshots
    await until(lambda: feed.books[-1].stale)


async def test_a_trade_that_comes_late_is_published_and_one_that_comes_twice_is_not(
    venue: ScriptedVenue, feed: Running
) -> None:
    for number in (5, 8, 6, 6, 8, 9):
        await venue.trade(number)
    await until(lambda: feed.trades and feed.trades[-1].trade_id == 9)
    await until(lambda: feed.count("trades_duplicate_total") == 2)
    assert [t.trade_id for t in feed.trades] == [5, 8, 6, 9]
    assert feed.count("trades_missing_total") == 2
    assert feed.count("trades_late_total") == 1


async def test_snapshots_are_asked_for_again_until_the_venue_answers(venue: ScriptedVenue) -> None:
    venue.depth_status = 503
    async with running_feed(venue.address, MemoryBus(), wait=False) as feed:
        await until(lambda: venue.snapshots >= 3)
        assert not feed.service.health.ready
        venue.depth_status = 200
        await until(lambda: feed.service.health.ready)


async def test_a_closed_connection_is_made_again_and_everything_is_subscribed_again(
    venue: ScriptedVenue, feed: Running
) -> None:
    await venue.sockets[0].close(code=1001)
    await until(lambda: feed.books[-1].stale)
    await until(lambda: venue.connects == 2)
    venue.last_id = 500
    await until(lambda: feed.count("resyncs_total") >= 2)
    await venue.diff(501, 510, 500, [["99.9", "2.500"]], [])
    await until(lambda: not feed.books[-1].stale)
    assert feed.count("gaps_total") == 0


async def test_frames_of_symbols_nobody_asked_for_are_counted_and_ignored(venue: ScriptedVenue, feed: Running) -> None:
    await until(lambda: feed.count("events_total") == 1)
    await venue.send("trade", e="trade", E=1, T=1, s="XYZUSDT", t=1, p="1", q="1", X="MARKET", m=True)
    await venue.trade(1)
    await until(lambda: feed.trades)
    await until(lambda: feed.count("other_symbols_total") == 1)
    await until(lambda: feed.count("events_total") == 2)


async def test_the_admin_page_refuses_what_it_does_not_know(feed: Running) -> None:
    assert "does not follow" in (await feed.get("/book/NOSUCH"))["error"]
    assert "whole number" in (await feed.get("/book/BTCUSDT?depth=x"))["error"]
    assert len((await feed.get("/book/BTCUSDT?depth=1"))["bids"]) == 1


async def test_a_venue_that_pings_gets_its_pongs(venue: ScriptedVenue) -> None:
    venue.heartbeat_s = 0.2  # it closes the connection when a pong is late by half of this
    async with running_feed(venue.address, MemoryBus()):
        await asyncio.sleep(1.0)
        assert venue.connects == 1
        assert len(venue.sockets) == 1


async def test_a_message_in_fragments_is_put_together(venue: ScriptedVenue, feed: Running) -> None:
    whole = (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":3,"p":"100.0","q":"1",'
        b'"X":"MARKET","m":true}}'
    )
    parts = [whole[:40], whole[40:80], whole[80:]]
    for number, part in enumerate(parts):
        opcode = (0x01 if number == 0 else 0x00) | (0x80 if number == len(parts) - 1 else 0x00)
        venue.say_raw(bytes([opcode, len(part)]) + part)
    await until(lambda: feed.trades)
    assert feed.trades[0].trade_id == 3
    assert feed.count("malformed_total") == 0


async def test_what_breaks_the_websocket_protocol_ends_in_a_new_connection(venue: ScriptedVenue, feed: Running) -> None:
    venue.say_raw(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    await until(lambda: venue.connects == 2, what="a second connection")
    await until(lambda: feed.count("resyncs_total") >= 2)


async def test_streams_that_do_not_fit_the_address_are_subscribed_by_message(venue: ScriptedVenue) -> None:
    symbols = ["BTCUSDT", *(f"X{number}USDT" for number in range(59))]
    async with running_feed(venue.address, MemoryBus(), wait=False, venue__symbols=",".join(symbols)) as feed:
        await until(lambda: venue.heard, what="a SUBSCRIBE request")
        streams = venue.asked + [name for text in venue.heard for name in json.loads(text)["params"]]
        assert len(streams) == len(set(streams)) == 4 * len(symbols)
        await venue.say('{"result":null,"id":1}')
        await venue.say('{"id":2,"error":{"code":2,"msg":"Invalid request"}}')
        await until(lambda: feed.count("malformed_total") == 1, what="a refused subscription is reported")


async def test_more_symbols_than_one_connection_carries_are_refused_with_a_sentence(venue: ScriptedVenue) -> None:
    symbols = ",".join(f"X{number}USDT" for number in range(257))
    with pytest.raises(ConfigError, match="at most 256 symbols"):
        async with running_feed(venue.address, MemoryBus(), venue__symbols=symbols):
            pass


async def test_a_changed_listing_reaches_the_bus_and_a_changed_grid_asks_for_a_new_start(venue: ScriptedVenue) -> None:
    bus = MemoryBus()
    with pytest.raises(DependencyError, match=r"the grid of BTCUSDT changed from 0\.1 and 0\.001 to 0\.05 and 0\.001"):
        async with running_feed(venue.address, bus, feed__listing_interval_s="0.05") as feed:
            assert (await wait_for_instruments(bus, "binance", ["BTCUSDT"]))["BTCUSDT"].max_qty == 1000
            venue.info = venue.info.replace(b'"maxQty":"1000"', b'"maxQty":"500"')
            async with asyncio.timeout(10):
                while (await wait_for_instruments(bus, "binance", ["BTCUSDT"]))["BTCUSDT"].max_qty != 500:
                    await asyncio.sleep(0.02)
            assert not feed.task.done()
            venue.info = venue.info.replace(b'"tickSize":"0.1"', b'"tickSize":"0.05"')
            await until(feed.task.done, what="the feed ends")
            feed.task.result()


async def test_gaps_without_end_do_not_use_up_the_venues_request_weight(venue: ScriptedVenue) -> None:
    async with running_feed(
        venue.address, MemoryBus(), feed__snapshot_weight_per_min="240", feed__snapshot_interval_s="0.01"
    ) as feed:
        for number in range(150):
            await venue.diff(1000 * number + 501, 1000 * number + 900, 1000 * number + 500, [], [])
            venue.last_id = 1000 * number + 900
            await asyncio.sleep(0.02)
        assert feed.count("gaps_total") >= 3
        # 240 are twelve snapshots of 20 a minute: six at once, then one every ten seconds.
        assert 4 <= venue.snapshots <= 7


async def test_a_quiet_market_whose_venue_answers_pings_keeps_its_connection(
    feed: Running, venue: ScriptedVenue
) -> None:
    before = feed.count("connects_total")
    await asyncio.sleep(3.0)  # three times as long as a ping and the wait for its pong
    assert feed.count("connects_total") == before
    await venue.diff(111, 120, 110, [["99.9", "3.500"]], [])
    await until(lambda: not feed.books[-1].stale)
