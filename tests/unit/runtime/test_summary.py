"""lost and duplicated are found by comparing two records, and each kind of difference is seen."""

import copy
from typing import Any

from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import FillEvent, OrderEvent, Stamps, encode
from tickmesh.runtime.summary import OurRecord, compare, order_counts, quantiles_us


def event(client_id: str, state: OrderState, venue_id: int = 1, at: int = 10) -> bytes:
    stamps = Stamps(tick_receive_mono_ns=1_000, sent_mono_ns=501_000)
    return encode(
        OrderEvent(
            account="main", venue="v", symbol="S", client_order_id=client_id, state=state, venue_order_id=venue_id,
            publish_ns=at, stamps=stamps,
        )
    )  # fmt: skip


def fill(trade_id: int) -> bytes:
    return encode(
        FillEvent(account="main", venue="v", symbol="S", trade_id=trade_id, client_order_id="a", venue_order_id=1)
    )


def ours() -> OurRecord:
    record = OurRecord()
    record.add("order.event.main.a", event("a", OrderState.SUBMITTED))
    record.add("order.event.main.a", event("a", OrderState.FILLED, at=20))
    record.add("order.event.main.b", event("b", OrderState.CANCELED))
    record.add("order.event.main.r", event("r", OrderState.REJECTED, venue_id=0))
    record.add("fill.main.S", fill(7))
    return record


VENUE: dict[str, Any] = {
    "orders": [{"clientOrderId": "a", "status": "FILLED"}, {"clientOrderId": "b", "status": "CANCELED"}],
    "fills": [{"symbol": "S", "id": 7}],
}


def test_equal_records_differ_in_nothing() -> None:
    comparison = compare(ours(), VENUE)
    assert not comparison.lost
    assert not comparison.duplicated


def test_an_order_that_only_the_venue_knows_is_lost() -> None:
    venue = copy.deepcopy(VENUE)
    venue["orders"].append({"clientOrderId": "c", "status": "NEW"})
    assert len(compare(ours(), venue).lost) == 1


def test_an_order_that_only_we_know_is_lost_unless_it_never_left() -> None:
    venue = copy.deepcopy(VENUE)
    del venue["orders"][0]
    assert len(compare(ours(), venue).lost) == 1


def test_a_state_that_differs_is_lost() -> None:
    venue = copy.deepcopy(VENUE)
    venue["orders"][1]["status"] = "FILLED"
    assert len(compare(ours(), venue).lost) == 1


def test_two_venue_orders_of_one_id_are_a_duplicate() -> None:
    venue = copy.deepcopy(VENUE)
    venue["orders"].append({"clientOrderId": "a", "status": "FILLED"})
    assert len(compare(ours(), venue).duplicated) == 1


def test_a_missing_fill_is_lost_and_a_repeated_one_is_a_duplicate() -> None:
    venue = copy.deepcopy(VENUE)
    venue["fills"].append({"symbol": "S", "id": 8})
    assert len(compare(ours(), venue).lost) == 1
    record = ours()
    record.add("fill.main.S", fill(7))
    assert len(compare(record, VENUE).duplicated) == 1


def test_counts_are_of_this_run_and_every_sent_order_is_timed() -> None:
    record = ours()
    assert order_counts(record, since_ns=11) == {}
    assert order_counts(record, since_ns=0) == {"CANCELED": 1, "FILLED": 1, "REJECTED": 1}
    assert quantiles_us(ns for _, ns in record.tick_to_order_ns.values())["p50"] == 500.0


def test_a_line_that_a_succeeded_writer_delivers_late_takes_nothing_back() -> None:
    record = ours()
    record.add("order.event.main.a", event("a", OrderState.SUBMITTED, at=30))
    assert record.orders["a"].state is OrderState.FILLED
    given_up = event("b", OrderState.EXPIRED, venue_id=0)
    for lines in ([given_up, event("b", OrderState.SUBMITTED)], [event("b", OrderState.SUBMITTED), given_up]):
        record = OurRecord()
        for line in lines:
            record.add("order.event.main.b", line)
        assert record.orders["b"].state is OrderState.SUBMITTED, "the venue has shown it"
