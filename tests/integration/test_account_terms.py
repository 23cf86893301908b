"""Leverage, margin mode and position mode of the venue: read at a start, followed, and told when somebody sets them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from order_rig import SYMBOL, OrderRig, order_rig

from tickmesh.domain.enums import OrderState, PositionSide
from tickmesh.domain.messages import Alert, decode

S = OrderState


async def until_terms(rig: OrderRig, **wanted: str) -> None:
    seen: dict[str, str] = {}
    try:
        async with asyncio.timeout(30):
            while not wanted.items() <= seen.items():
                seen = {k.replace(" ", "_"): v for k, v in (await rig.get("execution", "/state"))["terms"].items()}
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{wanted} is not {seen}\n{rig.log()}")


async def test_what_somebody_sets_at_the_venue_is_used_and_told(tmp_path: Path) -> None:
    async with order_rig(tmp_path, execution__reconcile_s=0.5) as rig, rig.by_hand() as rest:
        alerts: list[Alert] = []
        await rig.bus.subscribe("alert.>", lambda _, payload: alerts.append(decode(Alert, payload)))

        async def post(path: bytes, **parameters: Any) -> None:
            await rest._call(b"POST", b"/fapi/v1/" + path, parameters, msgspec.Raw)

        await until_terms(rig, position_mode="one-way")
        await post(b"leverage", symbol=SYMBOL, leverage=25)
        await until_terms(rig, BTCUSDT="leverage 25, crossed margin")
        refused = await rig.until(rig.send(rig.intent()), S.REJECTED)
        assert "set to leverage 25" in refused.reason
        await post(b"marginType", symbol=SYMBOL, marginType="ISOLATED")
        await post(b"leverage", symbol=SYMBOL, leverage=7)
        await until_terms(rig, BTCUSDT="leverage 7, isolated margin")
        await post(b"positionSide/dual", dualSidePosition="true")
        await until_terms(rig, position_mode="hedge")
        assert "position side" in (await rig.until(rig.send(rig.intent()), S.REJECTED)).reason
        sided = rig.intent(position_side=PositionSide.LONG, behind_ticks=300)
        await rig.until(rig.send(sided), S.SUBMITTED)
        told = " ".join(a.text for a in alerts if a.kind == "account-terms")
        for what in ("leverage 25, crossed", "leverage 7, isolated", "one-way and is hedge"):
            assert what in told, told
        await rig.kill("execution", signal.SIGKILL)
        await rig.ready("execution")
        await until_terms(rig, BTCUSDT="leverage 7, isolated margin", position_mode="hedge")
