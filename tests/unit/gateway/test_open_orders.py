"""An open order is never forgotten, however many others came and went since."""

from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import OrderEvent, encode
from tickmesh.gateway import replica as module
from tickmesh.gateway.replica import Replica


def test_orders_are_bounded_and_open_ones_stay(monkeypatch) -> None:
    monkeypatch.setattr(module, "_MAX_ORDERS", 10)
    replica = Replica()

    def publish(name: str, state: OrderState, at: int) -> None:
        event = OrderEvent(
            account="main", venue="v", symbol="S", client_order_id=name, state=state, seq=at, publish_ns=at
        )
        replica.on_message(f"order.event.main.{name}", encode(event))

    publish("resting", OrderState.SUBMITTED, 1)
    for number in range(50):
        publish(f"o{number}", OrderState.CANCELED, 2 + number)
    assert len(replica.orders) == 10
    assert len(replica.history) == 10
    assert [o.client_order_id for o in replica.select_orders(open_only=True)] == ["resting"]
    assert replica.order_counts().by_state == {"CANCELED": 50, "SUBMITTED": 1}
    publish("resting", OrderState.FILLED, 99)
    assert replica.order_counts().open == 0
