"""The desk: signals become at most one order a slot, within limits and mode, whatever happens to them."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import BTC, MS, Rig, S, Scripted, book, quote, trade

from tickmesh.domain.enums import IntentAction, Mode, Side, TimeInForce, Urgency
from tickmesh.domain.messages import Alert, Control, FillEvent, SignalMessage, encode
from tickmesh.strategy.examples.market_making import MarketMaking
from tickmesh.strategy.floor import Floor
from tickmesh.strategy.interface import Signal
from tickmesh.strategy.resource import Limits


def place(rig: Rig, **book: int) -> str:
    """One accepted order; its client order id."""
    rig.answer(rig.tick(**book))
    return rig.open()[-1].client_order_id


def test_an_equal_quote_leaves_its_order_alone_and_another_price_replaces_it_when_the_old_one_is_gone() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    plugin.always = [quote(price=617_900)]
    rig.answer(rig.tick())
    assert rig.tick() == []
    plugin.always = [quote(price=617_950)]
    cancels = rig.tick()
    assert [i.action for i in cancels] == [IntentAction.CANCEL]
    assert rig.tick() == [], "the place of the old order is taken until its end is told"
    rig.answer(cancels)
    (placed,) = rig.tick()
    assert (placed.action, placed.price_ticks) == (IntentAction.PLACE, 617_950)


def test_a_partly_filled_quote_keeps_its_place_until_half_of_it_is_gone() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    plugin.always = [quote(lots=10)]
    coid = place(rig)
    rig.fill(coid, 5)
    assert rig.tick() == []
    rig.fill(coid, 1)
    assert [i.action for i in rig.tick()] == [IntentAction.CANCEL]


def test_a_shy_quote_stays_while_the_cool_down_lets_no_other_follow_and_a_bold_one_goes_at_once() -> None:
    plugin = Scripted()
    rig = Rig(plugin, limits=Limits(cool_down_ms=500))
    plugin.always = [quote(price=617_900)]
    rig.answer(rig.tick())
    plugin.always = [quote(price=617_990)]
    assert rig.tick() == []
    plugin.always = [quote(price=617_800)]
    assert [i.action for i in rig.tick()] == [IntentAction.CANCEL]


def test_withdrawing_cancels_once_and_asks_again_only_after_a_second() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    plugin.always = [quote()]
    place(rig)
    plugin.always = [quote(withdraw=True)]
    assert len(rig.tick()) == 1
    assert rig.tick() == []
    assert [i.action for i in rig.after(S).timer()] == [IntentAction.CANCEL]


@pytest.mark.parametrize(
    ("signal", "price", "tif"),
    [
        (Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=2), 618_000, TimeInForce.GTX),
        (Signal(symbol="BTCUSDT", side=Side.SELL, qty_lots=2), 618_004, TimeInForce.GTX),
        (Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=2, urgency=Urgency.NORMAL), 618_001, TimeInForce.GTX),
        (Signal(symbol="BTCUSDT", side=Side.SELL, qty_lots=2, urgency=Urgency.NORMAL), 618_003, TimeInForce.GTX),
        (Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=2, urgency=Urgency.IMMEDIATE), 618_004, TimeInForce.IOC),
        (Signal(symbol="BTCUSDT", side=Side.SELL, qty_lots=2, urgency=Urgency.IMMEDIATE), 618_000, TimeInForce.IOC),
        (quote(Side.BUY, 618_050), 618_003, TimeInForce.GTX),
        (quote(Side.SELL, 617_000), 618_001, TimeInForce.GTX),
    ],
)
def test_makers_never_cross_and_only_urgency_takes(signal: Signal, price: int, tif: TimeInForce) -> None:
    (intent,) = Rig(Scripted([[signal]])).tick(618_000, 618_004)
    assert (intent.price_ticks, intent.time_in_force) == (price, tif)


def test_a_directional_order_goes_after_its_rest_and_a_more_urgent_signal_replaces_it() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    wish = Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=2, rest_ns=S)
    plugin.always = [wish]
    place(rig)
    plugin.always = []
    assert rig.after(S // 2).timer() == []
    cancels = rig.after(S // 2).timer()
    assert [i.action for i in cancels] == [IntentAction.CANCEL]
    rig.answer(cancels)
    plugin.always = [wish]
    place(rig)
    plugin.always = [Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=2, urgency=Urgency.IMMEDIATE)]
    cancels = rig.tick()
    assert [i.action for i in cancels] == [IntentAction.CANCEL]
    rig.answer(cancels)
    assert [i.time_in_force for i in rig.tick()] == [TimeInForce.IOC]


def test_no_order_meets_one_of_a_neighbour_on_the_same_account() -> None:
    floor = Floor()
    seller = Rig(Scripted([[quote(Side.SELL, 618_010)]]), name="seller", floor=floor)
    seller.answer(seller.tick(618_000, 618_005))
    assert seller.open()
    buyer = Rig(
        Scripted([[Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=2, urgency=Urgency.IMMEDIATE)]]),
        name="buyer",
        floor=floor,
    )
    assert buyer.tick(618_000, 618_012) == []
    assert any("would trade with an order of ours" in m.reason for m in buyer.other if isinstance(m, SignalMessage))


def test_a_stale_book_takes_the_quotes_away_and_silence_makes_a_book_stale() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    plugin.always = [quote()]
    place(rig)
    cancels = rig.tick(stale=True)
    assert [i.action for i in cancels] == [IntentAction.CANCEL]
    rig.answer(cancels)
    place(rig)
    assert rig.after(2 * S).timer() == []
    assert [i.action for i in rig.after(2 * S).timer()] == [IntentAction.CANCEL]


@pytest.mark.parametrize("mode", [Mode.OBSERVATION, Mode.SIMULATION])
def test_only_live_sends_intents(mode: Mode) -> None:
    plugin = Scripted()
    rig = Rig(plugin, mode=mode)
    plugin.always = [quote(Side.BUY, 617_999)]
    for _ in range(5):
        assert rig.tick() == []
    (message,) = [m for m in rig.other if isinstance(m, SignalMessage)]
    assert message.accepted == (mode is Mode.SIMULATION)


def test_paper_orders_fill_when_the_market_passes_them_and_tell_the_plugin() -> None:
    plugin = Scripted()
    rig = Rig(plugin, mode=Mode.SIMULATION)
    plugin.always = [quote(Side.BUY, 617_990, 4)]
    rig.tick()
    plugin.always = []
    rig.show(trade(617_990, 50, Side.SELL, at_ns=rig.clock.now_ns))
    assert rig.desk.paper.qty_lots("BTCUSDT") == 0, "at our price the queue ahead comes first"
    rig.show(trade(617_980, 3, Side.SELL, at_ns=rig.clock.now_ns))
    assert rig.desk.paper.qty_lots("BTCUSDT") == 3
    rig.tick(617_970, 617_985)
    assert rig.desk.paper.qty_lots("BTCUSDT") == 4
    assert rig.desk.live.qty_lots("BTCUSDT") == 0
    assert sum(isinstance(h, FillEvent) for h in plugin.heard) == 2
    assert not rig.desk.paper.orders


def test_repeated_rejections_end_in_observation_with_one_alert_and_trading_resumes() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    plugin.always = [quote()]
    rejected = 0
    for _ in range(5_000):
        for intent in rig.after(20 * MS).tick():
            rejected += 1
            rig.reject(intent, "margin")
        if rig.desk.back_off.observing_until_mono_ns:
            break
    assert rejected == 10
    alerts = [m for m in rig.other if isinstance(m, Alert)]
    assert [a.kind for a in alerts] == ["orders_failing"]
    assert "margin" in alerts[0].text
    assert rig.after(S).tick() == []
    assert len(rig.after(31 * S).tick()) == 1


def test_a_halt_cancels_and_holds_until_it_is_resumed() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    plugin.always = [quote()]
    place(rig)
    cancels = rig.collect(rig.floor.on_control(Control(verb="halt", scope="account.main"), rig.moment()))
    assert [i.action for i in cancels] == [IntentAction.CANCEL]
    rig.answer(cancels)
    assert rig.tick() == []
    rig.floor.on_control(Control(verb="resume", scope="account.other"), rig.moment())
    assert rig.tick() == []
    rig.floor.on_control(Control(verb="resume", scope="account.main"), rig.moment())
    assert len(rig.tick()) == 1


def test_late_market_data_stretches_the_cool_down() -> None:
    for late, expected in ((0, 1), (200 * MS, 0)):
        plugin = Scripted()
        rig = Rig(plugin, limits=Limits(cool_down_ms=100))
        plugin.always = [Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=2, urgency=Urgency.IMMEDIATE)]
        rig.answer(rig.tick())
        rig.fill(rig.open()[0].client_order_id, 2)
        rig.after(150 * MS)
        now = rig.clock.now_ns
        intents = rig.collect(rig.floor.on_market_data(book(at_ns=now), rig.moment(now - late)))
        assert len(intents) == expected


def test_an_intent_that_could_not_leave_counts_no_more() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    plugin.always = [quote()]
    (intent,) = rig.tick()
    rig.desk.not_sent(intent)
    assert rig.desk.live.orders == {}
    (again,) = rig.tick()
    assert again.intent_id != intent.intent_id


def random_session(seed: int, steps: int) -> Rig:
    """A market maker on a random walk whose orders meet every fate."""
    random = Random(seed)
    limits = Limits(cool_down_ms=2, max_orders_per_second=200, max_position=BTC.lot_size * 12)
    rig = Rig(MarketMaking(), limits=limits, parameters={"orderNotional": 250, "halfSpreadBps": 0.2})
    mid, waiting = 618_000, []
    for _ in range(steps):
        mid += random.choice((-20, -3, 0, 0, 3, 20))
        waiting += rig.tick(mid, mid + random.choice((1, 1, 5)), stale=random.random() < 0.01)
        if random.random() < 0.7:
            rig.answer(waiting)
            waiting = []
        for order in rig.open():
            passed = int(order.side) * (order.price_ticks - mid) >= 0
            if passed or random.random() < 0.02:
                rig.fill(order.client_order_id, random.randint(1, order.qty_lots))
        if random.random() < 0.05:
            rig.timer()
        slots = [(o.symbol, o.slot) for o in rig.desk.live.orders.values()]
        assert len(slots) == len(set(slots)), f"seed {seed}: two orders in one slot"
        worst = abs(rig.desk.live.qty_lots("BTCUSDT")) + max(rig.desk.live.open_lots("BTCUSDT", s) for s in Side)
        assert worst <= 24, f"seed {seed}"
        assert abs(rig.desk.live.qty_lots("BTCUSDT")) <= 12, f"seed {seed}: position past its limit"
    return rig


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_whatever_happens_no_slot_is_doubled_no_limit_passed_and_no_id_used_twice(seed: int) -> None:
    rig = random_session(seed, 300)
    ids = [i.intent_id for i in rig.intents]
    assert len(ids) == len(set(ids))
    booked = sum(int(e.side) * e.qty_lots for e in rig.journal if isinstance(e, FillEvent))
    assert rig.desk.live.qty_lots("BTCUSDT") == booked


def test_the_same_events_give_the_same_intents_byte_for_byte() -> None:
    first, second = (random_session(11, 500) for _ in range(2))
    assert len(first.intents) > 50
    assert [encode(i) for i in first.intents] == [encode(i) for i in second.intents]
