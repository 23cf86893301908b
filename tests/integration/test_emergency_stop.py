"""The emergency stop end to end: orders gone, positions closed, state on disk, latched; also with NATS away."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from order_rig import ACCOUNT, SYMBOL, OrderRig, order_rig

from tickmesh.domain import subjects
from tickmesh.domain.enums import OrderState, Side, Urgency
from tickmesh.domain.messages import Audit, Control, decode, encode
from tickmesh.runtime.servers import free_ports

S = OrderState


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[OrderRig]:
    async with order_rig(tmp_path) as running:
        yield running


async def held(rig: OrderRig) -> float:
    """What the venue says that we hold, signed, from its own record of fills."""
    fills = (await rig.record())["fills"]
    return sum((1 if f["side"] == "BUY" else -1) * float(f["qty"]) for f in fills)


async def take(rig: OrderRig, side: Side = Side.BUY, lots: int = 20) -> None:
    """Have a position, and an exit that rests: a reduce-only order that would stand in the way of another."""
    before = await held(rig)
    await rig.until(rig.send(rig.intent(side=side, urgency=Urgency.IMMEDIATE, qty_lots=lots)), S.FILLED, S.EXPIRED)
    async with asyncio.timeout(10):
        while await held(rig) == before:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    exit_side = Side.SELL if side is Side.BUY else Side.BUY
    resting = rig.intent(side=exit_side, behind_ticks=400, qty_lots=2, reduce_only=True)
    await rig.until(rig.send(resting), S.SUBMITTED)
    await rig.until(rig.send(rig.intent(side=side, behind_ticks=300)), S.SUBMITTED)


async def until_flat(rig: OrderRig, timeout_s: float = 25.0) -> dict[str, Any]:
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                record = await rig.record()
                is_open = [o for o in record["orders"] if o["status"] in ("NEW", "PARTIALLY_FILLED")]
                if abs(await held(rig)) < 1e-12 and not is_open:
                    return await rig.record()
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"held {await held(rig)}\n{rig.log()}") from None


def file_of(rig: OrderRig, kind: str) -> Any:
    return json.loads((rig.home / "data" / "execution" / f"{ACCOUNT}.{kind}.json").read_bytes())


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
async def test_one_action_cancels_closes_and_keeps_what_was_while_nats_is_away(rig: OrderRig, side: Side) -> None:
    await take(rig, side)
    await rig.children["nats"].stop()
    answer = await rig.post("execution", "/halt?reason=drill&flatten=true")
    assert answer == {"halted": ACCOUNT}
    record = await until_flat(rig)
    closing = [o for o in record["orders"] if o["type"] == "MARKET"]
    assert closing and all(o["reduceOnly"] is True for o in closing)
    picture = file_of(rig, "emergency")
    assert len(picture["orders"]) == 2 and picture["positions"][f"{SYMBOL}.BOTH"] * int(side) > 0
    async with asyncio.timeout(10):
        while file_of(rig, "halt")["flatten"]:
            await asyncio.sleep(0.1)
    assert file_of(rig, "halt")["scopes"][f"account.{ACCOUNT}"]["reason"] == "drill"
    await rig.children["nats"].start()
    await rig.ready("nats")
    await rig.kill("execution")
    await rig.ready("execution")
    async with asyncio.timeout(20):
        while (await rig.get("execution", "/state")).get("halted") != {f"account.{ACCOUNT}": "HALTED"}:
            await asyncio.sleep(0.1)


async def test_a_full_disk_holds_no_halt_up_and_it_is_written_when_there_is_room(rig: OrderRig) -> None:
    await take(rig)
    pid = rig.children["execution"].pid
    assert pid is not None
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))  # no file may grow: a full disk
    await rig.bus.publish_durable(
        subjects.control("halt", "all"),
        encode(Control(verb="halt", scope="all", reason="drill", actor="ann", publish_ns=time.time_ns())),
        message_id="h1",
    )
    async with asyncio.timeout(15):
        while any(o["status"] == "NEW" for o in (await rig.record())["orders"]):
            await asyncio.sleep(0.1)
    assert (await rig.until(rig.send(rig.intent()), S.REJECTED)).reason.startswith("everything is halted")
    assert "all" not in file_of(rig, "halt")["scopes"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    async with asyncio.timeout(15):
        while "all" not in file_of(rig, "halt")["scopes"]:
            await asyncio.sleep(0.1)


async def test_flattening_goes_on_after_a_kill_until_the_venue_takes_the_orders(rig: OrderRig) -> None:
    await take(rig)
    refuse = {"kind": "error", "method": "POST", "path": "/fapi/v1/order", "status": 503, "msg": "Service Unavailable."}
    await rig.post("simvenue", "/faults", refuse)
    control = Control(
        verb="halt", scope="all", reason="drill", actor="ann", publish_ns=time.time_ns(), arguments={"flatten": "true"}
    )
    rig.bus.publish(subjects.control("halt", "all"), encode(control))
    async with asyncio.timeout(10):
        while not (rig.home / "data" / "execution" / f"{ACCOUNT}.halt.json").exists() or file_of(rig, "halt")[
            "flatten"
        ] != ["all"]:
            await asyncio.sleep(0.05)
    await rig.kill("execution")
    await rig.ready("execution")
    assert await held(rig) > 0
    await rig.heal()
    await until_flat(rig)


async def test_what_is_held_is_closed_although_the_breaker_of_the_venue_is_open(rig: OrderRig) -> None:
    await take(rig)
    code, said = await rig.command("breaker", "trip", "venue-rest", "--reason", "drill", "--actor", "ann")
    assert code == 0, said
    async with asyncio.timeout(20):
        while "venue-rest" not in str((await rig.get("execution", "/readyz")).get("because", "")):
            await asyncio.sleep(0.05)
    assert await held(rig) > 0
    assert await rig.post("execution", "/halt?reason=drill&flatten=true") == {"halted": ACCOUNT}
    await until_flat(rig)


async def test_a_halt_without_flatten_leaves_the_position_and_a_second_command_closes_it(rig: OrderRig) -> None:
    await take(rig)
    position = await held(rig)
    assert (await rig.post("execution", "/halt?reason=drill"))["halted"] == ACCOUNT
    async with asyncio.timeout(10):
        while any(o["status"] == "NEW" for o in (await rig.record())["orders"]):
            await asyncio.sleep(0.1)
    assert await held(rig) == position
    assert (await rig.until(rig.send(rig.intent()), S.REJECTED)).reason.startswith("the account is halted")
    await rig.post("execution", "/halt?reason=close&flatten=true")
    await until_flat(rig)


async def test_a_symbol_is_flattened_by_itself_and_a_resume_reopens_it(rig: OrderRig) -> None:
    await take(rig)
    now = time.time_ns()
    control = Control(verb="halt", scope=f"symbol.{SYMBOL}", reason="x", actor="ann", publish_ns=now,
                      arguments={"flatten": "true"})  # fmt: skip
    await rig.bus.publish_durable(subjects.control("halt", control.scope), encode(control), message_id="h1")
    await until_flat(rig)
    resume = Control(verb="resume", scope=control.scope, reason="x", actor="ann", publish_ns=time.time_ns())
    await rig.bus.publish_durable(subjects.control("resume", control.scope), encode(resume), message_id="r1")
    async with asyncio.timeout(10):
        while (await rig.until(rig.send(rig.intent(behind_ticks=300)), S.SUBMITTED, S.REJECTED)).state is S.REJECTED:
            await asyncio.sleep(0.2)
    await rig.settle()


async def test_a_person_halts_and_flattens_with_one_command_and_resumes_with_two(rig: OrderRig) -> None:
    (rig.environ["TICKMESH_GATEWAY__PORT"],) = map(str, free_ports(1))
    await rig.add("gateway")
    await take(rig)
    code, said = await rig.command("halt", "--flatten", "--reason", "drill", "--actor", "ann")
    assert code == 0 and "positions closed" in said, said
    await until_flat(rig)
    assert file_of(rig, "halt")["scopes"]["all"] | {"since_ns": 0} == {
        "state": "HALTED", "reason": "drill", "actor": "ann", "since_ns": 0,
    }  # fmt: skip
    assert (await rig.until(rig.send(rig.intent()), S.REJECTED)).reason.startswith("everything is halted")
    code, said = await rig.command("resume", "--actor", "ann")
    assert code == 3
    code, said = await rig.command("resume", "--actor", "ann", "--confirm", said.split("--confirm ")[1].split()[0])
    assert code == 0, said
    async with asyncio.timeout(30):
        while (await rig.until(rig.send(rig.intent(behind_ticks=300)), S.SUBMITTED, S.REJECTED)).state is S.REJECTED:
            await asyncio.sleep(0.2)
    await rig.settle()
    audits = [decode(Audit, payload) async for _, payload, _ in rig.bus.replay("AUDIT")]
    assert [(a.event, a.actor, a.detail.get("flatten")) for a in audits if a.source == "gateway"] == [
        ("halt", "ann", "true"), ("resume", "ann", None),
    ]  # fmt: skip
