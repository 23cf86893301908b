"""Ending: the faults are over; what we hold of orders, fills and positions must be what the venue holds.

In: the stage after its last fault. Out: nothing, or InvariantError with the promise that is broken.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from tickmesh.domain.client_order_id import is_ours
from tickmesh.domain.enums import IntentAction, OrderState, Side, TimeInForce
from tickmesh.engine.replay import Replay
from tickmesh.runtime.simulation.pens import Pens
from tickmesh.runtime.simulation.stage import GIVE_UP_NS, SYMBOLS, VENUE, Stage
from tickmesh.runtime.simulation.venue import ACCOUNT, DEPOSIT
from tickmesh.runtime.simulation.world import InvariantError, S
from tickmesh.runtime.summary import OurRecord, compare


class Ending:
    """Of one run."""

    def __init__(self, stage: Stage, pens: Pens) -> None:
        self._stage = stage
        self._pens = pens

    def heal(self) -> None:
        """Every fault is over, whatever was planned, and people resume what they halted."""
        stage = self._stage
        stage.world.note("everything is whole again")
        stage.venue.tempers.clear()
        stage.venue.clock.offset_ms = 0
        stage.kill_on_send.clear()
        stage.server.up = True
        for machine in stage.machines.values():
            machine.offset_ns = 0
        for life in stage.lives.values():
            life.link.mode = "open"
            life.link.stream_loss = life.link.stream_late = life.link.stream_repeat = 0.0
            life.bus.restore()
            life.process.paused_until_ns = 0
            life.process.kill_after_callbacks = None
        self._pens.control("resume", "all")
        stage.world.every(0.8, self._quote_all, GIVE_UP_NS)

    def compare(self) -> None:
        """Cancel everything until there is nothing to tell apart, or it is too late.

        Raises:
            InvariantError: ours is not the venue's, or nobody trades.
        """
        self._wait_for_cancels()
        world = self._stage.world
        problems = ["nothing was compared"]
        while world.now_ns < GIVE_UP_NS:
            self._cancel_everything()
            world.run(world.now_ns + 3 * S)
            problems = self.differences()
            if not problems:
                break
        if problems:
            name = "alive-again" if problems[0].startswith("nobody") else "ours-equals-the-venue"
            raise InvariantError(name, "; ".join(problems[:6]))
        self._check_alive()
        self._check_replay()

    def _wait_for_cancels(self) -> None:
        """A cancel that was written while its order was open ends it, whatever became of the first attempts.

        It may have to be delivered again, which takes the stream 30 s.
        """
        watch, world = self._stage.watch, self._stage.world
        patience_ns = world.now_ns + 60 * S
        while (left := watch.not_canceled()) and world.now_ns < patience_ns:
            world.run(world.now_ns + 3 * S)
        if left:
            raise InvariantError("canceled-when-asked", f"still open: {', '.join(left)}")

    def _quote_all(self) -> None:
        for symbol in SYMBOLS:
            self._stage.venue.quote(symbol)

    def _cancel_everything(self) -> None:
        for strategy in ("s1", "s2"):
            self._pens.write(self._pens.intent(action=IntentAction.CANCEL_ALL, symbol="", strategy=strategy))
        for order in self._stage.venue.orders():
            if order.is_open and order.client_order_id.startswith(("web_", "adl_")):
                self._stage.venue.exchange.cancel(
                    ACCOUNT, order.symbol, self._stage.venue.clock.now_ms(), order.order_id
                )
        self._stage.venue.commit()

    def journal(self) -> OurRecord:
        record = OurRecord()
        for line in self._stage.server.streams["ORDERS"]:
            record.add(line.subject, line.data)
        return record

    def differences(self) -> list[str]:
        """What is not as it should be now that nothing is wrong any more; empty when all is well."""
        writer = self._stage.writer
        if writer is None or not writer.health.ready:
            because = {name: life.health.unready_because for name, life in self._stage.lives.items()}
            return [f"nobody is ready: {because}"]
        ours = self.journal()
        record = self._stage.venue.record()
        # What others placed and took back while nobody told us concerns nobody.
        record["orders"] = [
            o for o in record["orders"]
            if is_ours(o["clientOrderId"]) or o["clientOrderId"] in ours.orders or Decimal(o["executedQty"])
        ]  # fmt: skip
        comparison = compare(ours, record)
        problems = comparison.duplicated + comparison.lost
        if (
            cash := sum((f.realized_pnl - f.commission for f in ours.fills.values()), DEPOSIT)
        ) != self._stage.venue.cash:
            problems.append(f"cash is {cash} by our fills and {self._stage.venue.cash} there")
        problems += [f"{c} is still {e.state}" for c, e in ours.orders.items() if not e.state.terminal]
        there = {o["clientOrderId"]: o for o in record["orders"]}
        for client_id, event in ours.orders.items():
            if (truth := there.get(client_id)) and event.venue_order_id > 0:
                instrument = self._stage.instruments[event.symbol]
                terms = instrument.to_lots(truth["origQty"]), instrument.to_ticks(truth["price"])
                if terms != (event.qty_lots, event.price_ticks):
                    problems.append(f"{client_id} is {event.qty_lots} at {event.price_ticks} here, {terms} there")
        held: Counter[str] = Counter()
        for fill in ours.fills.values():
            held[fill.symbol] += fill.side * fill.qty_lots
        for symbol in SYMBOLS:
            if held[symbol] != self._stage.venue.position_lots(symbol):
                problems.append(
                    f"position of {symbol}: {held[symbol]} here, {self._stage.venue.position_lots(symbol)} there"
                )
        for client_id, intent in self._stage.watch.intents.items():
            if client_id not in ours.orders and client_id in self._stage.watch.sent:
                problems.append(f"{client_id} of {intent.intent_id} was sent and is not journaled")
        return problems

    def _check_replay(self) -> None:
        """The journal alone rebuilds the state that the running service shows.

        Left out is what the connection of a writer that was succeeded still held and delivered late: the successor
        reads it at its next start.
        """
        writer = self._stage.writer
        if writer is None:
            return
        self._stage.world.run(self._stage.world.now_ns + 2 * S)
        live = writer.routes.ask("GET /state")
        replay = Replay(ACCOUNT, VENUE)
        for line in self._stage.server.streams["ORDERS"]:
            late = line.time_ns > writer.bus.first_read_ns["ORDERS"] and writer.process not in line.by
            if line.seq >= live["from_seq"] and not late:
                replay.apply(line.subject, line.data, line.seq)
        picture = replay.picture()
        if live["waiting"] == 0 and picture.hash != live["hash"]:
            raise InvariantError(
                "journal-rebuilds-state",
                f"live {live}, replayed {picture.hash} of {len(picture.orders)} orders at {picture.positions}",
            )

    def _check_alive(self) -> None:
        """A new order goes through: nothing is stuck closed."""
        for symbol in SYMBOLS:
            held = self._stage.venue.position_lots(symbol)
            side = Side.SELL if held > 0 else Side.BUY
            middle = self._stage.venue.middle[symbol]
            client_id = ""
            for _ in range(8):
                intent = self._pens.intent(symbol=symbol, side=side, price_ticks=middle - side * 30, qty_lots=6,
                                      time_in_force=TimeInForce.GTC, strategy="s1")  # fmt: skip
                intent.ttl_ns = 2 * S
                client_id = self._stage.watch.expect(intent)
                self._pens.write(intent)
                self._stage.world.run(self._stage.world.now_ns + 3 * S)
                if client_id in self._stage.watch.venue_orders:
                    break
            else:
                last = self.journal().orders.get(client_id)
                why = f"{last.state}: {last.reason}" if last else "no trace"
                raise InvariantError("alive-again", f"no order in {symbol} passes any more ({why})")
            if (last := self.journal().orders.get(client_id)) is None or last.state is OrderState.UNKNOWN:
                raise InvariantError("alive-again", f"{client_id} was accepted and is not journaled")
