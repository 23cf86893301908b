"""Every pre-trade check against a running execution service: limits from the bucket and states from commands, each
changed without a restart. What each check decides in every case is in tests/unit/risk/test_pretrade.py."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from order_rig import ACCOUNT, SYMBOL, OrderRig, order_rig

from tickmesh.domain import subjects
from tickmesh.domain.enums import OrderState, OrderType, PositionSide, Side, Urgency
from tickmesh.domain.messages import Control, OrderEvent, encode

S = OrderState
SECOND = 1_000_000_000
DECIDED = (S.SUBMITTED, S.FILLED, S.PARTIALLY_FILLED, S.REJECTED, S.EXPIRED, S.CANCELED)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[OrderRig]:
    async with order_rig(tmp_path) as running:
        yield running


async def limit(rig: OrderRig, **limits: object) -> None:
    await (await rig.bus.kv("limits")).put(ACCOUNT, msgspec.json.encode(limits))


async def outcome(rig: OrderRig, *, ended: bool = False, **changes: Any) -> OrderEvent:
    """What the order became first, or at its end."""
    states = (S.FILLED, S.EXPIRED, S.REJECTED, S.CANCELED) if ended else DECIDED
    return await rig.until(rig.send(rig.intent(**{"behind_ticks": 300, **changes})), *states)


async def until_refused(rig: OrderRig, words: str, **changes: Any) -> None:
    """Send it until it is refused with these words; what was accepted before a limit changed is cancelled."""
    seen = ""
    try:
        async with asyncio.timeout(30):
            while words not in seen:
                found = await outcome(rig, **changes)
                seen = found.reason if found.state in (S.REJECTED, S.EXPIRED) else f"it was {found.state}"
                if found.state is S.SUBMITTED:
                    rig.cancel(found.client_order_id)
                    await rig.until(found.client_order_id, S.CANCELED)
    except TimeoutError:
        raise AssertionError(f"{changes} was not refused with {words!r}, but {seen!r}\n{rig.log()}") from None


async def until_accepted(rig: OrderRig, **changes: Any) -> str:
    """Send it until it rests; its client order id."""
    async with asyncio.timeout(30):
        while (found := await outcome(rig, **changes)).state is not S.SUBMITTED:
            await asyncio.sleep(0.05)
    return found.client_order_id


async def command(rig: OrderRig, verb: str, scope: str, actor: str = "ann") -> None:
    """Stored, as the gateway does; a resume counts from the stream only."""
    control = Control(verb=verb, scope=scope, reason="drill", actor=actor, publish_ns=time.time_ns())
    await rig.bus.publish_durable(
        subjects.control(verb, scope), encode(control), message_id=f"{verb}-{scope}-{control.publish_ns}"
    )


async def test_each_limit_refuses_as_soon_as_it_is_set_and_no_longer_than_it_is(rig: OrderRig) -> None:
    cases: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
        ({"max_order_notional": "100"}, "worth more than the limit of one order", {}),
        ({"symbols": {SYMBOL: {"max_order_qty": "0.002"}}}, "exceed the order limit of 2", {}),
        ({"symbols": {SYMBOL: {"max_position_qty": "0.002"}}}, "past its limit", {}),
        ({"max_position_notional": "100"}, "could grow past its limit", {}),
        ({"max_exposure_notional": "100"}, "exposure could grow past its limit", {}),
        ({"max_margin_use": "0.000001"}, "allowed share of the equity", {}),
        ({"max_leverage": 1}, "is set to leverage", {}),
        ({"collar_bps": 1}, "1 bps through the touch", {"behind_ticks": -200}),
        ({"passive_collar_bps": 1}, "1 bps behind the touch", {}),
        ({"max_book_age_ms": 1}, "the book of BTCUSDT is stale", {}),
        ({"max_mark_age_ms": 1}, "the mark price of BTCUSDT is stale", {}),
    ]
    for limits, words, changes in cases:
        await limit(rig, **limits)
        await until_refused(rig, words, **changes)
        await limit(rig)
        rig.cancel(await until_accepted(rig))
    await rig.settle()


async def test_what_no_limit_makes_right_is_refused(rig: OrderRig) -> None:
    middle, now = rig.books[SYMBOL].bids[0][0], time.time_ns()
    own = middle - 1500
    await until_accepted(rig, price_ticks=own)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("outside the venue's range", {"price_ticks": 2**40}),
        ("lots is outside", {"qty_lots": 10**7}),
        ("worth less than", {"qty_lots": 1, "price_ticks": middle // 2}),
        ("above the venue's band around the mark", {"price_ticks": middle * 13 // 10}),
        ("through the touch", {"price_ticks": middle * 102 // 100}),
        ("missing or superfluous prices", {"price_ticks": 0}),
        ("a market order takes liquidity", {"price_ticks": 0, "order_type": OrderType.MARKET}),
        ("does not fit the account's position mode", {"position_side": PositionSide.LONG}),
        ("this writer is for", {"account": "other"}),
        ("this writer is for", {"venue": "elsewhere"}),
        ("no such position left to reduce", {"reduce_only": True}),
        ("our own resting order", {"side": Side.SELL, "price_ticks": own}),
        ("time to live", {"ttl_ns": 1}),
        ("from the future", {"publish_ns": now + 60 * SECOND}),
    ]
    for words, changes in cases:
        await until_refused(rig, words, **changes)
    sizes = dict.fromkeys(("max_order_notional", "max_position_notional", "max_exposure_notional"), "1e9")
    await limit(rig, **sizes, max_margin_use="1")
    await until_refused(rig, "available balance", qty_lots=50_000)
    await rig.settle()


async def test_too_many_at_a_time_of_one_kind_and_in_a_row_are_refused(rig: OrderRig) -> None:
    price = rig.books[SYMBOL].bids[0][0] - 300
    await limit(rig, max_identical_open=1)
    first = await until_accepted(rig, price_ticks=price)
    await until_refused(rig, "identical orders", price_ticks=price)
    await limit(rig, symbols={SYMBOL: {"max_open_orders": 1}})
    await until_refused(rig, "1 orders of BTCUSDT are open", price_ticks=price - 10)
    await limit(rig)
    rig.cancel(first)
    await rig.until(first, S.CANCELED)
    await limit(rig, max_messages_per_s=1)
    async with asyncio.timeout(30):
        for n in itertools.count():
            burst = [rig.send(rig.intent(behind_ticks=300 + 10 * n + k)) for k in range(4)]
            ended = [await rig.until(one, *DECIDED) for one in burst]
            if any("slow down" in e.reason for e in ended):
                break
    rig.cancel_all()
    for one in burst:  # cancels pass whatever the rate
        await rig.until(one, S.CANCELED, S.REJECTED)
    await rig.settle()


async def test_each_scope_is_active_reducing_halted_and_active_again(rig: OrderRig) -> None:
    held = 0
    async with asyncio.timeout(30):
        while held < 8:  # something to reduce
            held += (await outcome(rig, urgency=Urgency.IMMEDIATE, qty_lots=10, ended=True)).cum_lots
    for scope in ("all", f"account.{ACCOUNT}", "strategy.rig", f"symbol.{SYMBOL}"):
        shrinking = {"side": Side.SELL, "qty_lots": 2, "reduce_only": True}
        await until_accepted(rig)
        await command(rig, "reduce", scope)
        await until_refused(rig, "may only reduce positions")
        exit_id = await until_accepted(rig, **shrinking)
        await command(rig, "halt", scope)
        await rig.until(exit_id, S.CANCELED)
        await until_refused(rig, "is halted; a person must resume it", **shrinking)
        other = await outcome(rig, strategy="other")
        assert (other.state is S.SUBMITTED) == (scope == "strategy.rig"), "a strategy's neighbour trades on"
        if scope == "strategy.rig":
            rig.cancel(other.client_order_id)
            await rig.until(other.client_order_id, S.CANCELED)
        await command(rig, "resume", scope)
        await until_accepted(rig)
        rig.cancel_all()
    await rig.settle()


async def test_the_throttle_stays_shut_until_a_person_reopens_it_whatever_the_limits_say(rig: OrderRig) -> None:
    await limit(rig, throttle_orders=3, throttle_window_s=1)
    await until_refused(rig, "a person must resume it")
    await limit(rig)
    rig.cancel(await until_accepted(rig, strategy="other"))
    await asyncio.sleep(1.2)  # past its window
    await until_refused(rig, "a person must resume it")
    await command(rig, "resume", "strategy.other")
    await command(rig, "resume", f"symbol.{SYMBOL}")
    await until_refused(rig, "a person must resume it")
    await command(rig, "resume", "strategy.rig")
    await until_accepted(rig)
    await rig.settle()
