"""The ledger: the same truth whatever order, however often, and after whichever kill events are told."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import BTC

from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.messages import FillEvent, OrderEvent
from tickmesh.strategy.drafts import Drafts, Moment
from tickmesh.strategy.ledger import Ledger, LedgerState, intent_id, slot_of

Event = OrderEvent | FillEvent


def journal(random: Random, orders: int) -> list[Event]:
    """What execution tells of ``orders`` orders, interleaved, each order's own events in order."""
    lines: list[list[Event]] = []
    trade_id = 0
    for n in range(orders):
        side, lots, price = random.choice(list(Side)), random.randint(1, 6), random.randint(900, 1100)
        coid = f"order-{n}"
        line: list[Event] = []
        done = 0

        def state(state: OrderState, coid: str = coid, side: Side = side, lots: int = lots, price: int = price) -> None:
            line.append(  # noqa: B023
                OrderEvent(
                    account="a", venue="v", symbol="BTCUSDT", client_order_id=coid, side=side, qty_lots=lots,
                    price_ticks=price, cum_lots=done, state=state, intent_id=intent_id("s", "1", n, "bid"),  # noqa: B023
                )
            )  # fmt: skip

        state(OrderState.SUBMITTED)
        while done < lots and random.random() < 0.7:
            taken = random.randint(1, lots - done)
            done += taken
            trade_id += 1
            line.append(
                FillEvent(
                    account="a", venue="v", symbol="BTCUSDT", trade_id=trade_id, client_order_id=coid, venue_order_id=1,
                    side=side, price_ticks=price + random.randint(-3, 3), qty_lots=taken,
                )
            )  # fmt: skip
            state(OrderState.FILLED if done == lots else OrderState.PARTIALLY_FILLED)
        if done < lots and random.random() < 0.7:
            state(random.choice((OrderState.CANCELED, OrderState.EXPIRED)))
        lines.append(line)
    merged: list[Event] = []
    while any(lines):
        line = random.choice([each for each in lines if each])
        merged.append(line.pop(0))
    return merged


def tell(ledger: Ledger, events: list[Event]) -> None:
    for event in events:
        if isinstance(event, FillEvent):
            ledger.on_fill(event)
        else:
            ledger.on_event(event, 1)


def truth(ledger: Ledger) -> object:
    held = ledger.holdings.get("BTCUSDT")
    orders = {c: (o.side, o.cum_lots, o.filled_lots, o.open_lots, o.slot) for c, o in ledger.orders.items()}
    return (held.qty_lots, held.cost, held.realized_pnl) if held else None, orders


@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_duplicates_change_nothing(seed: int) -> None:
    random = Random(seed)
    events = journal(random, 8)
    once, often = Ledger({"BTCUSDT": BTC}), Ledger({"BTCUSDT": BTC})
    tell(once, events)
    for n, event in enumerate(events):
        tell(often, [event, *random.sample(events[: n + 1], min(n + 1, 2))])
    tell(often, events)
    assert truth(often)[0] == truth(once)[0], f"seed {seed}"  # type: ignore[index]
    assert set(often.orders) == set(once.orders), f"seed {seed}"


@given(st.integers(0, 10**9))
@settings(max_examples=100, deadline=None)
def test_a_checkpoint_and_the_journal_behind_it_give_what_no_kill_would_have_given(seed: int) -> None:
    random = Random(seed)
    events = journal(random, 10)
    through = Ledger({"BTCUSDT": BTC})
    tell(through, events)
    noted = random.randint(0, len(events))
    saved_at = random.randint(noted, len(events))
    before = Ledger({"BTCUSDT": BTC})
    tell(before, events[:noted])
    before.turn()  # the place in the journal is noted here ...
    tell(before, events[noted:saved_at])  # ... live events come on top, and then the picture is taken
    state = msgspec.json.decode(msgspec.json.encode(before.save()), type=LedgerState)
    after = Ledger({"BTCUSDT": BTC})
    after.load(state, 5)
    tell(after, events[noted:])
    assert truth(after) == truth(through), f"seed {seed}"


@given(st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 50), st.integers(1, 10_000)), max_size=40))
def test_realised_and_unrealised_pnl_are_the_cash_that_went_and_what_closing_would_bring(
    fills: list[tuple[Side, int, int]],
) -> None:
    ledger = Ledger({"BTCUSDT": BTC})
    unit, cash, lots_held = BTC.tick_size * BTC.lot_size, Decimal(0), 0
    for n, (side, lots, price) in enumerate(fills):
        ledger.on_fill(
            FillEvent(
                account="a", venue="v", symbol="BTCUSDT", trade_id=n, client_order_id="x", venue_order_id=1, side=side,
                price_ticks=price, qty_lots=lots,
            )
        )  # fmt: skip
        cash -= int(side) * lots * price * unit
        lots_held += int(side) * lots
    assert ledger.qty_lots("BTCUSDT") == lots_held
    realised = ledger.holdings["BTCUSDT"].realized_pnl if fills else Decimal(0)
    total = realised + ledger.unrealized_pnl("BTCUSDT", 777.5)
    assert abs(total - (cash + lots_held * Decimal("777.5") * unit)) < Decimal("1e-12")


def test_an_order_counts_in_full_until_its_fills_are_booked() -> None:
    ledger = Ledger({"BTCUSDT": BTC})
    event = OrderEvent(
        account="a", venue="v", symbol="BTCUSDT", client_order_id="x", side=Side.BUY, qty_lots=5,
        state=OrderState.SUBMITTED,
    )  # fmt: skip
    ledger.on_event(event, 1)
    assert ledger.open_lots("BTCUSDT", Side.BUY) == 5
    filled = msgspec.structs.replace(event, state=OrderState.CANCELED, cum_lots=3)
    ledger.on_event(filled, 2)
    assert ledger.open_lots("BTCUSDT", Side.BUY) == 3, "three lots were told as filled and are not booked yet"


def test_the_slot_comes_back_out_of_an_intent_id() -> None:
    assert slot_of(intent_id("market-making", "1a2b", 17, "bid")) == "bid"
    assert slot_of("something else") == "d"


def test_shards_that_begin_in_the_same_millisecond_write_different_ids() -> None:
    now = Moment(1, 1, 0, 0, 0)
    ids = [Drafts("s", "main", "binance", 0x1A2B, shard).cancel_all(now).intent_id for shard in range(3)]
    assert len(set(ids)) == 3
    assert {slot_of(identity) for identity in ids} == {"all"}
