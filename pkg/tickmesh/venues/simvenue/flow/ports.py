"""What the flow asks of its neighbours: the pure exchange (orders, replayed liquidity) and the stream hub (frames)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tickmesh.domain.enums import Side


class FlowExchange(Protocol):
    """The part of the exchange that background flow drives; ticks and lots are of the symbol's Instrument."""

    def flow_place(self, symbol: str, side: Side, ticks: int | None, lots: int, now_ns: int) -> int:
        """Places an anonymous limit (``ticks`` None: market) order; its id for ``flow_cancel``."""

    def flow_cancel(self, symbol: str, order_id: int, now_ns: int | None = None) -> int:
        """Cancels an anonymous order; the lots it still had, 0 when it is gone already."""

    def replay_snapshot(
        self,
        symbol: str,
        bids: Iterable[tuple[int, int]],
        asks: Iterable[tuple[int, int]],
        update_id: int,
        now_ns: int,
    ) -> None:
        """Replaces the replayed liquidity by these (ticks, lots)."""

    def replay_depth(self, symbol: str, changes: Iterable[tuple[Side, int, int]], update_id: int, now_ns: int) -> None:
        """Applies (side, ticks, new total lots); our orders there move up the queue accordingly."""

    def replay_trade(self, symbol: str, ticks: int, lots: int, taker_side: Side, now_ns: int) -> None:
        """A replayed trade, shared with our orders as the queue model says."""


class FlowHub(Protocol):
    """The part of the server's market streams that a replay drives."""

    def subscribed(self, symbol: str) -> bool:
        """True while at least one market-stream connection listens to the symbol."""

    async def send_raw(self, stream: str, frame: bytes) -> None:
        """Sends a captured frame byte-identical to the stream's subscribers; waits for a slow one, never drops."""

    def publish_pending(self) -> None:
        """Sends on what the exchange's last calls have produced (user events, and synthetic market data)."""
