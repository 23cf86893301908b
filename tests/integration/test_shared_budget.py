"""Rate budgets between processes: simvenue's own limits, execution and account, the bucket between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from order_rig import OrderRig, order_rig
from pace import Pace

from tickmesh.domain.enums import OrderState
from tickmesh.execution.budget import BudgetNews

S = OrderState
QUERY = {"kind": "error", "method": "GET", "path": "/fapi/v3/account"}


@asynccontextmanager
async def pair(home: Path, **keys: object) -> AsyncIterator[OrderRig]:
    """Execution and account behind one address."""
    async with order_rig(home, account__reconcile_interval_s=0.5, **keys) as rig:
        await rig.add("account")
        yield rig


async def gauge(rig: OrderRig, service: str, name: str) -> float:
    return float((await rig.get(service, "/stats"))["gauges"].get(name, 0.0))


async def weight_at_the_venue(rig: OrderRig) -> int:
    """What the venue counts, from the headers of an unsigned question."""
    async with rig._http.get(f"{rig.settings.venue.rest_url}/fapi/v1/ping") as response:
        return int(response.headers["X-MBX-USED-WEIGHT-1M"]) - 1


async def outcome(rig: OrderRig, **changes: Any) -> tuple[OrderState, str]:
    event = await rig.until(rig.send(rig.intent(behind_ticks=3000, **changes)), S.SUBMITTED, S.REJECTED)
    return event.state, event.reason


async def test_a_ban_that_one_process_ran_into_stops_every_request_of_the_address(tmp_path: Path) -> None:
    """hummingbot#1291: a storm of requests after a 429 ends in a ban; here nobody asks on."""
    async with pair(tmp_path) as rig:
        resting = rig.send(rig.intent(behind_ticks=3000))
        await rig.until(resting, S.SUBMITTED)
        # Only the account service asks for balances of this path and version so often; one of the two runs into it.
        await rig.post(
            "simvenue", "/faults", {**QUERY, "count": 1, "status": 418, "msg": "banned", "retry_after_s": 10}
        )
        async with asyncio.timeout(8):
            while not await gauge(rig, "execution", "venue_wait_seconds"):
                await asyncio.sleep(0.05)
        with Pace() as pace:
            began = time.monotonic()
            async with asyncio.timeout(5):
                while not await gauge(rig, "account", "venue_wait_seconds"):
                    await asyncio.sleep(0.05)
            pace.assert_within(1.5, time.monotonic() - began)
        await asyncio.sleep(0.3)  # what was on its way
        before = await weight_at_the_venue(rig)
        state, reason = await outcome(rig)
        assert state is S.REJECTED and "slow down" in reason
        rig.cancel(resting)
        await asyncio.sleep(2.0)
        assert await weight_at_the_venue(rig) - before <= 1, "not one request, a cancel included"
        assert time.monotonic() - began < 10, "the ban was over: this machine was too slow to see it"
        await rig.until(resting, S.CANCELED, timeout_s=30)
        async with asyncio.timeout(15):
            while (await outcome(rig))[0] is not S.SUBMITTED:
                await asyncio.sleep(0.3)
        await rig.settle()


async def test_minus_1015_stops_orders_for_its_time_and_neither_cancels_nor_reads(tmp_path: Path) -> None:
    async with pair(tmp_path) as rig:
        resting = rig.send(rig.intent(behind_ticks=3000))
        await rig.until(resting, S.SUBMITTED)
        limit = {"kind": "error", "method": "POST", "path": "/fapi/v1/order", "count": 1, "status": 429}
        await rig.post("simvenue", "/faults", {**limit, "code": -1015, "msg": "too many orders", "retry_after_s": 3})
        assert (await outcome(rig))[0] is S.REJECTED
        began = time.monotonic()
        assert "slow down" in (await outcome(rig))[1]
        done = (await rig.get("account", "/stats"))["counters"]["reconciliations_total"]
        rig.cancel(resting)
        await rig.until(resting, S.CANCELED, timeout_s=1.5)
        await asyncio.sleep(max(0.0, 2.0 - (time.monotonic() - began)))
        assert (await rig.get("account", "/stats"))["counters"]["reconciliations_total"] > done
        assert (await outcome(rig))[0] is S.REJECTED
        await asyncio.sleep(1.5)
        assert (await outcome(rig))[0] is S.SUBMITTED
        await rig.settle()


async def test_two_processes_stay_below_the_venues_real_limit_and_cancels_keep_their_slice(tmp_path: Path) -> None:
    limits = {"simvenue__weight_limit_1m": 600, "execution__weight_per_min": 600, "simvenue__ban_after": 1}
    async with pair(tmp_path, account__weight_share=0.75, **limits) as rig:
        resting = [rig.send(rig.intent(behind_ticks=3000 + i)) for i in range(5)]
        for client_id in resting:
            await rig.until(client_id, S.SUBMITTED)
        told = 0
        async with asyncio.timeout(100):
            # Both read until the minute's part for reads is used up; the minute may turn over before that.
            while await weight_at_the_venue(rig) < 430:
                await asyncio.sleep(0.2)
        for _ in range(20):
            told = max(told, int(await gauge(rig, "account", "venue_weight_used")))
            assert await weight_at_the_venue(rig) <= 600
            await asyncio.sleep(0.1)
        used = await gauge(rig, "execution", "venue_weight_used")
        assert min(told, used) > 400, "each knows of the other's requests"
        for client_id in resting:
            rig.cancel(client_id)
        for client_id in resting:
            await rig.until(client_id, S.CANCELED, timeout_s=5)
        stats = await asyncio.gather(*(rig.get(name, "/stats") for name in ("execution", "account")))
        assert not any(s["gauges"].get("venue_wait_seconds") for s in stats), "nobody ran into the limit"
        assert sum(v for k, v in stats[0]["counters"].items() if k.startswith("rate_limited_total")) == 0


async def test_order_counts_of_another_process_of_the_account_count_here_and_another_accounts_do_not(
    tmp_path: Path,
) -> None:
    async with order_rig(tmp_path, execution__orders_per_10s=5) as rig:
        bucket = await rig.bus.kv("budgets")
        news = BudgetNews(at_ns=time.time_ns(), orders_10s=5)
        await bucket.put("default.other.execution-x-1", msgspec.json.encode(news))
        await bucket.put(
            "elsewhere.other.execution-x-1", msgspec.json.encode(BudgetNews(at_ns=1, banned_until_ns=2**62))
        )
        await asyncio.sleep(0.4)
        assert (await outcome(rig))[0] is S.SUBMITTED
        while time.time() % 10 > 8 or time.time() % 10 < 1:
            await asyncio.sleep(0.2)
        news = BudgetNews(at_ns=time.time_ns(), orders_10s=5)
        await bucket.put("elsewhere.main.execution-x-1", msgspec.json.encode(news))
        await asyncio.sleep(0.4)
        state, reason = await outcome(rig)
        assert state is S.REJECTED and "5 orders in 10 s" in reason
        await asyncio.sleep(10 - time.time() % 10 + 0.1)
        assert (await outcome(rig))[0] is S.SUBMITTED, "the interval is over"
        await rig.settle()
