"""Conditional orders at the venue's algo service, which neither its order list nor its stream tells of."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from order_rig import ACCOUNT, SYMBOL, OrderRig, order_rig

from tickmesh.domain.enums import OrderState, OrderType
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

S = OrderState


@pytest.fixture
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[OrderRig]:
    async with order_rig(tmp_path, execution__reconcile_s=getattr(request, "param", 0.5)) as running:
        yield running


@pytest.fixture
async def venue(rig: OrderRig) -> AsyncIterator[BinanceUsdmRest]:
    async with rig.by_hand() as rest:
        yield rest


async def stop_by_hand(rig: OrderRig, venue: BinanceUsdmRest, name: str) -> int:
    """A stop far above the market; its trigger in ticks."""
    trigger = rig.books[SYMBOL].asks[0][0] + 5000
    parameters = {
        "algoType": "CONDITIONAL", "symbol": SYMBOL, "side": "BUY", "type": "STOP_MARKET", "quantity": "0.004",
        "triggerPrice": Decimal(trigger) / 10, "clientAlgoId": name,
    }  # fmt: skip
    await venue._call(b"POST", b"/fapi/v1/algoOrder", parameters, msgspec.Raw)
    return trigger


async def test_one_that_others_placed_is_adopted_counts_and_ends_with_them(
    rig: OrderRig, venue: BinanceUsdmRest
) -> None:
    trigger = await stop_by_hand(rig, venue, "stop-by-hand")
    assert not await venue.open_orders(SYMBOL), "the order list does not tell of it"
    seen = await rig.until("stop-by-hand", S.SUBMITTED)
    assert seen.external and not seen.anomaly
    assert (seen.order_type, seen.stop_price_ticks, seen.qty_lots) == (OrderType.STOP_MARKET, trigger, 4)
    assert (await rig.get("execution", "/state"))["open"] == 1
    await venue.cancel_algo("stop-by-hand")
    await rig.until("stop-by-hand", S.CANCELED)
    assert (await rig.get("execution", "/state"))["open"] == 0


@pytest.mark.parametrize("rig", [600.0], indirect=True)
async def test_a_start_adopts_it_and_an_emergency_stop_cancels_it(rig: OrderRig, venue: BinanceUsdmRest) -> None:
    await stop_by_hand(rig, venue, "stop-by-hand")
    assert (await rig.get("execution", "/state"))["open"] == 0
    await rig.kill("execution", signal.SIGKILL)
    await rig.ready("execution")
    assert (await rig.get("execution", "/state"))["open"] == 1, "before it is ready"
    rig.control("halt", f"account.{ACCOUNT}")
    await rig.until("stop-by-hand", S.CANCELED)
    async with asyncio.timeout(10):
        while await venue.open_algo_orders(SYMBOL):
            await asyncio.sleep(0.02)
