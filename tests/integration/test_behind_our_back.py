"""What the venue does to a position by itself, with real processes: taken over, told, and past a threshold halted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from order_rig import ACCOUNT, SYMBOL, OrderRig, order_rig

from tickmesh.domain.enums import OrderState, Severity, Side, Urgency
from tickmesh.domain.messages import AccountSnapshot, Alert, Control, decode

S = OrderState


@dataclass
class Watched:
    """The rig with account and risk, and what they say."""

    rig: OrderRig
    alerts: list[Alert] = field(default_factory=list)
    snapshots: list[AccountSnapshot] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)

    @property
    def lots(self) -> int:
        """The position as the account service has it."""
        found = [p.qty_lots for p in self.snapshots[-1].positions if p.symbol == SYMBOL] if self.snapshots else []
        return found[0] if found else 0

    async def until(self, what: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(30):
                while not what():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.alerts[-5:]} {self.snapshots[-1:]}\n{self.rig.log()}") from None

    async def venue(self, how: str, lots: int = 0) -> None:
        answer = await self.rig.post(
            "simvenue", "/positions", {"account": ACCOUNT, "symbol": SYMBOL, "how": how, "lots": lots}
        )
        assert "error" not in answer, answer

    async def take(self, lots: int) -> None:
        """Have a position of so many lots more, in as many orders as it takes."""
        wanted = self.lots + lots
        while missing := wanted - (before := self.lots):
            side = Side.BUY if missing > 0 else Side.SELL
            order = self.rig.intent(side=side, urgency=Urgency.IMMEDIATE, qty_lots=abs(missing))
            ended = await self.rig.until(self.rig.send(order), S.FILLED, S.EXPIRED)
            now = before + int(side) * ended.cum_lots
            await self.until(lambda now=now: self.lots == now)

    def told(self, kind: str) -> list[Alert]:
        return [a for a in self.alerts if a.kind == kind]


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    keys: dict[str, Any] = {"account__reconcile_interval_s": 0.5, "account__snapshot_interval_s": 0.2}
    async with order_rig(tmp_path, **keys) as rig:
        w = Watched(rig)
        await rig.bus.subscribe("alert.>", lambda _, p: w.alerts.append(decode(Alert, p)))
        await rig.bus.subscribe("account.*.snapshot", lambda _, p: w.snapshots.append(decode(AccountSnapshot, p)))
        await rig.bus.subscribe("ctl.>", lambda _, p: w.controls.append(decode(Control, p)))
        await rig.add("account")
        await rig.add("risk", TICKMESH_RISK__CRITICAL_SERVICES="[]")
        await w.until(lambda: w.snapshots)
        yield w


async def test_a_position_that_the_venue_moved_is_taken_over_and_told_and_the_third_time_halts(
    watched: Watched,
) -> None:
    w = watched
    await w.take(20)
    for number, lots in enumerate((33, -7, 12), start=1):
        before = w.lots
        await w.venue("silently", lots)
        await w.until(lambda n=number: len(w.told("position-mismatch")) == n)  # execution's word
        await w.until(lambda lots=lots: w.lots == lots)  # the account service's
        text = w.told("position-mismatch")[-1].text
        assert f"was {before} lots here and {lots} at the venue; the venue's is used" in text
        assert w.told("position-mismatch")[-1].severity is Severity.CRITICAL
        if number == 1:  # both judge by the venue's now: this many can be sold to get out, and no more
            out = w.rig.intent(side=Side.SELL, urgency=Urgency.IMMEDIATE, qty_lots=34, reduce_only=True)
            assert "position" in (await w.rig.until(w.rig.send(out), S.REJECTED)).reason
            await w.take(-13)
            await w.take(13)
    await w.until(lambda: [c.arguments.get("kind") for c in w.controls if c.verb == "halt"] == ["mismatch"])
    assert len(w.told("reconciliation_mismatch")) >= 3
    async with asyncio.timeout(30):
        while (await w.rig.get("execution", "/state"))["halted"] != {f"account.{ACCOUNT}": "HALTED"}:
            await asyncio.sleep(0.05)
    refused = await w.rig.until(w.rig.send(w.rig.intent()), S.REJECTED)
    assert refused.reason.startswith("the account is halted")


@pytest.mark.parametrize("how", ["liquidation", "adl"])
async def test_a_liquidation_or_deleveraging_is_adopted_counts_once_and_is_no_mismatch(
    watched: Watched, how: str
) -> None:
    w, prefix = watched, "autoclose-" if how == "liquidation" else "adl_autoclose-"
    await w.take(20)
    await w.venue(how)
    await w.until(lambda: w.lots == 0)
    await w.until(lambda: any(e.client_order_id.startswith(prefix) for e in w.rig.events))
    (adopted,) = {e.client_order_id for e in w.rig.events if e.client_order_id.startswith(prefix)}
    done = await w.rig.until(adopted, S.FILLED)
    assert (done.external, done.side, done.cum_lots) == (True, Side.SELL, 20)
    await w.take(20)
    await w.rig.children["execution"].stop()
    await w.venue(how)  # while nobody looks: the next start finds it
    await w.rig.children["execution"].start()
    await w.rig.ready("execution")
    await w.until(lambda: w.lots == 0)
    fills = [f for f in (await w.rig.journal()).fills.values() if f.client_order_id.startswith(prefix)]
    assert {f.side for f in fills} == {Side.SELL} and sum(f.qty_lots for f in fills) == 40
    await w.rig.settle()
    assert not w.told("position-mismatch") and not w.told("reconciliation_mismatch")
