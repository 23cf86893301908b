"""TradingBreakers: what must hold for this account to take new risk, as circuit breakers.

In: results of the venue's REST calls and streams, whether NATS is there, the venue's refusals, and what people and the
operator hold in the ``breakers`` bucket. Out: what pre-trade checks must refuse, and a call when something begins to be
stopped. Cancels are never stopped. Which answers count is in docs/decisions/0150.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tickmesh.domain.enums import OrderState
from tickmesh.domain.subjects import token
from tickmesh.execution.machine import OrderMachine, Step
from tickmesh.risk.breaker import BreakerConfig
from tickmesh.risk.emergency import BUSINESS_CODES
from tickmesh.risk.view import RiskView
from tickmesh.services.breaker_records import EVERYTHING
from tickmesh.services.breakers import NATS, BreakerBoard, BreakerGate
from tickmesh.services.service import Service

_REST = BreakerConfig(failures=5, window_ns=30_000_000_000, open_ns=10_000_000_000, probes=3)
_STREAM = BreakerConfig(failures=8, window_ns=30_000_000_000, open_ns=2_000_000_000, probes=1)
"""Reconnecting has a backoff of its own; eight lost connections in 30 s are a venue that does not keep any."""
_NO_MONEY = frozenset({-2018, -2019, -2027, -2028})
"""Balance or margin is not enough: an answer about us, not a fault of anything."""


class TradingBreakers:
    """Of one account's execution. ``on_stop`` is called with each name that begins to stop orders."""

    def __init__(self, service: Service, account: str, view: RiskView, on_stop: Callable[[str], None]) -> None:
        self.board = board = BreakerBoard(service)
        self._account = account
        self._view = view
        self._on_stop = on_stop
        self._shown: set[str] = set()
        self._scoped: dict[str, BreakerGate] = {}
        scope = f"account.{account}"
        self.rest = board.gate(board.add(f"venue-rest-execution-{account}", _REST, target="venue-rest", stops=scope))
        self.stream = board.gate(
            board.add(f"venue-websocket-user-{account}", _STREAM, target="venue-websocket", stops=scope)
        )
        board.add(f"bus-execution-{account}", NATS, target="bus", stops=scope, probe=lambda: service.bus.connected)
        for target in (EVERYTHING, scope):
            self._add(target)
        board.on_target = self._on_target

    def show(self) -> None:
        """Put what is stopped into the view; cheap when nothing changed."""
        stopping = self.board.stopping(self._account)
        if stopping == self._shown:
            return
        fresh = stopping - self._shown
        self._view.open_breakers -= self._shown
        self._view.open_breakers |= stopping
        self._shown = stopping
        for name in sorted(fresh):
            self._on_stop(name)

    def judge(self, order: OrderMachine, step: Step) -> None:
        """Count the venue's refusals against strategy and account, where the bucket configures a breaker for them."""
        if step.state is OrderState.REJECTED:
            if not order.venue_code or order.venue_code in BUSINESS_CODES or order.venue_code in _NO_MONEY:
                return
            failed = f"the venue refused an order with {order.venue_code} {order.reason}"
        elif step.state is OrderState.SUBMITTED:
            failed = ""
        else:
            return
        for target in (f"strategy.{token(order.strategy)}", f"account.{self._account}"):
            gate = self._scoped.get(target)
            if gate is not None and self.board.config_of(target) is not None:
                gate.note(failed)
                asyncio.get_running_loop().call_soon(self.show)  # before anybody can read that it is open

    def _on_target(self, target: str) -> None:
        if target.startswith("strategy.") and target not in self._scoped:
            self._add(target)

    def _add(self, target: str) -> None:
        name = f"{target.replace('.', '-')}-execution-{self._account}"
        stops = f"account.{self._account}" if target == EVERYTHING else target
        # Held by a person: a decision about trading, not about this process.
        breaker = self.board.add(name, target=target, stops=stops, is_readiness=False)
        self._scoped[target] = self.board.gate(breaker)
