"""top_of_book: the few numbers of a book update that the pre-trade checks look at, without the levels behind them.

In: the bytes of a ``BookUpdate``. Out: best bid and ask, the time of the read and whether the book is stale, or nothing
for bytes that are no such message. The specification of the native half, which also says nothing of forms that this
version's feed does not write: ``domain.messages`` then decides what they are.
"""

from __future__ import annotations

import msgspec

from tickmesh.domain.messages import BookUpdate, decode


def top_of_book(payload: bytes) -> tuple[int, int, int, bool] | None:
    """Bid and ask in ticks (0 for an empty side), ``receive_mono_ns`` and ``stale``; None: decode it and see."""
    try:
        book = decode(BookUpdate, payload)
    except msgspec.DecodeError:
        return None
    bid = book.bids[0][0] if book.bids else 0
    ask = book.asks[0][0] if book.asks else 0
    return bid, ask, book.receive_mono_ns, book.stale
