"""The execution service against a venue that fails: real processes, faults switched on at simvenue's admin port."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from order_rig import OrderRig, order_rig

from tickmesh.domain.enums import OrderState, Side, Urgency

S = OrderState
ORDER = {"method": "POST", "path": "/fapi/v1/order"}
DEAF = {"kind": "drop", "target": "stream", "stream": "user"}
"""Nothing of the user stream arrives: only REST can tell."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[OrderRig]:
    async with order_rig(tmp_path, execution__deadman_s=3.0) as running:
        yield running


@pytest.fixture
async def lone(tmp_path: Path) -> AsyncIterator[OrderRig]:
    """Without the periodic comparison, which would find an order before its answer is given up."""
    keys = {"execution__reconcile_s": 600, "execution__request_timeout_s": 0.5}
    async with order_rig(tmp_path, **keys) as running:
        yield running


async def fault(rig: OrderRig, **what: object) -> None:
    answer = await rig.post("simvenue", "/faults", what)
    assert "id" in answer, answer


async def states_of(rig: OrderRig, client_id: str) -> list[OrderState]:
    return [e.state for e in rig.events if e.client_order_id == client_id and not e.anomaly]


async def test_accepted_but_never_answered_is_unknown_then_found_and_is_one_order(lone: OrderRig) -> None:
    """hummingbot#493, #601: a timeout was taken for a failure, and the order was placed once more."""
    await fault(lone, **DEAF)
    await fault(lone, kind="accept_then_timeout", count=1, timeout_s=30.0, **ORDER)
    client_id = lone.send(lone.intent(behind_ticks=300))
    await lone.until(client_id, S.UNKNOWN)
    closed = await lone.until(lone.send(lone.intent(behind_ticks=300)), S.REJECTED, S.SUBMITTED, timeout_s=5)
    assert closed.state is S.REJECTED and "UNKNOWN" in closed.reason, "the symbol is closed to new risk"
    await lone.until(client_id, S.SUBMITTED)
    assert await states_of(lone, client_id) == [S.PENDING_SUBMIT, S.UNKNOWN, S.SUBMITTED]
    await lone.until(lone.send(lone.intent(behind_ticks=80)), S.SUBMITTED)
    _, record = await lone.settle()
    assert [o["clientOrderId"] for o in record["orders"]].count(client_id) == 1


async def test_a_request_that_never_arrived_is_called_absent_only_after_spaced_questions(lone: OrderRig) -> None:
    await fault(lone, kind="drop", target="rest", count=1, **ORDER)
    client_id = lone.send(lone.intent(behind_ticks=300))
    unknown = await lone.until(client_id, S.UNKNOWN)
    ended = await lone.until(client_id, S.REJECTED, S.SUBMITTED)
    assert ended.state is S.REJECTED and "queries, its orders and its trades agree" in ended.reason
    assert ended.publish_ns - unknown.publish_ns > 400_000_000, "three questions 0.2 s apart and growing"
    _, record = await lone.settle()
    assert record["orders"] == []


@pytest.mark.parametrize(
    ("body", "processed", "way"),
    [
        ({"status": 503, "msg": "Unknown error, please check your request or try again later."}, True,
         [S.PENDING_SUBMIT, S.UNKNOWN, S.SUBMITTED]),
        ({"status": 503, "msg": "Service Unavailable."}, False, [S.PENDING_SUBMIT, S.REJECTED]),
        ({"status": 502, "code": 0, "msg": "Bad gateway"}, True, [S.PENDING_SUBMIT, S.UNKNOWN, S.SUBMITTED]),
        ({"status": 408, "code": -1007, "msg": "Timeout waiting for response"}, True,
         [S.PENDING_SUBMIT, S.UNKNOWN, S.SUBMITTED]),
        ({"status": 400, "code": -4116, "msg": "ClientOrderId is duplicated."}, True,
         [S.PENDING_SUBMIT, S.UNKNOWN, S.SUBMITTED]),
        ({"status": 400, "code": -2019, "msg": "Margin is insufficient."}, False, [S.PENDING_SUBMIT, S.REJECTED]),
    ],
)  # fmt: skip
async def test_what_an_error_answer_means_for_the_order(
    lone: OrderRig, body: dict[str, object], processed: bool, way: list[OrderState]
) -> None:
    """nautilus_trader#4152, #4215: an answer that proves nothing became a reject of a live order."""
    await fault(lone, **DEAF)
    await fault(lone, kind="error", count=1, processed=processed, **body, **ORDER)
    client_id = lone.send(lone.intent(behind_ticks=300))
    await lone.until(client_id, way[-1])
    assert await states_of(lone, client_id) == way
    _, record = await lone.settle()
    assert len(record["orders"]) == int(processed)


