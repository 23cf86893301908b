"""RiskView: what the pre-trade checks look at, kept current by the execution service as events pass.

In come book tops, marks, balances, fills, order endings and states; it keeps sums (open lots, worst-case
exposure, margin) so that a check is a comparison. It decides nothing and knows no limit.

Units: ``tick_lots`` is price in ticks times lots; ``atto`` is quote currency times 10**18 as an int, so that
sums over symbols of different grids stay exact integers.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from tickmesh.domain.enums import PositionSide, Side
from tickmesh.domain.errors import NotFiniteError, UnknownSymbolError
from tickmesh.domain.instrument import Instrument
from tickmesh.hotpath import AccountRisk, Leg, OpenOrder, RateWindow, SymbolRisk
from tickmesh.hotpath.pure.open_orders import LEGS
from tickmesh.hotpath.pure.risk_state import MOST_ATTO

ATTO = 10**18
MOST_UNITS = 2**53
"""No price in ticks and no quantity in lots is more (as in ``hotpath.pure.grid``); what claims to be counts as this."""

_LAST_NS = 2**62


def bounded(units: int) -> int:
    """Ticks or lots that are certain to fit what is counted with."""
    return units if -MOST_UNITS <= units <= MOST_UNITS else MOST_UNITS if units > 0 else -MOST_UNITS


def to_atto(value: Decimal, what: str) -> int:
    """Quote currency as an integer of 10**-18; a finer remainder is cut towards zero.

    Raises:
        NotFiniteError: NaN or infinity.
    """
    if not value.is_finite():
        raise NotFiniteError(what, value)
    return max(-MOST_ATTO, min(int(value * ATTO), MOST_ATTO))


class SymbolView(SymbolRisk):
    """One symbol: its numbers with its names. ``on_book`` may be called directly; everything else through RiskView."""

    __slots__ = ("instrument",)

    def __init__(self, instrument: Instrument) -> None:
        super().__init__()
        self.instrument = instrument
        unit = instrument.tick_size * instrument.lot_size * ATTO
        self.unit_atto = int(unit)
        if self.unit_atto != unit or unit <= 0:
            raise NotFiniteError(f"value of one tick of one lot of {instrument.symbol}", unit)

    @property
    def closed(self) -> bool:
        """Whether an order of this symbol is UNKNOWN: no new risk until the venue has answered."""
        return bool(self.unknown)

    def leg(self, position_side: PositionSide) -> Leg:
        """The position of that side."""
        return self.leg_of(LEGS[position_side])

    def on_book(self, bid_ticks: int, ask_ticks: int, receive_mono_ns: int, stale: bool = False) -> None:
        """Note the top of the book; 0 for an empty side."""
        self.bid_ticks = bounded(bid_ticks)
        self.ask_ticks = bounded(ask_ticks)
        self.book_mono_ns = max(-_LAST_NS, min(receive_mono_ns, _LAST_NS))
        self.stale = stale


class RiskView(AccountRisk):
    """The state of one account as the checks see it; one owner, no locks."""

    def __init__(self, account: str, instruments: dict[str, Instrument], *, hedge_mode: bool = False) -> None:
        super().__init__()
        self.account = account
        self.hedge_mode = hedge_mode
        self.symbols = {symbol: SymbolView(instrument) for symbol, instrument in instruments.items()}
        self.strategy_orders: dict[str, RateWindow] = {}
        """The execution throttles."""
        self._foreign: dict[str, int] = {}

    def symbol(self, symbol: str) -> SymbolView:
        """The view of ``symbol``. Raises UnknownSymbolError."""
        try:
            return self.symbols[symbol]
        except KeyError:
            raise UnknownSymbolError(symbol, "the risk view") from None

    # Market data and balances

    def on_book(self, symbol: str, bid_ticks: int, ask_ticks: int, receive_mono_ns: int, stale: bool = False) -> None:
        """As SymbolView.on_book; also values positions at the mid while there is no mark."""
        view = self.symbols[symbol]
        view.on_book(bid_ticks, ask_ticks, receive_mono_ns, stale)
        if not view.mark_ticks and bid_ticks and ask_ticks:
            view.ref_ticks = -(-(view.bid_ticks + view.ask_ticks) // 2)
            self.refresh(view)

    def on_mark(self, symbol: str, mark_price: Decimal, receive_mono_ns: int) -> None:
        """Note the mark price, with the band that PERCENT_PRICE allows around it.

        Raises:
            NotFiniteError: not a positive finite number of at most ``MOST_UNITS`` ticks; the mark is then missing
                and new risk is refused.
        """
        view = self.symbol(symbol)
        if not mark_price.is_finite() or mark_price <= 0:
            view.mark_ticks = view.mark_mono_ns = 0
            raise NotFiniteError(f"mark price of {symbol}", mark_price)
        instrument = view.instrument
        exact = mark_price / instrument.tick_size
        if exact > MOST_UNITS:
            view.mark_ticks = view.mark_mono_ns = 0
            raise NotFiniteError(f"mark price of {symbol}", mark_price)
        view.mark_ticks = max(1, int(exact.to_integral_value()))
        view.mark_mono_ns = max(-_LAST_NS, min(receive_mono_ns, _LAST_NS))
        up, down = instrument.percent_price_up, instrument.percent_price_down
        view.mark_high_ticks = bounded(int(exact * up)) if up is not None else None
        lowest = (exact * down).to_integral_value(ROUND_CEILING) if down is not None else None
        view.mark_low_ticks = bounded(int(lowest)) if lowest is not None else None
        view.ref_ticks = view.mark_ticks
        self.refresh(view)

    def on_balances(self, equity: Decimal, available: Decimal) -> None:
        """Note the margin balance (wallet plus unrealised P&L) and what the venue calls available.

        Raises:
            NotFiniteError: NaN or infinity; the balances are then missing and new risk is refused.
        """
        self.equity_atto = self.available_atto = None
        equity_atto = to_atto(equity, "equity")
        self.available_atto = to_atto(available, "available balance")
        self.equity_atto = equity_atto

    def set_leverage(self, symbol: str, leverage: int) -> None:
        """The venue's leverage setting of ``symbol``; below 1 counts as 1."""
        view = self.symbol(symbol)
        view.leverage = max(1, bounded(leverage))
        self.refresh(view)

    # Positions and orders

    def set_position(
        self,
        symbol: str,
        lots: int,
        position_side: PositionSide = PositionSide.BOTH,
        entry_price: Decimal | None = None,
    ) -> None:
        """Take over a position from the venue; ``entry_price`` values it until a mark is known."""
        view = self.symbol(symbol)
        view.leg(position_side).position_lots = bounded(lots)
        if not view.ref_ticks and entry_price is not None and entry_price.is_finite():
            view.ref_ticks = bounded(int(entry_price / view.instrument.tick_size))
        self.refresh(view)

    def set_foreign_exposure(self, symbol: str, notional: Decimal) -> None:
        """Count a position in a symbol that we have no instrument of; 0 removes it."""
        atto = to_atto(abs(notional), f"notional of {symbol}")
        self.exposure_atto += atto - self._foreign.get(symbol, 0)
        self._foreign[symbol] = atto

    def reserve(
        self, client_order_id: str, symbol: str, strategy: str, side: Side, price_ticks: int, lots: int,
        *, position_side: PositionSide, worth_ticks: int, resting: bool,
    ) -> None:  # fmt: skip
        """Count an order until ``release``; the same id replaces its former self (adopting at a restart).

        Args:
            price_ticks: its price, else its stop price.
            worth_ticks: the price that it is valued at.
            resting: whether it rests in the book, where an order of our own could meet it.
        """
        self.release(client_order_id)
        view, leg = self.symbol(symbol), LEGS[position_side]
        price_ticks, lots, worth_ticks = bounded(price_ticks), bounded(lots), bounded(worth_ticks)
        view.leg_of(leg).open(side, lots, worth_ticks)
        view.orders.add(
            client_order_id, strategy, side, leg, price_ticks, lots, worth_ticks, price_ticks if resting else 0
        )
        self.reservations[client_order_id] = view
        self.refresh(view)

    def reserved(self, client_order_id: str) -> OpenOrder | None:
        """The order as it is counted, None when it is not."""
        view = self.reservations.get(client_order_id)
        return view.orders.get(client_order_id) if view is not None else None

    def adopt(
        self, client_order_id: str, symbol: str, side: Side, price_ticks: int, remaining_lots: int,
        *, position_side: PositionSide = PositionSide.BOTH, strategy: str = "", resting: bool = True,
    ) -> None:  # fmt: skip
        """Reserve for an order that is known to be open (after a restart, or placed by somebody else)."""
        self.reserve(
            client_order_id, symbol, strategy, side, price_ticks, remaining_lots, position_side=position_side,
            worth_ticks=price_ticks or self.symbol(symbol).ref_ticks, resting=resting,
        )  # fmt: skip

    def set_remaining(self, client_order_id: str, lots: int) -> None:
        """The order may still fill ``lots``; positions are not touched."""
        view = self.reservations.get(client_order_id)
        order = view.orders.get(client_order_id) if view is not None else None
        if view is None or order is None:
            return
        left_lots = max(bounded(lots), 0)
        view.leg_of(order.leg).open(order.side, left_lots - order.left_lots, order.worth_ticks)
        view.orders.leave(client_order_id, left_lots)
        self.refresh(view)

    def on_fill(
        self, client_order_id: str, symbol: str, side: Side, lots: int, position_side: PositionSide = PositionSide.BOTH
    ) -> None:
        """Move ``lots`` from the order to the position; the order may be gone already (a late fill)."""
        view = self.symbol(symbol)
        leg = view.leg(position_side)
        leg.position_lots = bounded(leg.position_lots + side * bounded(lots))
        order = self.reserved(client_order_id)
        if order is not None:
            self.set_remaining(client_order_id, order.left_lots - lots)
        else:
            self.refresh(view)

    def release(self, client_order_id: str) -> None:
        """The order can fill no more; unknown ids are no error."""
        view = self.reservations.pop(client_order_id, None)
        order = view.orders.take(client_order_id) if view is not None else None
        if view is None or order is None:
            return
        view.leg_of(order.leg).open(order.side, -order.left_lots, order.worth_ticks)
        view.unknown.discard(client_order_id)
        self.refresh(view)

    def set_unknown(self, client_order_id: str, symbol: str, unknown: bool) -> None:
        """Close ``symbol`` to new risk while the venue has not said what became of the order, and reopen it."""
        view = self.symbol(symbol)
        (view.unknown.add if unknown else view.unknown.discard)(client_order_id)
