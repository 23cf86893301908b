"""The execution service as a process, beside a real nats-server, simvenue and feed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from order_rig import ACCOUNT, SYMBOL, OrderRig, order_rig

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import OrderState, Side, TimeInForce, Urgency
from tickmesh.services.strategy_checkpoint import Checkpoint

S = OrderState
SENT = (S.SUBMITTED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED)
ENDS = (S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[OrderRig]:
    async with order_rig(tmp_path) as running:
        yield running


async def burst(rig: OrderRig, count: int, choose: random.Random, every_s: float = 0.01) -> list[str]:
    """A strategy in full swing: quotes, takers and cancels, ``count`` of them."""
    ids: list[str] = []
    for number in range(count):
        side = choose.choice((Side.BUY, Side.SELL))
        urgency = choose.choice((Urgency.PASSIVE, Urgency.PASSIVE, Urgency.IMMEDIATE))
        behind = 30 + 10 * number if urgency is Urgency.PASSIVE else 0
        ids.append(rig.send(rig.intent(side=side, urgency=urgency, behind_ticks=behind)))
        if choose.random() < 0.4:
            rig.cancel(choose.choice(ids))
        await asyncio.sleep(every_s)
    return ids


async def accepted_again(rig: OrderRig, timeout_s: float = 40.0) -> None:
    """Orders reach the venue again, with nobody's help."""
    async with asyncio.timeout(timeout_s):
        while True:
            if rig.bus.connected and not rig.books[SYMBOL].stale:
                client_id = rig.send(rig.intent(behind_ticks=900))
                await asyncio.sleep(0.5)
                if rig.state(client_id) in SENT:
                    return
            await asyncio.sleep(0.1)


async def test_an_order_is_placed_as_maker_canceled_and_taken_when_urgent(rig: OrderRig) -> None:
    quiet = rig.send(rig.intent(time_in_force=TimeInForce.IOC))
    placed = await rig.until(quiet, S.SUBMITTED)
    assert placed.time_in_force is TimeInForce.GTX, "nothing takes liquidity unless its urgency says so"
    stamps = placed.stamps
    assert 0 < stamps.tick_receive_mono_ns <= stamps.execution_receive_mono_ns <= stamps.validated_mono_ns
    assert stamps.validated_mono_ns <= stamps.sent_mono_ns <= stamps.ack_mono_ns
    rig.cancel(quiet)
    await rig.until(quiet, S.CANCELED)

    taker = rig.send(rig.intent(urgency=Urgency.IMMEDIATE))
    taken = await rig.until(taker, S.FILLED, S.EXPIRED)
    assert (taken.time_in_force, taken.state) == (TimeInForce.IOC, S.FILLED)
    ours, record = await rig.settle()
    assert sum(f.qty_lots for f in ours.fills.values()) == 3
    assert {o["clientOrderId"] for o in record["orders"]} == {quiet, taker}
    assert set(ours.tick_to_order_ns) == {quiet, taker}, "tick to order is known for every order"


async def test_the_same_intent_is_one_order_however_often_it_comes_and_an_old_one_is_never_sent(rig: OrderRig) -> None:
    intent = rig.intent()
    client_id = rig.send(intent)
    for _ in range(5):
        rig.send(intent)
    await rig.until(client_id, S.SUBMITTED)
    rig.send(intent)
    late = rig.intent(ttl_ns=1_000_000)
    late.publish_ns -= 50_000_000
    expired = await rig.until(rig.send(late), S.EXPIRED, S.SUBMITTED)
    assert expired.state is S.EXPIRED
    refused = await rig.until(rig.send(rig.intent(qty_lots=10**9)), S.REJECTED)
    assert "lots" in refused.reason
    _, record = await rig.settle()
    assert [o["clientOrderId"] for o in record["orders"]] == [client_id]


async def test_a_halt_cancels_and_refuses_survives_a_kill_and_ends_only_by_resuming(rig: OrderRig) -> None:
    resting = rig.send(rig.intent(behind_ticks=3000))
    await rig.until(resting, S.SUBMITTED)
    rig.control("halt", f"account.{ACCOUNT}")
    await rig.until(resting, S.CANCELED)
    refused = await rig.until(rig.send(rig.intent()), S.REJECTED, S.SUBMITTED)
    assert refused.state is S.REJECTED and "halted" in refused.reason
    await rig.kill("execution")
    await rig.ready("execution")
    refused = await rig.until(rig.send(rig.intent()), S.REJECTED, S.SUBMITTED)
    assert refused.state is S.REJECTED and "halted" in refused.reason
    rig.control("resume", f"account.{ACCOUNT}")
    await asyncio.sleep(0.5)
    await rig.until(rig.send(rig.intent()), S.SUBMITTED)
    await rig.settle()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_kill_in_the_middle_of_a_burst_loses_and_doubles_nothing(rig: OrderRig, seed: int) -> None:
    """nautilus_trader#3104, #5000: orders and positions did not survive a restart."""
    print("seed", seed)
    choose = random.Random(seed)
    for _ in range(3):
        writing = asyncio.create_task(burst(rig, 60, choose))
        await asyncio.sleep(choose.uniform(0.1, 0.6))
        await rig.kill("execution")
        await writing
        await rig.ready("execution")
        await rig.until(rig.send(rig.intent(behind_ticks=700)), *SENT)
    ours, record = await rig.settle()
    assert len(record["orders"]) > 20
    assert len(ours.fills) == len(record["fills"]) > 0
    held = sum(fill.side * fill.qty_lots for fill in ours.fills.values())
    assert (await rig.get("execution", "/state"))["positions"].get(f"{SYMBOL} BOTH", 0) == held


