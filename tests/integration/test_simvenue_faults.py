"""Every fault of the venue, switched on at the admin port, as clients see it over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from venue_process import KEY, SECRET, VenueProcess

from tickmesh.observe.clock import SystemClock
from tickmesh.venues.binance_usdm.codec_trading import Outcome, VenueCallError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

S = "BTCUSDT"
ORDER = {"symbol": S, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010"}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VenueProcess]:
    with VenueProcess(tmp_path_factory.mktemp("venue"), weight_limit_1m=1_000_000) as found:
        yield found


@pytest.fixture
def venue(process: VenueProcess) -> Iterator[VenueProcess]:
    yield process
    process.admin_call("DELETE", "/faults")


@pytest.fixture
async def rest(venue: VenueProcess) -> AsyncIterator[BinanceUsdmRest]:
    client = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock(), timeout_s=1.0)
    yield client
    venue.admin_call("DELETE", "/faults")
    client.time_offset_ms = 0
    await client.cancel_all(S)
    await client.close()


def on(venue: VenueProcess, **fault: Any) -> int:
    return int(venue.admin_call("POST", "/faults", fault)["id"])


def price(venue: VenueProcess) -> str:
    bids = venue.get(f"{venue.url}/fapi/v1/depth?symbol={S}&limit=5")["bids"]
    return f"{float(bids[0][0]) - 500:.1f}"


async def fails(rest: BinanceUsdmRest, venue: VenueProcess, client_id: str, wanted: str) -> VenueCallError:
    with pytest.raises(VenueCallError) as caught:
        await rest.place({**ORDER, "price": wanted, "newClientOrderId": client_id})
    venue.admin_call("DELETE", "/faults")
    return caught.value


async def exists(rest: BinanceUsdmRest, client_id: str) -> bool:
    try:
        return (await rest.query(S, client_id)).clientOrderId == client_id
    except VenueCallError as error:
        assert error.code == -2013
        return False


@pytest.mark.parametrize(
    ("fault", "outcome", "done"),
    [
        ({"kind": "drop"}, Outcome.UNKNOWN, False),
        ({"kind": "accept_then_timeout", "timeout_s": 3}, Outcome.UNKNOWN, True),
        ({"kind": "disconnect", "target": "rest"}, Outcome.UNKNOWN, True),
        ({"kind": "error"}, Outcome.UNKNOWN, False),
        ({"kind": "error", "processed": True}, Outcome.UNKNOWN, True),
        ({"kind": "error", "code": -1008, "msg": "Service Unavailable."}, Outcome.RATE_LIMITED, False),
        ({"kind": "error", "code": 0, "msg": "Service Unavailable."}, Outcome.NOT_SENT, False),
        ({"kind": "error", "status": 500, "code": -1001, "msg": "Internal error"}, Outcome.UNKNOWN, False),
        ({"kind": "error", "status": 429, "code": -1003, "retry_after_s": 7}, Outcome.RATE_LIMITED, False),
        ({"kind": "maintenance"}, Outcome.NOT_SENT, False),
        ({"kind": "delay", "delay_ms": 1500}, Outcome.UNKNOWN, True),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
async def test_a_fault_on_an_order_means_what_our_client_says_it_means(
    venue: VenueProcess, rest: BinanceUsdmRest, fault: dict[str, Any], outcome: Outcome, done: bool
) -> None:
    wanted, client_id = price(venue), f"f{time.time_ns()}"
    on(venue, method="POST", path="/fapi/v1/order", **fault)
    error = await fails(rest, venue, client_id, wanted)
    assert error.outcome is outcome
    if fault.get("retry_after_s"):
        assert error.retry_after_s == 7
    deadline = time.monotonic() + 5
    while done and not await exists(rest, client_id) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    assert await exists(rest, client_id) is done


async def test_a_wrong_clock_refuses_timestamps_until_the_client_measures_it(
    venue: VenueProcess, rest: BinanceUsdmRest
) -> None:
    for offset_ms in (-8_000, 8_000):
        on(venue, kind="clock_offset", offset_ms=offset_ms)
        rest.time_offset_ms = 0
        with pytest.raises(VenueCallError) as refused:
            await rest.open_orders(S)
        assert refused.value.code == -1021
        assert abs(await rest.sync_time() - offset_ms) < 1_000
        assert await rest.open_orders(S) == []
        venue.admin_call("DELETE", "/faults")


async def test_a_slow_answer_does_not_spoil_the_measured_clock(venue: VenueProcess, rest: BinanceUsdmRest) -> None:
    quick = await rest.sync_time()
    on(venue, kind="delay", delay_ms=800, path="/fapi/v1/time")
    for _ in range(3):
        slow = await rest.sync_time()
    assert abs(slow - quick) < 200, "half of the way there and back would be 400 ms off"
    on(venue, kind="clock_offset", offset_ms=8_000)
    assert 6_900 < await rest.sync_time() - quick < 8_900, "what it cannot be is given up all the same"


async def test_maintenance_closes_streams_and_lets_none_in_until_it_is_over(venue: VenueProcess) -> None:
    url = f"{venue.stream_url}/ws/btcusdt@bookTicker"
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as stream:
            await asyncio.wait_for(stream.receive_str(), 5)
            on(venue, kind="maintenance")
            while (await asyncio.wait_for(stream.receive(), 5)).type is aiohttp.WSMsgType.TEXT:
                pass
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url)
        assert refused.value.status == 503
        venue.admin_call("DELETE", "/faults")
        async with session.ws_connect(url) as stream:
            await asyncio.wait_for(stream.receive_str(), 5)


class Chain:
    """Follows the pu chain of a depth stream and counts where it breaks."""

    def __init__(self) -> None:
        self.last = 0
        self.breaks = self.repeats = self.frames = 0

    def take(self, text: str) -> None:
        frame = json.loads(text)
        self.frames += 1
        if self.last and frame["u"] <= self.last:
            self.repeats += 1
        elif self.last and frame["pu"] != self.last:
            self.breaks += 1
        self.last = max(self.last, frame["u"])


@pytest.mark.parametrize(
    ("kind", "breaks", "repeats"), [("drop", True, False), ("duplicate", False, True), ("reorder", True, True)]
)
async def test_stream_faults_break_the_chain_in_their_own_way(
    venue: VenueProcess, kind: str, breaks: bool, repeats: bool
) -> None:
    chain = Chain()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{venue.stream_url}/ws/btcusdt@depth@0ms") as stream,
    ):
        for number in range(60):
            if number == 20:
                assert (chain.breaks, chain.repeats) == (0, 0)
                on(venue, kind=kind, target="stream", stream="btcusdt@depth@0ms", count=3)
            chain.take(await asyncio.wait_for(stream.receive_str(), 5))
    assert (chain.breaks > 0, chain.repeats > 0) == (breaks, repeats)


async def test_delayed_frames_come_late_and_in_order(venue: VenueProcess) -> None:
    chain = Chain()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{venue.stream_url}/ws/btcusdt@depth@0ms") as stream,
    ):
        chain.take(await asyncio.wait_for(stream.receive_str(), 5))
        on(venue, kind="delay", target="stream", delay_ms=700)
        lags = []
        for _ in range(40):
            text = await asyncio.wait_for(stream.receive_str(), 5)
            lags.append(time.time() * 1000 - json.loads(text)["E"])
            chain.take(text)
    assert max(lags) > 650 and (chain.breaks, chain.repeats) == (0, 0)


async def test_disconnect_cuts_the_streams_that_match_and_no_others(venue: VenueProcess) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{venue.stream_url}/ws/btcusdt@bookTicker") as one,
        session.ws_connect(f"{venue.stream_url}/ws/ethusdt@bookTicker") as other,
    ):
        await asyncio.wait_for(one.receive_str(), 5)
        on(venue, kind="disconnect", stream="btcusdt@*")
        while (await asyncio.wait_for(one.receive(), 5)).type is aiohttp.WSMsgType.TEXT:
            pass
        for _ in range(5):
            await asyncio.wait_for(other.receive_str(), 5)


async def test_listen_keys_can_be_made_to_expire(venue: VenueProcess, rest: BinanceUsdmRest) -> None:
    key = await rest.create_listen_key()
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{venue.stream_url}/ws/{key}") as stream:
        on(venue, kind="expire_listen_keys")
        assert json.loads(await asyncio.wait_for(stream.receive_str(), 5))["e"] == "listenKeyExpired"
    assert await rest.create_listen_key() != key


async def test_the_list_of_faults_shows_what_is_on_and_how_often_it_struck(
    venue: VenueProcess, rest: BinanceUsdmRest
) -> None:
    first = on(venue, kind="delay", delay_ms=1, path="/fapi/v1/openOrders")
    on(venue, kind="drop", target="stream", stream="none")
    await rest.open_orders(S)
    faults = {f["id"]: f for f in venue.admin_call("GET", "/faults")["faults"]}
    assert len(faults) == 2 and faults[first]["hits"] == 1
    assert venue.admin_call("DELETE", f"/faults?id={first}") == {"removed": 1}
    assert len(venue.admin_call("GET", "/faults")["faults"]) == 1


async def test_limits_show_in_headers_and_refuse_over_http(tmp_path: Any) -> None:
    with VenueProcess(tmp_path, weight_limit_1m=60, order_limit_10s=2, ban_after=2, flow_rate=0) as venue:
        rest = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock())
        while time.time() % 60 > 50 or time.time() % 10 > 7:
            await asyncio.sleep(0.2)
        for number in range(2):
            await rest.place({**ORDER, "price": "60000", "newClientOrderId": f"l{number}"})
        assert (rest.usage.orders_10s, rest.usage.orders_1m) == (2, 2)
        with pytest.raises(VenueCallError) as many:
            await rest.place({**ORDER, "price": "60000"})
        assert (many.value.status, many.value.code) == (429, -1015)
        statuses = []
        for _ in range(6):
            try:
                await rest.open_orders()
            except VenueCallError as error:
                statuses.append(error.status)
                assert error.code == -1003 and error.retry_after_s > 0
        assert statuses[0] == 429 and statuses[-1] == 418
        await rest.close()
