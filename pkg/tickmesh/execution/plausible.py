"""Whether what the venue's stream says of an order can be true: quantities, prices and times, before anything moves.

In: a fact, the execution that came with it, our wall clock. Out: a sentence with the content when it cannot be, else
nothing. It changes nothing and trusts nobody's sums but the venue's later answer to a question.
"""

from __future__ import annotations

from tickmesh.execution.ledger import TradeFact, VenueFact

FUTURE_NS = 60_000_000_000
"""A time further ahead than this is nobody's clock error: the venue refuses requests that are a second ahead."""


def implausible(fact: VenueFact, trade: TradeFact | None, now_ns: int) -> str:
    """Why this cannot be, with its content; empty when it can. ``now_ns`` is the wall clock."""
    report_id, state, cum_lots, price, update_ms, qty_lots = fact.report
    content = f"{state} {cum_lots}/{qty_lots} lots at {price}, venue id {report_id}, venue time {update_ms} ms"
    if cum_lots < 0 or qty_lots < 0:
        return f"a negative quantity: {content}"
    if trade is not None:
        content += f"; trade {trade.trade_id} of {trade.qty_lots} lots at {trade.price_ticks} ticks"
        if trade.qty_lots <= 0 or trade.price_ticks <= 0:
            return f"a fill that cannot be: {content}"
    newest_ms = max(update_ms, trade.exchange_ms if trade is not None else 0)
    if newest_ms * 1_000_000 > now_ns + FUTURE_NS:
        return f"a time from the future: {content}"
    return ""
