"""ccxt, made for Binance, works against simvenue with nothing changed but its addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from venue_process import KEY, SECRET, VenueProcess

ccxt = pytest.importorskip("ccxt")
SYMBOL = "BTC/USDT:USDT"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VenueProcess]:
    with VenueProcess(tmp_path_factory.mktemp("venue"), weight_limit_1m=1_000_000) as process:
        yield process


def pointed_at(exchange: Any, venue: VenueProcess) -> Any:
    """Every fapi address at the process."""
    for name, url in exchange.urls["api"].items():
        if name.startswith("fapi"):
            exchange.urls["api"][name] = url.replace("https://fapi.binance.com", venue.url)
    return exchange


@pytest.fixture(scope="module")
def client(venue: VenueProcess) -> Any:
    found = ccxt.binanceusdm({"apiKey": KEY, "secret": SECRET, "enableRateLimit": False})
    found.options["fetchCurrencies"] = False  # lives on the spot host, which is not simulated
    found._venue = venue
    return pointed_at(found, venue)


@pytest.fixture(autouse=True)
def clean(client: Any) -> Iterator[None]:
    yield
    client.cancel_all_orders(SYMBOL)
    for position in client.fetch_positions([SYMBOL]):
        if position["contracts"]:
            side = "sell" if position["side"] == "long" else "buy"
            client.create_order(SYMBOL, "market", side, position["contracts"], None, {"reduceOnly": True})


def bid(client: Any) -> float:
    return float(client.fetch_order_book(SYMBOL, 5)["bids"][0][0])


def wallet(client: Any) -> float:
    """Without unrealised profit, which ccxt's total contains."""
    return float(client.fetch_balance()["info"]["assets"][0]["walletBalance"])


def test_markets_have_precision_limits_and_types(client: Any) -> None:
    markets = client.load_markets()
    market = markets[SYMBOL]
    assert market["id"] == "BTCUSDT" and market["swap"] and market["linear"] and market["settle"] == "USDT"
    assert market["precision"]["price"] == 0.1 and market["precision"]["amount"] == 0.001
    assert market["limits"]["cost"]["min"] == 100 and market["limits"]["amount"]["max"] == 1000
    assert {"BTC/USDT:USDT", "ETH/USDT:USDT"} <= set(markets)


def test_public_data_parses(client: Any) -> None:
    client.load_markets()
    assert abs(client.fetch_time() - client.milliseconds()) < 5_000
    book = client.fetch_order_book(SYMBOL, 20)
    assert len(book["bids"]) == 20 and book["bids"][0][0] < book["asks"][0][0] and book["nonce"] > 0
    client.create_order(SYMBOL, "market", "buy", 0.01)
    assert client.fetch_trades(SYMBOL, limit=10)[-1]["price"] > 0
    assert client.fetch_ticker(SYMBOL)["last"] > 0
    assert SYMBOL in client.fetch_tickers([SYMBOL])
    assert client.fetch_bids_asks([SYMBOL])[SYMBOL]["bid"] > 0
    candle = client.fetch_ohlcv(SYMBOL, "1m", limit=5)[-1]
    assert candle[2] >= candle[3] > 0
    assert client.fetch_funding_rate(SYMBOL)["markPrice"] > 0
    assert client.fetch_mark_prices([SYMBOL])[SYMBOL]["markPrice"] > 0
    assert client.fetch_open_interest(SYMBOL)["openInterestAmount"] > 0


def test_an_order_is_placed_queried_listed_edited_and_cancelled(client: Any) -> None:
    price = client.price_to_precision(SYMBOL, bid(client) - 500)
    order = client.create_order(SYMBOL, "limit", "buy", 0.01, price, {"clientOrderId": "ccxt-1"})
    assert order["status"] == "open" and order["clientOrderId"] == "ccxt-1"
    assert client.fetch_order(order["id"], SYMBOL)["amount"] == 0.01
    assert client.fetch_open_order(order["id"], SYMBOL)["id"] == order["id"]
    assert [o["id"] for o in client.fetch_open_orders(SYMBOL)] == [order["id"]]
    edited = client.edit_order(order["id"], SYMBOL, "limit", "buy", 0.02, float(price) - 10)
    assert edited["amount"] == 0.02
    assert client.cancel_order(order["id"], SYMBOL)["status"] == "canceled"
    assert client.fetch_orders(SYMBOL)[-1]["status"] == "canceled"
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_order(order["id"], SYMBOL)


def test_refusals_become_ccxts_own_exceptions(client: Any) -> None:
    price = bid(client)
    with pytest.raises(ccxt.ExchangeError, match="-2019"):  # ccxt has no class of its own for it
        client.create_order(SYMBOL, "limit", "buy", 900, price - 500)
    with pytest.raises(ccxt.InvalidOrder, match="-5022"):
        client.create_order(SYMBOL, "limit", "buy", 0.01, price + 200, {"postOnly": True})
    with pytest.raises(ccxt.OrderNotFound):
        client.fetch_order("999999999", SYMBOL)
    wrong = pointed_at(ccxt.binanceusdm({"apiKey": KEY, "secret": "wrong"}), client._venue)
    wrong.options["fetchCurrencies"] = False
    with pytest.raises(ccxt.AuthenticationError):
        wrong.fetch_balance()
    late = pointed_at(ccxt.binanceusdm({"apiKey": KEY, "secret": SECRET}), client._venue)
    late.options["fetchCurrencies"] = False
    late.options["timeDifference"] = 60_000
    with pytest.raises(ccxt.InvalidNonce):
        late.fetch_balance()