async def test_being_too_fast_stops_orders_for_as_long_as_the_venue_says(rig: OrderRig) -> None:
    await fault(rig, kind="error", count=1, status=429, code=-1003, msg="Too many requests", retry_after_s=2, **ORDER)
    first = await rig.until(rig.send(rig.intent()), S.REJECTED, S.SUBMITTED)
    assert first.state is S.REJECTED
    refused = await rig.until(rig.send(rig.intent()), S.REJECTED, S.SUBMITTED)
    assert refused.state is S.REJECTED and "slow down" in refused.reason
    await asyncio.sleep(2.2)
    await rig.until(rig.send(rig.intent()), S.SUBMITTED)
    await rig.settle()


async def test_fills_that_the_stream_never_told_are_fetched_once_each(rig: OrderRig) -> None:
    """ccxt#22719, Lean.IB#249: fills were missed while the stream was away."""
    await fault(rig, **DEAF)
    for more in range(4):  # of different sizes: three identical orders may be open, their fills unheard of
        intent = rig.intent(urgency=Urgency.IMMEDIATE, qty_lots=3 + more)
        await rig.until(rig.send(intent), S.FILLED, S.EXPIRED)
    ours, record = await rig.settle()
    assert len(ours.fills) == len(record["fills"]) >= 4


async def test_an_expired_listen_key_is_replaced_and_what_happened_between_is_known(rig: OrderRig) -> None:
    await fault(rig, kind="expire_listen_keys")
    await rig.until(rig.send(rig.intent(urgency=Urgency.IMMEDIATE)), S.FILLED, S.EXPIRED)
    async with asyncio.timeout(15):
        while not (await rig.get("execution", "/stats"))["gauges"]["user_stream_connected"]:
            await asyncio.sleep(0.05)
    await fault(rig, kind="disconnect", target="stream", stream="user", count=1)
    await rig.until(rig.send(rig.intent(urgency=Urgency.IMMEDIATE)), S.FILLED, S.EXPIRED)
    ours, record = await rig.settle()
    assert len(ours.fills) == len(record["fills"]) >= 2


async def test_our_silence_makes_the_venue_cancel_and_we_learn_of_it(rig: OrderRig) -> None:
    client_id = rig.send(rig.intent(behind_ticks=300))
    await rig.until(client_id, S.SUBMITTED)
    await asyncio.sleep(1.5)  # the switch is armed within a second
    await rig.kill("execution", signal.SIGSTOP)
    async with asyncio.timeout(15):
        while (await rig.record())["orders"][0]["status"] == "NEW":
            await asyncio.sleep(0.1)
    await rig.kill("execution", signal.SIGCONT)
    await rig.until(client_id, S.CANCELED, S.EXPIRED)
    await rig.settle()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_of_faults_ends_with_both_records_equal(rig: OrderRig, seed: int) -> None:
    print("seed", seed)
    choose = random.Random(seed)
    await fault(rig, kind="accept_then_timeout", probability=0.05, timeout_s=1.0, for_s=6, path="/fapi/v1/order")
    await fault(rig, kind="drop", target="rest", probability=0.05, for_s=6, path="/fapi/v1/order")
    await fault(rig, kind="error", probability=0.05, status=503, processed=True, for_s=6, path="/fapi/v1/*")
    await fault(rig, kind="delay", target="rest", probability=0.2, delay_ms=100, for_s=6, path="/fapi/v1/order")
    for kind in ("drop", "duplicate", "reorder"):
        await fault(rig, kind=kind, target="stream", stream="user", probability=0.2, for_s=6)
    ids: list[str] = []
    for number in range(120):
        side = choose.choice((Side.BUY, Side.SELL))
        urgency = choose.choice((Urgency.PASSIVE, Urgency.IMMEDIATE))
        ids.append(rig.send(rig.intent(side=side, urgency=urgency, behind_ticks=30 + 10 * number)))
        if choose.random() < 0.5:
            rig.cancel(choose.choice(ids))
        if number == 70:
            await rig.kill("execution")
        await asyncio.sleep(0.03)
    await rig.ready("execution")
    ours, record = await rig.settle(60)
    assert len(record["orders"]) > 5
    assert len(ours.fills) == len(record["fills"])
