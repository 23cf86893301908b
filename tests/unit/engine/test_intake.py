"""What becomes of an intent that no market and no limit could make right."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from engine_market import INSTRUMENT, NOW, S

from tickmesh.domain.enums import OrderState, OrderType
from tickmesh.domain.messages import BookUpdate, Control, MarkPrice, OrderEvent, OrderIntent
from tickmesh.engine.engine import Engine
from tickmesh.engine.event import Event, Store, Submit
from tickmesh.risk.limits import Limits


class Account:
    """An engine that knows a market and trades."""

    def __init__(self) -> None:
        self.engine = Engine("main", "binance", {"BTCUSDT": INSTRUMENT}, Limits())
        self.engine.view.on_balances(Decimal(100_000), Decimal(100_000))
        self.now_ns = NOW
        self.tell(MarkPrice(venue="binance", symbol="BTCUSDT", mark_price=Decimal(90_000)))
        self.tell(BookUpdate(venue="binance", symbol="BTCUSDT", bids=[(899_999, 50)], asks=[(900_001, 50)]))

    def tell(self, what: Any) -> list[Any]:
        self.now_ns += 1_000_000
        return self.engine.step(Event(self.now_ns, self.now_ns - NOW + S, what))

    def ask(self, **fields: Any) -> tuple[bool, str]:
        """Whether the intent leads to an order, and the reason that is journaled if not."""
        made = OrderIntent(
            intent_id=f"i{self.now_ns}", strategy="s", account="main", venue="binance", symbol="BTCUSDT",
            price_ticks=899_990, qty_lots=4, publish_ns=self.now_ns, ttl_ns=S,
        )  # fmt: skip
        actions = self.tell(msgspec.structs.replace(made, **fields))
        events = [a.record.message for a in actions if isinstance(a, Store)]
        reasons = [e.reason for e in events if isinstance(e, OrderEvent) and e.state is OrderState.REJECTED]
        return any(isinstance(a, Submit) for a in actions), " ".join(reasons)


@pytest.mark.parametrize("kind", sorted(set(OrderType) - {OrderType.LIMIT, OrderType.MARKET}))
def test_a_conditional_order_is_refused_with_what_to_do_instead(kind: OrderType) -> None:
    account = Account()
    priced = {} if "MARKET" not in kind else {"price_ticks": 0}
    sent, reason = account.ask(order_type=kind, stop_price_ticks=905_000, reduce_only=True, **priced)
    assert not sent
    assert kind in reason and "keep the trigger in the strategy" in reason
    assert account.ask()[0], "an ordinary one is as welcome as before"


def test_a_strategy_sends_only_under_a_name_that_is_the_same_for_a_halt_a_breaker_and_a_subject() -> None:
    """Halts go by name, breakers and subjects by the name made a token: "my.bot" would share the ones of "my_bot"."""
    account = Account()
    for name in ("my.bot", "my bot", "bot>", "*", "b\u00f6t", ""):
        sent, reason = account.ask(strategy=name)
        assert not sent and "rename the strategy" in reason, name
    assert account.ask(strategy="My_bot-2")[0]
    account.tell(Control(verb="halt", scope="strategy.My_bot-2", reason="x", actor="me", publish_ns=account.now_ns))
    sent, reason = account.ask(strategy="My_bot-2")
    assert not sent and "halted" in reason
