"""What pre-trade risk answers: an ApprovedOrder or a Refusal; execution accepts nothing else.

An ApprovedOrder is a proof, not a record: ``risk.pretrade.PreTrade`` is its only maker (a tidy test checks
that), so that an order which reached a venue was checked, whoever wrote the code in between.
"""

from __future__ import annotations

import msgspec

from tickmesh.domain.messages import OrderIntent


class ApprovedOrder(msgspec.Struct, frozen=True, gc=False):
    """An intent that passed every check. ``client_order_id`` is the target's for CANCEL and empty for CANCEL_ALL."""

    intent: OrderIntent
    client_order_id: str
    approved_mono_ns: int


class Refusal(msgspec.Struct, frozen=True):
    """An intent that did not pass: a stable ``code`` for counters, a ``reason`` in one sentence for people.

    Codes ``expired`` and ``duplicate`` are no fault of the strategy: the first becomes EXPIRED, the second
    is ignored because the order of that intent is known already.
    """

    code: str
    reason: str
