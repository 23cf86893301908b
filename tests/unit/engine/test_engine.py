"""The pipeline in one place: events in, actions out, the same for the same events."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
from engine_market import INSTRUMENT, NOW, S
from hypothesis import given, settings
from hypothesis import strategies as st

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, OrderState, Side, TimeInForce
from tickmesh.domain.messages import BookUpdate, Control, FillEvent, MarkPrice, OrderEvent, OrderIntent
from tickmesh.engine.engine import Engine
from tickmesh.engine.event import Action, Ask, Cancel, Event, Sent, Store, Submit, Unanswered, What
from tickmesh.engine.replay import Replay, picture_of
from tickmesh.execution.ledger import TradeFact, VenueFact
from tickmesh.execution.machine import Report
from tickmesh.risk.limits import Limits


class Desk:
    """An engine with a book, and a venue that answers as it is told."""

    def __init__(self) -> None:
        self.engine = Engine("main", "binance", {"BTCUSDT": INSTRUMENT}, Limits(max_messages_per_s=10_000))
        self.engine.view.on_balances(Decimal(100_000), Decimal(100_000))
        self.now = NOW
        self.actions: list[Action] = []
        self.number = 0
        self.tell(MarkPrice(venue="binance", symbol="BTCUSDT", mark_price=Decimal(90_000)))
        self.book()

    def tell(self, what: What) -> list[Action]:
        self.now += 1_000_000
        found = self.engine.step(Event(self.now, self.now - NOW + S, what))
        self.actions += found
        return found

    def book(self) -> None:
        self.tell(BookUpdate(venue="binance", symbol="BTCUSDT", bids=[(899_999, 50)], asks=[(900_001, 50)]))

    def intent(self, **fields: object) -> OrderIntent:
        self.number += 1
        made = OrderIntent(
            intent_id=f"i{self.number}", strategy="s", account="main", venue="binance", symbol="BTCUSDT",
            price_ticks=899_990, qty_lots=4, time_in_force=TimeInForce.GTC, publish_ns=self.now, ttl_ns=S,
        )  # fmt: skip
        return msgspec.structs.replace(made, **fields)

    def place(self, **fields: object) -> str:
        intent = self.intent(**fields)
        (submit,) = [a for a in self.tell(intent) if isinstance(a, Submit)]
        self.tell(Sent(submit.approved))
        return submit.approved.client_order_id

    def report(self, client_id: str, state: OrderState, cum: int = 0) -> list[Action]:
        report = Report(
            100 + int(self.number), state, cum, Decimal(90_000) if cum else Decimal(0), self.now // 10**6, 4
        )
        return self.tell(
            VenueFact(symbol="BTCUSDT", client_order_id=client_id, report=report, side=Side.BUY, qty_lots=4)
        )

    def trade(self, client_id: str, trade_id: int, lots: int) -> list[Action]:
        fact = TradeFact(
            symbol="BTCUSDT", trade_id=trade_id, venue_order_id=100 + int(self.number), side=Side.BUY,
            price_ticks=899_990, qty_lots=lots, client_order_id=client_id,
        )  # fmt: skip
        return self.tell(fact)

    @property
    def journal(self) -> list[OrderEvent | FillEvent]:
        return [a.record.message for a in self.actions if isinstance(a, Store)]


def test_an_intent_becomes_one_order_however_often_it_comes() -> None:
    desk = Desk()
    intent = desk.intent()
    first = desk.tell(intent)
    assert [type(a) for a in first] == [Submit]
    desk.tell(Sent(first[0].approved))  # type: ignore[union-attr]
    assert desk.tell(intent) == [] and desk.tell(msgspec.structs.replace(intent)) == []


def test_a_lost_answer_reserves_closes_the_symbol_and_asks() -> None:
    desk = Desk()
    client_id = desk.place()
    asked = desk.tell(Unanswered(client_id, "timeout"))
    assert Ask("BTCUSDT", client_id) in asked
    assert desk.engine.ledger.orders[client_id].state is OrderState.UNKNOWN
    assert client_id in desk.engine.view.reservations
    refused = desk.tell(desk.intent())
    assert not [a for a in refused if isinstance(a, Submit)]
    assert [e.state for e in desk.journal][-1] is OrderState.REJECTED
    desk.report(client_id, OrderState.SUBMITTED)
    assert [a for a in desk.tell(desk.intent(price_ticks=899_980)) if isinstance(a, Submit)]


def test_a_fill_reaches_portfolio_view_and_journal_once() -> None:
    desk = Desk()
    client_id = desk.place()
    desk.report(client_id, OrderState.PARTIALLY_FILLED, 3)
    desk.trade(client_id, 7, 3)
    desk.trade(client_id, 7, 3)
    assert desk.engine.portfolio.fills == 1
    assert desk.engine.view.symbols["BTCUSDT"].both.position_lots == 3
    assert [f.trade_id for f in desk.journal if isinstance(f, FillEvent)] == [7]


def test_a_halt_cancels_and_lets_only_cancels_through() -> None:
    desk = Desk()
    client_id = desk.place()
    desk.report(client_id, OrderState.SUBMITTED)
    halted = desk.tell(Control(verb="halt", scope="strategy.s"))
    assert Cancel("BTCUSDT", client_id) in halted
    assert not [a for a in desk.tell(desk.intent()) if isinstance(a, Submit)]
    cancel = desk.intent(action=IntentAction.CANCEL, target_client_order_id=client_id)
    assert desk.tell(cancel) == [Cancel("BTCUSDT", client_id)]
    desk.tell(Control(verb="resume", scope="strategy.s"))
    assert [a for a in desk.tell(desk.intent()) if isinstance(a, Submit)]


def test_a_trade_of_an_unknown_order_is_asked_for_and_changes_nothing() -> None:
    desk = Desk()
    assert desk.trade("web_1", 3, 2) == [Ask("BTCUSDT", "web_1")]
    assert desk.engine.portfolio.fills == 0


def play(seed: int) -> Desk:
    """A day drawn from a seed."""
    choose, desk = random.Random(seed), Desk()
    ids: list[str] = []
    for trade_id in range(1, 60):
        roll = choose.random()
        if roll < 0.3 or not ids:
            desk.book()
            found = [
                a for a in desk.tell(desk.intent(price_ticks=899_990 - choose.randrange(9))) if isinstance(a, Submit)
            ]
            for submit in found:
                desk.tell(Sent(submit.approved))
                ids.append(submit.approved.client_order_id)
        elif roll < 0.5:
            desk.tell(Unanswered(choose.choice(ids), "timeout"))
        elif roll < 0.8:
            desk.number = ids.index(client_id := choose.choice(ids))
            states = [OrderState.SUBMITTED, OrderState.PARTIALLY_FILLED, OrderState.CANCELED, OrderState.EXPIRED]
            desk.report(client_id, choose.choice(states), choose.choice([0, 1, 2]))
            desk.number = trade_id + 1000
        else:
            desk.trade(choose.choice(ids), choose.randrange(1, trade_id + 1), 1)
    return desk


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_the_same_events_give_the_same_actions_and_the_journal_rebuilds_the_state(seed: int) -> None:
    first, second = play(seed), play(seed)
    assert first.actions == second.actions, f"seed {seed}"
    replay = Replay("main")
    for seq, action in enumerate([a for a in first.actions if isinstance(a, Store)], 1):
        replay.apply(action.record.subject, msgspec.msgpack.encode(action.record.message), seq)
    live = picture_of(first.engine.ledger)
    assert replay.picture() == live, f"seed {seed}"
    assert replay.picture().hash == live.hash


def test_the_hash_tells_one_missing_line() -> None:
    desk = Desk()
    client_id = desk.place()
    desk.report(client_id, OrderState.PARTIALLY_FILLED, 2)
    desk.trade(client_id, 5, 2)
    lines = [a.record for a in desk.actions if isinstance(a, Store)]
    hashes = set()
    for missing in [None, *range(len(lines))]:
        replay = Replay("main")
        for seq, line in enumerate(lines):
            if seq != missing:
                replay.apply(line.subject, msgspec.msgpack.encode(line.message), seq + 1)
        hashes.add(replay.picture().hash if missing != 0 else "first")
    assert len(hashes) >= 3
    assert client_order_id("s", "i1") == client_id
