"""Watch: the promises, checked at every step against what is true at the venue and at the bus.

In: what processes send, what the venue accepts, what the journal stores, what commands arrive. Out: InvariantError
with the promise's name. It believes nothing that a service says of itself.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from urllib.parse import parse_qsl

from tickmesh.domain.client_order_id import client_order_id, is_ours
from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.messages import Control, FillEvent, OrderEvent, OrderIntent, decode
from tickmesh.execution.machine import Wrong
from tickmesh.runtime.simulation.nats import Line, NatsServer
from tickmesh.runtime.simulation.venue import DEPOSIT, SimVenue
from tickmesh.runtime.simulation.world import Process, S, World
from tickmesh.venues.simvenue.exchange.types import OrderRecord

_PLACE = b"POST /fapi/v1/order?"
_THROTTLE_NS = 15 * S // 2
"""Shorter than the throttle's window by more than an approved order waits for a connection."""


class Watch:
    """One per run.

    Args:
        limit_lots: the largest position, in lots, that the limits allow in each symbol.
        throttle_orders: how many orders in a row shut a strategy.
    """

    def __init__(
        self, world: World, server: NatsServer, venue: SimVenue, limit_lots: Mapping[str, int], throttle_orders: int
    ) -> None:
        self.world = world
        self.server = server
        self.venue = venue
        self.limit_lots = limit_lots
        self.slack_lots: dict[str, int] = dict.fromkeys(limit_lots, 0)
        """What others traded on the account past us, which no check of ours can foresee."""
        self.intents: dict[str, OrderIntent] = {}
        self.venue_orders: dict[str, OrderRecord] = {}
        self.sent: dict[str, int] = {}
        self._throttle_orders = throttle_orders
        self._heard: dict[str, set[bytes]] = {}
        self._successions: list[tuple[int, str, int]] = []
        self._spoken: dict[tuple[Process, str], int] = {}
        self._times: dict[tuple[Process, str], deque[int]] = {}
        self._shut_ns: dict[str, int] = {}
        self._cancelled: set[str] = set()
        self._only_shrinks: set[str] = set()
        self._lots: Counter[str] = Counter()
        self._cash = DEPOSIT
        self._fills: set[tuple[str, int]] = set()
        server.on_stored = self.on_stored
        venue.on_accepted = self.on_accepted

    def expect(self, intent: OrderIntent) -> str:
        """A strategy is about to publish this intent; returns the client order id that it must get."""
        client_id = client_order_id(intent.strategy, intent.intent_id)
        self.intents[client_id] = intent
        return client_id

    # What a process sends.

    def on_sent(self, process: Process, data: bytes) -> None:
        """Bytes leave a process for the venue."""
        if not data.startswith(_PLACE):
            return
        parameters = dict(parse_qsl(data.split(b" ", 2)[1].split(b"?", 1)[1].decode()))
        client_id = parameters.get("newClientOrderId", "")
        self.sent[client_id] = self.sent.get(client_id, 0) + 1
        self.world.note(f"{process.name}#{process.life} sends order {client_id}")
        if self.sent[client_id] > 1:
            self.world.fail("sent-once", f"{client_id} was sent {self.sent[client_id]} times")
        intent = self.intents.get(client_id)
        if intent is None:
            if parameters.get("reduceOnly") != "true" or not self._to_flatten(parameters["symbol"]):
                self.world.fail("no-order-without-intent", f"{client_id} was sent and nobody asked for it")
            return
        writer = self.server.lease_writer
        if writer is not process:
            holder = f"{writer.name}#{writer.life}" if writer else "nobody"
            self.world.fail("fenced-sends-nothing", f"{process.name}#{process.life} sent {client_id} while "
                                                         f"{holder} holds the lease")  # fmt: skip
        for scope in self._latched_for(process, "halt"):
            if _covers(scope, intent):
                self.world.fail("halted-sends-nothing", f"{client_id} was sent though {scope} is halted")
        if any(_covers(scope, intent) for scope in self._latched_for(process, "reduce")):
            self._only_shrinks.add(client_id)
        self._check_epoch(process, intent)
        self._check_throttle(process, intent.strategy)

    def _check_epoch(self, process: Process, intent: OrderIntent) -> None:
        """A successor was heard, or known from its checkpoint before this process became the writer."""
        key = process, intent.strategy
        newest = max(
            [self._spoken.get(key, 0)]
            + [e for t, s, e in self._successions if s == intent.strategy and t < self.server.writer_since_ns]
        )
        if intent.epoch < newest:
            self.world.fail(
                "succeeded-sends-nothing",
                f"{intent.intent_id} of {intent.strategy} was sent under epoch {intent.epoch}, {newest} speaks for it",
            )
        self._spoken[key] = max(newest, intent.epoch)

    def _check_throttle(self, process: Process, strategy: str) -> None:
        """What the throttle shut stays shut until a person reopens it, in this process and in its successors."""
        # Bounded by the throttle itself: who sends more within its window is what this finds.
        now_ns, times = self.world.now_ns, self._times.setdefault((process, strategy), deque())
        reopened_ns = max(
            (line.time_ns for line in self.server.streams["CTL"]
             if line.subject in ("ctl.resume.all", f"ctl.resume.strategy.{strategy}")),
            default=0,
        )  # fmt: skip
        if reopened_ns < self._shut_ns.get(strategy, 0):
            self.world.fail("throttled-is-shut", f"{strategy} sent an order after its throttle had shut it")
        times.append(now_ns)
        while times[0] < max(now_ns - _THROTTLE_NS, reopened_ns):
            times.popleft()
        if len(times) >= self._throttle_orders:
            self._shut_ns[strategy] = now_ns

    def _to_flatten(self, symbol: str) -> bool:
        """Whether a person ever commanded to close this symbol's position."""
        told = (decode(Control, line.data) for line in self.server.streams["CTL"])
        return any(c.arguments.get("flatten") and c.scope in ("all", "account.main", f"symbol.{symbol}") for c in told)

    def on_succession(self, strategy: str, epoch: int) -> None:
        """Another process runs ``strategy``; its epoch is in its checkpoint."""
        self._successions.append((self.world.now_ns, strategy, epoch))

    def on_cancel(self, client_id: str) -> None:
        """Somebody asked to cancel an order; it counts when that is stored and the order open, or not there yet."""
        order = self.venue_orders.get(client_id)
        if (order is None or order.is_open) and self.server.up:
            self._cancelled.add(client_id)

    def not_canceled(self) -> list[str]:
        """Orders that somebody asked to cancel, and that are open."""
        orders = self.venue_orders
        return sorted(c for c in self._cancelled if c in orders and orders[c].is_open)

    def _latched_for(self, process: Process, verb: str) -> set[str]:
        """Scopes that nobody has resumed since, and whose ``verb`` this machine heard or that was stored before this
        process became the writer: it reads what was commanded before it acts."""
        halted: set[str] = set()
        heard = self._heard.get(process.machine.name, ())
        for line in self.server.streams["CTL"]:
            control = decode(Control, line.data)
            if control.verb == "resume":
                if control.scope == "all":
                    halted.clear()
                halted.discard(control.scope)
            elif control.verb == verb and (line.time_ns < self.server.writer_since_ns or line.data in heard):
                halted.add(control.scope)
        return halted

    def on_heard(self, process: Process, subject: str, data: bytes) -> None:
        """A command was handled by a process; what it latched is kept by its machine."""
        if subject.startswith("ctl."):
            self._heard.setdefault(process.machine.name, set()).add(data)

    # What the venue accepts.

    def on_accepted(self, order: OrderRecord) -> None:
        """A new order is at the venue."""
        client_id = order.client_order_id
        if not is_ours(client_id):
            return
        self.world.note(f"venue: accepted {client_id} {order.side.name} {order.lots} {order.symbol}: {order.status}")
        if client_id in self.venue_orders:
            self.world.fail("one-order-per-intent", f"{client_id} is two orders at the venue")
        self.venue_orders[client_id] = order
        intent = self.intents.get(client_id)
        if intent is None:
            if not order.reduce_only:
                self.world.fail("no-order-without-intent", f"{client_id} is at the venue and nobody asked for it")
            return
        if (order.symbol, order.side, order.lots) != (intent.symbol, intent.side, intent.qty_lots):
            self.world.fail("as-intended", f"{client_id} is not the order that was asked for")
        self.check_exposure(order.symbol)
        if client_id in self._only_shrinks:
            self._check_shrinks(order)

    def _check_shrinks(self, order: OrderRecord) -> None:
        """It was sent while its scope may only reduce: with all that is open the position does not pass zero."""
        held, side = self.venue.position_lots(order.symbol), order.side
        open_lots = sum(
            o.open_lots for o in self.venue.exchange.open_orders("main", order.symbol)
            if o.side is side and not o.reduce_only and is_ours(o.client_order_id)
        )  # fmt: skip
        if held * side + open_lots > self.slack_lots[order.symbol]:
            self.world.fail(
                "reducing-only-shrinks", f"{order.client_order_id}: {held} lots held, {open_lots} open beside it"
            )

    def check_exposure(self, symbol: str) -> None:
        """Position and everything that may still fill, whatever we know of it, is within the limit."""
        held = self.venue.position_lots(symbol)
        orders = self.venue.exchange.open_orders("main", symbol)
        for side in (Side.BUY, Side.SELL):
            open_lots = sum(
                o.open_lots for o in orders if o.side is side and not o.reduce_only and is_ours(o.client_order_id)
            )
            worst = held * side + open_lots
            if open_lots and worst > self.limit_lots[symbol] + self.slack_lots[symbol]:
                self.world.fail(
                    "limits-hold", f"{symbol} {side.name}: {held} lots held and {open_lots} open, "
                                   f"{self.limit_lots[symbol]} allowed")  # fmt: skip

    # What the journal says.

    def on_stored(self, stream: str, line: Line) -> None:
        """A line of a stream is stored."""
        if stream != "ORDERS":
            return
        if line.subject.startswith("fill."):
            fill = decode(FillEvent, line.data)
            key = (fill.symbol, fill.trade_id)
            self.world.note(f"journal {line.seq}: fill {key} of {fill.client_order_id} {fill.qty_lots}")
            if key in self._fills:
                self.world.fail("fill-once", f"fill {key} is journaled twice")
            self._fills.add(key)
            self._check_fill(fill)
            return
        event = decode(OrderEvent, line.data)
        self.world.note(
            f"journal {line.seq}: {event.client_order_id} {event.previous_state} -> {event.state} {event.cum_lots} "
            f"{'ANOMALY ' if event.anomaly else ''}{event.reason}"
        )
        if event.reason == Wrong.TRANSITION.value:
            self.world.fail(
                "steps-in-order", f"{event.client_order_id}: {event.previous_state} -> {event.state} is no anomaly"
            )
        truth = self.venue_orders.get(event.client_order_id)
        gone = event.state in (OrderState.REJECTED, OrderState.EXPIRED) and not event.venue_order_id
        if gone and truth is not None and not event.anomaly:
            self.world.fail(
                "unknown-is-not-rejected",
                f"{event.client_order_id} is called {event.state} ({event.reason}) and is {truth.status} at the venue",
            )

    def _check_fill(self, fill: FillEvent) -> None:
        """The fill is one of the venue's, as it was; and when all of them are here, so are cash and positions."""
        trades = self.venue.trades()
        truth = next((t for t in trades if (t.symbol, t.trade_id) == (fill.symbol, fill.trade_id)), None)
        if truth is None or (truth.side, truth.ticks, truth.lots, truth.commission, truth.realized_pnl) != (
            fill.side, fill.price_ticks, fill.qty_lots, fill.commission, fill.realized_pnl
        ):  # fmt: skip
            self.world.fail("no-invented-fill", f"{fill} is {truth or 'unknown'} at the venue")
            return
        self._lots[fill.symbol] += fill.side * fill.qty_lots
        self._cash += fill.realized_pnl - fill.commission
        if len(self._fills) < len(trades):
            return
        for symbol in self.limit_lots:
            if (there := self.venue.position_lots(symbol)) != self._lots[symbol]:
                self.world.fail("conserved", f"{symbol}: {self._lots[symbol]} lots by its fills, {there} at the venue")
        if self._cash != self.venue.cash:
            self.world.fail("conserved", f"cash: {self._cash} by the fills, {self.venue.cash} at the venue")


def _covers(scope: str, intent: OrderIntent) -> bool:
    kind, _, name = scope.partition(".")
    return scope == "all" or name == {"account": intent.account, "strategy": intent.strategy}.get(kind, intent.symbol)
