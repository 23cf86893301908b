"""A TradingAccount against the ``limits`` bucket and the account service: what is carried over, what is shown; pure.

Who wins: the bucket decides what holds, as with breakers. A generation of the resource is carried over once, limit by
limit; what a person sets afterwards with ``tickmesh limits`` stands, and the status says so (``Synced`` is False). A
deleted resource leaves its limits in the bucket: an account never gets looser by losing its description.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from tickmesh.domain.messages import AccountSnapshot
from tickmesh.kube.conditions import condition, timestamp

Manifest = dict[str, Any]

LIMITS = {
    "maxPositionNotional": "max_position_notional",
    "maxExposure": "max_exposure_notional",
    "maxOrderNotional": "max_order_notional",
    "maxDailyDrawdown": "max_daily_drawdown",
    "maxLeverage": "max_leverage",
}
"""Names in the resource and in the bucket's document."""
REFUSED = "Refused"
_SILENT_NS = 30_000_000_000


def carry_over(resource: Manifest, document: Manifest) -> Manifest | None:
    """The account's document as it should be; None when this generation has been carried over."""
    status = resource.get("status") or {}
    generation = resource["metadata"].get("generation", 0)
    refused = any(c["reason"] == REFUSED for c in status.get("conditions", []))  # it may fit another default by now
    if status.get("observedGeneration", 0) >= generation and not refused:
        return None
    wanted, before = resource["spec"].get("limits") or {}, status.get("limits") or {}
    made = dict(document)
    for name, key in LIMITS.items():
        if name in wanted:
            made[key] = wanted[name]
        elif name in before and _same(made.get(key), before[name]):
            made.pop(key, None)  # ours, and no longer asked for
    return made


def compute_status(
    resource: Manifest, document: Manifest, refused: str, snapshot: AccountSnapshot | None, halted: list[str],
    now_ns: int,
) -> Manifest:  # fmt: skip
    """The whole status. ``refused`` says why the limits cannot be used, ``halted`` names the scopes that stop it."""
    before, generation = resource.get("status") or {}, resource["metadata"].get("generation", 0)
    wanted = resource["spec"].get("limits") or {}
    others = sorted(n for n, value in wanted.items() if not _same(document.get(LIMITS[n]), value))
    fresh = snapshot is not None and now_ns - snapshot.publish_ns < _SILENT_NS
    synced = not refused and not others
    words = (
        (REFUSED, refused) if refused
        else ("OverriddenInBucket", f"set otherwise with tickmesh limits: {', '.join(others)}") if others
        else ("CarriedOver", "the bucket holds what this resource asks for")
    )  # fmt: skip
    ready = (
        ("Reporting", "the account service tells its state") if fresh
        else ("Silent", "the account service has told nothing for 30 s: does it run for this account?")
    )  # fmt: skip
    stop = ("Halted", f"halted by {', '.join(halted)}") if halted else ("Trading", "no halt is in force")
    facts = [("Ready", fresh, *ready), ("Synced", synced, *words), ("Halted", bool(halted), *stop)]
    status: Manifest = {
        "observedGeneration": generation,
        "limits": dict((before.get("limits") or {}) if refused else wanted),
        "halted": bool(halted),
        "conditions": [condition(before, *fact, generation, timestamp(now_ns)) for fact in facts],
    }
    if snapshot is not None:
        status["equity"] = _money(snapshot.equity)
        status["dailyPnl"] = _money(snapshot.daily_pnl)
        status["drawdown"] = format(snapshot.daily_drawdown.quantize(Decimal("0.0001")), "f")
        status["lastSnapshotTime"] = timestamp(snapshot.publish_ns)
    return status


def _money(amount: Decimal) -> str:
    return format(amount.quantize(Decimal("0.01")), "f")


def _same(one: Any, other: Any) -> bool:
    try:
        return Decimal(str(one)) == Decimal(str(other))
    except InvalidOperation:
        return False
