"""What the venue has answered survives SIGKILL: orders, fills, money, positions, keys; ids never repeat."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from venue_process import KEY, SECRET, VenueProcess

from tickmesh.observe.clock import SystemClock
from tickmesh.venues.binance_usdm.codec_trading import VenueCallError, VenueOrder
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

S = "BTCUSDT"


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[VenueProcess]:
    with VenueProcess(tmp_path, flow_rate=0.3) as process:
        yield process


async def trade_until_killed(venue: VenueProcess, seed: int) -> dict[str, VenueOrder]:
    """Place and cancel as fast as answers come; returns the answered orders by client id."""
    choose, answered = random.Random(seed), {}
    rest = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock(), max_connections=4, timeout_s=2.0)
    depth = venue.get(f"{venue.url}/fapi/v1/depth?symbol={S}&limit=5")
    bid = Decimal(depth["bids"][0][0])

    async def worker(number: int) -> None:
        for count in range(10_000):
            client_id = f"k{seed}-{number}-{count}"
            kind = choose.choice(("rest", "take", "cancel"))
            try:
                if kind == "take":
                    side = choose.choice(("BUY", "SELL"))
                    parameters = {"symbol": S, "side": side, "type": "MARKET", "quantity": "0.003"}
                else:
                    price = bid - choose.randrange(100, 900)
                    parameters = {"symbol": S, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
                    parameters |= {"quantity": "0.003", "price": f"{price}"}
                more = {"newClientOrderId": client_id, "newOrderRespType": "RESULT"}
                answered[client_id] = await rest.place({**parameters, **more})
                if kind == "cancel":
                    answered[client_id] = await rest.cancel(S, client_id)
            except VenueCallError as error:
                if error.code == 0:
                    return  # the kill
                assert error.code in (-1025, -1015, -1003), error

    workers = [asyncio.create_task(worker(n)) for n in range(4)]
    await asyncio.sleep(choose.uniform(0.3, 0.8))
    venue.kill()
    await asyncio.gather(*workers)
    await rest.close()
    return answered


async def test_nothing_that_was_answered_is_lost_when_the_venue_is_killed(venue: VenueProcess) -> None:
    seen_orders: dict[int, str] = {}
    seen_fills: dict[int, str] = {}
    for seed in (1, 2, 3):
        print("seed", seed)
        rest = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock())
        key = await rest.create_listen_key()
        await rest.close()
        answered = await trade_until_killed(venue, seed)
        assert len(answered) > 10
        venue.start()
        record = venue.record()
        by_client = {o["clientOrderId"]: o for o in record["orders"]}
        assert len(by_client) == len(record["orders"])
        for client_id, order in answered.items():
            kept = by_client[client_id]
            assert kept["orderId"] == order.orderId
            assert Decimal(kept["executedQty"]) >= order.executedQty
            assert kept["status"] == order.status or order.status in ("NEW", "PARTIALLY_FILLED")
        for order_id, client_id in ((o["orderId"], o["clientOrderId"]) for o in record["orders"]):
            assert seen_orders.setdefault(order_id, client_id) == client_id
        for fill in record["fills"]:
            assert seen_fills.setdefault(fill["id"], fill["clientOrderId"]) == fill["clientOrderId"]
        assert len({f["id"] for f in record["fills"]}) == len(record["fills"])

        rest = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock())
        assert await rest.create_listen_key() == key
        fees = sum((Decimal(f["commission"]) for f in record["fills"]), Decimal(0))
        profit = sum((Decimal(f["realizedPnl"]) for f in record["fills"]), Decimal(0))
        held = sum((Decimal(f["qty"]) * (1 if f["side"] == "BUY" else -1) for f in record["fills"]), Decimal(0))
        assert (await rest.balances())[0].balance == 100_000 + profit - fees
        assert next(p.positionAmt for p in await rest.positions(S)) == held
        resting = {o.clientOrderId for o in await rest.open_orders(S)}
        assert resting == {o["clientOrderId"] for o in record["orders"] if o["status"] in ("NEW", "PARTIALLY_FILLED")}
        await rest.cancel_all(S)
        await rest.close()


async def test_a_resting_order_is_in_the_book_again_after_a_kill_and_can_be_filled(venue: VenueProcess) -> None:
    rest = BinanceUsdmRest(venue.url, KEY, SECRET, 5000, SystemClock())
    depth = venue.get(f"{venue.url}/fapi/v1/depth?symbol={S}&limit=5")
    price = Decimal(depth["bids"][0][0]) - 1000
    parameters = {"symbol": S, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "7.777"}
    await rest.place({**parameters, "price": price, "newClientOrderId": "deep"})
    venue.kill()
    venue.start()
    levels = dict(venue.get(f"{venue.url}/fapi/v1/depth?symbol={S}&limit=1000")["bids"])
    assert Decimal(levels[f"{price}"]) >= Decimal("7.777")
    assert (await rest.query(S, "deep")).status == "NEW"
    venue.admin_call(
        "POST", "/accounts", {"account": "seller", "api_key": "seller-key", "api_secret": "s", "deposit": "50000000"}
    )
    other = BinanceUsdmRest(venue.url, "seller-key", "s", 5000, SystemClock())
    wanted = {"symbol": S, "side": "SELL", "type": "LIMIT", "timeInForce": "IOC", "quantity": "20", "price": price}
    try:
        for _ in range(50):
            await other.place(wanted)
            if (found := await rest.query(S, "deep")).executedQty:
                break
        assert found.executedQty > 0
    finally:
        await rest.close()
        await other.close()


def test_a_second_venue_on_the_same_state_says_what_to_do(venue: VenueProcess) -> None:
    second = VenueProcess(venue.data_dir)
    with pytest.raises(AssertionError, match="another simvenue uses"):
        second.start()


def test_saved_orders_on_another_grid_are_refused_with_one_sentence(tmp_path: Path) -> None:
    from tickmesh.domain.errors import ConfigError
    from tickmesh.domain.instrument import Instrument
    from tickmesh.venues.simvenue.exchange.types import ExchangeState
    from tickmesh.venues.simvenue.server.listing import instruments_for
    from tickmesh.venues.simvenue.server.store import Store

    store = Store(tmp_path)
    listed = store.reconcile_listing(instruments_for([S]))
    with store._transaction() as db:
        db.execute("INSERT INTO orders VALUES (1, 'a', ?, 'c', 0, x'')", (S,))
    store.save(ExchangeState())
    store.close()
    old = listed[S]
    other = Instrument(
        venue="x", symbol=S, base="BTC", quote="USDT", tick_size=old.tick_size / 10, lot_size=old.lot_size
    )
    with pytest.raises(ConfigError, match="choose another data directory"):
        Store(tmp_path).reconcile_listing({S: other})
