"""Messages of a desk, written out: intents with their ids and stamps, signals for the record.

In: what was decided. Out: the message, and for a new order its entry in the ledger. Decides nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, TimeInForce, Urgency
from tickmesh.domain.messages import OrderIntent, SignalMessage, Stamps
from tickmesh.strategy.interface import Signal
from tickmesh.strategy.ledger import WorkingOrder, intent_id

# Members of enumerations as constants: looking one up through its class costs ten times as much.
_IMMEDIATE: Final = Urgency.IMMEDIATE
_IOC: Final = TimeInForce.IOC
_GTX: Final = TimeInForce.GTX
_CANCEL_ALL: Final = IntentAction.CANCEL_ALL
_CANCEL: Final = IntentAction.CANCEL


class Moment(NamedTuple):
    """When and because of what a decision is made."""

    now_ns: int
    now_mono_ns: int
    tick_receive_mono_ns: int = 0
    feed_publish_mono_ns: int = 0
    exchange_ns: int = 0

    def stamps(self) -> Stamps:
        """The way of the tick so far."""
        return Stamps(
            tick_receive_mono_ns=self.tick_receive_mono_ns,
            feed_publish_mono_ns=self.feed_publish_mono_ns,
            strategy_receive_mono_ns=self.now_mono_ns,
        )


class Drafts:
    """Writes for one strategy in one life; epoch, shard and number make its intent ids unique (decision 0051).

    Execution refuses orders of an older ``epoch`` of the same ``shard`` than it has seen (decision 0131).
    """

    def __init__(self, name: str, account: str, venue: str, epoch: int, shard: int = 0) -> None:
        self.name = name
        self.account = account
        self.venue = venue
        self.epoch = epoch
        self.shard = shard
        self.number = 0

    def order(
        self, signal: Signal, slot: str, price_ticks: int, qty_lots: int, now: Moment, *, exempt: bool
    ) -> tuple[WorkingOrder, OrderIntent]:
        """A new order; ``exempt`` marks one below the venue's least value, which only reduce-only orders may be."""
        identity = self._next(slot)
        order = WorkingOrder(
            client_order_id=client_order_id(self.name, identity), intent_id=identity, symbol=signal.symbol,
            side=signal.side, price_ticks=price_ticks, qty_lots=qty_lots, slot=slot, urgency=signal.urgency,
            placed_ns=now.now_ns, placed_mono_ns=now.now_mono_ns, correlation_id=identity,
            rest_until_mono_ns=0 if signal.quote else now.now_mono_ns + signal.rest_ns,
        )  # fmt: skip
        taker = signal.urgency is _IMMEDIATE
        intent = OrderIntent(
            intent_id=identity, strategy=self.name, account=self.account, venue=self.venue, symbol=signal.symbol,
            side=signal.side, time_in_force=_IOC if taker else _GTX, price_ticks=price_ticks,
            qty_lots=qty_lots, reduce_only=exempt, urgency=signal.urgency, ttl_ns=signal.ttl_ns,
            correlation_id=identity, epoch=self.epoch, exchange_ns=now.exchange_ns, stamps=now.stamps(),
            shard=self.shard,
        )  # fmt: skip
        return order, intent

    def cancel(self, order: WorkingOrder, now: Moment) -> OrderIntent:
        """The end of one order, in its own correlation."""
        return OrderIntent(
            intent_id=self._next("c"), strategy=self.name, account=self.account, venue=self.venue,
            symbol=order.symbol, action=_CANCEL, side=order.side,
            target_client_order_id=order.client_order_id, correlation_id=order.correlation_id, epoch=self.epoch,
            stamps=now.stamps(), shard=self.shard,
        )  # fmt: skip

    def cancel_all(self, now: Moment, symbol: str = "") -> OrderIntent:
        """The end of every order of this strategy, on one symbol or on all."""
        identity = self._next("all")
        return OrderIntent(
            intent_id=identity, strategy=self.name, account=self.account, venue=self.venue,
            symbol=symbol, action=_CANCEL_ALL, correlation_id=identity, epoch=self.epoch,
            stamps=now.stamps(), shard=self.shard,
        )  # fmt: skip

    def again(self, order: WorkingOrder) -> OrderIntent:
        """The same intent with its old time, under the same id: whoever saw it ignores it, else it is expired."""
        return OrderIntent(
            intent_id=order.intent_id, strategy=self.name, account=self.account, venue=self.venue,
            symbol=order.symbol, side=order.side, price_ticks=order.price_ticks, qty_lots=order.qty_lots,
            correlation_id=order.correlation_id, epoch=self.epoch, publish_ns=order.placed_ns, ttl_ns=1,
            shard=self.shard,
        )  # fmt: skip

    def signal(
        self, signal: Signal, price_ticks: int, qty_lots: int, now: Moment, why_not: str, identity: str
    ) -> SignalMessage:
        """What the plugin wanted and what became of it."""
        return SignalMessage(
            strategy=self.name, symbol=signal.symbol, venue=self.venue, side=signal.side, strength=signal.strength,
            urgency=signal.urgency, price_ticks=price_ticks, qty_lots=qty_lots,
            reason="; ".join(r for r in (signal.reason, why_not) if r), accepted=not why_not, intent_id=identity,
            correlation_id=identity, exchange_ns=now.exchange_ns, epoch=self.epoch,
        )  # fmt: skip

    def _next(self, slot: str) -> str:
        self.number += 1
        # Shards may begin in the same millisecond, which is their epoch.
        life = f"{self.epoch:x}-{self.shard}" if self.shard else f"{self.epoch:x}"
        return intent_id(self.name, life, self.number, slot)
