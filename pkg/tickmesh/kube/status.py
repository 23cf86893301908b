"""What a Strategy's status should say: a function of what is known, the same words for the same knowledge.

In: the Strategy, its Deployments, the newest report of its pods, the mistakes found. Out: the whole status. A condition
keeps its lastTransitionTime while its status stays, so that computing it again changes nothing and no patch triggers
itself. Times come in with the call.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from tickmesh.kube.conditions import condition, timestamp

Manifest = dict[str, Any]


class PodReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the pod that holds the lease tells of its strategy: key ``report.<name>`` of the ``strategies`` bucket.

    Shards other than 0 have ``report.<name>.<shard>``. ``problem`` is what the pod finds wrong with the resource.
    """

    holder: str = ""
    epoch: int = 0
    generation: int = 0
    mode: str = ""
    paused: bool = False
    halted: list[str] = []
    open_orders: int = 0
    positions: dict[str, str] = {}
    pnl: str = ""
    last_signal_ns: int = 0
    last_error: str = ""
    disabled: bool = False
    written_ns: int = 0
    problem: str = ""


def combine(reports: dict[int, PodReport]) -> PodReport | None:
    """One report of a strategy from those of its shards: sums, and of the rest the worst."""
    if not reports:
        return None
    told = [report for _, report in sorted(reports.items())]
    positions: dict[str, Decimal] = {}
    for report in told:
        for symbol, quantity in report.positions.items():
            positions[symbol] = positions.get(symbol, Decimal(0)) + Decimal(quantity)
    pnl = [Decimal(report.pnl) for report in told if report.pnl]
    return PodReport(
        holder=",".join(report.holder for report in told if report.holder),
        epoch=max(report.epoch for report in told),
        generation=min(report.generation for report in told),
        mode="/".join(dict.fromkeys(report.mode for report in told if report.mode)),
        paused=all(report.paused for report in told),
        halted=sorted({scope for report in told for scope in report.halted}),
        open_orders=sum(report.open_orders for report in told),
        positions={symbol: format(q, "f") for symbol, q in sorted(positions.items()) if q},
        pnl=format(sum(pnl, Decimal(0)), "f") if pnl else "",
        last_signal_ns=max(report.last_signal_ns for report in told),
        last_error=next((report.last_error for report in told if report.last_error), ""),
        disabled=any(report.disabled for report in told),
        written_ns=min(report.written_ns for report in told),
        problem="; ".join(dict.fromkeys(report.problem for report in told if report.problem)),
    )


class Knowledge(msgspec.Struct, kw_only=True):
    """All that a status is computed from. ``problems`` are sentences about what is wrong with the resource now."""

    deployments: list[Manifest] = []
    report: PodReport | None = None
    problems: list[str] = []


def compute(strategy: Manifest, knowledge: Knowledge, now_ns: int) -> Manifest:
    """The status as it should be."""
    meta, spec, before = strategy["metadata"], strategy["spec"], strategy.get("status") or {}
    report = knowledge.report
    wanted = spec.get("replicas", 1) * spec.get("shards", 1)
    ready = sum(d.get("status", {}).get("readyReplicas", 0) for d in knowledge.deployments)
    there = sum(d.get("status", {}).get("replicas", 0) for d in knowledge.deployments)
    rolled = bool(knowledge.deployments) and all(_rolled_out(d) for d in knowledge.deployments)
    halted = list(report.halted) if report else []
    degraded = _degraded(knowledge, report)
    # A pod of each shard trades; further replicas are warm and may be missing.
    served = all(d.get("status", {}).get("readyReplicas", 0) > 0 for d in knowledge.deployments)
    is_ready = wanted > 0 and served and len(knowledge.deployments) >= spec.get("shards", 1) and not degraded
    status: Manifest = {
        "observedGeneration": meta.get("generation", 0),
        "phase": _phase(meta, spec, degraded, halted, ready),
        "replicas": there,
        "readyReplicas": ready,
        "selector": f"tickmesh.io/strategy={meta['name']}",
    }
    facts = [
        ("Ready", is_ready, *_ready_words(is_ready, ready, wanted)),
        ("Progressing", not rolled, *(("RolledOut", "every pod runs the present code") if rolled else
                                      ("RollingOut", "pods are being made or replaced"))),
        ("Degraded", bool(degraded), *(("Problem", degraded) if degraded else ("AsExpected", "nothing is wrong"))),
        ("Halted", bool(halted), *(("Halted", f"halted by {', '.join(halted)}") if halted else
                                   ("Trading", "no halt is in force"))),
    ]  # fmt: skip
    status["conditions"] = [condition(before, *fact, meta.get("generation", 0), timestamp(now_ns)) for fact in facts]
    if report is not None:
        status |= _reported(report)
    return status


def differs(strategy: Manifest, status: Manifest) -> bool:
    """Whether the status has to be written."""
    return bool((strategy.get("status") or {}) != status)


def _degraded(knowledge: Knowledge, report: PodReport | None) -> str:
    problems = list(knowledge.problems)
    if report is not None and report.disabled:
        problems.append(f"the plugin is disabled after errors: {report.last_error or 'see the log'}")
    if report is not None and report.problem:
        problems.append(report.problem)
    for deployment in knowledge.deployments:
        for found in deployment.get("status", {}).get("conditions", []):
            if found["type"] == "Progressing" and found["status"] == "False":
                problems.append(f"{deployment['metadata']['name']}: {found.get('message', 'does not progress')}")
    return "; ".join(problems)[:32_000]


def _phase(meta: Manifest, spec: Manifest, degraded: str, halted: list[str], ready: int) -> str:
    if meta.get("deletionTimestamp"):
        return "Terminating"
    if degraded:
        return "Degraded"
    if spec.get("replicas", 1) == 0 or spec.get("paused"):
        return "Paused"
    if halted:
        return "Halted"
    return "Running" if ready else "Starting"


def _ready_words(is_ready: bool, ready: int, wanted: int) -> tuple[str, str]:
    if is_ready:
        return "PodsReady", f"{ready} of {wanted} pods are ready"
    if wanted == 0:
        return "ScaledToZero", "no pod is wanted"
    return "PodsNotReady", f"{ready} of {wanted} pods are ready"


def _rolled_out(deployment: Manifest) -> bool:
    status, spec = deployment.get("status", {}), deployment["spec"]
    wanted = spec.get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("replicas", 0) <= wanted
        and status.get("availableReplicas", 0) >= wanted
    )


def _reported(report: PodReport) -> Manifest:
    told: Manifest = {"epoch": report.epoch, "holder": report.holder, "mode": report.mode}
    told["positions"] = [{"symbol": s, "quantity": q} for s, q in sorted(report.positions.items())]
    if report.pnl:
        told["pnl"] = report.pnl
    if report.last_signal_ns:
        told["lastSignalTime"] = timestamp(report.last_signal_ns)
    if report.last_error:
        told["lastError"] = report.last_error[:1024]
    return told
