"""Outlet: the feed's way out, with its backpressure policy. Not a pod of its own; ``services.feed`` uses it.

In: trades, mark prices and markets whose book changed, in batches. Out: messages in the ring (when there is one)
and on the bus. Three classes, in this order: what says that a book is not to be trusted, trades and marks, books.
Books conflate by symbol: one message per symbol and batch, and while the bus is away or behind they wait as a mark
on the symbol, not as messages. Trades are never dropped silently: they wait in a bounded queue, and one that has to
go is counted and reported in an alert. The ring never waits. Decision record 0041. While another feed publishes, all
waits here in the same way, and what was heard from that one is let go (decision record 0133).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from tickmesh.domain import subjects
from tickmesh.domain.enums import Severity
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import Alert, MarkPrice, Message, encode
from tickmesh.observe.metrics import Metrics
from tickmesh.ports import Bus, Clock
from tickmesh.venues.binance_usdm.market_intake import Market

log = logging.getLogger("tickmesh.feed")

_BUS_BACKLOG_BYTES = 1024 * 1024


class Ring(Protocol):
    """The writer's side of ``bus.ring``."""

    def publish(self, subject: str, payload: bytes) -> None: ...


class Outlet:
    """Owned by one task. ``epoch`` tells this life of the feed apart; ``seq`` counts per subject from 1."""

    def __init__(self, venue: str, bus: Bus, clock: Clock, metrics: Metrics, *, queue_trades: int, epoch: int) -> None:
        self._venue = venue
        self._bus = bus
        self.ring: Ring | None = None
        self._wall_ns, self._mono_ns = clock.wall_ns, clock.mono_ns
        self._wall_minus_mono_ns = clock.wall_ns() - clock.mono_ns()
        self._epoch = epoch
        self._seq: dict[str, int] = {}
        self._subjects: dict[tuple[Callable[[str, str], str], str], str] = {}
        self._queue_trades = queue_trades
        self._held: deque[tuple[str, bytes, int]] = deque()  # bounded by queue_trades, oldest dropped
        self._floor: dict[str, int] = {}
        self.permitted: Callable[[], bool] = lambda: True
        """The fence: whether it is us who publish at this moment."""
        self._held_marks: dict[str, bytes] = {}
        self._taking: bool | None = None
        self._dirty: list[Market] = []
        self._owed: dict[str, Market] = {}
        self._dropped_unreported = 0
        self._latency = metrics.latency("feed_latency_us", "frame arrival to its message ready for the transport")
        self._trades = metrics.counter("trades_published_total", "trades published")
        self._books = metrics.counter("books_published_total", "book updates published")
        self._conflated = metrics.counter("books_conflated_total", "book changes merged into a later update")
        self._held_total = metrics.counter("trades_held_total", "trades that had to wait for the bus")
        self._dropped = metrics.counter("trades_dropped_total", "trades dropped because the bus was away for too long")
        self._held_gauge = metrics.gauge("trades_held", "trades that wait for the bus now")
        self._oversized = metrics.counter("ring_oversized_total", "messages too large for a ring slot")

    # -- in ---------------------------------------------------------------------------------------------

    def trades(self, market: Market, first_id: int, arrived_mono_ns: int) -> None:
        """Publish the trades that a market's replica has kept, numbered from ``first_id`` on, or queue them."""
        subject = self._subject(subjects.trade, market.symbol)
        offset_ns, mono_ns = self._wall_minus_mono_ns, self._mono_ns()
        seq = self._seq.get(subject, 0)
        payloads = market.replica.encode_trades(
            arrived_mono_ns + offset_ns, mono_ns + offset_ns, seq + 1, self._epoch, arrived_mono_ns, mono_ns
        )
        count = len(payloads)
        self._seq[subject] = seq + count
        took_ns, record_ns = self._mono_ns() - arrived_mono_ns, self._latency.record_ns
        for payload in payloads:
            record_ns(took_ns)
            if self.ring is not None:
                self._to_ring(subject, payload)
        taken = self._bus.publish_many(subject, payloads) if not self._held and self._takes() else 0
        if taken < count:
            if self._taking:
                self._taking = False  # closed or full
            for trade_id, payload in enumerate(payloads[taken:], first_id + taken):
                self._hold(subject, payload, trade_id)
        self._trades.value += count

    def mark(self, mark: MarkPrice, mono_ns: int) -> None:
        """Publish a mark price now; while the bus is away only the newest of a symbol is kept."""
        subject = self._subject(subjects.mark, mark.symbol)
        self._stamp(mark, subject, mono_ns)
        payload = encode(mark)
        if self.ring is not None:
            self._to_ring(subject, payload)
        if not self._to_bus(subject, payload):
            self._held_marks[subject] = payload

    def begin(self) -> None:
        """A batch begins: whether the bus takes something, and from us, is asked once for all of it.

        Its messages leave together when it ends (``NatsBus.release``), so asking for each would say no more.
        """
        self._taking = self._takes()

    def end(self) -> None:
        """The batch is over."""
        self._taking = None

    def join(self, ring: Ring) -> None:
        """Write to ``ring`` from now on, first what waits here: nobody has written it there."""
        self.ring = ring
        for subject, payload, _ in self._held:
            self._to_ring(subject, payload)
        for subject, payload in self._held_marks.items():
            self._to_ring(subject, payload)

    def dirty(self, market: Market) -> None:
        """Its book is to be published with the next ``flush``."""
        self._dirty.append(market)

    def flush(self) -> None:
        """End of a batch: one update for every symbol that changed, the ones that became stale first."""
        if self._held or self._held_marks or self._owed:
            self.catch_up()
        waiting = self._dirty
        if not waiting:
            return
        self._dirty = []
        if len(waiting) > 1:
            waiting.sort(key=_stale_first)
        takes = self._takes()
        for market in waiting:
            market.dirty = False
            if takes or self.ring is not None:
                takes = self._book(market, takes)
            else:
                self._owed[market.symbol] = market

    def catch_up(self) -> None:
        """Hand over what waited for the bus, as far as it takes it."""
        held = self._held
        while held and self._takes():
            subject, payload, _ = held[0]
            if not self._to_bus(subject, payload):
                break
            held.popleft()
        while self._held_marks and self._takes():
            subject, payload = next(iter(self._held_marks.items()))
            if not self._to_bus(subject, payload):
                break
            del self._held_marks[subject]
        while self._owed and not held and self._takes():
            _, market = self._owed.popitem()
            if not market.dirty:  # else it goes out with its batch
                self._book(market, True)
        self._held_gauge.set(len(held))
        if self._dropped_unreported and self._takes():
            count, self._dropped_unreported = self._dropped_unreported, 0
            self.alert(
                Severity.CRITICAL, "trades-dropped", f"{count} trades were dropped while the bus did not take them"
            )

    def let_go(self, heard: Mapping[str, int], *, all_of_them: bool = False) -> None:
        """Forget trades that wait here and that another feed has published: up to ``heard`` of their subject.

        The oldest first, until one that was not heard; or all of them.
        """
        held = self._held
        while held and held[0][2] <= heard.get(held[0][0], -1):
            held.popleft()
        if all_of_them:
            self._held = deque(one for one in held if one[2] > heard.get(one[0], -1))
        self._held_gauge.set(len(self._held))

    def not_before(self, update_ids: dict[str, int]) -> None:
        """Publish no book that is older than what another feed has published already, by symbol."""
        self._floor = update_ids

    @property
    def waiting(self) -> int:
        """Messages that are not handed over yet."""
        return len(self._held) + len(self._held_marks) + len(self._owed) + len(self._dirty)

    def alert(self, severity: Severity, kind: str, text: str, **fields: str) -> None:
        """Tell a person; also logged, because the bus may be what is broken."""
        log.warning("alert %s: %s", kind, text)
        alert = Alert(severity=severity, kind=kind, text=text, source="feed", fields=fields)
        subject = subjects.alert(severity, kind)
        self._stamp(alert, subject, self._mono_ns())
        try:
            self._bus.publish(subject, encode(alert))
        except DependencyError as error:
            log.warning("the alert could not be published: %s", error)

    def resync_clocks(self) -> None:
        """Follow the wall clock; call it now and then."""
        self._wall_minus_mono_ns = self._wall_ns() - self._mono_ns()

    # -- out --------------------------------------------------------------------------------------------

    def _book(self, market: Market, to_bus: bool) -> bool:
        """Publish one book; returns whether the bus takes more. What it did not get it is owed: a newer state later."""
        arrived_mono_ns = market.arrived_mono_ns
        replica = market.replica
        if self._floor:
            if replica.last_id < self._floor.get(market.symbol, 0) and not replica.stale:
                return to_bus  # its next change comes here again
            self._floor.pop(market.symbol, None)
        conflated = replica.pending - 1
        subject = self._subject(subjects.book, market.symbol)
        offset_ns, mono_ns = self._wall_minus_mono_ns, self._mono_ns()
        seq = self._seq[subject] = self._seq.get(subject, 0) + 1
        payload = replica.encode_update(
            arrived_mono_ns + offset_ns, mono_ns + offset_ns, seq, self._epoch, arrived_mono_ns, mono_ns
        )
        self._latency.record_ns(self._mono_ns() - arrived_mono_ns)
        if self.ring is not None:
            self._to_ring(subject, payload)
        if not to_bus or not self._to_bus(subject, payload):
            to_bus = False
            self._owed[market.symbol] = market
        if conflated > 0:
            self._conflated.value += conflated
        self._books.value += 1
        return to_bus

    def _stamp(self, message: Message, subject: str, arrived_mono_ns: int) -> None:
        offset_ns = self._wall_minus_mono_ns
        message.receive_ns = arrived_mono_ns + offset_ns
        message.publish_ns = self._mono_ns() + offset_ns
        message.seq = self._seq[subject] = self._seq.get(subject, 0) + 1
        message.epoch = self._epoch

    def _subject(self, kind: Callable[[str, str], str], symbol: str) -> str:
        subject = self._subjects.get((kind, symbol))
        if subject is None:
            subject = self._subjects[kind, symbol] = kind(self._venue, symbol)
        return subject

    def _takes(self) -> bool:
        if self._taking is not None:
            return self._taking
        bus = self._bus
        return bus.connected and bus.backlog_bytes < _BUS_BACKLOG_BYTES and self.permitted()

    def _to_bus(self, subject: str, payload: bytes) -> bool:
        if not self._takes():
            return False
        try:
            self._bus.publish(subject, payload)
        except DependencyError:
            if self._taking:
                self._taking = False
            return False  # closed or full: the caller keeps it
        return True

    def _to_ring(self, subject: str, payload: bytes) -> None:
        assert self.ring is not None
        try:
            self.ring.publish(subject, payload)
        except ValueError as error:
            if not self._oversized.value:
                log.error("%s (feed.ring_slot_bytes); such messages go over NATS only", error)
            self._oversized.value += 1

    def _hold(self, subject: str, payload: bytes, trade_id: int) -> None:
        if len(self._held) >= self._queue_trades:
            self._held.popleft()
            self._dropped.value += 1
            if not self._dropped_unreported:
                log.error("the bus takes nothing and %d trades wait already; the oldest are dropped", len(self._held))
            self._dropped_unreported += 1
        self._held.append((subject, payload, trade_id))
        self._held_total.value += 1
        self._held_gauge.set(len(self._held))


def _stale_first(market: Market) -> bool:
    return not market.replica.stale