async def test_the_venue_killed_and_restarted_under_load_loses_and_doubles_nothing(rig: OrderRig) -> None:
    choose = random.Random(5)
    writing = asyncio.create_task(burst(rig, 80, choose))
    await asyncio.sleep(0.4)
    await rig.kill("simvenue")
    await writing
    await rig.ready("simvenue")
    await rig.ready("execution")
    await accepted_again(rig)
    _, record = await rig.settle(40)
    assert len(record["orders"]) > 10


async def test_nats_killed_and_restarted_under_load_loses_and_doubles_nothing(rig: OrderRig) -> None:
    choose = random.Random(6)
    writing = asyncio.create_task(burst(rig, 80, choose))
    await asyncio.sleep(0.4)
    await rig.kill("nats")
    await writing
    await rig.ready("nats")
    await accepted_again(rig)
    ours, record = await rig.settle(40)
    assert len(record["orders"]) > 10
    assert len(ours.fills) == len(record["fills"])


async def test_a_paused_execution_sends_nothing_late_when_it_goes_on(rig: OrderRig) -> None:
    before = rig.send(rig.intent())
    await rig.until(before, S.SUBMITTED)
    await rig.kill("execution", signal.SIGSTOP)
    late = [rig.send(rig.intent(ttl_ns=250_000_000, behind_ticks=60 + n)) for n in range(10)]
    await asyncio.sleep(1.0)
    await rig.kill("execution", signal.SIGCONT)
    for client_id in late:
        assert (await rig.until(client_id, S.EXPIRED, S.SUBMITTED)).state is S.EXPIRED
    _, record = await rig.settle()
    assert [o["clientOrderId"] for o in record["orders"]] == [before]


async def test_a_drain_cancels_what_is_open_and_keeps_the_record(tmp_path: Path) -> None:
    async with order_rig(tmp_path) as rig:
        ids = [rig.send(rig.intent(behind_ticks=50 + n)) for n in range(20)]
        for client_id in ids:
            await rig.until(client_id, S.SUBMITTED)
        pid = rig.children["execution"].pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        for client_id in ids:
            await rig.until(client_id, S.CANCELED)
        async with asyncio.timeout(15):
            while rig.children["execution"].pid == pid:
                await asyncio.sleep(0.05)
        assert await rig.differences() == []


async def test_a_writer_that_was_paused_past_its_lease_leaves_the_account_to_its_successor(tmp_path: Path) -> None:
    async with order_rig(tmp_path, execution__lease_ttl_ms=1000) as rig:
        first = rig.send(rig.intent(behind_ticks=200))
        await rig.until(first, S.SUBMITTED)
        await rig.kill("execution", signal.SIGSTOP)
        await rig.start_second()
        try:
            await rig.writes("execution-2")
            await rig.until(rig.send(rig.intent(behind_ticks=210)), S.SUBMITTED)
            await rig.kill("execution", signal.SIGCONT)
            choose = random.Random(9)
            await burst(rig, 60, choose, every_s=0.03)
            ours, record = await rig.settle()
            assert len(record["orders"]) > 20
            assert not [e for e in ours.orders.values() if "writer" in e.reason]
            assert "starting over as its standby" in rig.log("execution", 200)
            await rig.kill("execution-2", signal.SIGTERM)
            await rig.ready("execution")
            await accepted_again(rig)
            await rig.settle()
        finally:
            await rig.children["execution-2"].stop()


