"""Where the time of an order went, from the stamps in the journal."""

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.messages import OrderEvent, Stamps, encode
from tickmesh.runtime.summary import OurRecord, quantiles_us, stages_us


def event(client_id: str, at: int, **stamps: int) -> bytes:
    return encode(
        OrderEvent(
            account="a", venue="v", symbol="S", client_order_id=client_id, publish_ns=at, stamps=Stamps(**stamps)
        )
    )


WAY = {
    "tick_receive_mono_ns": 1_000,
    "feed_publish_mono_ns": 3_000,
    "strategy_receive_mono_ns": 7_000,
    "intent_publish_mono_ns": 15_000,
    "execution_receive_mono_ns": 31_000,
    "validated_mono_ns": 63_000,
    "sent_mono_ns": 127_000,
}


def test_the_parts_of_an_order_add_up_to_its_whole_and_orders_of_earlier_runs_do_not_count() -> None:
    ours = OurRecord()
    ours.add("order.event.a.old", event("old", 5, **{k: v * 9 for k, v in WAY.items()}))
    ours.add("order.event.a.new", event("new", 50, **WAY))
    stages = stages_us(ours, since_ns=10)
    assert {name: found["p50"] for name, found in stages.items()} == {
        "in_feed": 2, "to_strategy": 4, "in_strategy": 8, "to_execution": 16, "in_checks": 32, "to_socket": 64,
    }  # fmt: skip
    whole = quantiles_us(ns for at, ns in ours.tick_to_order_ns.values() if at >= 10)
    assert sum(found["p50"] for found in stages.values()) == whole["p50"]
    assert all(found["n"] == 1 for found in stages.values())


def test_an_order_without_all_stamps_is_in_the_whole_but_in_no_part() -> None:
    ours = OurRecord()
    ours.add("order.event.a.x", event("x", 50, **{**WAY, "validated_mono_ns": 0}))
    assert len(ours.tick_to_order_ns) == 1
    assert all(found["n"] == 0 for found in stages_us(ours, since_ns=0).values())


def test_the_client_order_id_of_an_intent_is_what_it_always_was() -> None:
    assert client_order_id("a", "b") == "tm-h7itztrjacexz32hz345w6pb"
