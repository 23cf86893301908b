"""ViewEffects: what happens to an order or a fill, told to the risk view in the same step."""

from __future__ import annotations

from collections.abc import Callable

from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import FillEvent
from tickmesh.execution.machine import OrderMachine, Step
from tickmesh.risk.view import RiskView


class ViewEffects:
    """Keeps reservations and positions of ``view`` in step with the ledger."""

    def __init__(self, view: RiskView) -> None:
        self._view = view
        self.fills = 0
        self.judge: Callable[[OrderMachine, Step], None] = lambda order, step: None
        """Told every step as well."""

    def on_step(self, order: OrderMachine, step: Step) -> None:
        self.judge(order, step)
        view, client_id = self._view, order.client_order_id
        if order.symbol not in view.symbols:
            return
        if step.state is OrderState.UNKNOWN:
            view.set_unknown(client_id, order.symbol, True)
        elif step.previous is OrderState.UNKNOWN:
            view.set_unknown(client_id, order.symbol, False)
        if step.state.terminal:
            # Fills that the venue reports and that have not come yet still move the position.
            if order.missing_lots:
                view.set_remaining(client_id, order.missing_lots)
            else:
                view.release(client_id)
        elif step.state in (OrderState.SUBMITTED, OrderState.PARTIALLY_FILLED) and not self._is_reserved(order):
            self.adopt(order)

    def _is_reserved(self, order: OrderMachine) -> bool:
        """Whether the view counts it as it is: not when it is new to us, nor when somebody amended it."""
        kept = self._view.reserved(order.client_order_id)
        return (
            kept is not None
            and kept.left_lots == order.qty_lots - order.filled_lots
            and (not kept.resting_ticks or kept.resting_ticks == order.price_ticks)
        )

    def on_fill(self, order: OrderMachine, fill: FillEvent) -> None:
        self.fills += 1
        if order.symbol not in self._view.symbols:
            return
        self._view.on_fill(order.client_order_id, fill.symbol, fill.side, fill.qty_lots, fill.position_side)
        if order.settled:
            self._view.release(order.client_order_id)

    def adopt(self, order: OrderMachine) -> None:
        """Reserve for an order that was not approved in this life of the process."""
        self._view.adopt(
            order.client_order_id, order.symbol, order.side, order.price_ticks or order.stop_price_ticks,
            order.qty_lots - order.filled_lots, position_side=order.position_side, strategy=order.strategy,
            resting=not order.stop_price_ticks,
        )  # fmt: skip
        if order.state is OrderState.UNKNOWN:
            self._view.set_unknown(order.client_order_id, order.symbol, True)
