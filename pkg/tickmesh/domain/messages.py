"""Every message that travels between services, and how it is encoded.

MessagePack arrays (msgspec ``array_like``): fields are positional, so a new field is appended with a
default and nothing is ever removed or reordered; old and new versions then run side by side.

Clocks: ``exchange_ns`` is the venue's event time, ``receive_ns`` and ``publish_ns`` are the local wall
clock (Unix), and every ``*_mono_ns`` is this machine's CLOCK_MONOTONIC, comparable between processes of
one machine and the only clock that latencies are computed from. 0 means "not stamped".

``seq`` counts per subject and publisher, from 1, without holes; ``epoch`` tells publishers' lives apart.
Prices are ticks, quantities lots of the symbol's Instrument; money is Decimal in quote currency.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from tickmesh.domain.enums import (
    IntentAction,
    OrderState,
    OrderType,
    PositionSide,
    Severity,
    Side,
    TimeInForce,
    Urgency,
)

ZERO = Decimal(0)


class Message(msgspec.Struct, array_like=True):
    """Base of all wire messages; the five fields that each of them carries come first.

    Its own fields are positional and those of its subclasses keyword-only: msgspec puts keyword-only fields last, so
    what a later release appends to a message goes behind everything that this one writes.
    """

    exchange_ns: int = 0
    receive_ns: int = 0
    publish_ns: int = 0
    seq: int = 0
    epoch: int = 0


class BookUpdate(Message, kw_only=True):
    """Top of a synchronised book with its features; subject ``md.book.<venue>.<symbol>``.

    ``bids`` and ``asks`` are (ticks, lots), best first, at most the feed's ``book_depth`` levels.
    ``imbalance`` is (bid - ask) / (bid + ask) over those levels' lots, in [-1, 1]; ``microprice_ticks`` is
    the size-weighted mid of the best level. ``conflated`` counts updates of this symbol that were merged
    into this one since the last publication. ``stale`` is true from a gap, a silence or a disconnect until
    the book is synchronised again: the levels are then the last known ones.
    """

    venue: str
    symbol: str
    update_id: int = 0
    bids: list[tuple[int, int]] = msgspec.field(default_factory=list)
    asks: list[tuple[int, int]] = msgspec.field(default_factory=list)
    imbalance: float = 0.0
    microprice_ticks: float = 0.0
    order_flow_imbalance: float = 0.0
    volatility_bps: float = 0.0
    conflated: int = 0
    stale: bool = False
    receive_mono_ns: int = 0
    publish_mono_ns: int = 0

    @property
    def spread_ticks(self) -> int:
        """Best ask minus best bid; 0 when a side is empty."""
        return self.asks[0][0] - self.bids[0][0] if self.bids and self.asks else 0

    @property
    def mid_ticks(self) -> float:
        """Middle of the best prices, in ticks (half ticks are exact in a float); 0.0 when a side is empty."""
        return (self.asks[0][0] + self.bids[0][0]) / 2 if self.bids and self.asks else 0.0


class Trade(Message, kw_only=True):
    """A public trade; subject ``md.trade.<venue>.<symbol>``. ``taker_side`` is the aggressor."""

    venue: str
    symbol: str
    trade_id: int
    price_ticks: int
    qty_lots: int
    taker_side: Side
    receive_mono_ns: int = 0
    publish_mono_ns: int = 0


class MarkPrice(Message, kw_only=True):
    """Mark price and funding; subject ``md.mark.<venue>.<symbol>``. Prices are exact decimals, off the grid."""

    venue: str
    symbol: str
    mark_price: Decimal
    index_price: Decimal = ZERO
    funding_rate: Decimal = ZERO
    next_funding_ns: int = 0


class Stamps(msgspec.Struct, array_like=True, kw_only=True):
    """CLOCK_MONOTONIC stamps of one order's way from tick to socket; all in ns, 0 where it did not pass."""

    tick_receive_mono_ns: int = 0
    feed_publish_mono_ns: int = 0
    strategy_receive_mono_ns: int = 0
    intent_publish_mono_ns: int = 0
    execution_receive_mono_ns: int = 0
    validated_mono_ns: int = 0
    sent_mono_ns: int = 0
    ack_mono_ns: int = 0


