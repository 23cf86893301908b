"""The replay of a capture through real sockets: every frame, no gap, and the book that the file itself rebuilds to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from venue_process import CAPTURE, KEY, SECRET, VenueProcess

from tickmesh.observe.clock import SystemClock
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.capture import Capture, Kind, rebuild_book

pytestmark = pytest.mark.skipif(not CAPTURE.exists(), reason="the capture is not here")
STREAMS = "btcusdt@depth@0ms/btcusdt@bookTicker/btcusdt@trade"


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[VenueProcess]:
    with VenueProcess(tmp_path, replay=CAPTURE, replay_speed=0) as process:
        yield process


class Book:
    """A client that knows nothing but the venue's documented rules for a local book."""

    def __init__(self) -> None:
        self.levels: dict[str, dict[Decimal, Decimal]] = {"b": {}, "a": {}}
        self.last = self.gaps = 0
        self.waiting: list[dict[str, Any]] = []

    def snapshot(self, body: dict[str, Any]) -> None:
        for name, key in (("b", "bids"), ("a", "asks")):
            self.levels[name] = {Decimal(p): Decimal(q) for p, q in body[key]}
        self.last = body["lastUpdateId"]
        self.joined = False
        held, self.waiting = self.waiting, []
        for frame in held:
            self.take(frame)

    def take(self, frame: dict[str, Any]) -> None:
        if not self.last:
            self.waiting.append(frame)
            return
        if not self.joined:
            if frame["u"] < self.last:
                return
            self.joined = True
            self.gaps += not frame["U"] <= self.last + 1
        else:
            self.gaps += frame["pu"] != self.last
        self.last = frame["u"]
        for name in ("b", "a"):
            for price, qty in frame[name]:
                if Decimal(qty):
                    self.levels[name][Decimal(price)] = Decimal(qty)
                else:
                    self.levels[name].pop(Decimal(price), None)


async def follow(venue: VenueProcess, slow_s: float = 0.0) -> tuple[Book, dict[str, int]]:
    """Listen to the whole replay; ``slow_s`` is slept every thousand frames."""
    book, counts = Book(), dict[str, int]()

    async def take_snapshot(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{venue.url}/fapi/v1/depth?symbol=BTCUSDT&limit=1000") as answer:
            book.snapshot(await answer.json())

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{venue.stream_url}/stream?streams={STREAMS}", max_msg_size=0) as stream,
    ):
        asking: asyncio.Task[None] | None = None
        number = 0
        while True:
            try:
                message = await asyncio.wait_for(stream.receive(), 3)
            except TimeoutError:
                if venue.get(f"{venue.admin}/stats")["gauges"]["replay_finished"]:
                    return book, counts
                continue
            assert message.type is aiohttp.WSMsgType.TEXT, message
            name, _, text = message.data.partition('"data":')
            kind = name.split('"stream":"', 1)[1].split('"', 1)[0].split("@")[1]
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "depth":
                if asking is None:
                    asking = asyncio.create_task(take_snapshot(session))
                book.take(json.loads(text[:-1]))
            number += 1
            if slow_s and number % 1000 == 0:
                await asyncio.sleep(slow_s)


async def test_the_replayed_book_equals_the_one_rebuilt_from_the_file_and_no_frame_is_missing(
    venue: VenueProcess,
) -> None:
    started = time.monotonic()
    book, counts = await follow(venue)
    print("frames", counts, "seconds", round(time.monotonic() - started, 1))
    expected: dict[str, int] = {}
    for record in Capture(CAPTURE).records():
        if record.kind in (Kind.DEPTH, Kind.BOOK_TICKER, Kind.TRADE):
            expected[record.kind.value] = expected.get(record.kind.value, 0) + 1
    assert counts == expected
    assert book.gaps == 0
    rebuilt = rebuild_book(CAPTURE, "BTCUSDT")
    assert book.last == rebuilt.last_id
    assert book.levels["b"] == rebuilt.bids and book.levels["a"] == rebuilt.asks


async def test_a_consumer_that_is_slow_for_a_while_still_gets_everything(tmp_path: Path) -> None:
    with VenueProcess(tmp_path, replay=CAPTURE, replay_speed=0, max_buffer_kb=64) as venue:
        book, counts = await follow(venue, slow_s=0.02)
        stats = venue.get(f"{venue.admin}/stats")["counters"]
    assert book.gaps == 0 and sum(counts.values()) > 90_000
    assert stats["slow_connections_total"] == 0


async def test_a_consumer_that_never_reads_is_cut_off_and_the_replay_goes_on(tmp_path: Path) -> None:
    with VenueProcess(tmp_path, replay=CAPTURE, replay_speed=0, max_buffer_kb=64, replay_wait_s=0.5) as venue:
        reader, writer = await asyncio.open_connection("127.0.0.1", venue.port, limit=1024)
        writer.write(
            f"GET /stream?streams={STREAMS} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        deadline = time.monotonic() + 60
        while not venue.get(f"{venue.admin}/stats")["gauges"]["replay_finished"]:
            assert time.monotonic() < deadline, "the replay is stuck behind a hung reader"
            await asyncio.sleep(0.2)
        assert venue.get(f"{venue.admin}/stats")["counters"]["slow_connections_total"] == 1
        writer.transport.abort()


async def test_our_orders_trade_in_a_replay_behind_the_real_liquidity(venue: VenueProcess) -> None:
    rest = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock())
    listening = asyncio.create_task(follow(venue))
    placed = 0
    while not listening.done():
        await asyncio.sleep(0.1)
        asks = venue.get(f"{venue.url}/fapi/v1/depth?symbol=BTCUSDT&limit=5")["asks"]
        try:
            await rest.place(
                {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTX", "quantity": "0.01"}
                | {"price": Decimal(asks[0][0]) - Decimal("0.1")}
            )
            placed += 1
        except Exception as error:  # the book moves at full speed: post-only is refused now and then
            assert "Post Only" in str(error) or "limit" in str(error), error
    book, _ = await listening
    fills = venue.record()["fills"]
    await rest.close()
    assert placed > 0 and fills and all(fill["maker"] for fill in fills)
    assert book.gaps == 0
    rebuilt = rebuild_book(CAPTURE, "BTCUSDT")
    assert book.levels["b"] == rebuilt.bids and book.levels["a"] == rebuilt.asks
