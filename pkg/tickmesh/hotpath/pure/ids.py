"""Ids that an order carries, each a function of its intent's own names.

In: texts. Out: the client order id (``domain.client_order_id`` says what it is) and the W3C trace context of a
correlation. The specification of the native half.
"""

from __future__ import annotations

import hashlib

from tickmesh.domain.client_order_id import plain_order_id


def order_id(strategy: str, intent_id: str) -> str:
    """See ``domain.client_order_id``: the same intent always has the same id."""
    return plain_order_id(strategy, intent_id)


def trace_parent(correlation_id: str) -> str:
    """``traceparent`` header: whoever knows the correlation finds the trace, without a look-up."""
    trace = hashlib.blake2b(correlation_id.encode(), digest_size=24).hexdigest()
    return f"00-{trace[:32]}-{trace[32:]}-01"