class SignalMessage(Message, kw_only=True):
    """What a strategy wants, after aggregation; subject ``signal.<strategy>``. For the record, not for acting."""

    strategy: str
    symbol: str
    venue: str
    side: Side
    strength: float
    urgency: Urgency = Urgency.PASSIVE
    price_ticks: int = 0
    qty_lots: int = 0
    reason: str = ""
    accepted: bool = True
    intent_id: str = ""
    correlation_id: str = ""


class OrderIntent(Message, kw_only=True):
    """What a strategy asks execution to do; subject ``order.intent.<account>``.

    ``intent_id`` decides identity: the same id is the same intent, however often it arrives. For CANCEL,
    ``target_client_order_id`` names the order; CANCEL_ALL cancels all of ``strategy`` on ``symbol`` (all
    symbols when empty). An intent older than ``ttl_ns`` (wall clock, from ``publish_ns``) is never sent; a
    cancel never expires.
    """

    intent_id: str
    strategy: str
    account: str
    venue: str
    symbol: str
    action: IntentAction = IntentAction.PLACE
    side: Side = Side.BUY
    order_type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTX
    price_ticks: int = 0
    qty_lots: int = 0
    reduce_only: bool = False
    position_side: PositionSide = PositionSide.BOTH
    stop_price_ticks: int = 0
    urgency: Urgency = Urgency.PASSIVE
    ttl_ns: int = 250_000_000
    target_client_order_id: str = ""
    correlation_id: str = ""
    stamps: Stamps = msgspec.field(default_factory=Stamps)
    shard: int = 0


_RANK = {
    OrderState.NEW: 0, OrderState.VALIDATING: 1, OrderState.PENDING_SUBMIT: 2, OrderState.UNKNOWN: 3,
    OrderState.SUBMITTED: 4, OrderState.PARTIALLY_FILLED: 5, OrderState.EXPIRED: 6, OrderState.REJECTED: 6,
    OrderState.CANCELED: 6, OrderState.FILLED: 7,
}  # fmt: skip


class OrderEvent(Message, kw_only=True):
    """One step of one order; subject ``order.event.<account>.<client_order_id>``. The ORDERS stream is the journal.

    ``cum_lots`` is the filled quantity so far, ``average_price`` exact or 0. ``reason`` is empty or one
    sentence; ``venue_code`` is the venue's error code (0 for none). ``external`` marks an order that this
    system did not place (adopted in reconciliation). ``anomaly`` marks an input that did not fit.
    """

    account: str
    venue: str
    symbol: str
    client_order_id: str
    intent_id: str = ""
    strategy: str = ""
    venue_order_id: int = 0
    side: Side = Side.BUY
    order_type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTC
    price_ticks: int = 0
    qty_lots: int = 0
    cum_lots: int = 0
    average_price: Decimal = ZERO
    reduce_only: bool = False
    position_side: PositionSide = PositionSide.BOTH
    stop_price_ticks: int = 0
    previous_state: OrderState = OrderState.NEW
    state: OrderState = OrderState.NEW
    reason: str = ""
    venue_code: int = 0
    external: bool = False
    anomaly: bool = False
    correlation_id: str = ""
    stamps: Stamps = msgspec.field(default_factory=Stamps)

    def outweighs(self, known: OrderEvent) -> bool:
        """Whether this line of an order's journal says at least what ``known`` says, whichever was stored first.

        Lines may come in any order: a writer that was succeeded may deliver late. An order that was given up and turns
        up at the venue is there: what the venue has named outweighs what it has not.
        """
        return self._weight() >= known._weight()

    def _weight(self) -> tuple[int, bool, int, int, int]:
        return self.cum_lots, self.venue_order_id != 0, _RANK[self.state], self.publish_ns, self.seq


