"""What a desk does when it sees badly: reference/architecture.md's rows on market data and on latency."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import MS, Rig, S, Scripted, book, quote, trade

from tickmesh.domain.enums import IntentAction, Side, TimeInForce, Urgency
from tickmesh.strategy.interface import Signal

TAKE = Signal(symbol="BTCUSDT", side=Side.BUY, qty_lots=10, urgency=Urgency.IMMEDIATE)


def test_after_a_silence_quotes_are_a_spread_wider_and_half_the_size_until_two_seconds_have_passed() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    rig.tick()
    rig.tick(stale=True)
    plugin.always = [quote(price=617_900, lots=10)]
    (doubtful,) = rig.tick(618_000, 618_005)
    assert (doubtful.price_ticks, doubtful.qty_lots) == (617_895, 5)
    rig.answer([doubtful])
    rig.after(2 * S)
    cancels = rig.tick(618_000, 618_005)
    assert [i.action for i in cancels] == [IntentAction.CANCEL]
    rig.answer(cancels)
    (sure,) = rig.tick(618_000, 618_005)
    assert (sure.price_ticks, sure.qty_lots) == (617_900, 10)


def test_an_old_book_is_still_used_with_caution_and_a_dead_one_is_not() -> None:
    plugin = Scripted()
    rig = Rig(plugin)
    rig.tick(618_000, 618_005)
    plugin.always = [quote(price=617_900, lots=10)]
    rig.after(1500 * MS)
    (placed,) = rig.show(trade(618_000, 1, Side.BUY, at_ns=rig.clock.now_ns))
    assert (placed.price_ticks, placed.qty_lots) == (617_895, 5)
    rig.answer([placed])
    rig.after(2 * S)
    assert [i.action for i in rig.timer()] == [IntentAction.CANCEL], "the last book is no longer trusted"
    assert rig.show(trade(618_000, 1, Side.BUY, at_ns=rig.clock.now_ns)) == []


@pytest.mark.parametrize("why", ["late", "silence"])
def test_who_sees_late_or_after_a_silence_takes_nothing_but_still_gets_out(why: str) -> None:
    for signal, takes in ((TAKE, False), (Signal(symbol="BTCUSDT", side=Side.SELL, qty_lots=5, reduce_only=True,
                                                 urgency=Urgency.IMMEDIATE), True)):  # fmt: skip
        plugin = Scripted()
        rig = Rig(plugin)
        rig.tick()
        plugin.always = [TAKE]
        rig.answer(rig.tick())
        for order in rig.open():
            rig.fill(order.client_order_id, order.qty_lots)
        plugin.always = []
        late_ns = 200 * MS if why == "late" else 0
        if why == "silence":
            rig.tick(stale=True)
        plugin.always = [signal]
        now = rig.after(MS).clock.now_ns
        (placed,) = rig.collect(rig.floor.on_market_data(book(at_ns=now), rig.moment(now - late_ns)))
        assert (placed.time_in_force is TimeInForce.IOC or placed.urgency is Urgency.IMMEDIATE) is takes, placed
