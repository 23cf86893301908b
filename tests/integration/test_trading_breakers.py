"""Breakers of the real services against the records that people and the operator write: each side as it is in use."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from order_rig import OrderRig, order_rig

from tickmesh.domain.enums import IntentAction, OrderState, Side, Urgency
from tickmesh.kube.breaker import ConfigRecord, ForceRecord, StateRecord, carry_over, compute_status

S = OrderState
RESOURCE: dict[str, Any] = {
    "metadata": {"name": "cb", "uid": "u1", "generation": 1},
    "spec": {"target": {"kind": "VenueREST"}, "failureThreshold": 3, "windowSeconds": 20, "openSeconds": 2,
             "halfOpenProbes": 2},
}  # fmt: skip


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[OrderRig]:
    async with order_rig(tmp_path) as running:
        yield running


async def record(rig: OrderRig, name: str) -> StateRecord | None:
    entry = await (await rig.bus.kv("breakers")).get(f"state.{name}")
    return msgspec.json.decode(entry.value, type=StateRecord) if entry is not None and entry.value else None


async def eventually(rig: OrderRig, name: str, state: str, timeout_s: float = 20.0) -> StateRecord:
    found = None
    try:
        async with asyncio.timeout(timeout_s):
            while (found := await record(rig, name)) is None or found.state != state:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{name} is {found}, not {state}\n{rig.log()}") from None
    return found


async def put(rig: OrderRig, key: str, value: object) -> None:
    await (await rig.bus.kv("breakers")).put(key, msgspec.json.encode(value))


async def outcome(rig: OrderRig, **changes: Any) -> tuple[OrderState, str]:
    event = await rig.until(rig.send(rig.intent(behind_ticks=3000, **changes)), S.SUBMITTED, S.REJECTED)
    return event.state, event.reason


@pytest.mark.parametrize("target", ["everything", "account.main", "strategy.rig", "venue-rest", "bus"])
async def test_a_force_stops_new_orders_within_a_second_cancels_pass_and_a_release_reopens(
    rig: OrderRig, target: str
) -> None:
    kept = rig.send(rig.intent(behind_ticks=3000))
    await rig.until(kept, S.SUBMITTED)
    exit_id = rig.send(rig.intent(behind_ticks=3000, side=Side.BUY, qty_lots=4))
    await rig.until(exit_id, S.SUBMITTED)
    await put(rig, f"force.{target}", ForceRecord(state="Open", actor="ann", reason="drill", at_ns=time.time_ns()))
    await rig.until(kept, S.CANCELED, timeout_s=3)
    await rig.until(exit_id, S.CANCELED, timeout_s=3)
    state, reason = await outcome(rig)
    assert state is S.REJECTED and "circuit breaker" in reason and target.partition(".")[0].split("-")[0] in reason
    other = await outcome(rig, strategy="other")
    assert other[0] is (S.SUBMITTED if target == "strategy.rig" else S.REJECTED), other
    if target == "strategy.rig":
        rig.send(rig.intent(strategy="other", action=IntentAction.CANCEL_ALL))
    await (await rig.bus.kv("breakers")).delete(f"force.{target}")
    async with asyncio.timeout(3):
        while (await outcome(rig))[0] is not S.SUBMITTED:
            await asyncio.sleep(0.1)
    await rig.settle()


@pytest.mark.parametrize("target", ["account.someone", "strategy.other", "database", "cache", "downstream"])
async def test_a_force_on_somebody_else_stops_nothing(rig: OrderRig, target: str) -> None:
    await put(rig, f"force.{target}", ForceRecord(state="Open", actor="ann"))
    await asyncio.sleep(0.7)
    assert (await outcome(rig))[0] is S.SUBMITTED
    await rig.settle()


async def test_a_force_survives_restarts_and_holds_before_the_first_order(rig: OrderRig) -> None:
    await put(rig, "force.account.main", ForceRecord(state="Open", actor="ann"))
    await asyncio.sleep(0.5)
    await rig.kill("execution")
    await rig.ready("execution")
    assert (await outcome(rig))[0] is S.REJECTED


async def test_it_opens_by_itself_as_the_operator_configured_it_and_closes_by_reads_alone(rig: OrderRig) -> None:
    writes = carry_over(RESOURCE, None, None, time.time_ns())
    assert isinstance(writes.config, ConfigRecord)
    await put(rig, "config.venue-rest", writes.config)
    await asyncio.sleep(0.7)
    name = "venue-rest-execution-main"
    resting = rig.send(rig.intent(behind_ticks=3000))
    await rig.until(resting, S.SUBMITTED)
    await rig.post("simvenue", "/faults", {"kind": "error", "status": 502, "method": "GET", "code": 0, "msg": "gone"})
    opened = await eventually(rig, name, "Open")
    assert opened.target == "venue-rest" and "3 failures within 20 s" in opened.reason and "502" in opened.reason
    status = compute_status(RESOURCE, [opened], None, writes.config, str)
    assert (status["state"], status["nextProbeAt"] > status["openedAt"]) == ("Open", True)
    state, reason = await outcome(rig)
    assert state is S.REJECTED and name in reason
    await rig.until(resting, S.CANCELED)
    assert "breaker venue-rest-execution-main" in (await rig.get("execution", "/readyz"))["because"]
    await rig.heal()
    closed = await eventually(rig, name, "Closed")
    assert [t.after for t in closed.transitions][-2:] == ["HalfOpen", "Closed"]
    assert (await outcome(rig))[0] is S.SUBMITTED
    await rig.settle()


async def test_business_answers_never_count(rig: OrderRig) -> None:
    await put(rig, "config.venue-rest", ConfigRecord(failures=1, window_ns=10**12, open_ns=10**12, probes=1))
    await put(rig, "config.strategy.rig", ConfigRecord(failures=1, window_ns=10**12, open_ns=10**12, probes=1))
    await asyncio.sleep(0.7)
    order = {"method": "POST", "path": "/fapi/v1/order", "kind": "error", "status": 400, "count": 1}
    for code in (-2019, -5022, -5021, -2022, -2018):
        await rig.post("simvenue", "/faults", {**order, "code": code, "msg": "no"})
        refused = await outcome(rig)
        assert refused[0] is S.REJECTED and str(code) in refused[1]
    for name in ("venue-rest-execution-main", "strategy-rig-execution-main"):
        found = await record(rig, name)
        assert found is not None and (found.state, found.failures) == ("Closed", 0)
    await rig.post("simvenue", "/faults", {**order, "code": -4164, "msg": "notional"})
    assert (await outcome(rig))[0] is S.REJECTED
    await eventually(rig, "strategy-rig-execution-main", "Open")
    state, reason = await outcome(rig)
    assert state is S.REJECTED and "strategy.rig" in reason
    assert (await outcome(rig, strategy="other"))[0] is S.SUBMITTED, "its neighbour goes on"
    rig.send(rig.intent(strategy="other", action=IntentAction.CANCEL_ALL))
    await rig.settle()


async def test_the_user_streams_breaker_parts_from_the_venue_and_the_feeds_makes_books_stale(rig: OrderRig) -> None:
    await put(rig, "force.venue-websocket", ForceRecord(state="Open", actor="ann", reason="maintenance"))
    async with asyncio.timeout(8):
        while (await rig.get("execution", "/stats"))["gauges"]["user_stream_connected"]:
            await asyncio.sleep(0.1)
        while not (await rig.get("feed", "/stats"))["gauges"]["books_stale"]:
            await asyncio.sleep(0.1)
    assert (await record(rig, "venue-websocket-feed")).state == "Open"  # type: ignore[union-attr]
    await (await rig.bus.kv("breakers")).delete("force.venue-websocket")
    async with asyncio.timeout(20):
        while (await outcome(rig))[0] is not S.SUBMITTED:
            await asyncio.sleep(0.3)
    await rig.settle()


async def test_the_command_line_lists_trips_releases_and_resets(rig: OrderRig) -> None:
    code, said = await rig.command("breaker", "trip", "everything", "--reason", "drill", "--actor", "ann")
    assert code == 0, said
    await asyncio.sleep(0.7)
    assert (await outcome(rig))[0] is S.REJECTED
    listed = json.loads((await rig.command("breaker", "list", "--json"))[1])
    assert listed["forces"]["everything"]["actor"] == "ann"
    assert {"venue-rest", "venue-websocket", "bus", "everything", "account.main"} <= {
        b["target"] for b in listed["breakers"]
    }
    assert (await rig.command("breaker", "release", "everything"))[0] == 0
    assert (await rig.command("breaker", "reset", "venue-rest"))[0] == 0
    code, said = await rig.command("breaker", "trip", "nothing-like-it")
    assert code == 2 and said.count("\n") == 1
    await asyncio.sleep(0.7)
    assert (await outcome(rig, urgency=Urgency.PASSIVE))[0] is S.SUBMITTED
    await rig.settle()