async def test_two_writers_of_one_account_hand_over_with_orders_open_when_told_to(tmp_path: Path) -> None:
    async with order_rig(tmp_path, execution__drain="hand_over") as rig:
        resting = [rig.send(rig.intent(behind_ticks=200 + n)) for n in range(5)]
        for client_id in resting:
            await rig.until(client_id, S.SUBMITTED)
        rig.control("halt", "strategy.other")
        await rig.start_second()
        try:
            assert "standing by" in rig.log("execution-2"), "two writers of one account"
            choose = random.Random(11)
            writing = asyncio.create_task(burst(rig, 60, choose, every_s=0.02))
            await asyncio.sleep(0.4)
            await rig.kill("execution", signal.SIGTERM)
            await rig.writes("execution-2")
            await writing
            assert [rig.state(c) for c in resting] == [S.SUBMITTED] * 5, "a hand-over touched the orders"
            await accepted_again(rig)
            refused = rig.send(rig.intent(strategy="other"))
            assert "halted" in (await rig.until(refused, S.REJECTED)).reason.lower()
            _, record = await rig.settle()
            assert len(record["orders"]) > 10
            assert set(resting) <= {o["clientOrderId"] for o in record["orders"]}
        finally:
            await rig.children["execution-2"].stop()


async def test_orders_of_an_older_epoch_of_a_strategy_are_refused_and_its_cancels_pass(rig: OrderRig) -> None:
    old = rig.send(rig.intent(epoch=5, behind_ticks=200))
    await rig.until(old, S.SUBMITTED)
    await rig.until(rig.send(rig.intent(epoch=7, behind_ticks=210)), S.SUBMITTED)
    late = await rig.until(rig.send(rig.intent(epoch=5, behind_ticks=220)), S.REJECTED)
    assert "successor" in late.reason
    await rig.until(rig.send(rig.intent(epoch=5, shard=1, behind_ticks=230)), S.SUBMITTED)
    other = rig.send(rig.intent(epoch=5, strategy="another", behind_ticks=240))
    await rig.until(other, S.SUBMITTED)
    await rig.until(rig.send(rig.intent(epoch=0, behind_ticks=250)), S.SUBMITTED)
    for client_id in (old, other):
        rig.cancel(client_id)
        await rig.until(client_id, S.CANCELED)
    await rig.settle()


async def test_who_was_succeeded_is_refused_also_by_an_execution_that_was_killed_since(rig: OrderRig) -> None:
    await rig.until(rig.send(rig.intent(epoch=5, behind_ticks=200)), S.SUBMITTED)
    await rig.until(rig.send(rig.intent(epoch=7, behind_ticks=210)), S.SUBMITTED)
    bucket = await rig.bus.kv("checkpoints")  # as strategies do before they speak under an epoch
    await bucket.put("strategy.rig", msgspec.json.encode(Checkpoint(name="rig", epoch=7)))
    await bucket.put("strategy.rig.1", msgspec.json.encode(Checkpoint(name="rig", epoch=9)))
    await bucket.put("strategy.torn", b"{")
    await rig.kill("execution")
    await rig.ready("execution")
    await accepted_again(rig)
    for shard, old, new in ((0, 5, 7), (1, 8, 9)):
        late = await rig.until(rig.send(rig.intent(epoch=old, shard=shard, behind_ticks=220)), S.REJECTED)
        assert "successor" in late.reason
        await rig.until(rig.send(rig.intent(epoch=new, shard=shard, behind_ticks=230)), S.SUBMITTED)
    await rig.settle()


async def test_what_the_execution_throttle_shut_stays_shut_over_a_kill_until_a_person_resumes_it(rig: OrderRig) -> None:
    limits = {"throttle_orders": 3, "throttle_window_s": 3600}
    await (await rig.bus.kv("limits")).put("default", msgspec.json.encode(limits))
    await rig.kill("execution")  # so that the limits are in force for certain
    await rig.ready("execution")
    async with asyncio.timeout(60):
        while (await rig.get("execution", "/state"))["halted"] != {"strategy.rig": "HALTED"}:
            rig.send(rig.intent(behind_ticks=300))
            await asyncio.sleep(0.05)
    assert "halted" in (await rig.until(rig.send(rig.intent()), S.REJECTED)).reason
    assert any(e.strategy == "rig" and e.state is S.SUBMITTED for e in rig.events), "it was the throttle that shut it"
    other = rig.send(rig.intent(strategy="another", behind_ticks=310))
    await rig.until(other, S.SUBMITTED)
    rig.cancel(other)
    await rig.until(other, S.CANCELED)
    await rig.kill("execution")
    await rig.ready("execution")
    assert (await rig.get("execution", "/state"))["halted"] == {"strategy.rig": "HALTED"}
    assert "halted" in (await rig.until(rig.send(rig.intent()), S.REJECTED)).reason
    rig.control("resume", "strategy.rig")
    async with asyncio.timeout(60):
        while (await rig.get("execution", "/state"))["halted"]:
            await asyncio.sleep(0.02)
    await rig.until(rig.send(rig.intent(behind_ticks=320)), S.SUBMITTED)
    await rig.settle()


