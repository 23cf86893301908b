"""TradingAccount resources: limits carried over to the bucket once a generation, state told, a wrong one refused."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

from world import World, account, eventually

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.messages import AccountSnapshot, encode


def limited(**limits: Any) -> dict[str, Any]:
    made = account()
    made["spec"]["limits"] = limits
    return made


def reason(world: World, kind: str) -> str:
    listed = world.status("tradingaccount", "main").get("conditions", [])
    return next((f"{c['status']}/{c['reason']}" for c in listed if c["type"] == kind), "")


def test_limits_reach_the_bucket_and_what_a_person_sets_there_stands(world: World) -> None:
    world.operator()
    world.put("limits", "main", {"max_identical_open": 5})
    world.apply(limited(maxExposure="90000", maxLeverage=7, maxDailyDrawdown="0.04"))
    wanted = {
        "max_identical_open": 5,
        "max_exposure_notional": "90000",
        "max_leverage": 7,
        "max_daily_drawdown": "0.04",
    }
    eventually(lambda: world.bucket("limits", "main") == wanted, what="its limits beside those of others")
    eventually(lambda: reason(world, "Synced") == "True/CarriedOver", what="told")
    world.put("limits", "main", {**wanted, "max_leverage": 3})
    eventually(lambda: reason(world, "Synced") == "False/OverriddenInBucket", what="a person's limit is told")
    assert (world.bucket("limits", "main") or {})["max_leverage"] == 3, "and stands"
    assert "maxLeverage" in world.kubectl("describe", "ta", "main").stdout
    world.apply(limited(maxExposure="80000", maxDailyDrawdown="0.04"))
    eventually(
        lambda: (world.bucket("limits", "main") or {}).get("max_exposure_notional") == "80000",
        what="the next generation",
    )
    assert (world.bucket("limits", "main") or {})["max_leverage"] == 3, "not ours any more, so it is not taken away"
    world.apply(limited(maxExposure="80000"))
    eventually(lambda: "max_daily_drawdown" not in (world.bucket("limits", "main") or {}), what="ours is taken away")
    world.kubectl("delete", "ta", "main")
    time.sleep(1)
    assert (world.bucket("limits", "main") or {})["max_exposure_notional"] == "80000", "no account gets looser by that"


def test_limits_that_risk_would_refuse_are_not_written_and_told(world: World) -> None:
    world.operator()
    world.apply(limited(maxDailyDrawdown="0.01"))  # below reduce_daily_drawdown, which is 0.03
    eventually(lambda: reason(world, "Synced") == "False/Refused", what="refused")
    assert world.bucket("limits", "main") is None
    assert "reduce_daily_drawdown may not exceed max_daily_drawdown" in world.kubectl("describe", "ta", "main").stdout
    assert "Refused" in world.events("main")
    world.put("limits", "default", {"reduce_daily_drawdown": "0.005"})
    eventually(lambda: reason(world, "Synced") == "True/CarriedOver", 30, "it fits the new default")


def test_state_is_told_and_silence_is_told_too(world: World) -> None:
    world.operator()
    world.apply(account())
    eventually(lambda: reason(world, "Ready") == "False/Silent", what="nobody has said anything")

    async def tell(bus: NatsBus) -> None:
        snapshot = AccountSnapshot(
            account="main", venue="binance", equity=Decimal("10250.5"), daily_pnl=Decimal("-12.345"),
            daily_drawdown=Decimal("0.0012"), publish_ns=time.time_ns(),
        )  # fmt: skip
        bus.publish("account.main.snapshot", encode(snapshot))
        await bus.flush()

    def told() -> dict[str, Any]:
        world.bus(tell)
        status = world.status("tradingaccount", "main")
        return status if status.get("equity") else {}

    status = eventually(told, 30, "the account's state")
    assert (status["equity"], status["dailyPnl"], status["drawdown"]) == ("10250.50", "-12.34", "0.0012")
    assert reason(world, "Ready") == "True/Reporting"
    halt = {"scope": "account.main", "state": "HALTED", "reason": "drawdown", "actor": "risk", "at_ns": 1}
    world.put("checkpoints", "risk.halts", {"halts": [halt], "control_seq": 1})
    eventually(lambda: world.status("tradingaccount", "main").get("halted"), what="halted")
    assert reason(world, "Halted") == "True/Halted"
    row = world.kubectl("get", "ta").stdout.splitlines()
    assert row[0].split() == ["NAME", "VENUE", "EQUITY", "DAY", "HALTED", "READY", "AGE"]
    assert row[1].split()[1:6] == ["binance", "10250.50", "-12.34", "true", "True"], json.dumps(row)