def test_a_market_order_moves_position_balance_and_trades(client: Any) -> None:
    before = wallet(client)
    order = client.create_order(SYMBOL, "market", "buy", 0.05)
    assert order["status"] == "closed" and order["filled"] == 0.05 and order["average"] > 0
    position = next(p for p in client.fetch_positions([SYMBOL]) if p["contracts"])
    assert position["side"] == "long" and position["contracts"] == 0.05 and position["entryPrice"] > 0
    trades = client.fetch_my_trades(SYMBOL)
    mine = [t for t in trades if t["order"] == order["id"]]
    fees = sum(t["fee"]["cost"] for t in mine)
    assert abs(sum(t["amount"] for t in mine) - 0.05) < 1e-12
    assert abs(wallet(client) - (before - fees)) < 1e-6
    assert client.fetch_balance()["USDT"]["free"] < wallet(client)
    assert client.fetch_ledger("USDT")[-1]["type"]
    closed = client.create_order(SYMBOL, "market", "sell", 0.05, None, {"reduceOnly": True})
    assert closed["reduceOnly"] and not [p for p in client.fetch_positions([SYMBOL]) if p["contracts"]]


def test_stop_orders_go_through_the_venues_algo_endpoints(client: Any) -> None:
    price = bid(client)
    client.create_order(SYMBOL, "market", "buy", 0.01)
    stop = client.create_order(
        SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": round(price * 0.97, 1), "reduceOnly": True}
    )
    assert [o["id"] for o in client.fetch_open_orders(SYMBOL, params={"trigger": True})] == [stop["id"]]
    assert client.fetch_order(stop["id"], SYMBOL, {"trigger": True})["triggerPrice"] > 0
    client.cancel_order(stop["id"], SYMBOL, {"trigger": True})
    assert client.fetch_open_orders(SYMBOL, params={"trigger": True}) == []


def test_several_orders_are_placed_and_cancelled_in_one_request(client: Any) -> None:
    price = bid(client)
    rows = [
        {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.01, "price": round(price - 400 - n, 1)}
        for n in range(3)
    ]
    placed = client.create_orders(rows)
    assert len(placed) == 3 and all(o["status"] == "open" for o in placed)
    client.cancel_orders([o["id"] for o in placed], SYMBOL)
    assert client.fetch_open_orders(SYMBOL) == []


def test_settings_of_the_account_are_read_and_changed(client: Any) -> None:
    assert client.set_leverage(7, SYMBOL)["leverage"] == 7
    assert client.fetch_leverage(SYMBOL)["longLeverage"] == 7
    assert client.fetch_leverages([SYMBOL])[SYMBOL]["longLeverage"] == 7
    client.set_leverage(20, SYMBOL)
    client.set_margin_mode("isolated", SYMBOL)
    assert client.fetch_margin_mode(SYMBOL)["marginMode"] == "isolated"
    client.set_margin_mode("cross", SYMBOL)
    client.set_position_mode(True)
    assert client.fetch_position_mode()["hedged"] is True
    client.set_position_mode(False)
    assert client.fetch_trading_fee(SYMBOL)["maker"] == 0.0002
    assert client.fetch_leverage_tiers([SYMBOL])[SYMBOL][0]["maxLeverage"] == 125
    assert client.fetch_funding_history(SYMBOL) == []


def test_isolated_margin_and_hedge_mode_trade(client: Any) -> None:
    client.set_margin_mode("isolated", SYMBOL)
    client.create_order(SYMBOL, "market", "buy", 0.02)
    before = client.fetch_positions([SYMBOL])[0]
    assert before["marginMode"] == "isolated" and before["collateral"] > 0
    client.add_margin(SYMBOL, 100)
    after = client.fetch_positions([SYMBOL])[0]
    assert after["collateral"] > before["collateral"] + 50
    assert after["liquidationPrice"] < before["liquidationPrice"] - 1000
    with pytest.raises(ccxt.ExchangeError, match="-4048"):
        client.set_margin_mode("cross", SYMBOL)
    client.create_order(SYMBOL, "market", "sell", 0.02, None, {"reduceOnly": True})
    client.set_margin_mode("cross", SYMBOL)
    client.set_position_mode(True)
    client.create_order(SYMBOL, "market", "buy", 0.02, None, {"positionSide": "LONG"})
    client.create_order(SYMBOL, "market", "sell", 0.01, None, {"positionSide": "SHORT"})
    held = {p["side"]: p["contracts"] for p in client.fetch_positions([SYMBOL]) if p["contracts"]}
    assert held == {"long": 0.02, "short": 0.01}
    client.create_order(SYMBOL, "market", "sell", 0.02, None, {"positionSide": "LONG"})
    client.create_order(SYMBOL, "market", "buy", 0.01, None, {"positionSide": "SHORT"})
    client.set_position_mode(False)