async def test_an_order_that_is_overtaken_by_its_cancel_is_never_sent(rig: OrderRig) -> None:
    late = rig.intent(behind_ticks=300)
    client_id = client_order_id(late.strategy, late.intent_id)
    rig.cancel(client_id)
    other = rig.send(rig.intent(behind_ticks=310))
    await rig.until(other, S.SUBMITTED)  # what was sent before it was taken before it
    rig.send(late)
    ended = await rig.until(client_id, S.REJECTED, S.SUBMITTED)
    assert ended.state is S.REJECTED and "cancelled before it arrived" in ended.reason
    assert client_id not in {o["clientOrderId"] for o in (await rig.record())["orders"]}
    await rig.settle()


async def test_an_order_of_ours_whose_strategy_a_crash_hides_obeys_any_cancel_and_halt(
    rig: OrderRig,
) -> None:
    """What a process that was killed had sent and not journaled: its intent comes again half a minute later."""
    order = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.003",
             "price": Decimal(rig.books[SYMBOL].bids[0][0] - 3000) / 10}  # fmt: skip
    async with rig.by_hand() as rest:
        hidden = [client_order_id("rig", f"nobody-knows-{number}") for number in range(2)]
        await rest.place({**order, "newClientOrderId": hidden[0]})
        adopted = await rig.until(hidden[0], S.SUBMITTED)
        assert (adopted.external, adopted.strategy) == (False, "")
        await rest.place({**order, "newClientOrderId": "by-hand"})
        await rig.until("by-hand", S.SUBMITTED)
        rig.cancel_all()
        await rig.until(hidden[0], S.CANCELED)
        await rest.place({**order, "newClientOrderId": hidden[1]})
        await rig.until(hidden[1], S.SUBMITTED)
        rig.control("halt", "strategy.rig")
        await rig.until(hidden[1], S.CANCELED)
        assert rig.state("by-hand") is S.SUBMITTED, "somebody else's order is nobody's of ours"
        rig.control("halt", f"account.{ACCOUNT}")
        await rig.until("by-hand", S.CANCELED)


async def test_what_somebody_else_does_on_the_account_is_adopted_and_left_alone_by_a_drain(rig: OrderRig) -> None:
    async with rig.by_hand() as rest:
        bid = rig.books[SYMBOL].bids[0][0]
        quiet = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.003"}
        price = Decimal(bid - 3000) / 10
        await rest.place({**quiet, "price": price, "newClientOrderId": "by-hand-1"})
        assert (await rig.until("by-hand-1", S.SUBMITTED)).external
        taken = {"symbol": SYMBOL, "side": "SELL", "type": "MARKET", "quantity": "0.004"}
        await rest.place({**taken, "newClientOrderId": "by-hand-2"})
        await rig.until("by-hand-2", S.FILLED)
        await rest.place({**quiet, "price": price, "newClientOrderId": "by-hand-3"})
        await rig.kill("execution", signal.SIGTERM)
        async with asyncio.timeout(15):
            while rig.children["execution"].restarts == 0:
                await asyncio.sleep(0.05)
        await rig.ready("execution")
        assert len(await rest.open_orders(SYMBOL)) == 2, "a drain cancels our own orders only"
        assert (await rig.get("execution", "/stats"))["counters"]["reconciliation_mismatches_total"] == 0
        rig.control("halt", f"account.{ACCOUNT}")
        for client_id in ("by-hand-1", "by-hand-3"):
            await rig.until(client_id, S.CANCELED)
        ours, record = await rig.settle()
        assert sum(f.side * f.qty_lots for f in ours.fills.values()) == -4
        assert len(ours.fills) == len(record["fills"])


async def test_a_start_from_a_checkpoint_reads_the_end_of_the_journal_only_and_doubles_nothing(tmp_path: Path) -> None:
    async with order_rig(tmp_path, execution__journal_horizon_s=2) as rig:
        resting = rig.send(rig.intent(behind_ticks=3000))
        await rig.until(resting, S.SUBMITTED)
        for _ in range(4):
            await rig.until(rig.send(rig.intent(urgency=Urgency.IMMEDIATE)), S.FILLED, S.EXPIRED)
        rig.cancel(resting)
        await rig.until(resting, S.CANCELED)
        bucket = await rig.bus.kv("checkpoints")
        async with asyncio.timeout(20):
            while (entry := await bucket.get(f"execution.{ACCOUNT}")) is None or b'"seq":1,' in (entry.value or b""):
                await rig.until(rig.send(rig.intent(urgency=Urgency.IMMEDIATE)), S.FILLED, S.EXPIRED)
                await asyncio.sleep(0.5)
        await rig.kill("execution")
        await rig.ready("execution", timeout_s=90)  # the former life may have left no request weight of its minute
        await rig.until(rig.send(rig.intent(urgency=Urgency.IMMEDIATE)), S.FILLED, S.EXPIRED)
        await asyncio.sleep(2.5)  # two comparisons: trades from before the checkpoint are known
        ours, record = await rig.settle()
        assert len(ours.fills) == len(record["fills"])
