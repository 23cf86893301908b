"""The journal's checkpoint: never past an open order, never within the horizon, and a start from it loses nothing."""

from __future__ import annotations

import random
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.messages import FillEvent, OrderEvent, OrderIntent
from tickmesh.execution.checkpoint import Checkpoint, CheckpointKeeper
from tickmesh.execution.ledger import OrderLedger, TradeFact, VenueFact
from tickmesh.execution.machine import OrderMachine, Report, Step

S = 1_000_000_000
HORIZON_S = 60.0


class Nobody:
    def on_step(self, order: OrderMachine, step: Step) -> None: ...

    def on_fill(self, order: OrderMachine, fill: FillEvent) -> None: ...


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_start_from_the_checkpoint_knows_every_open_order_and_every_trade(choose: random.Random) -> None:
    ledger, keeper = OrderLedger("main", "binance", Nobody()), CheckpointKeeper(HORIZON_S, Checkpoint())
    journal: list[OrderEvent | FillEvent] = []
    now_ns = S
    for number in range(60):
        now_ns += choose.randrange(10 * S)
        intent = OrderIntent(
            intent_id=str(number), strategy="s", account="main", venue="binance", symbol="X", qty_lots=2,
            publish_ns=now_ns,
        )  # fmt: skip
        order = ledger.begin(intent)
        ledger.advance(order, OrderState.PENDING_SUBMIT, now_ns)
        for candidate in choose.sample(ledger.open_of(), min(2, len(ledger.open_of()))):
            end = choose.choice((OrderState.SUBMITTED, OrderState.CANCELED, OrderState.FILLED))
            venue_id = int(candidate.intent_id) + 1
            cum = 2 if end is OrderState.FILLED else 0
            ledger.on_fact(
                VenueFact(
                    symbol="X", client_order_id=candidate.client_order_id,
                    report=Report(venue_id, end, cum, Decimal(cum), now_ns // 1_000_000, 2),
                ),
                now_ns,
            )  # fmt: skip
            if cum:
                trade = TradeFact(
                    symbol="X", trade_id=venue_id, venue_order_id=venue_id, side=Side.BUY, price_ticks=1, qty_lots=2
                )
                ledger.on_trade(trade, candidate, now_ns)
        for record in ledger.take_outbox():
            journal.append(record.message)
            keeper.note(record.message, len(journal))
    point = keeper.advance(ledger, now_ns)
    again = OrderLedger("main", "binance", Nobody())
    again.known_trades_below = dict(point.trades)
    for message in journal[point.seq - 1 :]:
        again.restore(message)
    pictures = [
        {c: (o.state, o.cum_lots, o.filled_lots, o.intent_id) for c, o in side.open.items()} for side in (ledger, again)
    ]
    assert pictures[0] == pictures[1]
    for message in journal:
        if isinstance(message, FillEvent) and message.trade_id <= max(point.trades.values(), default=0):
            assert again.knows_trade("X", message.trade_id)
        elif isinstance(message, OrderEvent) and message.publish_ns > now_ns - int(HORIZON_S * S):
            assert again.seen(message.intent_id)


def test_the_checkpoint_moves_on_when_everything_before_it_is_settled() -> None:
    ledger, keeper = OrderLedger("main", "binance", Nobody()), CheckpointKeeper(HORIZON_S, Checkpoint())
    for number in range(100):
        fact = VenueFact(symbol="X", client_order_id=str(number), report=Report(number + 1, OrderState.CANCELED, 0))
        ledger.on_fact(fact, number * 10 * S)
        for record in ledger.take_outbox():
            keeper.note(record.message, number + 1)
    point = keeper.advance(ledger, 1000 * S)
    assert 85 < point.seq <= 94


def test_an_order_that_rests_for_months_makes_the_keeper_no_larger_and_its_end_moves_the_checkpoint_on() -> None:
    ledger, keeper = OrderLedger("main", "binance", Nobody()), CheckpointKeeper(HORIZON_S, Checkpoint())
    stored = 0

    def fact(client_id: str, state: OrderState, now_ns: int) -> None:
        nonlocal stored
        report = Report(int(client_id), state, 0, Decimal(0), now_ns // 1_000_000, 2)
        ledger.on_fact(VenueFact(symbol="X", client_order_id=client_id, report=report), now_ns)
        for record in ledger.take_outbox():
            stored += 1
            keeper.note(record.message, stored)

    fact("1", OrderState.SUBMITTED, S)
    first_line, kept = stored, []
    for number in range(2, 5000):
        fact(str(number), OrderState.CANCELED, number * 10 * S)
        kept.append(len(keeper._marks))
    assert keeper.advance(ledger, 50_000 * S).seq <= first_line, "it still rests: nothing after its line is skipped"
    assert max(kept) <= 1000
    fact("1", OrderState.CANCELED, 50_000 * S)
    assert stored - 14 <= keeper.advance(ledger, 50_000 * S).seq <= stored - 6, "a horizon of 60 s, a line each 10 s"
