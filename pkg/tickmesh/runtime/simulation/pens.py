"""Pens: what feed, strategies, other traders and the people who halt would do, played.

In: chance. Out: market data, intents and commands on the bus, trades at the venue.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import msgspec

from tickmesh.domain import subjects
from tickmesh.domain.enums import IntentAction, Side, TimeInForce, Urgency
from tickmesh.domain.messages import BookUpdate, Control, MarkPrice, OrderIntent, encode
from tickmesh.runtime.simulation.stage import GIVE_UP_NS, HEALED_NS, STRATEGIES, SYMBOLS, VENUE, Stage
from tickmesh.runtime.simulation.venue import ACCOUNT
from tickmesh.runtime.simulation.world import EPOCH_NS, S


class Pens:
    """Of one run; their chance is their own, so that a fault left out leaves what they write as it was."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._random = Random(f"pens {stage.plan.seed}")
        self._ghosts = Random(f"ghosts {stage.plan.seed}")
        self._intents = 0
        self._updates = 0
        self._epochs = dict.fromkeys(STRATEGIES, 1)
        self._ghost_until_ns: dict[str, int] = {}

    def begin(self) -> None:
        """Feed until the end, write until everything is whole."""
        world, venue = self._stage.world, self._stage.venue
        world.every(0.25, self._feed, GIVE_UP_NS)
        world.every(0.1, venue.tick, GIVE_UP_NS)
        world.every(0.15, self._market, HEALED_NS)
        world.every(0.12, self._pen, HEALED_NS)
        world.every(0.5, self._stage.server.pump, GIVE_UP_NS)

    def _feed(self) -> None:
        if not self._stage.server.up:
            return
        for symbol in SYMBOLS:
            depth = self._stage.venue.exchange.depth(symbol, 5)
            self._updates += 1
            wall_ns, mono_ns = EPOCH_NS + self._stage.world.now_ns, self._stage.world.now_ns
            book = BookUpdate(
                venue=VENUE, symbol=symbol, update_id=self._updates, bids=depth.bids, asks=depth.asks,
                receive_ns=wall_ns, publish_ns=wall_ns, receive_mono_ns=mono_ns, publish_mono_ns=mono_ns,
            )  # fmt: skip
            self._stage.server.publish(subjects.book(VENUE, symbol), encode(book))
            mark = self._stage.venue.exchange.markets[symbol].mark
            if mark:
                message = MarkPrice(venue=VENUE, symbol=symbol, mark_price=mark, publish_ns=wall_ns, receive_ns=wall_ns)
                self._stage.server.publish(subjects.mark(VENUE, symbol), encode(message))

    def _market(self) -> None:
        symbol = self._stage.world.random.choice(SYMBOLS)
        if self._stage.world.random.random() < 0.6:
            self._stage.venue.trade(symbol)
        else:
            self._stage.venue.quote(symbol)

    def _pen(self) -> None:
        """A strategy writes: mostly orders, some cancels, now and then the same intent once more."""
        roll = self._random.random()
        if roll < 0.70:
            self.write(self._order())
        elif roll < 0.92 and self._stage.watch.intents:
            target = self._random.choice(list(self._stage.watch.intents)[-8:])
            intent = self.intent(action=IntentAction.CANCEL, target_client_order_id=target,
                                  symbol=self._stage.watch.intents[target].symbol)  # fmt: skip
            self.write(intent)
            self._stage.watch.on_cancel(target)
        elif roll < 0.95:
            self.write(self.intent(action=IntentAction.CANCEL_ALL, symbol="", strategy="s1"))
        elif self._stage.watch.intents:
            again = self._random.choice(list(self._stage.watch.intents.values())[-5:])
            self.write(again)

    def _order(self) -> OrderIntent:
        random = self._random
        symbol, side = random.choice(SYMBOLS), random.choice((Side.BUY, Side.SELL))
        middle = self._stage.venue.middle[symbol]
        if random.random() < 0.4:
            price = middle + side * random.randint(0, 6)
            intent = self.intent(
                symbol=symbol, side=side, price_ticks=price, qty_lots=random.randint(2, 6),
                urgency=Urgency.IMMEDIATE, time_in_force=random.choice((TimeInForce.IOC, TimeInForce.GTC)),
            )  # fmt: skip
        else:
            price = middle - side * random.randint(1, 6)
            intent = self.intent(
                symbol=symbol, side=side, price_ticks=price, qty_lots=random.randint(2, 6),
                time_in_force=random.choice((TimeInForce.GTX, TimeInForce.GTC)),
            )  # fmt: skip
        self._stage.watch.expect(intent)
        return intent

    def intent(self, **fields: Any) -> OrderIntent:
        """An intent with what the caller leaves open drawn."""
        fields.setdefault("strategy", self._random.choice(STRATEGIES))
        fields.setdefault("ttl_ns", self._random.choice((S // 4, 2 * S)))
        return self._numbered(**fields)

    def _numbered(self, *, strategy: str, **fields: Any) -> OrderIntent:
        self._intents += 1
        epoch = self._epochs[strategy]
        if self._stage.world.now_ns < self._ghost_until_ns.get(strategy, 0) and self._ghosts.random() < 0.4:
            epoch -= 1
        return OrderIntent(
            intent_id=f"i{self._intents}", account=ACCOUNT, venue=VENUE, strategy=strategy, epoch=epoch,
            publish_ns=EPOCH_NS + self._stage.world.now_ns, **fields,
        )  # fmt: skip

    def succeed(self, strategy: str, for_s: float) -> None:
        """Another process runs the strategy from now on; the former one has not noticed and writes on."""
        self._epochs[strategy] += 1
        epoch = self._epochs[strategy]
        picture = msgspec.json.encode({"name": strategy, "epoch": epoch})
        self._stage.server.put("checkpoints", f"strategy.{strategy}", picture)
        self._stage.watch.on_succession(strategy, epoch)
        self._ghost_until_ns[strategy] = self._stage.world.now_ns + int(for_s * S)

    def run_away(self, strategy: str, until_ns: int) -> None:
        """A strategy in a loop: orders that end at once, far more of them than it should write."""
        if self._stage.world.now_ns >= until_ns:
            return
        symbol, side = self._ghosts.choice(SYMBOLS), self._ghosts.choice((Side.BUY, Side.SELL))
        order = self._numbered(
            strategy=strategy, symbol=symbol, side=side, price_ticks=self._stage.venue.middle[symbol] - side * 40,
            qty_lots=1, urgency=Urgency.IMMEDIATE, time_in_force=TimeInForce.IOC, ttl_ns=S,
        )  # fmt: skip
        self._stage.watch.expect(order)
        self.write(order)
        self._stage.world.after(0.03, partial(self.run_away, strategy, until_ns))

    def write(self, intent: OrderIntent) -> None:
        """Publish; the strategy's own connection is good while the server is up, else it waits and repeats."""
        if self._stage.server.up:
            self._stage.server.publish(subjects.intent(ACCOUNT), encode(intent))

    def control(self, verb: str, scope: str, **arguments: str) -> None:
        """A person commands."""
        control = Control(
            verb=verb, scope=scope, reason="drama", actor="seed", publish_ns=EPOCH_NS + self._stage.world.now_ns,
            arguments=arguments,
        )  # fmt: skip
        self._stage.world.note(f"control {verb} {scope}")
        self._stage.server.publish(subjects.control(verb, scope), encode(control))
