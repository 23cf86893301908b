"""RiskView: what the pre-trade checks look at, kept current by the execution service as events pass.

In come book tops, marks, balances, fills, order endings and states; it keeps sums (open lots, worst-case
exposure, margin) so that a check is a comparison. It decides nothing and knows no limit.

Units: ``tick_lots`` is price in ticks times lots; ``atto`` is quote currency times 10**18 as an int, so that
sums over symbols of different grids stay exact integers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal

from tickmesh.domain.enums import PositionSide, RiskState, Side
from tickmesh.domain.errors import NotFiniteError, UnknownSymbolError
from tickmesh.domain.instrument import Instrument
from tickmesh.hotpath.pure.pretrade import NEVER_NS

ATTO = 10**18
_SEEN_INTENTS = 200_000


def to_atto(value: Decimal, what: str) -> int:
    """Quote currency as an integer of 10**-18; a finer remainder is cut towards zero.

    Raises:
        NotFiniteError: NaN or infinity.
    """
    if not value.is_finite():
        raise NotFiniteError(what, value)
    return int(value * ATTO)


@dataclass(slots=True)
class Reservation:
    """An order that may still fill, valued at ``worth_ticks``; ``resting_ticks`` is 0 when it rests in no book."""

    client_order_id: str
    symbol: str
    strategy: str
    side: Side
    position_side: PositionSide
    worth_ticks: int
    resting_ticks: int
    lots: int
    identity: tuple[str, str, int, int, int]


@dataclass(slots=True)
class Leg:
    """One position (BOTH, LONG or SHORT) and the open orders against it; ``position_lots`` is signed."""

    position_lots: int = 0
    open_buy_lots: int = 0
    open_sell_lots: int = 0
    open_buy_tick_lots: int = 0
    open_sell_tick_lots: int = 0

    def worst_tick_lots(self, ref_ticks: int) -> int:
        """The largest value the position can reach at ``ref_ticks`` whatever subset of the open orders fills."""
        held = self.position_lots * ref_ticks
        long = held + max(self.open_buy_tick_lots, self.open_buy_lots * ref_ticks)
        short = max(self.open_sell_tick_lots, self.open_sell_lots * ref_ticks) - held
        return max(long, short, 0)

    def open(self, side: Side, lots: int, worth_ticks: int) -> None:
        """Add open lots (negative: take away)."""
        if side is Side.BUY:
            self.open_buy_lots += lots
            self.open_buy_tick_lots += lots * worth_ticks
        else:
            self.open_sell_lots += lots
            self.open_sell_tick_lots += lots * worth_ticks


class SymbolView:
    """One symbol. Book fields may be set directly by ``on_book``; everything else through RiskView."""

    __slots__ = (
        "ask_ticks", "bid_ticks", "book_mono_ns", "both", "exposure_atto", "instrument", "leverage", "long",
        "margin_atto", "mark_high_ticks", "mark_low_ticks", "mark_mono_ns", "mark_ticks", "open_orders", "ref_ticks",
        "resting", "short", "stale", "state", "unit_atto", "unknown",
    )  # fmt: skip

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        unit = instrument.tick_size * instrument.lot_size * ATTO
        self.unit_atto = int(unit)
        if self.unit_atto != unit or unit <= 0:
            raise NotFiniteError(f"value of one tick of one lot of {instrument.symbol}", unit)
        self.bid_ticks = self.ask_ticks = self.book_mono_ns = 0
        self.stale = True
        self.mark_ticks = self.mark_mono_ns = self.ref_ticks = 0
        self.mark_low_ticks: int | None = None
        self.mark_high_ticks: int | None = None
        self.leverage = 1
        self.both, self.long, self.short = Leg(), Leg(), Leg()
        self.state = RiskState.ACTIVE
        self.unknown: set[str] = set()
        self.open_orders = 0
        self.resting: dict[Side, dict[str, int]] = {Side.BUY: {}, Side.SELL: {}}
        self.exposure_atto = self.margin_atto = 0

    @property
    def closed(self) -> bool:
        """Whether an order of this symbol is UNKNOWN: no new risk until the venue has answered."""
        return bool(self.unknown)

    def leg(self, position_side: PositionSide) -> Leg:
        if position_side is PositionSide.BOTH:
            return self.both
        return self.long if position_side is PositionSide.LONG else self.short

    def on_book(self, bid_ticks: int, ask_ticks: int, receive_mono_ns: int, stale: bool = False) -> None:
        """Note the top of the book; 0 for an empty side."""
        self.bid_ticks = bid_ticks
        self.ask_ticks = ask_ticks
        self.book_mono_ns = receive_mono_ns
        self.stale = stale


@dataclass(slots=True)
class RateWindow:
    """The times of the last ``size`` messages; full and young means too fast."""

    size: int
    window_ns: int
    times: deque[int] = field(default_factory=deque)

    def full(self, now_mono_ns: int) -> bool:
        return len(self.times) >= self.size and now_mono_ns - self.times[-self.size] < self.window_ns

    @property
    def oldest_mono_ns(self) -> int:
        """When the oldest of the last ``size`` messages left; long ago when there were not so many."""
        return self.times[-self.size] if len(self.times) >= self.size else NEVER_NS

    def note(self, now_mono_ns: int) -> None:
        self.times.append(now_mono_ns)
        while len(self.times) > self.size:
            self.times.popleft()


class RiskView:
    """The state of one account as the checks see it; one owner, no locks."""

    def __init__(self, account: str, instruments: dict[str, Instrument], *, hedge_mode: bool = False) -> None:
        self.account = account
        self.hedge_mode = hedge_mode
        self.symbols = {symbol: SymbolView(instrument) for symbol, instrument in instruments.items()}
        self.equity_atto: int | None = None
        self.available_atto: int | None = None
        self.overall = RiskState.ACTIVE
        self.account_state = RiskState.ACTIVE
        self.strategy_state: dict[str, RiskState] = {}
        self.open_breakers: set[str] = set()
        self.throttled: set[str] = set()
        self.strategy_orders: dict[str, RateWindow] = {}
        self.messages_second = RateWindow(1, 1_000_000_000)
        self.messages_minute = RateWindow(1, 60_000_000_000)
        self.reservations: dict[str, Reservation] = {}
        self.identical: dict[tuple[str, str, int, int, int], int] = {}
        self.exposure_atto = 0
        self.margin_atto = 0
        self._foreign: dict[str, int] = {}
        self._seen: set[str] = set()
        self._seen_order: deque[str] = deque()

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
            view.ref_ticks = -(-(bid_ticks + ask_ticks) // 2)
            self._refresh(view)

    def on_mark(self, symbol: str, mark_price: Decimal, receive_mono_ns: int) -> None:
        """Note the mark price, with the band that PERCENT_PRICE allows around it.

        Raises:
            NotFiniteError: not a positive finite number; the mark is then missing and new risk is refused.
        """
        view = self.symbol(symbol)
        if not mark_price.is_finite() or mark_price <= 0:
            view.mark_ticks = view.mark_mono_ns = 0
            raise NotFiniteError(f"mark price of {symbol}", mark_price)
        instrument = view.instrument
        exact = mark_price / instrument.tick_size
        view.mark_ticks = max(1, int(exact.to_integral_value()))
        view.mark_mono_ns = receive_mono_ns
        up, down = instrument.percent_price_up, instrument.percent_price_down
        view.mark_high_ticks = int(exact * up) if up is not None else None
        view.mark_low_ticks = int((exact * down).to_integral_value(ROUND_CEILING)) if down is not None else None
        view.ref_ticks = view.mark_ticks
        self._refresh(view)

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
        view.leverage = max(1, leverage)
        self._refresh(view)

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
        view.leg(position_side).position_lots = lots
        if not view.ref_ticks and entry_price is not None and entry_price.is_finite():
            view.ref_ticks = int(entry_price / view.instrument.tick_size)
        self._refresh(view)

    def set_foreign_exposure(self, symbol: str, notional: Decimal) -> None:
        """Count a position in a symbol that we have no instrument of; 0 removes it."""
        atto = to_atto(abs(notional), f"notional of {symbol}")
        self.exposure_atto += atto - self._foreign.get(symbol, 0)
        self._foreign[symbol] = atto

    def reserve(self, reservation: Reservation) -> None:
        """Count an order until ``release``; the same id replaces its former self (adopting at a restart)."""
        self.release(reservation.client_order_id)
        view = self.symbol(reservation.symbol)
        view.leg(reservation.position_side).open(reservation.side, reservation.lots, reservation.worth_ticks)
        view.open_orders += 1
        if reservation.resting_ticks:
            view.resting[reservation.side][reservation.client_order_id] = reservation.resting_ticks
        self.reservations[reservation.client_order_id] = reservation
        self.identical[reservation.identity] = self.identical.get(reservation.identity, 0) + 1
        self._refresh(view)

    def adopt(
        self, client_order_id: str, symbol: str, side: Side, price_ticks: int, remaining_lots: int,
        *, position_side: PositionSide = PositionSide.BOTH, strategy: str = "", resting: bool = True,
    ) -> None:  # fmt: skip
        """Reserve for an order that is known to be open (after a restart, or placed by somebody else)."""
        worth = price_ticks or self.symbol(symbol).ref_ticks
        identity = (strategy, symbol, side.value, price_ticks, remaining_lots)
        self.reserve(
            Reservation(
                client_order_id, symbol, strategy, side, position_side, worth, price_ticks if resting else 0,
                remaining_lots, identity,
            )
        )  # fmt: skip

    def set_remaining(self, client_order_id: str, lots: int) -> None:
        """The order may still fill ``lots``; positions are not touched."""
        reservation = self.reservations.get(client_order_id)
        if reservation is None:
            return
        view = self.symbols[reservation.symbol]
        delta = max(lots, 0) - reservation.lots
        view.leg(reservation.position_side).open(reservation.side, delta, reservation.worth_ticks)
        reservation.lots += delta
        self._refresh(view)

    def on_fill(
        self, client_order_id: str, symbol: str, side: Side, lots: int, position_side: PositionSide = PositionSide.BOTH
    ) -> None:
        """Move ``lots`` from the order to the position; the order may be gone already (a late fill)."""
        view = self.symbol(symbol)
        view.leg(position_side).position_lots += side * lots
        reservation = self.reservations.get(client_order_id)
        if reservation is not None:
            self.set_remaining(client_order_id, reservation.lots - lots)
        else:
            self._refresh(view)

    def release(self, client_order_id: str) -> None:
        """The order can fill no more; unknown ids are no error."""
        reservation = self.reservations.pop(client_order_id, None)
        if reservation is None:
            return
        view = self.symbols[reservation.symbol]
        view.leg(reservation.position_side).open(reservation.side, -reservation.lots, reservation.worth_ticks)
        view.open_orders -= 1
        view.unknown.discard(client_order_id)
        view.resting[reservation.side].pop(client_order_id, None)
        left = self.identical[reservation.identity] - 1
        if left:
            self.identical[reservation.identity] = left
        else:
            del self.identical[reservation.identity]
        self._refresh(view)

    def set_unknown(self, client_order_id: str, symbol: str, unknown: bool) -> None:
        """Close ``symbol`` to new risk while the venue has not said what became of the order, and reopen it."""
        view = self.symbol(symbol)
        (view.unknown.add if unknown else view.unknown.discard)(client_order_id)

    # Intents

    def seen(self, intent_id: str) -> bool:
        return intent_id in self._seen

    def note_intent(self, intent_id: str) -> None:
        """Remember an intent id, the newest 200,000 of them."""
        if intent_id in self._seen:
            return
        self._seen.add(intent_id)
        self._seen_order.append(intent_id)
        if len(self._seen_order) > _SEEN_INTENTS:
            self._seen.discard(self._seen_order.popleft())

    def _refresh(self, view: SymbolView) -> None:
        ref = view.ref_ticks
        worst = view.both.worst_tick_lots(ref)
        if self.hedge_mode:
            worst += view.long.worst_tick_lots(ref) + view.short.worst_tick_lots(ref)
        exposure = worst * view.unit_atto
        margin = exposure // view.leverage
        self.exposure_atto += exposure - view.exposure_atto
        self.margin_atto += margin - view.margin_atto
        view.exposure_atto, view.margin_atto = exposure, margin
