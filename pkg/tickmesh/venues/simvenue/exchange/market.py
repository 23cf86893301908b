"""One symbol of the exchange: book, replayed liquidity, last trades, mark price and funding rate.

In: book operations and prices. Out: depth, trades, mark. It knows no accounts. In replay mode the book
holds the capture's levels as anonymous orders, and our resting orders stand in the queue model instead.
"""

from __future__ import annotations

from collections import deque
from decimal import ROUND_HALF_EVEN, Decimal

from tickmesh.domain.enums import Side
from tickmesh.domain.instrument import Instrument
from tickmesh.hotpath import MatchingBook, QueueModel
from tickmesh.venues.simvenue.exchange.types import (
    ZERO,
    ExchangeConfig,
    MarketState,
    MarkPrice,
    PublicTrade,
    WorkingType,
)

PRICE_GRAIN = Decimal("0.00000001")
INDEX_WEIGHT = Decimal("0.1")


class Market:
    """State of one symbol."""

    def __init__(self, instrument: Instrument, config: ExchangeConfig) -> None:
        self.instrument = instrument
        self.config = config
        self.book = MatchingBook()
        self.queue = QueueModel()
        self.replay = False
        self.trades: deque[PublicTrade] = deque(maxlen=config.public_trade_limit)
        self.update_id = 0
        self.trade_id = 0
        self.last_ticks = 0
        self.mark = ZERO
        self.index = ZERO
        self.next_mark_ms = 0
        self.next_funding_ms = 0
        self.flow_id = 0
        self.flow_lots = 0
        self.replay_ids: dict[tuple[Side, int], int] = {}

    def next_flow_id(self) -> int:
        """Anonymous orders count downwards from -1, so they never meet an order id."""
        self.flow_id -= 1
        return self.flow_id

    def reference(self) -> Decimal:
        """Mark price, or the best guess before the first one was struck; 0 when nothing is known."""
        return self.mark or self.contract_price()

    def contract_price(self) -> Decimal:
        """Median of best bid, best ask and last trade, of those there are."""
        known = [t for t in (self.book.best(Side.BUY), self.book.best(Side.SELL)) if t is not None]
        if self.last_ticks:
            known.append(self.last_ticks)
        known.sort()
        if not known:
            return ZERO
        middle = known[1] if len(known) == 3 else Decimal(sum(known)) / len(known)
        return (middle * self.instrument.tick_size).quantize(PRICE_GRAIN, ROUND_HALF_EVEN)

    def strike_mark(self) -> bool:
        """Take a new mark price: the contract price; the index follows it slowly. False when nothing is known."""
        price = self.contract_price()
        if not price:
            return False
        self.set_mark(price)
        return True

    def set_mark(self, price: Decimal) -> None:
        """Set the mark and let the index follow."""
        self.mark = price
        if not self.index:
            self.index = price
        self.index += ((price - self.index) * INDEX_WEIGHT).quantize(PRICE_GRAIN, ROUND_HALF_EVEN)

    def funding_rate(self) -> Decimal:
        """Premium plus the interest part, each clamped as the venue describes."""
        if not self.index:
            return ZERO
        premium = (self.mark - self.index) / self.index
        band = Decimal("0.0005")
        interest = max(-band, min(band, self.config.interest_rate - premium))
        cap = self.config.funding_cap
        return max(-cap, min(cap, premium + interest)).quantize(PRICE_GRAIN, ROUND_HALF_EVEN)

    def mark_price(self, now_ms: int) -> MarkPrice:
        return MarkPrice(
            symbol=self.instrument.symbol,
            mark=self.reference(),
            index=self.index or self.reference(),
            funding_rate=self.funding_rate(),
            next_funding_ms=self.next_funding_ms,
            time_ms=now_ms,
        )

    def trigger_ticks(self, working: WorkingType) -> Decimal | None:
        """The price, in ticks, that stops of a working type look at; None when it is unknown."""
        if working is WorkingType.MARK_PRICE:
            return self.mark / self.instrument.tick_size if self.mark else None
        return Decimal(self.last_ticks) if self.last_ticks else None

    def price_band(self) -> tuple[int, int] | None:
        """Lowest and highest ticks that PERCENT_PRICE allows around the mark; None without bounds."""
        instrument, reference = self.instrument, self.reference()
        if not reference or instrument.percent_price_up is None or instrument.percent_price_down is None:
            return None
        low = reference * instrument.percent_price_down / instrument.tick_size
        high = reference * instrument.percent_price_up / instrument.tick_size
        return -int(-low // 1), int(high // 1)

    def set_replay_level(self, side: Side, ticks: int, lots: int) -> None:
        """Make a replayed level hold ``lots``; stale opposite levels that it crosses go."""
        old = self.replay_ids.pop((side, ticks), None)
        if old is not None:
            self.book.cancel(old)
        if lots > 0:
            opposite = side.opposite
            while (best := self.book.best(opposite)) is not None and (ticks - best) * side >= 0:
                for order in self.book.orders_at(opposite, best):
                    self.book.cancel(order.order_id)
                self.replay_ids.pop((opposite, best), None)
            order_id = self.next_flow_id()
            self.book.rest(order_id, side, ticks, lots)
            self.replay_ids[side, ticks] = order_id

    def to_state(self) -> MarketState:
        return MarketState(
            symbol=self.instrument.symbol,
            update_id=self.update_id,
            trade_id=self.trade_id,
            last_ticks=self.last_ticks,
            mark=self.mark,
            index=self.index,
            next_funding_ms=self.next_funding_ms,
            flow_lots=self.flow_lots,
        )

    def load(self, state: MarketState) -> None:
        self.update_id, self.trade_id, self.last_ticks = state.update_id, state.trade_id, state.last_ticks
        self.mark, self.index, self.next_funding_ms = state.mark, state.index, state.next_funding_ms
        self.flow_lots = state.flow_lots
