"""What repeated rejections do to a strategy: short pauses that double, then observation for a while.

In: order events. Out: why it must wait now, and one sentence when it falls back to observation. A post-only order
that would have taken is no failure.
"""

from __future__ import annotations

from collections import deque

import msgspec

from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import OrderEvent

_FIRST_NS = 100_000_000
_POST_ONLY_CODES = frozenset({-5022, -2021})
_GOOD = frozenset({OrderState.SUBMITTED, OrderState.PARTIALLY_FILLED, OrderState.FILLED})


class BackOffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """``max_rejections`` within ``window_ns`` lead to observation for ``observe_ns``; pauses grow to ``most_ns``."""

    most_ns: int = 2_000_000_000
    max_rejections: int = 10
    window_ns: int = 60_000_000_000
    observe_ns: int = 30_000_000_000


class BackOff:
    """The record of one strategy."""

    def __init__(self, policy: BackOffPolicy) -> None:
        self.policy = policy
        self.observing_until_mono_ns = 0
        self._until_mono_ns = 0
        self._in_row = 0
        self._recent: deque[int] = deque(maxlen=policy.max_rejections)

    def why(self, now_mono_ns: int) -> str:
        """Why no order should leave now; empty when one may."""
        if now_mono_ns < self.observing_until_mono_ns:
            return "observing after repeated rejections"
        return "backing off after a rejection" if now_mono_ns < self._until_mono_ns else ""

    def on_event(self, event: OrderEvent, now_mono_ns: int) -> str:
        """Note an event; a sentence when this rejection was one too many."""
        if event.state in _GOOD:
            self._in_row = 0
        if event.state is not OrderState.REJECTED or event.venue_code in _POST_ONLY_CODES:
            return ""
        policy = self.policy
        self._in_row += 1
        self._until_mono_ns = now_mono_ns + min(_FIRST_NS << min(self._in_row, 8), policy.most_ns)
        if "halted" in event.reason:
            return ""  # a person's decision, not a failure; we wait
        self._recent.append(now_mono_ns)
        span_ns = now_mono_ns - self._recent[0]
        if len(self._recent) < policy.max_rejections or span_ns > policy.window_ns:
            return ""
        self._recent.clear()
        self.observing_until_mono_ns = now_mono_ns + policy.observe_ns
        return (
            f"{policy.max_rejections} orders were rejected within {span_ns / 1e9:.1f} s, the last because "
            f"{event.reason or event.venue_code}; only observing for {policy.observe_ns / 1e9:g} s"
        )
