"""Market data on its way in: the hot path from a payload to the decision.

In: subjects and payloads, from NATS or from the ring. Out: calls of ``decide`` with a book or a trade and the time of
its arrival. Policy: trades are never dropped; of book updates that are late only the newest of a symbol is looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from tickmesh.domain.messages import BookUpdate, Trade, decoder
from tickmesh.observe.metrics import Metrics
from tickmesh.ports import Clock

log = logging.getLogger(__name__)

_book_of = decoder(BookUpdate)
_trade_of = decoder(Trade)
Decide = Callable[[BookUpdate | Trade, int], None]


class Intake:
    """Decodes, measures, conflates. One owner, in the event loop. Trades that nobody hears are counted and let go."""

    def __init__(
        self, clock: Clock, metrics: Metrics, decide: Decide, *, conflate_after_us: int,
        hears_trades: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self._hears_trades = hears_trades
        self._clock = clock
        self._decide = decide
        self._late_ns = conflate_after_us * 1000
        self._waiting: dict[str, tuple[BookUpdate, int]] = {}
        self._transport = metrics.latency("transport_latency_us", "published by the feed until received")
        self._books = metrics.counter("books_total", "book updates received")
        self._trades = metrics.counter("trades_total", "public trades received")
        self._conflated = metrics.counter("conflated_total", "late book updates that gave way to a newer one")
        self._malformed = metrics.counter("malformed_total", "messages that could not be decoded")

    def on_market(self, subject: str, payload: bytes) -> None:
        """One message."""
        received = self._clock.mono_ns()
        try:
            if subject.startswith("md.book."):
                self._on_book(subject, _book_of(payload), received)
            elif subject.startswith("md.trade."):
                if not self._hears_trades():
                    self._trades.value += 1
                    return
                trade = _trade_of(payload)
                self._trades.value += 1
                self._decide(trade, received)
        except msgspec.MsgspecError as error:
            self.on_malformed(subject, payload, error)

    def on_malformed(self, subject: str, payload: bytes, error: Exception) -> None:
        """Count a message that is not what it should be; log the first."""
        self._malformed.value += 1
        if self._malformed.value == 1:
            log.error(
                "malformed message on %s (%s): %r; skipped, further ones are counted", subject, error, payload[:120]
            )

    def _on_book(self, subject: str, book: BookUpdate, received: int) -> None:
        self._books.value += 1
        if book.publish_mono_ns:
            late_ns = received - book.publish_mono_ns
            self._transport.record_ns(late_ns)
            if late_ns > self._late_ns:
                self._conflate(subject, book, received)
                return
        if self._waiting:
            self._waiting.pop(subject, None)
        self._decide(book, received)

    def _conflate(self, subject: str, book: BookUpdate, received: int) -> None:
        """We are behind: hold the newest book of each symbol until the messages that wait have been read."""
        if subject in self._waiting:
            self._conflated.value += 1
        elif not self._waiting:
            asyncio.get_running_loop().call_soon(self._decide_waiting)
        self._waiting[subject] = (book, received)

    def _decide_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for book, received in waiting.values():
            self._decide(book, received)
