"""BookReplica: one symbol's market: the L2 book, the faster top of book over it, the last trade, and the features.

In: diffs, snapshots, tops and trades in ticks and lots, with the venue's event time. Out: a BookUpdate or a Trade
when asked, as a message or as its bytes. The top of book (bookTicker) is an overlay: it is shown while its update
id is newer than the book's, and never written into the book, so that a top that is lost or late cannot corrupt a
level. The features run on the venue's time, so that a replay gives the same numbers at any speed. The specification
of the native replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from tickmesh.domain.enums import Side
from tickmesh.domain.messages import BookUpdate, Trade, encode
from tickmesh.hotpath.pure.book import Level
from tickmesh.hotpath.pure.features import OrderFlow, RealisedVolatility, imbalance, microprice_ticks
from tickmesh.hotpath.pure.grid import Grid
from tickmesh.hotpath.pure.synchroniser import Diff, Outcome, Synchroniser

Touch = tuple[Level, Level, int, int]
_SIDES = {int(side): side for side in Side}
_EMPTY: Level = (0, 0)
_APPLIED = Outcome.APPLIED  # an enum's member takes a while to look up
MAX_KEPT_TRADES = 256
"""Trades that ``Market.run`` keeps of one symbol before it stops at the next one."""


class BookReplica:
    """Owned by one task. ``pending`` counts changes since the last ``update``; ``silent`` is set from
    outside and ends with the next change. ``next_trade`` is the id of the next trade when none is missing,
    below zero while nobody knows; who judges trades sets it."""

    def __init__(
        self,
        venue: str,
        symbol: str,
        *,
        tick_size: Decimal,
        lot_size: Decimal,
        depth: int,
        flow_half_life_ns: int,
        volatility_interval_ns: int,
        volatility_half_life_ns: int,
    ) -> None:
        self.venue = venue
        self.symbol = symbol
        self.prices = Grid(tick_size, "price", symbol)
        self.quantities = Grid(lot_size, "quantity", symbol)
        self.pending = 0
        self.silent = False
        self.exchange_ns = 0
        self._synchroniser = Synchroniser()
        self._depth = depth
        self._flow = OrderFlow(flow_half_life_ns)
        self._volatility = RealisedVolatility(volatility_interval_ns, volatility_half_life_ns)
        self._top_id = 0
        self._top_bid: Level = (0, 0)
        self._top_ask: Level = (0, 0)
        # Sums of lots, kept while the book stands: most tops change a quantity and neither price.
        self._bid_side: tuple[Level, int] | None = None
        self._ask_side: tuple[Level, int] | None = None
        self._below_ticks = self._above_ticks = -1
        self._below_lots = self._above_lots = 0
        self.next_trade = -1
        self._kept_trades: list[tuple[int, int, int, Side, int]] = []
        self._trade = Trade(venue=venue, symbol=symbol, trade_id=0, price_ticks=0, qty_lots=0, taker_side=Side.BUY)

    @property
    def stale(self) -> bool:
        """Whether the levels are only the last known ones."""
        return self.silent or not self._synchroniser.synchronised

    @property
    def synchronised(self) -> bool:
        return self._synchroniser.synchronised

    @property
    def needs_snapshot(self) -> bool:
        """Whether only a snapshot can help."""
        return self._synchroniser.needs_snapshot

    @property
    def last_id(self) -> int:
        """The last update id that the book contains; the overlay does not count."""
        return self._synchroniser.last_id

    @property
    def gaps(self) -> int:
        return self._synchroniser.gaps

    @property
    def buffered(self) -> int:
        """Diffs that wait for a snapshot."""
        return self._synchroniser.buffered

    @property
    def trade_id(self) -> int:
        """Id of the last trade."""
        return self._trade.trade_id

    @property
    def last_trade(self) -> tuple[int, int, int, int, int]:
        """(trade id, ticks, lots, taker's side as a sign, exchange_ns) of the last trade."""
        trade = self._trade
        return (trade.trade_id, trade.price_ticks, trade.qty_lots, int(trade.taker_side), trade.exchange_ns)

    @property
    def overflows(self) -> int:
        """Diffs dropped because no snapshot came for very long."""
        return self._synchroniser.overflows

    @property
    def behind_top(self) -> bool:
        """Whether the top of book knows of changes that no diff has brought yet."""
        return self._top_id > self._synchroniser.last_id

    def on_diff(self, diff: Diff, exchange_ns: int) -> Outcome:
        """Take a depth diff."""
        synchroniser = self._synchroniser
        outcome = synchroniser.on_diff(diff)
        if outcome is _APPLIED:
            self._forget_sums(bool(diff.bids), bool(diff.asks))
            self.silent = False
            self.exchange_ns = exchange_ns
            self.pending += 1
            if self._top_id <= synchroniser.last_id:
                book = synchroniser.book
                bid, ask = book.best_bid, book.best_ask
                if bid is not None and ask is not None:
                    self._account(bid, ask, exchange_ns)
        elif outcome is Outcome.GAP:
            self._interrupt()
        return outcome

    def on_snapshot(
        self, last_update_id: int, bids: Sequence[Level], asks: Sequence[Level], exchange_ns: int = 0
    ) -> bool:
        """Take a REST snapshot; False when it is older than the diffs we hold: ask for another."""
        was = self._synchroniser.synchronised
        used = self._synchroniser.on_snapshot(last_update_id, bids, asks)
        self._forget_sums(True, True)
        if self._synchroniser.synchronised and not was:
            self.silent = False
            self.pending += 1
            self.exchange_ns = max(self.exchange_ns, exchange_ns)
        return used

    def on_top(self, update_id: int, bid: Level, ask: Level, exchange_ns: int) -> bool:
        """Take a top of book; False when it is not newer than what is known."""
        synchroniser = self._synchroniser
        if update_id <= self._top_id or not synchroniser.synchronised or update_id <= synchroniser.last_id:
            return False
        self._top_id, self._top_bid, self._top_ask = update_id, bid, ask
        self.silent = False
        self.exchange_ns = exchange_ns
        self.pending += 1
        if bid[1] and ask[1]:
            self._account(bid, ask, exchange_ns)
        return True

    def on_trade(self, trade_id: int, ticks: int, lots: int, taker_side: int, exchange_ns: int) -> None:
        """Keep a public trade as the last one."""
        trade = self._trade
        trade.trade_id, trade.price_ticks, trade.qty_lots = trade_id, ticks, lots
        trade.taker_side, trade.exchange_ns = _SIDES[taker_side], exchange_ns

    def keep_trade(self) -> None:
        """Keep the last trade for ``encode_trades``."""
        trade = self._trade
        self._kept_trades.append(
            (trade.trade_id, trade.price_ticks, trade.qty_lots, trade.taker_side, trade.exchange_ns)
        )

    def keep_next_trade(self) -> bool:
        """Keep the last trade when it is the next one and there is room; False leaves it to the caller."""
        if self._trade.trade_id != self.next_trade or len(self._kept_trades) >= MAX_KEPT_TRADES:
            return False
        self.next_trade += 1
        self.keep_trade()
        return True

    def disconnect(self) -> None:
        """The stream broke off: stale until a snapshot and the diffs after it are in."""
        self._synchroniser.disconnect()
        self._interrupt()

    def levels(self) -> tuple[list[Level], list[Level]]:
        """Best levels of both sides with the newer top over them, at most ``depth`` each."""
        book, depth = self._synchroniser.book, self._depth
        if not self.behind_top:
            return book.bids(depth), book.asks(depth)
        # What lies before the top is gone, by the venue's own word; a top without lots says that its side is empty.
        bid, ask = self._top_bid, self._top_ask
        return (
            [bid, *book.bids_below(bid[0], depth - 1)] if bid[1] else [],
            [ask, *book.asks_above(ask[0], depth - 1)] if ask[1] else [],
        )

    def touch(self) -> Touch:
        """What ``levels`` shows, summed up: best bid and ask, and the lots of either side together.

        A side without lots is empty.
        """
        synchroniser, depth = self._synchroniser, self._depth
        book = synchroniser.book
        if self._top_id <= synchroniser.last_id:
            bids = self._bid_side = self._bid_side or (book.best_bid or _EMPTY, book.bid_lots(depth))
            asks = self._ask_side = self._ask_side or (book.best_ask or _EMPTY, book.ask_lots(depth))
            return bids[0], asks[0], bids[1], asks[1]
        bid, ask = self._top_bid, self._top_ask
        bid_ticks, bid_lots = bid
        ask_ticks, ask_lots = ask
        if bid_ticks != self._below_ticks:
            self._below_ticks, self._below_lots = bid_ticks, book.bid_lots_below(bid_ticks, depth - 1)
        if ask_ticks != self._above_ticks:
            self._above_ticks, self._above_lots = ask_ticks, book.ask_lots_above(ask_ticks, depth - 1)
        return bid, ask, bid_lots and bid_lots + self._below_lots, ask_lots and ask_lots + self._above_lots

    def bids(self, count: int = 0) -> list[Level]:
        """The book's best ``count`` bids without the overlay; 0 for all."""
        return self._synchroniser.book.bids(count)

    def asks(self, count: int = 0) -> list[Level]:
        """The book's best ``count`` asks without the overlay; 0 for all."""
        return self._synchroniser.book.asks(count)

    def checksum(self) -> int:
        """Of the book without the overlay; equal books give equal sums."""
        return self._synchroniser.book.checksum()

    def features(self) -> tuple[float, float, float, float, float, float]:
        """Mid and spread in ticks, imbalance, microprice in ticks, order flow in lots, volatility in bps."""
        bid, ask, bid_lots, ask_lots = self.touch()
        mid = spread = lean = micro = 0.0
        if bid_lots and ask_lots:
            mid, spread = (ask[0] + bid[0]) / 2, float(ask[0] - bid[0])
            micro = microprice_ticks((bid,), (ask,))
        if total := bid_lots + ask_lots:
            lean = (bid_lots - ask_lots) / total
        return mid, spread, lean, micro, self._flow.value, self._volatility.value

    def update(self) -> BookUpdate:
        """The book as a message, unstamped; changes merged into it are counted in ``conflated``.

        A crossed book, which a sound one never is, is shown as stale.
        """
        bids, asks = self.levels()
        conflated = self.pending - 1 if self.pending > 1 else 0
        self.pending = 0
        crossed = bool(bids and asks) and bids[0][0] >= asks[0][0]
        return BookUpdate(
            exchange_ns=self.exchange_ns,
            venue=self.venue,
            symbol=self.symbol,
            update_id=max(self._synchroniser.last_id, self._top_id),
            bids=bids,
            asks=asks,
            imbalance=imbalance(bids, asks),
            microprice_ticks=microprice_ticks(bids, asks),
            order_flow_imbalance=self._flow.value,
            volatility_bps=self._volatility.value,
            conflated=conflated,
            stale=crossed or self.stale,
        )

    def encode_update(
        self, receive_ns: int, publish_ns: int, seq: int, epoch: int, receive_mono_ns: int, publish_mono_ns: int
    ) -> bytes:
        """``update`` with its stamps, as the bytes of the wire."""
        message = self.update()
        message.receive_ns, message.publish_ns, message.seq, message.epoch = receive_ns, publish_ns, seq, epoch
        message.receive_mono_ns, message.publish_mono_ns = receive_mono_ns, publish_mono_ns
        return encode(message)

    def encode_trades(
        self, receive_ns: int, publish_ns: int, first_seq: int, epoch: int, receive_mono_ns: int, publish_mono_ns: int
    ) -> list[bytes]:
        """The trades that were kept, in their order, as the bytes of the wire; ``seq`` counts up from ``first_seq``."""
        trade, messages = self._trade, []
        last = trade.trade_id, trade.price_ticks, trade.qty_lots, trade.taker_side, trade.exchange_ns
        trade.receive_ns, trade.publish_ns, trade.epoch = receive_ns, publish_ns, epoch
        trade.receive_mono_ns, trade.publish_mono_ns = receive_mono_ns, publish_mono_ns
        for trade.seq, kept in enumerate(self._kept_trades, first_seq):
            trade.trade_id, trade.price_ticks, trade.qty_lots, trade.taker_side, trade.exchange_ns = kept
            messages.append(encode(trade))
        self._kept_trades.clear()
        trade.trade_id, trade.price_ticks, trade.qty_lots, trade.taker_side, trade.exchange_ns = last
        return messages

    def _account(self, bid: Level, ask: Level, exchange_ns: int) -> None:
        self._flow.update(bid, ask, exchange_ns)
        if exchange_ns >= self._volatility.due_ns:
            self._volatility.update((bid[0] + ask[0]) / 2, exchange_ns)

    def _forget_sums(self, of_bids: bool, of_asks: bool) -> None:
        """Levels of these sides have changed."""
        if of_bids:
            self._bid_side = None
            self._below_ticks = -1
        if of_asks:
            self._ask_side = None
            self._above_ticks = -1

    def _interrupt(self) -> None:
        self._top_id = 0
        self._flow.reset()
        self._volatility.reset()
