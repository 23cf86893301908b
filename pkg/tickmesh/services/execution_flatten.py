"""Flattener: closes what a halted scope holds, with reduce-only market orders, until the venue says that it is flat.

In: scopes to flatten, latched in the halt file. Out: cancels first (a resting reduce-only order would take the room of
ours), then one order per position, its size from the venue's own answer. It needs neither NATS nor Postgres and goes on
after a restart. It refuses what cannot be told apart: one strategy's part of a position that several share.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tickmesh.domain.approval import Refusal
from tickmesh.domain.enums import OrderType, PositionSide, Severity, Side, TimeInForce, Urgency
from tickmesh.domain.errors import OffGridError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import OrderIntent
from tickmesh.risk.pretrade import PreTrade
from tickmesh.services.execution_path import OrderPath
from tickmesh.services.notices import AlertFunction
from tickmesh.services.service import Service
from tickmesh.venues.binance_usdm.codec_trading import VenueCallError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

log = logging.getLogger(__name__)

STRATEGY = "emergency"
"""Whose orders these are in the journal."""
_CANCELS_S = 5.0
_ANSWER_S = 10.0
_FIRST_RETRY_S = 0.25
_MAX_RETRY_S = 5.0
_TTL_NS = 10_000_000_000


class Flattener:
    """One account's. ``begin`` returns at once; ``pending`` tells the halt file what is still to do."""

    def __init__(
        self, service: Service, rest: BinanceUsdmRest, path: OrderPath, pretrade: PreTrade,
        instruments: dict[str, Instrument], alert: AlertFunction,
        done: Callable[[str], None], still: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._service = service
        self._rest = rest
        self._path = path
        self._pretrade = pretrade
        self._instruments = instruments
        self._alert = alert
        self._done = done
        self._still = still
        self._running: set[str] = set()
        self._count = 0

    def begin(self, scope: str) -> None:
        """Flatten ``scope``: ``all``, ``account.A`` or ``symbol.X``."""
        kind, _, name = scope.partition(".")
        if kind == "strategy":
            self._done(scope)
            text = f"{scope} is halted but not flattened: positions belong to the account, not to one strategy"
            self._alert(Severity.WARNING, "not-flattened", text)
            return
        if scope not in self._running:
            self._running.add(scope)
            self._path.spawn(self._flatten(scope, name if kind == "symbol" else ""))

    async def _flatten(self, scope: str, symbol: str) -> None:
        wait_s = _FIRST_RETRY_S
        try:
            while self._still(scope):
                try:
                    held = await self._round(symbol)
                except (VenueCallError, OffGridError) as error:
                    log.warning("flattening %s: %s; trying again", scope, error)
                    held = -1
                if not held:
                    self._done(scope)
                    self._alert(Severity.CRITICAL, "flattened", f"{scope} holds nothing any more")
                    return
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _MAX_RETRY_S)
            log.warning("flattening %s ends: it was resumed", scope)
        finally:
            self._running.discard(scope)

    async def _round(self, symbol: str) -> int:
        """Cancel, ask, close once; how many positions the venue had. Raises VenueCallError, OffGridError."""
        cancels = self._path.cancel_all(symbol=symbol)
        if cancels:
            await asyncio.wait(cancels, timeout=_CANCELS_S)
        listed = await self._rest.positions(urgent=True)  # what is to be closed does not wait for a breaker
        positions = [p for p in listed if p.positionAmt and (not symbol or p.symbol == symbol)]
        answers = []
        for position in positions:
            instrument = self._instruments.get(position.symbol)
            if instrument is None:
                text = f"{position.positionAmt} {position.symbol} is held and not traded here; close it at the venue"
                self._alert(Severity.CRITICAL, "foreign-position", text)
                continue
            lots = instrument.to_lots(position.positionAmt)
            answer = self._close(instrument, lots, PositionSide(position.positionSide))
            if answer is not None:
                answers.append(answer)
        if answers:
            await asyncio.wait(answers, timeout=_ANSWER_S)
        return sum(1 for p in positions if p.symbol in self._instruments)

    def _close(self, instrument: Instrument, lots: int, side: PositionSide) -> asyncio.Task[None] | None:
        """Send one closing order; None when it may not be sent now, the next round tries again."""
        clock = self._service.clock
        self._count += 1
        now_ns = clock.wall_ns()
        intent = OrderIntent(
            intent_id=f"{STRATEGY}-{now_ns}-{self._count}", strategy=STRATEGY,
            account=self._service.settings.venue.account, venue=instrument.venue, symbol=instrument.symbol,
            side=Side.SELL if lots > 0 else Side.BUY, order_type=OrderType.MARKET, time_in_force=TimeInForce.GTC,
            qty_lots=self._pretrade.exit_lots(instrument.symbol, abs(lots)), reduce_only=True, position_side=side,
            urgency=Urgency.IMMEDIATE, ttl_ns=_TTL_NS, publish_ns=now_ns,
        )  # fmt: skip
        intent.stamps.execution_receive_mono_ns = clock.mono_ns()
        approved = self._pretrade.approve_exit(intent, lots, clock.mono_ns())
        if isinstance(approved, Refusal):
            log.error("closing %s: %s", instrument.symbol, approved.reason)
            return None
        log.warning("closing %d lots of %s %s", lots, instrument.symbol, side)
        return self._path.place_exit(approved)
