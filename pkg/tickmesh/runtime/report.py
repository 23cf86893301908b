"""Collects the summary of a run while journal and venue are still up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import DependencyError
from tickmesh.runtime.summary import OurRecord, compare, first_few, order_counts, quantiles_us, stages_us

if TYPE_CHECKING:
    from tickmesh.runtime.up import Supervisor

_STAGES = {
    "feed": ("feed", "feed_latency_us"),
    "strategy": ("strategy", "strategy_decision_latency_us"),
    "transport": ("strategy", "transport_latency_us"),
    "validation": ("execution", "validation_latency_us"),
}


async def read_journal(url: str) -> OurRecord:
    """Fold the whole ORDERS stream."""
    bus = await NatsBus.connect(url, name="tickmesh-summary", connect_timeout_s=10, apply_layout=False)
    try:
        record = OurRecord()
        async for subject, payload, _ in bus.replay("ORDERS"):
            record.add(subject, payload)
        return record
    finally:
        await bus.close()


async def collect_summary(supervisor: Supervisor) -> dict[str, Any]:
    """Set the journal against the venue's record; raises DependencyError when either cannot be read."""
    settings, poller = supervisor.settings, supervisor.poller
    elapsed_s = (time.time_ns() - supervisor.started_ns) / 1e9
    ours = await read_journal(settings.nats.url)
    admin = f"http://{settings.observe.host}:{settings.simvenue.admin_port}"
    venue = await poller.get(f"{admin}/record?account={settings.venue.account}")
    if venue is None:
        raise DependencyError("simvenue", "the venue does not give its record; lost and duplicated cannot be computed")
    comparison = compare(ours, venue)
    live = await poller.get(supervisor.gateway_url + "/api/v1/live") or {}
    since = supervisor.started_ns
    events = poller.counter("feed", "events_total")
    return {
        "elapsed_s": round(elapsed_s, 2),
        "events": events,
        # Over the time that it traded: start and drain would make the machine look slower than it is.
        "events_per_s": round(supervisor.watched.events / max(0.001, supervisor.watched.seconds), 1),
        "gaps": poller.counter("feed", "gaps_total"),
        "orders": order_counts(ours, since),
        "fills": sum(1 for f in ours.fills.values() if f.publish_ns >= since),
        "pnl": live.get("pnl", {}),
        "lost": len(comparison.lost),
        "duplicated": len(comparison.duplicated),
        "differences": first_few(comparison.lost + comparison.duplicated),
        "latency_us": {
            **{stage: poller.latency(*where) for stage, where in _STAGES.items()},
            "tick_to_order": quantiles_us(ns for at, ns in ours.tick_to_order_ns.values() if at >= since),
        },
        "order_path_us": stages_us(ours, since),
    }
