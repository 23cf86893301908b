"""Stages: stamps of our orders in, quantiles per stage out; every order counts once, the newest 10,000 are kept."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from tickmesh.domain.messages import Stamps
from tickmesh.gateway.view import Quantiles

_MAX_ORDERS = 10_000
_RECOMPUTE_NS = 1_000_000_000
_NAMES = tuple(f.name for f in msgspec.structs.fields(Stamps))

STAGES: tuple[tuple[str, str, str], ...] = (
    ("feed", "tick_receive_mono_ns", "feed_publish_mono_ns"),
    ("transport", "feed_publish_mono_ns", "strategy_receive_mono_ns"),
    ("strategy", "strategy_receive_mono_ns", "intent_publish_mono_ns"),
    ("intent", "intent_publish_mono_ns", "execution_receive_mono_ns"),
    ("validation", "execution_receive_mono_ns", "validated_mono_ns"),
    ("send", "validated_mono_ns", "sent_mono_ns"),
    ("tick_to_order", "tick_receive_mono_ns", "sent_mono_ns"),
    ("venue_ack", "sent_mono_ns", "ack_mono_ns"),
)
"""(stage, from, to), in the order in which an order passes them."""

NOTHING = Quantiles(n=0, p50=0.0, p95=0.0, p99=0.0)


class Stages:
    """Durations of each stage over our orders."""

    def __init__(self) -> None:
        self._stamps: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._computed: dict[str, Quantiles] = {}
        self._computed_ns = 0
        self._changed = True

    def add(self, client_order_id: str, stamps: Stamps) -> None:
        """Take the stamps of one event; later events of an order complete it and never count again."""
        values = tuple(getattr(stamps, name) for name in _NAMES)
        if not stamps.tick_receive_mono_ns:
            return
        known = self._stamps.get(client_order_id)
        if known is not None:
            # The same order's events differ only in what had happened by then.
            values = tuple(map(max, known, values))
        if values == known:
            return
        self._stamps[client_order_id] = values
        self._changed = True
        if len(self._stamps) > _MAX_ORDERS:
            self._stamps.popitem(last=False)

    def quantiles_us(self, now_ns: int) -> dict[str, Quantiles]:
        """Per stage; computed anew at most once a second because it sorts."""
        if self._changed and (not self._computed or not 0 <= now_ns - self._computed_ns < _RECOMPUTE_NS):
            self._computed = {name: self._stage(begin, end) for name, begin, end in STAGES}
            self._computed_ns = now_ns
            self._changed = False
        return self._computed or dict.fromkeys((name for name, _, _ in STAGES), NOTHING)

    def _stage(self, begin: str, end: str) -> Quantiles:
        first, last = _NAMES.index(begin), _NAMES.index(end)
        ordered = sorted(v[last] - v[first] for v in self._stamps.values() if v[first] and v[last] >= v[first])
        if not ordered:
            return NOTHING
        p50, p95, p99 = (ordered[min(len(ordered) - 1, len(ordered) * q // 100)] / 1000 for q in (50, 95, 99))
        return Quantiles(n=len(ordered), p50=p50, p95=p95, p99=p99)


def stages_us(stamps: Stamps) -> dict[str, float]:
    """One order's stamps, in microseconds since its first."""
    values = [(name.removesuffix("_mono_ns"), getattr(stamps, name)) for name in _NAMES]
    start = next((value for _, value in values if value), 0)
    return {name: (value - start) / 1000 for name, value in values if value}
