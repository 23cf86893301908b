"""A venue that falls silent with orders on their way, and comes back: real processes, simvenue stopped by a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from order_rig import SYMBOL, OrderRig, order_rig

from tickmesh.domain.enums import OrderState

S = OrderState
_BREAKER_OPEN_S = 10.0
"""How long the breaker before the venue's REST stays open; see services/execution_breakers.py."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[OrderRig]:
    """Answers are given up soon, so that the breaker opens within the silence; the drain is shorter than it is open."""
    keys = {"execution__request_timeout_s": 0.5, "execution__drain_s": 4.0, "simvenue__flow_rate": 0.1}
    async with order_rig(tmp_path, **keys) as running:
        yield running


async def until_breaker_open(rig: OrderRig) -> None:
    async with asyncio.timeout(20):
        while True:
            async with rig._http.get(f"http://127.0.0.1:{rig.admin['execution']}/readyz") as answer:
                because = (await answer.json(content_type=None))["because"]
            if any(name.startswith("breaker venue-rest") for name in because):
                return
            await asyncio.sleep(0.05)


async def silent_with_an_order_on_its_way(rig: OrderRig) -> str:
    """Stop the venue, send an order into the silence, wait until it is UNKNOWN and the breaker open."""
    await rig.until(rig.send(rig.intent(behind_ticks=3000)), S.SUBMITTED)
    await rig.kill("simvenue", signal.SIGSTOP)
    client_id = rig.send(rig.intent(behind_ticks=4000))
    await rig.until(client_id, S.UNKNOWN)
    await until_breaker_open(rig)
    return client_id


async def test_an_unknown_order_is_resolved_while_the_breaker_is_still_open(rig: OrderRig) -> None:
    client_id = await silent_with_an_order_on_its_way(rig)
    await rig.kill("simvenue", signal.SIGCONT)
    ended = await rig.until(client_id, S.REJECTED, S.SUBMITTED, S.CANCELED, timeout_s=_BREAKER_OPEN_S / 2)
    assert ended.symbol == SYMBOL
    await rig.settle()


async def test_a_drain_right_after_a_silence_leaves_no_order_unknown(rig: OrderRig) -> None:
    client_id = await silent_with_an_order_on_its_way(rig)
    await rig.kill("simvenue", signal.SIGCONT)
    await rig.children["execution"].stop()
    ours = await rig.journal()
    assert client_id in ours.orders
    left = {name: event.state for name, event in ours.orders.items() if not event.state.terminal}
    assert not left, rig.log()
    assert await rig.differences() == []
