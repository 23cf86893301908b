"""What a run did, as one object: computed from the journal and the venue's own record, not from counters.

``lost`` and ``duplicated`` come from setting the two records side by side by client order id and trade id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import FillEvent, OrderEvent, Stamps, decode

_VENUE_FINAL = {
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,
    "REJECTED": OrderState.REJECTED,
}
_VENUE_OPEN = {"NEW", "PARTIALLY_FILLED"}
_MAX_LISTED = 20


@dataclass(slots=True)
class OurRecord:
    """The ORDERS stream, folded: what each order's events amount to, each fill once, and which fills came twice."""

    orders: dict[str, OrderEvent] = field(default_factory=dict)
    first_ns: dict[str, int] = field(default_factory=dict)
    fills: dict[tuple[str, int], FillEvent] = field(default_factory=dict)
    repeated_fills: list[tuple[str, int]] = field(default_factory=list)
    tick_to_order_ns: dict[str, tuple[int, int]] = field(default_factory=dict)
    stamps: dict[str, Stamps] = field(default_factory=dict)
    """Of every order that reached the venue's socket from a tick."""

    def add(self, subject: str, payload: bytes) -> None:
        """Take one message of the stream, in stream order."""
        if subject.startswith("fill."):
            fill = decode(FillEvent, payload)
            key = (fill.symbol, fill.trade_id)
            if key in self.fills:
                self.repeated_fills.append(key)
            else:
                self.fills[key] = fill
            return
        event = decode(OrderEvent, payload)
        if event.anomaly:
            return
        client_id = event.client_order_id
        self.first_ns.setdefault(client_id, event.publish_ns)
        known = self.orders.get(client_id)
        if known is None or event.outweighs(known):
            self.orders[client_id] = event
        stamps = event.stamps
        if stamps.sent_mono_ns and stamps.tick_receive_mono_ns:
            self.stamps.setdefault(client_id, stamps)
            self.tick_to_order_ns.setdefault(
                client_id, (event.publish_ns, stamps.sent_mono_ns - stamps.tick_receive_mono_ns)
            )


@dataclass(slots=True)
class Comparison:
    """Where our record and the venue's differ, as sentences."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)


def compare(ours: OurRecord, venue: dict[str, Any]) -> Comparison:
    """Set our record against the venue's own.

    Args:
        ours: the folded journal.
        venue: ``{"orders": [...], "fills": [...]}`` as simvenue's ``/record`` gives it.
    """
    result = Comparison()
    venue_orders: dict[str, list[dict[str, Any]]] = {}
    for order in venue["orders"]:
        venue_orders.setdefault(order["clientOrderId"], []).append(order)
    for client_id, same_id in venue_orders.items():
        if len(same_id) > 1:
            result.duplicated.append(f"{client_id} is {len(same_id)} orders at the venue")
        mine = ours.orders.get(client_id)
        if mine is None:
            result.lost.append(f"{client_id} is {same_id[-1]['status']} at the venue and unknown to us")
            continue
        status = same_id[-1]["status"]
        agrees = mine.state is _VENUE_FINAL.get(status) or (status in _VENUE_OPEN and not mine.state.terminal)
        if not agrees:
            result.lost.append(f"{client_id} is {status} at the venue and {mine.state} here")
    for client_id, mine in ours.orders.items():
        if client_id not in venue_orders and (mine.venue_order_id or mine.state in _MUST_BE_AT_VENUE):
            result.lost.append(f"{client_id} is {mine.state} here and unknown to the venue")
    venue_fills = {(fill["symbol"], int(fill["id"])) for fill in venue["fills"]}
    result.lost += [f"fill {key} of the venue is missing here" for key in sorted(venue_fills - ours.fills.keys())]
    result.duplicated += [f"fill {key} is unknown to the venue" for key in sorted(ours.fills.keys() - venue_fills)]
    result.duplicated += [f"fill {key} is journaled twice" for key in ours.repeated_fills]
    return result


_MUST_BE_AT_VENUE = frozenset(
    {OrderState.SUBMITTED, OrderState.PARTIALLY_FILLED, OrderState.FILLED, OrderState.UNKNOWN}
)


def order_counts(ours: OurRecord, since_ns: int) -> dict[str, int]:
    """Orders of this run by their final state."""
    counts = Counter(str(e.state) for c, e in ours.orders.items() if ours.first_ns[c] >= since_ns)
    return dict(sorted(counts.items()))


def quantiles_us(durations_ns: Iterable[int]) -> dict[str, float]:
    """Exact quantiles of all durations, in microseconds."""
    ordered = sorted(durations_ns)
    if not ordered:
        return {"n": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * q))] / 1000 for q in (0.50, 0.95, 0.99)]
    return {"n": len(ordered), "p50": at[0], "p95": at[1], "p99": at[2], "max": ordered[-1] / 1000}


def stages_us(ours: OurRecord, since_ns: int) -> dict[str, dict[str, float]]:
    """Where the time of the orders of this run went, from tick to socket; the parts of each add up to its whole."""
    found = [ours.stamps[client_id] for client_id, (at, _) in ours.tick_to_order_ns.items() if at >= since_ns]
    whole = [s for s in found if all(getattr(s, name) for name, _ in _STEPS)]
    return {
        stage: quantiles_us(getattr(s, end) - getattr(s, begin) for s in whole)
        for (begin, stage), (end, _) in pairwise(_STEPS)
    }


_STEPS = (
    ("tick_receive_mono_ns", "in_feed"),
    ("feed_publish_mono_ns", "to_strategy"),
    ("strategy_receive_mono_ns", "in_strategy"),
    ("intent_publish_mono_ns", "to_execution"),
    ("execution_receive_mono_ns", "in_checks"),
    ("validated_mono_ns", "to_socket"),
    ("sent_mono_ns", ""),
)
"""Stamps of an order in the order of its way, and what lies between each and the next."""


def first_few(sentences: list[str]) -> list[str]:
    """Enough to act on, not thousands of lines."""
    more = len(sentences) - _MAX_LISTED
    return sentences[:_MAX_LISTED] + ([f"and {more} more"] if more > 0 else [])
