"""Portfolio: one account's fills, funding, wallets and prices in; positions, P&L and an AccountSnapshot out.

Exact Decimal throughout. It refuses what is not a finite number before it changes anything, and never takes a
commission in another asset for quote currency (docs/decisions/0071). The venue's own sums come in through
``reconcile``; between two of them wallets follow fills and funding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from tickmesh.domain.enums import PositionSide
from tickmesh.domain.errors import NotFiniteError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import AccountSnapshot, BalanceState, FillEvent, PositionState
from tickmesh.portfolio.day import DAY_NS, DayBook
from tickmesh.portfolio.position import WINDOW, ZERO, SymbolBook, SymbolState, TradeLine, Verdict

_SHARE = Decimal("0.00000001")
_SEEN_INCOME = 10_000


class VenueTerms(msgspec.Struct):
    """What only the venue knows of one leg, from the last reading; ``maintenance_rate`` is a share of the notional."""

    leverage: int = 0
    maintenance_rate: Decimal | None = None
    liquidation_price: Decimal = ZERO


class Price(msgspec.Struct):
    """A mark price, or a middle while there is no fresh mark. ``at_ns`` is wall time of receipt."""

    mark: Decimal = ZERO
    mark_ns: int = 0
    mid: Decimal = ZERO
    mid_ns: int = 0


class PortfolioState(msgspec.Struct, kw_only=True):
    """All that must survive a restart. ``journal_seq`` is up to where the ORDERS stream is part of it."""

    version: int = 1
    account: str
    journal_seq: int = 0
    symbols: dict[str, SymbolState] = {}
    wallets: dict[str, Decimal] = {}
    commission: Decimal = ZERO
    commission_unvalued: dict[str, Decimal] = {}
    funding: Decimal = ZERO
    fills: int = 0
    maker_fills: int = 0
    mismatches: int = 0
    day: DayBook = msgspec.field(default_factory=DayBook)
    income: list[str] = []
    income_ms: int = 0
    reconciled_ns: int = 0


def finite(value: Decimal, what: str) -> Decimal:
    """Raises NotFiniteError for NaN and infinities."""
    if not value.is_finite():
        raise NotFiniteError(what, value)
    return value


class Portfolio:
    """One account. One owner, no locks; time comes in as wall ns."""

    def __init__(
        self, account: str, venue: str, instruments: Mapping[str, Instrument], *, quote: str = "USDT",
        default_maintenance_rate: Decimal = Decimal("0.01"), max_price_age_ns: int = 10_000_000_000,
        window: int = WINDOW,
    ) -> None:  # fmt: skip
        self.account = account
        self.venue = venue
        self.quote = quote
        self.books = {symbol: SymbolBook(instrument, window=window) for symbol, instrument in instruments.items()}
        self.wallets: dict[str, Decimal] = {}
        self.prices: dict[str, Price] = {}
        self.terms: dict[tuple[str, PositionSide], VenueTerms] = {}
        self.foreign: dict[tuple[str, PositionSide], PositionState] = {}
        """Positions in symbols that we have no instrument of, as the venue told them."""
        self.open_order_margin = ZERO
        self.commission = ZERO
        self.commission_unvalued: dict[str, Decimal] = {}
        self.funding = ZERO
        self.fills = self.maker_fills = self.mismatches = 0
        self.reconciled_ns = 0
        """When the venue was compared with us last, wall; 0: never, in this life or a saved one."""
        self.journal_seq = 0
        self.income_ms = 0
        self.day = DayBook()
        self._income: dict[str, None] = {}
        self._default_maintenance_rate = default_maintenance_rate
        self._max_price_age_ns = max_price_age_ns

    # What happens to the account.

    def on_fill(self, fill: FillEvent) -> Verdict:
        """Book one fill; the same one again, or in another order, changes nothing.

        Raises:
            NotFiniteError: price, quantity or commission make no sense; nothing was changed.
        """
        book = self.books.get(fill.symbol)
        if book is None:
            return Verdict.UNKNOWN_SYMBOL
        if fill.qty_lots <= 0 or fill.price_ticks <= 0 or fill.trade_id <= 0:
            raise NotFiniteError(f"quantity, price and id of a fill of {fill.symbol}", fill.qty_lots)
        finite(fill.commission, f"commission of fill {fill.trade_id}")
        before = book.realized
        verdict = book.apply(
            TradeLine(
                fill.trade_id, not fill.maker, int(fill.side), fill.position_side, fill.price_ticks, fill.qty_lots
            )
        )
        if verdict is Verdict.APPLIED:
            self._move(self.quote, book.realized - before)
            self._pay(fill.commission, fill.commission_asset or self.quote)
            self.fills += 1
            self.maker_fills += fill.maker
        return verdict

    def _pay(self, amount: Decimal, asset: str) -> None:
        self._move(asset, -amount)
        if asset == self.quote:
            self.commission += amount
            return
        price = self.prices.get(asset + self.quote)
        rate = (price.mark or price.mid) if price is not None else ZERO
        if rate:
            self.commission += amount * rate
        elif amount:
            self.commission_unvalued[asset] = self.commission_unvalued.get(asset, ZERO) + amount

    def on_income(self, kind: str, asset: str, amount: Decimal, identity: str, time_ms: int) -> bool:
        """Book funding or a transfer, once per ``identity``; other kinds are fills' business. Returns whether booked.

        Raises:
            NotFiniteError: the amount is no number; nothing was changed.
        """
        finite(amount, f"income {kind}")
        if kind not in ("FUNDING_FEE", "TRANSFER", "INSURANCE_CLEAR") or identity in self._income:
            return False
        self._income[identity] = None
        while len(self._income) > _SEEN_INCOME:
            del self._income[next(iter(self._income))]
        self.income_ms = max(self.income_ms, time_ms)
        self._move(asset or self.quote, amount)
        if (asset or self.quote) == self.quote:
            if kind == "FUNDING_FEE":
                self.funding += amount
            elif kind == "TRANSFER":
                self.day.on_transfer(amount)
        return True

    def skip_income(self, identity: str, time_ms: int) -> None:
        """Note an income line that the wallet held already when it was read the first time."""
        self._income[identity] = None
        self.income_ms = max(self.income_ms, time_ms)

    def _move(self, asset: str, amount: Decimal) -> None:
        if amount:
            self.wallets[asset] = self.wallets.get(asset, ZERO) + amount

    def on_mark(self, symbol: str, mark: Decimal, now_ns: int) -> None:
        """Raises NotFiniteError for what is no positive price; the last good one stays."""
        price = self.prices.setdefault(symbol, Price())
        price.mark, price.mark_ns = _positive(mark, f"mark price of {symbol}"), now_ns

    def on_mid(self, symbol: str, mid: Decimal, now_ns: int) -> None:
        """Raises NotFiniteError for what is no positive price; the last good one stays."""
        price = self.prices.setdefault(symbol, Price())
        price.mid, price.mid_ns = _positive(mid, f"middle of {symbol}"), now_ns

    # What it is worth.

    def price_of(self, symbol: str, now_ns: int) -> tuple[Decimal, bool]:
        """The price that values ``symbol`` and whether it is fresh: fresh mark, else fresh middle, else the newer."""
        price = self.prices.get(symbol)
        if price is None:
            return ZERO, False
        oldest_ns = now_ns - self._max_price_age_ns
        if price.mark and price.mark_ns >= oldest_ns:
            return price.mark, True
        if price.mid and price.mid_ns >= oldest_ns:
            return price.mid, True
        return (price.mark, False) if price.mark_ns >= price.mid_ns else (price.mid, False)

    @property
    def wallet(self) -> Decimal:
        return self.wallets.get(self.quote, ZERO)

    @property
    def realized(self) -> Decimal:
        return sum((book.realized for book in self.books.values()), ZERO)

    def positions(self, now_ns: int) -> list[PositionState]:
        """Every leg that is open or has been, valued now; at its entry while no price at all is known."""
        found = []
        for symbol, book in self.books.items():
            price, _ = self.price_of(symbol, now_ns)
            for side, leg in book.legs.items():
                terms = self.terms.get((symbol, side)) or VenueTerms()
                quantity, entry = book.instrument.qty(leg.lots), leg.entry_price(book.instrument)
                found.append(
                    PositionState(
                        venue=self.venue, symbol=symbol, position_side=side, qty_lots=leg.lots,
                        entry_price=entry, mark_price=price or entry,
                        unrealized_pnl=quantity * price - leg.cost if price and leg.lots else ZERO,
                        realized_pnl=leg.realized, leverage=terms.leverage,
                        liquidation_price=terms.liquidation_price if leg.lots else ZERO, quantity=quantity,
                    )
                )  # fmt: skip
        return found + list(self.foreign.values())

    def snapshot(self, now_ns: int) -> AccountSnapshot:
        """The account now; also moves the day's start and the peaks."""
        positions = self.positions(now_ns)
        unrealized = sum((p.unrealized_pnl for p in positions), ZERO)
        equity = self.wallet + unrealized
        exposure, initial, maintenance, stale = self._margins(positions, now_ns)
        self.day.on_equity(equity, now_ns)
        available = max(ZERO, equity - initial - self.open_order_margin)
        return AccountSnapshot(
            publish_ns=now_ns, account=self.account, venue=self.venue, positions=positions,
            balances=[
                BalanceState(asset=asset, wallet=wallet, available=available if asset == self.quote else wallet)
                for asset, wallet in sorted(self.wallets.items())
            ],
            equity=equity, available=available, wallet=self.wallet, realized_pnl=self.realized,
            unrealized_pnl=unrealized, daily_pnl=self.day.daily_pnl(equity), commission=self.commission,
            funding=self.funding, margin_ratio=_ratio(maintenance, equity),
            leverage_ratio=(exposure / equity).quantize(_SHARE) if equity > 0 else ZERO,
            drawdown=self.day.drawdown(equity), daily_drawdown=self.day.daily_drawdown(equity), exposure=exposure,
            fills=self.fills, maker_fills=self.maker_fills, mismatches=self.mismatches,
            reconciled_ns=self.reconciled_ns, day_start_equity=self.day.start_equity, peak_equity=self.day.peak,
            stale_prices=stale, day_ns=max(0, self.day.day) * DAY_NS,
        )  # fmt: skip

    def _margins(self, positions: Iterable[PositionState], now_ns: int) -> tuple[Decimal, Decimal, Decimal, int]:
        """Exposure, initial margin, maintenance margin and how many positions are valued at an old price."""
        exposure = initial = maintenance = ZERO
        stale = 0
        for position in positions:
            if not position.quantity:
                continue
            notional = abs(position.quantity * position.mark_price)
            terms = self.terms.get((position.symbol, position.position_side)) or VenueTerms()
            rate = terms.maintenance_rate if terms.maintenance_rate is not None else self._default_maintenance_rate
            exposure += notional
            initial += notional / (position.leverage or 1)
            maintenance += notional * rate
            stale += position.symbol in self.books and not self.price_of(position.symbol, now_ns)[1]
        return exposure, initial.quantize(_SHARE), maintenance.quantize(_SHARE), stale

    # Saved state.

    def state(self) -> PortfolioState:
        """A copy of all that must survive."""
        return PortfolioState(
            account=self.account, journal_seq=self.journal_seq,
            symbols={symbol: book.state() for symbol, book in self.books.items() if book.legs},
            wallets=dict(self.wallets), commission=self.commission, commission_unvalued=dict(self.commission_unvalued),
            funding=self.funding, fills=self.fills, maker_fills=self.maker_fills, mismatches=self.mismatches,
            day=msgspec.structs.replace(self.day), income=list(self._income)[-200:], income_ms=self.income_ms,
            reconciled_ns=self.reconciled_ns,
        )  # fmt: skip

    def load(self, state: PortfolioState) -> None:
        """Take over a saved state; symbols that are no longer followed are left out (the venue tells them)."""
        for symbol, saved in state.symbols.items():
            if symbol in self.books:
                self.books[symbol].load(saved)
        self.journal_seq, self.wallets = state.journal_seq, dict(state.wallets)
        self.commission, self.commission_unvalued = state.commission, dict(state.commission_unvalued)
        self.funding, self.fills, self.maker_fills = state.funding, state.fills, state.maker_fills
        self.mismatches, self.day = state.mismatches, msgspec.structs.replace(state.day)
        self._income, self.income_ms = dict.fromkeys(state.income), state.income_ms
        self.reconciled_ns = state.reconciled_ns


def _positive(value: Decimal, what: str) -> Decimal:
    if not value.is_finite() or value <= 0:
        raise NotFiniteError(what, value)
    return value


def _ratio(maintenance: Decimal, equity: Decimal) -> Decimal:
    """Maintenance margin over margin balance; 1, liquidation, also when nothing is left to cover it."""
    if not maintenance:
        return ZERO
    return (maintenance / equity).quantize(_SHARE) if equity > 0 else Decimal(1)
