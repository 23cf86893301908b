"""How many orders a second go through the machine in one process: intent, risk, order, ack, fill, journal line.

In: nothing; the intents are made before the clock starts. Out: orders a second over chunks of 200. No network and no
disk: what the venue says comes at once, and the journal's lines are encoded and thrown away.
"""

from __future__ import annotations

import time
from decimal import Decimal

from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import FillEvent, encode
from tickmesh.execution.ledger import OrderLedger, TradeFact, VenueFact
from tickmesh.execution.machine import OrderMachine, Report, Step
from tickmesh.execution.plausible import implausible
from tickmesh.runtime.bench import orders
from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.result import Result

_ORDERS, _CHUNK, _WARM = 10_000, 200, 5
_NOW_NS, _MONO_NS = 1_700_000_000_000_000_000, 50_000_000_000


class _NoEffects:
    """The position is not the subject; reservations are released by hand below."""

    def on_step(self, order: OrderMachine, step: Step) -> None:
        pass

    def on_fill(self, order: OrderMachine, fill: FillEvent) -> None:
        pass


def orders_per_s(_: Frames) -> Result:
    """Intent bytes in, approved, sent, acknowledged, filled; every line of the journal encoded."""
    desk, view, intents = orders.desk_and_intents(_ORDERS)
    ledger = OrderLedger("main", "binance", _NoEffects())
    rates: list[float] = []
    lines = 0
    for first in range(0, _ORDERS, _CHUNK):
        began = time.perf_counter()
        for number, raw in enumerate(intents[first : first + _CHUNK], first):
            intent = orders.decode_intent(raw)
            order = ledger.begin(intent)
            answer = desk.approve(intent, view, _NOW_NS, _MONO_NS + number)
            if not isinstance(answer, ApprovedOrder):
                raise RuntimeError(f"the order should have passed: {answer.reason}")
            ledger.advance(order, OrderState.PENDING_SUBMIT, _NOW_NS)
            for state, cum_lots in ((OrderState.SUBMITTED, 0), (OrderState.FILLED, intent.qty_lots)):
                report = Report(
                    number + 1, state, cum_lots, Decimal(intent.price_ticks), _NOW_NS // 1_000_000 + cum_lots,
                    intent.qty_lots,
                )  # fmt: skip
                fact = VenueFact(
                    symbol=intent.symbol, client_order_id=order.client_order_id, report=report, side=intent.side,
                    qty_lots=intent.qty_lots,
                )  # fmt: skip
                trade = TradeFact(
                    symbol=intent.symbol, trade_id=number + 1, venue_order_id=number + 1, side=intent.side,
                    price_ticks=intent.price_ticks, qty_lots=intent.qty_lots, client_order_id=order.client_order_id,
                    exchange_ms=_NOW_NS // 1_000_000,
                ) if cum_lots else None  # fmt: skip
                if wrong := implausible(fact, trade, _NOW_NS):
                    raise RuntimeError(wrong)
                ledger.on_fact(fact, _NOW_NS)
                if trade is not None:
                    ledger.on_trade(trade, order, _NOW_NS)
            view.release(order.client_order_id)
            lines += sum(len(encode(record.message)) > 0 for record in ledger.take_outbox())
        rates.append(_CHUNK / (time.perf_counter() - began))
    filled = sum(order.settled and order.state is OrderState.FILLED for order in ledger.orders.values())
    if filled != _ORDERS or lines < 4 * _ORDERS:
        raise RuntimeError(f"{filled} of {_ORDERS} orders were filled, with {lines} lines in the journal")
    ordered = sorted(rates[_WARM:])
    return Result(
        "orders_per_s", "1/s", p50=round(ordered[len(ordered) // 2]), p99=round(ordered[len(ordered) // 100]),
        n=_ORDERS, mean=round(sum(ordered) / len(ordered)),
        what="intent bytes to fill, risk, order machine and journal lines encoded; p99 is the slow end",
    )  # fmt: skip
