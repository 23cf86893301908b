"""reference/architecture.md, Graceful Degradation, against real processes; rows on strategies are in unit/strategy."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from order_rig import OrderRig, order_rig

from tickmesh.domain.enums import OrderState, Severity
from tickmesh.domain.messages import Alert, decode

S = OrderState


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[OrderRig]:
    async with order_rig(tmp_path) as running:
        yield running


async def listen(rig: OrderRig) -> list[Alert]:
    heard: list[Alert] = []
    await rig.bus.subscribe("alert.>", lambda _, payload: heard.append(decode(Alert, payload)))
    return heard


async def test_market_data_unavailable_refuses_new_orders_lets_cancels_pass_and_comes_back(rig: OrderRig) -> None:
    resting = rig.send(rig.intent(behind_ticks=3000))
    await rig.until(resting, S.SUBMITTED)
    await rig.kill("feed", signal.SIGSTOP)
    await asyncio.sleep(2.5)
    refused = await rig.until(rig.send(rig.intent(behind_ticks=3000)), S.REJECTED, S.SUBMITTED)
    assert refused.state is S.REJECTED and "stale" in refused.reason
    rig.cancel(resting)
    await rig.until(resting, S.CANCELED)
    await rig.kill("feed", signal.SIGCONT)
    async with asyncio.timeout(20):
        while (await rig.until(rig.send(rig.intent(behind_ticks=3000)), S.REJECTED, S.SUBMITTED)).state is S.REJECTED:
            await asyncio.sleep(0.3)
    await rig.settle()


async def test_order_execution_failing_cancels_observes_alerts_and_comes_back(rig: OrderRig) -> None:
    heard = await listen(rig)
    resting = rig.send(rig.intent(behind_ticks=3000))
    await rig.until(resting, S.SUBMITTED)
    refuse = {"kind": "error", "method": "POST", "path": "/fapi/v1/order", "status": 503, "msg": "Service Unavailable."}
    await rig.post("simvenue", "/faults", refuse)
    for _ in range(5):
        await rig.until(rig.send(rig.intent(behind_ticks=3000)), S.REJECTED)
    await rig.until(resting, S.CANCELED)
    observing = await rig.until(rig.send(rig.intent(behind_ticks=3000)), S.REJECTED, S.SUBMITTED)
    assert "circuit breaker" in observing.reason
    assert any(a.kind == "circuit_breaker" and a.severity is Severity.CRITICAL for a in heard)
    await rig.heal()
    async with asyncio.timeout(30):
        while (await rig.until(rig.send(rig.intent(behind_ticks=3000)), S.REJECTED, S.SUBMITTED)).state is S.REJECTED:
            await asyncio.sleep(0.5)
    await rig.settle()
