"""An account's money: fills, fees and funding in; wallet, positions and margin out. Exact Decimal.

Margin is cross unless a symbol is ISOLATED: then a part of the wallet is set aside with each opening fill, is freed in
proportion by a close, and alone answers for the position.

The open value of a position is kept as a cost, not as an average price: what a close takes out of the
cost is rounded once and leaves the cost by the same amount, so no cash appears or disappears.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from tickmesh.domain.enums import PositionSide, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.types import (
    ZERO,
    AccountState,
    MarginTier,
    OrderRecord,
    Position,
    PositionView,
)

GRAIN = Decimal("0.00000001")
Mark = Callable[[str], Decimal]


def tier_of(tiers: tuple[MarginTier, ...], notional: Decimal) -> MarginTier:
    """The bracket that a notional falls into; the last one is open-ended."""
    return next((tier for tier in tiers if notional <= tier.notional_cap), tiers[-1])


def max_notional(tiers: tuple[MarginTier, ...], leverage: int) -> Decimal:
    """The largest position that a leverage may carry."""
    return max((tier.notional_cap for tier in tiers if tier.max_leverage >= leverage), default=ZERO)


class Ledger:
    """One account. ``open_orders`` is kept by the exchange: records that still count, by id."""

    def __init__(self, account_id: str, owner: int) -> None:
        self.account_id = account_id
        self.owner = owner
        self.wallet = ZERO
        self.dual = False
        self.leverage: dict[str, int] = {}
        self.margin_type: dict[str, str] = {}
        self.positions: dict[tuple[str, PositionSide], Position] = {}
        self.countdown: dict[str, int] = {}
        self.open_orders: dict[int, OrderRecord] = {}
        self.by_client_id: dict[tuple[str, str], int] = {}
        self.margin_called = False

    def position(self, symbol: str, side: PositionSide) -> Position:
        """The position of a symbol and side, created flat on first use."""
        key = (symbol, side)
        if key not in self.positions:
            self.positions[key] = Position(symbol=symbol, side=side)
        return self.positions[key]

    def is_isolated(self, symbol: str) -> bool:
        return self.margin_type.get(symbol) == "ISOLATED"

    @property
    def cross_wallet(self) -> Decimal:
        """The wallet without what is set aside for isolated positions."""
        return self.wallet - sum((p.isolated for p in self.positions.values()), ZERO)

    def lots(self, symbol: str, side: PositionSide) -> int:
        """Signed lots held."""
        position = self.positions.get((symbol, side))
        return position.lots if position else 0

    def apply_fill(
        self,
        instrument: Instrument,
        position_side: PositionSide,
        side: Side,
        ticks: int,
        lots: int,
        now_ms: int,
        leverage: int,
    ) -> Decimal:
        """Book a fill; returns the realized profit, which is in the wallet already."""
        position = self.position(instrument.symbol, position_side)
        realized = ZERO
        signed = lots * side
        closing = min(lots, abs(position.lots)) if position.lots * signed < 0 else 0
        if closing:
            held = abs(position.lots)
            part = position.cost if closing == held else position.cost * closing / held
            if closing != held:
                part = part.quantize(GRAIN, ROUND_HALF_EVEN)
            realized = -side * instrument.notional(ticks, closing) - part
            position.cost -= part
            position.lots += closing * side
            self.wallet += realized
            position.realized += realized
            freed = position.isolated
            if closing != held:
                freed = (freed * closing / held).quantize(GRAIN, ROUND_HALF_EVEN)
            position.isolated -= freed
        opening = lots - closing
        if opening:
            position.cost += side * instrument.notional(ticks, opening)
            position.lots += opening * side
            if self.is_isolated(instrument.symbol):
                aside = instrument.notional(ticks, opening) / leverage
                position.isolated += aside.quantize(GRAIN, ROUND_HALF_EVEN)
        position.update_ms = now_ms
        return realized

    def leverage_of(self, symbol: str, default: int) -> int:
        return self.leverage.get(symbol, default)

    def to_state(self) -> AccountState:
        """A copy of all that must survive, orders apart."""
        return AccountState(
            account_id=self.account_id,
            wallet=self.wallet,
            dual=self.dual,
            leverage=dict(self.leverage),
            margin_type=dict(self.margin_type),
            positions=[msgspec.structs.replace(p) for p in self.positions.values()],
            countdown=dict(self.countdown),
        )

    def load(self, state: AccountState) -> None:
        """Take over a saved state."""
        self.wallet, self.dual = state.wallet, state.dual
        self.leverage, self.margin_type = dict(state.leverage), dict(state.margin_type)
        self.countdown = dict(state.countdown)
        self.positions = {(p.symbol, p.side): p for p in state.positions}


class Margin:
    """Values ledgers at the mark price. Holds no state of its own but the rules."""

    def __init__(
        self, instruments: dict[str, Instrument], tiers: tuple[MarginTier, ...], default_leverage: int, mark: Mark
    ) -> None:
        self._instruments = instruments
        self._tiers = tiers
        self._default = default_leverage
        self._mark = mark

    def value(self, symbol: str, lots: int) -> Decimal:
        """Signed value of lots at the mark price."""
        return lots * self._instruments[symbol].lot_size * self._mark(symbol)

    def profit(self, position: Position) -> Decimal:
        """Unrealized profit of one position."""
        return self.value(position.symbol, position.lots) - position.cost if position.lots else ZERO

    def unrealized(self, ledger: Ledger, *, cross_only: bool = False) -> Decimal:
        return sum((self.profit(p) for p in self._counted(ledger, cross_only)), ZERO)

    def maintenance(self, ledger: Ledger, *, cross_only: bool = False) -> Decimal:
        return sum((self.maintenance_of(p) for p in self._counted(ledger, cross_only)), ZERO)

    def _counted(self, ledger: Ledger, cross_only: bool) -> list[Position]:
        held = [p for p in ledger.positions.values() if p.lots]
        return [p for p in held if not ledger.is_isolated(p.symbol)] if cross_only else held

    def maintenance_of(self, position: Position) -> Decimal:
        """Maintenance margin of one position."""
        notional = abs(self.value(position.symbol, position.lots))
        tier = tier_of(self._tiers, notional)
        return notional * tier.maintenance_ratio - tier.cum

    def position_margin(self, ledger: Ledger) -> Decimal:
        return sum(
            (
                abs(self.value(p.symbol, p.lots)) / ledger.leverage_of(p.symbol, self._default)
                for p in ledger.positions.values()
            ),
            ZERO,
        )

    def required(self, ledger: Ledger, symbol: str, extra: tuple[PositionSide, Side, Decimal] | None = None) -> Decimal:
        """Initial margin of a symbol with its open orders, and with one ``extra`` order (position side, side, value).

        Buys and sells cannot both open: the larger of the two outcomes counts.
        """
        sums: dict[PositionSide, dict[Side, Decimal]] = {}
        for order in ledger.open_orders.values():
            if order.symbol == symbol and not order.is_conditional and not order.reduce_only:
                both = sums.setdefault(order.position_side, {Side.BUY: ZERO, Side.SELL: ZERO})
                both[order.side] += self._instruments[symbol].notional(order.price_ticks, order.open_lots)
        if extra is not None:
            both = sums.setdefault(extra[0], {Side.BUY: ZERO, Side.SELL: ZERO})
            both[extra[1]] += extra[2]
        for position_symbol, position_side in ledger.positions:
            if position_symbol == symbol:
                sums.setdefault(position_side, {Side.BUY: ZERO, Side.SELL: ZERO})
        worst = ZERO
        for position_side, both in sums.items():
            held = self.value(symbol, ledger.lots(symbol, position_side))
            worst += max(abs(held), abs(held + both[Side.BUY]), abs(held - both[Side.SELL]))
        return worst / ledger.leverage_of(symbol, self._default)

    def initial(self, ledger: Ledger) -> Decimal:
        """Initial margin of all positions and open orders."""
        symbols = {order.symbol for order in ledger.open_orders.values()} | {s for s, _ in ledger.positions}
        return sum((self.required(ledger, symbol) for symbol in sorted(symbols)), ZERO)

    def used(self, ledger: Ledger) -> Decimal:
        """Initial margin that the cross wallet carries: of isolated symbols only the open orders' part."""
        isolated = [p for p in self._counted(ledger, False) if ledger.is_isolated(p.symbol)]
        aside = sum((abs(self.value(p.symbol, p.lots)) / self._leverage(ledger, p.symbol) for p in isolated), ZERO)
        return self.initial(ledger) - aside

    def available(self, ledger: Ledger) -> Decimal:
        """What may still be committed to new orders or set aside."""
        return ledger.cross_wallet + self.unrealized(ledger, cross_only=True) - self.used(ledger)

    def removable(self, ledger: Ledger, position: Position) -> Decimal:
        """What may be taken out of an isolated position's margin."""
        needed = abs(self.value(position.symbol, position.lots)) / self._leverage(ledger, position.symbol)
        return min(position.isolated, position.isolated + self.profit(position) - needed)

    def _leverage(self, ledger: Ledger, symbol: str) -> int:
        return ledger.leverage_of(symbol, self._default)

    def view(self, ledger: Ledger, symbol: str, side: PositionSide) -> PositionView:
        """A position valued now; flat when there is none."""
        instrument = self._instruments[symbol]
        position = ledger.positions.get((symbol, side)) or Position(symbol=symbol, side=side)
        mark = self._mark(symbol)
        qty = instrument.qty(position.lots)
        leverage = ledger.leverage_of(symbol, self._default)
        value = self.value(symbol, position.lots)
        initial = abs(value) / leverage
        return PositionView(
            symbol=symbol,
            side=side,
            lots=position.lots,
            qty=qty,
            entry_price=(position.cost / qty).quantize(GRAIN) if position.lots else ZERO,
            mark_price=mark,
            unrealized=value - position.cost,
            realized=position.realized,
            notional=value,
            leverage=leverage,
            margin_type=ledger.margin_type.get(symbol, "CROSSED"),
            initial_margin=initial,
            maintenance_margin=self.maintenance_of(position) if position.lots else ZERO,
            open_order_margin=max(ZERO, self.required(ledger, symbol) - initial) if side is PositionSide.BOTH else ZERO,
            liquidation_price=self._liquidation_price(ledger, position, mark),
            max_notional=max_notional(self._tiers, leverage),
            update_ms=position.update_ms,
            isolated_wallet=position.isolated,
            isolated_margin=position.isolated + self.profit(position) if ledger.is_isolated(symbol) else ZERO,
        )

    def _liquidation_price(self, ledger: Ledger, position: Position, mark: Decimal) -> Decimal:
        if not position.lots:
            return ZERO
        if ledger.is_isolated(position.symbol):
            slack = position.isolated + self.profit(position) - self.maintenance_of(position)
        else:
            balance = ledger.cross_wallet + self.unrealized(ledger, cross_only=True)
            slack = balance - self.maintenance(ledger, cross_only=True)
        qty = self._instruments[position.symbol].qty(position.lots)
        tier = tier_of(self._tiers, abs(self.value(position.symbol, position.lots)))
        # d(balance - maintenance)/d(price) = qty - ratio * |qty|
        slope = qty - tier.maintenance_ratio * abs(qty)
        return max(ZERO, mark - slack / slope).quantize(GRAIN)


def total_wallet(ledgers: Iterable[Ledger]) -> Decimal:
    """Sum of all wallets."""
    return sum((ledger.wallet for ledger in ledgers), ZERO)
