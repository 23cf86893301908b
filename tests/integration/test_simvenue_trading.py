"""The venue's trading side over real sockets, spoken to by our own client and by raw requests."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from venue_process import KEY, SECRET, VenueProcess

from tickmesh.observe.clock import SystemClock
from tickmesh.venues.binance_usdm.codec_trading import (
    AccountUpdate,
    ListenKeyExpired,
    OrderTradeUpdate,
    VenueCallError,
    decode_user_event,
)
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

S = "BTCUSDT"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VenueProcess]:
    with VenueProcess(tmp_path_factory.mktemp("venue"), flow_rate=0.2) as process:
        yield process


@pytest.fixture
async def rest(venue: VenueProcess) -> AsyncIterator[BinanceUsdmRest]:
    client = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock())
    yield client
    await client.cancel_all(S)
    await client.close()


async def best(venue: VenueProcess) -> tuple[Decimal, Decimal]:
    """Best bid and ask."""
    async with aiohttp.ClientSession() as session, session.get(f"{venue.url}/fapi/v1/depth?symbol={S}&limit=5") as got:
        body = await got.json()
    return Decimal(body["bids"][0][0]), Decimal(body["asks"][0][0])


def order(**more: Any) -> dict[str, Any]:
    return {"symbol": S, "side": "BUY", "type": "LIMIT", "quantity": "0.010", "timeInForce": "GTC", **more}


async def test_an_order_lives_from_placing_to_cancelling_as_our_client_sees_it(
    venue: VenueProcess, rest: BinanceUsdmRest
) -> None:
    bid, _ = await best(venue)
    placed = await rest.place(order(price=bid - 500, newClientOrderId="life-1"))
    assert (placed.status, placed.clientOrderId, placed.origQty) == ("NEW", "life-1", Decimal("0.010"))
    found = await rest.query(S, "life-1")
    assert found.orderId == placed.orderId and found.status == "NEW" and found.time > 0
    assert [o.clientOrderId for o in await rest.open_orders(S)] == ["life-1"]
    with pytest.raises(VenueCallError) as twice:
        await rest.place(order(price=bid - 500, newClientOrderId="life-1"))
    assert twice.value.code == -4116
    assert (await rest.cancel(S, "life-1")).status == "CANCELED"
    with pytest.raises(VenueCallError) as gone:
        await rest.cancel(S, "life-1")
    assert gone.value.code == -2011
    with pytest.raises(VenueCallError) as unknown:
        await rest.query(S, "never")
    assert unknown.value.code == -2013
    assert (await rest.all_orders(S))[-1].status == "CANCELED"


async def test_a_market_order_fills_moves_position_and_balance_and_leaves_trades_and_income(
    venue: VenueProcess, rest: BinanceUsdmRest
) -> None:
    before = (await rest.balances())[0].balance
    placed = await rest.place(
        {"symbol": S, "side": "BUY", "type": "MARKET", "quantity": "0.02", "newOrderRespType": "RESULT"}
    )
    assert placed.status == "FILLED" and placed.executedQty == Decimal("0.02") and placed.avgPrice > 0
    trades = [t for t in await rest.user_trades(S) if t.orderId == placed.orderId]
    assert sum(t.qty for t in trades) == Decimal("0.02") and not any(t.maker for t in trades)
    position = next(p for p in await rest.positions() if p.symbol == S)
    assert position.positionAmt == Decimal("0.02") and position.entryPrice == placed.avgPrice
    fees = sum(t.commission for t in trades)
    assert (await rest.balances())[0].balance == before - fees
    account = await rest.account()
    assert account.totalWalletBalance == before - fees and account.totalInitialMargin > 0
    lines = await rest.income(income_type="COMMISSION")
    assert -sum(line.income for line in lines[-len(trades) :]) == fees
    close = {"symbol": S, "side": "SELL", "type": "MARKET", "quantity": "0.02", "reduceOnly": "true"}
    await rest.place(close)
    assert not [p for p in await rest.positions() if p.positionAmt]
    record = venue.record()
    assert {o["orderId"]: o["status"] for o in record["orders"]}[placed.orderId] == "FILLED"
    assert {f["id"] for f in record["fills"]} >= {t.id for t in trades}
    assert all(f["clientOrderId"] for f in record["fills"])


async def test_the_user_stream_tells_orders_fills_and_balances_and_the_end_of_its_key(
    venue: VenueProcess, rest: BinanceUsdmRest
) -> None:
    key = await rest.create_listen_key()
    assert key == await rest.create_listen_key()
    await rest.keep_listen_key()
    bid, ask = await best(venue)
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{venue.stream_url}/ws/{key}") as stream:
        await rest.place(order(price=bid - 400, newClientOrderId="us-1"))
        await rest.cancel(S, "us-1")
        await rest.place(order(price=ask + 200, newClientOrderId="us-2"))
        await rest.close_listen_key()
        events: list[Any] = []
        while not events or not isinstance(events[-1], ListenKeyExpired):
            events.append(decode_user_event(await asyncio.wait_for(stream.receive_str(), 5)))
    reports = [e.o for e in events if isinstance(e, OrderTradeUpdate)]
    assert [(r.x, r.X) for r in reports if r.c == "us-1"] == [("NEW", "NEW"), ("CANCELED", "CANCELED")]
    second = [r for r in reports if r.c == "us-2"]
    assert second[0].x == "NEW" and second[-1].X == "FILLED" and second[-1].z == Decimal("0.010")
    assert sum(r.l for r in second) == Decimal("0.010") and all(r.n > 0 for r in second[1:])
    changes = [e.a for e in events if isinstance(e, AccountUpdate)]
    assert changes[-1].P[0].pa == Decimal("0.010") and changes[-1].B[0].wb > 0
    with pytest.raises(VenueCallError) as gone:
        await rest.keep_listen_key()
    assert gone.value.code == -1125
    await rest.place({"symbol": S, "side": "SELL", "type": "MARKET", "quantity": "0.01", "reduceOnly": "true"})


async def test_the_dead_mans_switch_cancels_when_it_is_not_held(venue: VenueProcess, rest: BinanceUsdmRest) -> None:
    bid, _ = await best(venue)
    await rest.place(order(price=bid - 500, newClientOrderId="dms"))
    await rest.countdown_cancel_all(S, 200)
    deadline = time.monotonic() + 5
    while (await rest.query(S, "dms")).status == "NEW" and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert (await rest.query(S, "dms")).status == "CANCELED"


def raw(venue: VenueProcess, method: str, path: str, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(venue.url + path, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


NOW = "timestamp={now}"


@pytest.mark.parametrize(
    ("query", "key", "expected"),
    [
        (NOW + "&signature=00", "", (401, -2014)),
        (NOW + "&signature=00", "some-other-key", (401, -2015)),
        (NOW, KEY, (400, -1102)),
        (NOW + "&signature=00", KEY, (400, -1022)),
        ("signature=00", KEY, (400, -1102)),
        ("timestamp=1&signature=00", KEY, (400, -1021)),
        ("timestamp=9999999999999&signature=00", KEY, (400, -1021)),
        (NOW + "&recvWindow=60001&signature=00", KEY, (400, -1131)),
        (NOW + "&symbol=A&symbol=B&signature=00", KEY, (400, -1101)),
    ],
)
def test_a_request_that_cannot_prove_who_it_is_from_is_refused_with_the_venues_code(
    venue: VenueProcess, query: str, key: str, expected: tuple[int, int]
) -> None:
    text = query.format(now=int(time.time() * 1000))
    status, body = raw(venue, "GET", f"/fapi/v1/openOrders?{text}", **({"X-MBX-APIKEY": key} if key else {}))
    assert (status, body["code"]) == expected


async def test_wrong_words_in_an_order_are_refused_with_the_venues_code(
    venue: VenueProcess, rest: BinanceUsdmRest
) -> None:
    bid, _ = await best(venue)
    wrong: list[tuple[int, dict[str, Any]]] = [
        (-1102, {"symbol": ""}),
        (-1121, {"symbol": "NOPE"}),
        (-1117, {"side": "HOLD"}),
        (-1116, {"type": "TRAILING_STOP_MARKET"}),
        (-1115, {"timeInForce": "GTD"}),
        (-1102, {"quantity": "much"}),
        (-1111, {"quantity": "0.0101"}),
        (-4014, {"price": "60000.05"}),
        (-4164, {"quantity": "0.001", "price": bid - 500}),
        (-1130, {"positionSide": "UP"}),
        (-1102, {"reduceOnly": "maybe"}),
        (-4015, {"newClientOrderId": "x" * 37}),
        (-2022, {"reduceOnly": "true", "side": "SELL", "price": bid + 500}),
        (-5022, {"timeInForce": "GTX", "price": bid + 300}),
    ]
    for code, change in wrong:
        with pytest.raises(VenueCallError) as refused:
            await rest.place({**order(price=bid - 500), **change})
        assert refused.value.code == code, (code, change, refused.value.message)
    assert await rest.open_orders(S) == []


async def test_a_batch_answers_each_order_alone(venue: VenueProcess, rest: BinanceUsdmRest) -> None:
    bid, _ = await best(venue)
    rows = [
        {k: str(v) for k, v in order(price=bid - 300, newClientOrderId="b1").items()},
        {k: str(v) for k, v in order(price="1", newClientOrderId="b2", side="SELL").items()},
    ]
    request = rest._request(b"POST", b"/fapi/v1/batchOrders", {"batchOrders": json.dumps(rows)})
    answer = await rest.http.request(request, timeout_s=5, idempotent=False)
    placed, refused = json.loads(answer.body)
    assert placed["clientOrderId"] == "b1" and refused["code"] == -4024
    request = rest._request(b"DELETE", b"/fapi/v1/batchOrders", {"symbol": S, "origClientOrderIdList": '["b1","b2"]'})
    gone, unknown = json.loads((await rest.http.request(request, timeout_s=5, idempotent=False)).body)
    assert gone["status"] == "CANCELED" and unknown["code"] == -2011


async def test_leverage_modes_and_configuration_can_be_read_and_changed(
    venue: VenueProcess, rest: BinanceUsdmRest
) -> None:
    request = rest._request(b"POST", b"/fapi/v1/leverage", {"symbol": S, "leverage": 10})
    answer = await rest.http.request(request, timeout_s=5, idempotent=False)
    assert json.loads(answer.body)["leverage"] == 10
    assert next(r.leverage for r in await rest.leverages(S)) == 10
    assert await rest.hedge_mode() is False
    offset = await rest.sync_time()
    assert abs(offset) < 2_000


def test_an_unknown_path_is_no_crash(venue: VenueProcess, tmp_path: Path) -> None:
    assert raw(venue, "GET", "/fapi/v9/nothing")[0] == 404
