"""DeadMan: keeps the venue's own countdown running while orders are open, so that our silence cancels them.

Armed per symbol within a second of its first open order, renewed at a third of the countdown, disarmed when
nothing is open. A failed renewal is repeated at the next turn; the countdown leaves room for three.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tickmesh.execution.ledger import OrderLedger
from tickmesh.ports import Clock
from tickmesh.venues.binance_usdm.codec_trading import VenueCallError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

log = logging.getLogger(__name__)

_LOOK_S = 0.5


class DeadMan:
    """One account's switch."""

    def __init__(
        self, rest: BinanceUsdmRest, ledger: OrderLedger, clock: Clock, countdown_s: float,
        is_writer: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self._rest = rest
        self._ledger = ledger
        self._clock = clock
        self._countdown_s = countdown_s
        self._is_writer = is_writer
        self._turning = asyncio.Lock()
        self.armed: dict[str, int] = {}
        """When each symbol was armed last, CLOCK_MONOTONIC ns."""

    async def run(self) -> None:
        """Serve until cancelled; returns at once when switched off."""
        while self._countdown_s:
            if self._is_writer():  # else the switch is a successor's
                await self.turn()
            await asyncio.sleep(_LOOK_S)

    async def leave(self) -> None:
        """A whole countdown from now on where orders are open: the time that a successor has."""
        for symbol in self._ledger.symbols_with_open():
            self.armed[symbol] = 0
        if self._countdown_s:
            await self.turn()

    async def turn(self) -> None:
        """Arm, renew and disarm what is due; one at a time: a stop asks for it while ``run`` may be at it."""
        async with self._turning:
            now, period_ns = self._clock.mono_ns(), int(self._countdown_s / 3 * 1e9)
            busy = self._ledger.symbols_with_open()
            for symbol in sorted(busy | set(self.armed)):
                try:
                    if symbol not in busy:
                        await self._rest.countdown_cancel_all(symbol, 0)
                        del self.armed[symbol]
                    elif symbol not in self.armed or now - self.armed[symbol] >= period_ns:
                        await self._rest.countdown_cancel_all(symbol, int(self._countdown_s * 1000))
                        self.armed[symbol] = now
                except VenueCallError as error:
                    log.warning("dead-man switch of %s: %s", symbol, error)
