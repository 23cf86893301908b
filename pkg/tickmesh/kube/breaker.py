"""How a CircuitBreaker resource and the ``breakers`` bucket come together: pure.

Who wins: the bucket decides what happens, because it works without an operator and without an API server. A change
of the resource's spec is carried over once, when its generation is newer than the one that the bucket has seen; after
that a force set or released in the bucket by somebody else (``tickmesh breaker``) stands, and the status says so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tickmesh.kube.conditions import condition

Manifest = dict[str, Any]

_TARGETS = {
    "VenueREST": "venue-rest",
    "VenueWebSocket": "venue-websocket",
    "Database": "database",
    "Cache": "cache",
    "Bus": "bus",
    "Downstream": "downstream",
    "Strategy": "strategy",
    "Account": "account",
    "Everything": "everything",
}
_WORST = ("Open", "HalfOpen", "Closed")
_MAX_TRANSITIONS = 20
_MAX_BREAKERS = 100


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of state of one breaker."""

    at_ns: int
    before: str
    after: str
    reason: str = ""


class StateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``state.<breaker>`` of the bucket, as its owner writes it. Unknown fields are ignored."""

    name: str
    owner: str = ""
    target: str = ""
    state: str = "Closed"
    forced: bool = False
    reason: str = ""
    failures: int = 0
    since_ns: int = 0
    next_probe_ns: int = 0
    transitions: list[Transition] = []


class ForceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``force.<target>``: held open or closed by ``actor``; ``uid`` and ``generation`` name its resource, if any."""

    state: str
    actor: str = ""
    reason: str = ""
    at_ns: int = 0
    uid: str = ""
    generation: int = 0


class ConfigRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``config.<target>``: thresholds, and which generation of which resource was carried over last."""

    failures: int
    window_ns: int
    open_ns: int
    probes: int
    reset_at: str = ""
    uid: str = ""
    generation: int = 0


def target_of(resource: Manifest) -> str:
    """The bucket's name for what the resource stands before."""
    target = resource["spec"]["target"]
    kind, name = _TARGETS[target["kind"]], target.get("name", "")
    return f"{kind}.{name}" if name else kind


class Writes(msgspec.Struct, kw_only=True):
    """What the bucket should get; None leaves a key alone. ``release`` deletes the force, ``reset`` asks for one."""

    config: ConfigRecord | None = None
    force: ForceRecord | None = None
    release: bool = False
    reset: str = ""


def carry_over(resource: Manifest, config: ConfigRecord | None, force: ForceRecord | None, now_ns: int) -> Writes:
    """What a resource that the bucket has not seen yet (or not in this generation) asks of the bucket."""
    meta, spec = resource["metadata"], resource["spec"]
    uid, generation = meta["uid"], meta.get("generation", 0)
    if config is not None and config.uid == uid and config.generation >= generation:
        return Writes()
    made = ConfigRecord(
        failures=spec.get("failureThreshold", 5),
        window_ns=spec.get("windowSeconds", 30) * 1_000_000_000,
        open_ns=spec.get("openSeconds", 30) * 1_000_000_000,
        probes=spec.get("halfOpenProbes", 3),
        reset_at=spec.get("resetAt", ""),
        uid=uid,
        generation=generation,
    )
    writes = Writes(config=made)
    wanted = spec.get("forced")
    if wanted:
        actor = f"circuitbreaker/{meta['name']}"
        writes.force = ForceRecord(
            state=wanted, actor=actor, reason=spec.get("reason", ""), at_ns=now_ns, uid=uid, generation=generation
        )
    elif force is not None and force.uid == uid:
        writes.release = True  # ours, and the resource no longer asks for it
    if made.reset_at and (config is None or config.uid != uid or config.reset_at != made.reset_at):
        writes.reset = made.reset_at
    return writes


def compute_status(
    resource: Manifest,
    records: list[StateRecord],
    force: ForceRecord | None,
    config: ConfigRecord | None,
    timestamp: Any,
) -> Manifest:
    """The status from the bucket. ``timestamp`` turns ns into RFC 3339."""
    meta = resource["metadata"]
    before = resource.get("status") or {}
    worst = min((r.state for r in records), key=_rank, default="Closed")
    chosen = next((r for r in records if r.state == worst), None)
    state = force.state if force is not None else worst
    status: Manifest = {
        "observedGeneration": meta.get("generation", 0),
        "state": state,
        "failures": sum(r.failures for r in records),
        "reason": _reason(force, chosen),
    }
    if force is not None:
        status["forced"] = force.state
    if state == "Open":
        opened = force.at_ns if force is not None else (chosen.since_ns if chosen else 0)
        if opened:
            status["openedAt"] = timestamp(opened)
        if force is None and chosen is not None and chosen.next_probe_ns:
            status["nextProbeAt"] = timestamp(chosen.next_probe_ns)
    if config is not None and config.reset_at:
        status["resetAt"] = config.reset_at
    status["breakers"] = [
        {"name": r.name, "state": r.state, "failures": r.failures, "reason": r.reason[:1024]}
        for r in sorted(records, key=lambda record: record.name)[:_MAX_BREAKERS]
    ]
    status["transitions"] = _transitions(before, records, state, status["reason"], timestamp, force)
    ours = force is None or force.uid == meta["uid"]
    generation = meta.get("generation", 0)
    synced = config is not None and config.generation >= generation and ours
    reason = "CarriedOver" if ours else "OverriddenInBucket"
    message = "the bucket holds what this resource asks for"
    if force is not None and not ours:
        message = f"forced {force.state} by {force.actor}"
    status["conditions"] = [condition(before, "Synced", synced, reason, message, generation, timestamp(0))]
    return status


def _rank(state: str) -> int:
    return _WORST.index(state) if state in _WORST else len(_WORST)


def _reason(force: ForceRecord | None, chosen: StateRecord | None) -> str:
    if force is not None:
        words = f"forced {force.state} by {force.actor or 'somebody'}"
        return f"{words}: {force.reason}"[:1024] if force.reason else words
    return chosen.reason[:1024] if chosen else ""


def _transitions(
    before: Manifest, records: list[StateRecord], state: str, reason: str, timestamp: Any, force: ForceRecord | None
) -> list[Manifest]:
    told = [(t.at_ns, t) for r in records for t in r.transitions]
    listed: list[Manifest] = list(before.get("transitions", []))
    known = {(t["at"], t["to"]) for t in listed}
    for at_ns, t in sorted(told, key=lambda pair: pair[0]):
        entry = {"at": timestamp(at_ns), "from": t.before, "to": t.after, "reason": t.reason[:1024]}
        if (entry["at"], entry["to"]) not in known:
            listed.append(entry)
            known.add((entry["at"], entry["to"]))
    old = before.get("state", "Closed")
    if force is not None and old != state:
        listed.append({"at": timestamp(force.at_ns), "from": old, "to": state, "reason": reason})
    return listed[-_MAX_TRANSITIONS:]
