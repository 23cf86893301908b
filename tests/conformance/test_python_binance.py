"""python-binance, REST and its socket manager, works against simvenue with nothing changed but its addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from venue_process import KEY, SECRET, VenueProcess

binance = pytest.importorskip("binance")
S = "BTCUSDT"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VenueProcess]:
    with VenueProcess(tmp_path_factory.mktemp("venue"), weight_limit_1m=1_000_000) as process:
        yield process


@pytest.fixture
async def client(venue: VenueProcess) -> AsyncIterator[Any]:
    found = binance.AsyncClient(KEY, SECRET)
    found.FUTURES_URL = f"{venue.url}/fapi"
    yield found
    await found.futures_cancel_all_open_orders(symbol=S)
    for position in await found.futures_position_information(symbol=S):
        amount = float(position["positionAmt"])
        if amount:
            side = "SELL" if amount > 0 else "BUY"
            await found.futures_create_order(
                symbol=S, side=side, type="MARKET", quantity=abs(amount), reduceOnly="true"
            )
    await found.close_connection()


@pytest.fixture
def sockets(client: Any, venue: VenueProcess) -> Any:
    found = binance.BinanceSocketManager(client)
    found.FSTREAM_URL = f"{venue.stream_url}/"
    return found


async def bid(client: Any) -> float:
    return float((await client.futures_order_book(symbol=S, limit=5))["bids"][0][0])


async def test_public_data_is_as_the_client_expects_it(client: Any) -> None:
    assert await client.futures_ping() == {}
    assert (await client.futures_time())["serverTime"] > 0
    info = await client.futures_exchange_info()
    listed = {row["symbol"]: row for row in info["symbols"]}
    filters = {f["filterType"]: f for f in listed[S]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.10" and filters["MIN_NOTIONAL"]["notional"] == "100"
    await client.futures_create_order(symbol=S, side="BUY", type="MARKET", quantity=0.01)
    assert (await client.futures_recent_trades(symbol=S))[-1]["qty"]
    assert (await client.futures_aggregate_trades(symbol=S))[-1]["a"]
    assert len((await client.futures_klines(symbol=S, interval="1m"))[-1]) == 12
    assert (await client.futures_mark_price(symbol=S))["markPrice"]
    assert (await client.futures_ticker(symbol=S))["lastPrice"]
    assert (await client.futures_symbol_ticker(symbol=S))["price"]
    assert (await client.futures_orderbook_ticker(symbol=S))["bidPrice"]
    assert (await client.futures_open_interest(symbol=S))["openInterest"]
    assert isinstance(await client.futures_funding_rate(symbol=S), list)


async def test_orders_are_placed_queried_listed_modified_and_cancelled(client: Any) -> None:
    price = round(await bid(client) - 500, 1)
    wanted = {"symbol": S, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": 0.01, "price": price}
    order = await client.futures_create_order(**wanted)
    assert order["status"] == "NEW"
    same = await client.futures_get_order(symbol=S, orderId=order["orderId"])
    assert same["clientOrderId"] == order["clientOrderId"]
    assert [o["orderId"] for o in await client.futures_get_open_orders(symbol=S)] == [order["orderId"]]
    changed = await client.futures_modify_order(
        symbol=S, orderId=order["orderId"], side="BUY", quantity=0.02, price=price
    )
    assert changed["origQty"] == "0.020"
    gone = await client.futures_cancel_order(symbol=S, orderId=order["orderId"])
    assert gone["status"] == "CANCELED"
    assert (await client.futures_get_all_orders(symbol=S))[-1]["orderId"] == order["orderId"]
    assert await client.futures_create_test_order(**wanted) == {}
    rows = await client.futures_place_batch_order(
        batchOrders=[{**wanted, "quantity": "0.01", "price": str(price - n)} for n in range(2)]
    )
    assert [row["status"] for row in rows] == ["NEW", "NEW"]
    await client.futures_cancel_orders(symbol=S, orderidlist=[row["orderId"] for row in rows])
    assert await client.futures_get_open_orders(symbol=S) == []
    with pytest.raises(binance.exceptions.BinanceAPIException) as refused:
        await client.futures_cancel_order(symbol=S, orderId=order["orderId"])
    assert refused.value.code == -2011


async def test_account_positions_leverage_and_history_can_be_read(client: Any) -> None:
    await client.futures_create_order(symbol=S, side="BUY", type="MARKET", quantity=0.02)
    account = await client.futures_account()
    held = next(p for p in account["positions"] if p["symbol"] == S)
    assert float(held["positionAmt"]) == 0.02 and float(account["totalInitialMargin"]) > 0
    assert (await client.futures_account_balance())[0]["asset"] == "USDT"
    position = (await client.futures_position_information(symbol=S))[0]
    assert float(position["entryPrice"]) > 0
    assert (await client.futures_change_leverage(symbol=S, leverage=15))["leverage"] == 15
    await client.futures_change_leverage(symbol=S, leverage=20)
    assert (await client.futures_get_position_mode())["dualSidePosition"] is False
    assert (await client.futures_leverage_bracket(symbol=S))[0]["brackets"]
    assert (await client.futures_commission_rate(symbol=S))["takerCommissionRate"] == "0.000500"
    assert (await client.futures_account_trades(symbol=S))[-1]["commission"]
    assert (await client.futures_income_history(incomeType="COMMISSION"))[-1]["income"]
    assert (await client.futures_countdown_cancel_all(symbol=S, countdownTime=0))["countdownTime"] == "0"


async def heard(socket: Any, wanted: int, *kinds: str) -> list[dict[str, Any]]:
    """The next events of these kinds, from a connected socket."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(15):
        while len(found) < wanted:
            message = await socket.recv()
            event = message.get("data", message)
            if isinstance(event, dict) and event.get("e") in kinds:
                found.append(event)
    return found


async def test_the_socket_manager_hears_market_streams(sockets: Any) -> None:
    streams = ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@markPrice@1s", "btcusdt@aggTrade"]
    async with sockets.futures_multiplex_socket(streams) as socket:
        kinds = set()
        async with asyncio.timeout(20):
            while len(kinds) < 4:
                kinds.add((await socket.recv())["data"]["e"])
    assert kinds == {"depthUpdate", "bookTicker", "markPriceUpdate", "aggTrade"}


async def test_the_socket_manager_hears_the_user_stream(client: Any, sockets: Any) -> None:
    async with sockets.futures_user_socket() as socket:
        await asyncio.sleep(0.2)
        order = await client.futures_create_order(symbol=S, side="BUY", type="MARKET", quantity=0.01)
        reports = await heard(socket, 2, "ORDER_TRADE_UPDATE")
        assert [r["o"]["x"] for r in reports] == ["NEW", "TRADE"]
        assert all(r["o"]["c"] == order["clientOrderId"] for r in reports)
        await client.futures_change_leverage(symbol=S, leverage=11)
        assert (await heard(socket, 1, "ACCOUNT_CONFIG_UPDATE"))[0]["ac"] == {"s": S, "l": 11}
        await client.futures_create_order(symbol=S, side="SELL", type="MARKET", quantity=0.01, reduceOnly="true")
        while True:
            update = (await heard(socket, 1, "ACCOUNT_UPDATE"))[0]["a"]
            assert update["m"] == "ORDER" and update["B"][0]["a"] == "USDT"
            if float(update["P"][0]["pa"]) == 0:
                break
