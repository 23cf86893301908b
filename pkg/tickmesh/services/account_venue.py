"""The venue's side of the account service: signed REST answers in, Readings, fills and income lines out.

It asks and translates; what differs and what to do about it is the portfolio's and the service's business.
"""

from __future__ import annotations

from tickmesh.domain.enums import PositionSide, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import FillEvent
from tickmesh.execution.budget import RateBudget
from tickmesh.portfolio.reconcile import Reading, VenueLeg, check
from tickmesh.ports import Clock
from tickmesh.services.venue_budget import SharedBudget
from tickmesh.settings import Settings
from tickmesh.venues.binance_usdm.codec_trading import Income, VenueCallError, VenueTrade
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest, CallGate

_CLOCK_REFUSED = -1021
_PAGE = 1000


class VenueReader:
    """Asks for one account. Every call may raise VenueCallError; all of them are reads, so a retry is safe."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        venue = settings.venue
        self._clock = clock
        self._name, self._account = venue.name, venue.account
        self._rest = BinanceUsdmRest(
            venue.rest_url, venue.api_key.get_secret_value(), venue.api_secret.get_secret_value(), venue.recv_window_ms,
            clock, timeout_s=3.0, max_connections=2,
        )  # fmt: skip
        self._budget: RateBudget | None = None
        self._synced = False
        self._leverages: dict[str, int] = {}
        self._most_weight = int(settings.account.weight_share * settings.execution.weight_per_min)

    async def close(self) -> None:
        await self._rest.close()

    def stand_behind(self, gate: CallGate, budget: SharedBudget) -> None:
        """Ask ``gate`` before every call, and ``budget`` before every round."""
        self._rest.gate, self._budget = gate, budget.budget
        budget.offset_ms = lambda: self._rest.time_offset_ms

    @property
    def wait_s(self) -> float:
        """How long to leave the venue alone: it said so, or this minute's remaining weight is for orders."""
        now_ns = self._clock.mono_ns()
        if self._budget is None:
            return 0.0
        busy = self._budget.weight_used(now_ns) > self._most_weight
        return self._budget.wait_for_cancel_s(now_ns) or (1.0 if busy else 0.0)

    async def sync(self) -> None:
        """Measure the venue's clock, once at the start and again after it refused one of our timestamps."""
        if not self._synced:
            await self._rest.sync_time()
            self._synced = True

    def on_error(self, error: VenueCallError) -> bool:
        """Note what a failed call says; returns whether it is worth asking again at once."""
        if error.code != _CLOCK_REFUSED:
            return False
        self._synced = False
        return True

    async def read(self) -> Reading:
        """Positions, wallets and margins of about one moment. Raises NotFiniteError for a number that is none."""
        positions = await self._rest.positions()
        balances = await self._rest.balances()
        sums = await self._rest.account()
        return check(
            Reading(
                at_ns=self._clock.wall_ns(),
                legs=[
                    VenueLeg(
                        symbol=p.symbol, side=PositionSide(p.positionSide), quantity=p.positionAmt,
                        entry_price=p.entryPrice, mark_price=p.markPrice, unrealized=p.unRealizedProfit,
                        maintenance_margin=p.maintMargin, liquidation_price=p.liquidationPrice, update_ms=p.updateTime,
                    )
                    for p in positions
                ],
                wallets={b.asset: b.balance for b in balances},
                open_order_margin=sums.totalOpenOrderInitialMargin,
                leverages=self._leverages,
            )
        )  # fmt: skip

    async def read_leverages(self) -> None:
        """Leverage per symbol, for the Readings to come."""
        self._leverages = {line.symbol: line.leverage for line in await self._rest.leverages()}

    async def last_trade_id(self, symbol: str) -> int:
        """The id of our newest trade in ``symbol``; 0 without one."""
        newest = await self._rest.user_trades(symbol, limit=1)
        return newest[-1].id if newest else 0

    async def fills_after(self, instrument: Instrument, trade_id: int) -> list[FillEvent]:
        """Our trades after ``trade_id``, oldest first, all pages. Raises OffGridError for what is not on the grid."""
        found: list[FillEvent] = []
        while True:
            page = await self._rest.user_trades(instrument.symbol, from_id=trade_id + 1, limit=_PAGE)
            found += [self._fill(instrument, trade) for trade in page]
            if len(page) < _PAGE:
                return found
            trade_id = page[-1].id

    async def income_since(self, time_ms: int) -> list[Income]:
        """Funding and transfers from ``time_ms`` on, oldest first."""
        found: list[Income] = []
        for kind in ("FUNDING_FEE", "TRANSFER"):
            found += await self._rest.income(income_type=kind, start_time_ms=time_ms)
        return sorted(found, key=lambda line: (line.time, line.tranId))

    def _fill(self, instrument: Instrument, trade: VenueTrade) -> FillEvent:
        return FillEvent(
            exchange_ns=trade.time * 1_000_000, receive_ns=self._clock.wall_ns(), account=self._account,
            venue=self._name, symbol=trade.symbol, trade_id=trade.id, client_order_id="", venue_order_id=trade.orderId,
            side=Side.BUY if trade.side == "BUY" else Side.SELL, position_side=PositionSide(trade.positionSide),
            price_ticks=instrument.to_ticks(trade.price), qty_lots=instrument.to_lots(trade.qty),
            commission=trade.commission, commission_asset=trade.commissionAsset, realized_pnl=trade.realizedPnl,
            maker=trade.maker,
        )  # fmt: skip