class FillEvent(Message, kw_only=True):
    """One execution of ours; subject ``fill.<account>.<symbol>``. (account, symbol, trade_id) is its identity."""

    account: str
    venue: str
    symbol: str
    trade_id: int
    client_order_id: str
    venue_order_id: int
    strategy: str = ""
    side: Side = Side.BUY
    position_side: PositionSide = PositionSide.BOTH
    price_ticks: int = 0
    qty_lots: int = 0
    commission: Decimal = ZERO
    commission_asset: str = ""
    realized_pnl: Decimal = ZERO
    maker: bool = False
    correlation_id: str = ""


class PositionState(msgspec.Struct, array_like=True, kw_only=True):
    """A position; ``qty_lots`` is signed (short below zero), prices and money exact."""

    venue: str
    symbol: str
    position_side: PositionSide = PositionSide.BOTH
    qty_lots: int = 0
    entry_price: Decimal = ZERO
    mark_price: Decimal = ZERO
    unrealized_pnl: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    leverage: int = 0
    liquidation_price: Decimal = ZERO
    quantity: Decimal = ZERO


class BalanceState(msgspec.Struct, array_like=True, kw_only=True):
    """A wallet in one asset."""

    asset: str
    wallet: Decimal = ZERO
    available: Decimal = ZERO


class AccountSnapshot(Message, kw_only=True):
    """State of one account; subject ``account.<account>.snapshot``, once a second and on change.

    ``drawdown`` is the fall from ``peak_equity`` as a share of it, ``daily_drawdown`` the same from the
    highest equity of the UTC day that began at ``day_ns``. ``margin_ratio`` is maintenance margin over margin
    balance (1: liquidation). ``exposure`` sums the absolute values of positions; ``stale_prices`` counts
    positions that are valued at an old price.
    """

    account: str
    venue: str
    balances: list[BalanceState] = msgspec.field(default_factory=list)
    positions: list[PositionState] = msgspec.field(default_factory=list)
    equity: Decimal = ZERO
    available: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    unrealized_pnl: Decimal = ZERO
    daily_pnl: Decimal = ZERO
    commission: Decimal = ZERO
    funding: Decimal = ZERO
    margin_ratio: Decimal = ZERO
    leverage_ratio: Decimal = ZERO
    drawdown: Decimal = ZERO
    fills: int = 0
    maker_fills: int = 0
    mismatches: int = 0
    reconciled_ns: int = 0
    daily_drawdown: Decimal = ZERO
    exposure: Decimal = ZERO
    wallet: Decimal = ZERO
    day_start_equity: Decimal = ZERO
    peak_equity: Decimal = ZERO
    stale_prices: int = 0
    day_ns: int = 0


class Control(Message, kw_only=True):
    """A command of a person or of risk; subject ``ctl.<verb>.<scope>`` with verb halt, resume, reduce, mode, reload.

    ``scope`` is ``all``, ``account.<name>``, ``strategy.<name>`` or ``symbol.<name>``.
    """

    verb: str
    scope: str
    reason: str = ""
    actor: str = ""
    arguments: dict[str, str] = msgspec.field(default_factory=dict)


class Alert(Message, kw_only=True):
    """Something a person should know; subject ``alert.<severity>.<kind>``."""

    severity: Severity
    kind: str
    text: str
    source: str = ""
    fields: dict[str, str] = msgspec.field(default_factory=dict)


class Audit(Message, kw_only=True):
    """A record of who did what; subject ``audit.<source>``. ``chain`` is the hash over the previous record."""

    source: str
    event: str
    actor: str
    detail: dict[str, str] = msgspec.field(default_factory=dict)
    chain: str = ""


_M = TypeVar("_M", bound=msgspec.Struct)
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}


def encode(message: msgspec.Struct) -> bytes:
    """Serialise a message."""
    return _encoder.encode(message)


def decoder(kind: type[_M]) -> Callable[[bytes], _M]:
    """``decode`` of one kind, for whoever decodes nothing else on the hot path."""
    return msgspec.msgpack.Decoder(kind).decode


def decode(kind: type[_M], payload: bytes) -> _M:
    """Deserialise bytes as ``kind``; unknown trailing fields (a newer writer) are ignored.

    Raises:
        msgspec.DecodeError: the bytes are not such a message; skip it, a retry does not help.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    decoded: _M = decoder.decode(payload)
    return decoded
