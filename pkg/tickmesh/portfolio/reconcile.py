"""The portfolio against the venue: a Reading in, differences out, and the portfolio put to what the venue says.

The venue is the source of truth. The caller (services.account) makes sure that a Reading is of one moment and
that missed fills were fetched first: what differs then is a mismatch. Nothing here asks anybody anything.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tickmesh.domain.enums import PositionSide
from tickmesh.domain.messages import PositionState
from tickmesh.portfolio.portfolio import Portfolio, VenueTerms, finite
from tickmesh.portfolio.position import ZERO

ENTRY_TOLERANCE = Decimal("0.00001")
"""Relative difference of entry prices that is rounding: the venue shows fewer decimals than a cost has."""


class VenueLeg(msgspec.Struct, kw_only=True):
    """One position as the venue tells it; ``update_ms`` is when it changed last."""

    symbol: str
    side: PositionSide
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal = ZERO
    unrealized: Decimal = ZERO
    maintenance_margin: Decimal = ZERO
    liquidation_price: Decimal = ZERO
    update_ms: int = 0


class Reading(msgspec.Struct, kw_only=True):
    """The account as the venue told it at about ``at_ns`` (wall); flat positions may be left out."""

    at_ns: int
    legs: list[VenueLeg]
    wallets: dict[str, Decimal]
    open_order_margin: Decimal = ZERO
    leverages: dict[str, int] = {}

    def same_as(self, other: Reading) -> bool:
        """Whether nothing was traded or booked from the first of two readings to the second.

        A reading takes several calls, positions before wallets. A trade between the two calls of one reading
        shows in its wallets and in the other's positions, so equality of both means that there was none.
        """
        return self.wallets == other.wallets and {
            (leg.symbol, leg.side): (leg.quantity, leg.update_ms) for leg in self.legs
        } == {(leg.symbol, leg.side): (leg.quantity, leg.update_ms) for leg in other.legs}


class Difference(msgspec.Struct, frozen=True):
    """One thing that the venue tells otherwise; ``kind`` is position, entry or wallet."""

    kind: str
    name: str
    side: PositionSide
    ours: Decimal
    theirs: Decimal

    def __str__(self) -> str:
        where = self.name if self.side is PositionSide.BOTH else f"{self.name} {self.side}"
        return f"{self.kind} of {where}: ours {self.ours}, the venue's {self.theirs}"


def check(reading: Reading) -> Reading:
    """Raises NotFiniteError when a number in the reading is none; it is then not used at all."""
    for leg in reading.legs:
        finite(leg.quantity, f"position of {leg.symbol}")
        finite(leg.entry_price, f"entry price of {leg.symbol}")
        finite(leg.maintenance_margin, f"maintenance margin of {leg.symbol}")
        finite(leg.unrealized, f"unrealised profit of {leg.symbol}")
    for asset, amount in reading.wallets.items():
        finite(amount, f"wallet of {asset}")
    finite(reading.open_order_margin, "margin of open orders")
    return reading


def compare(portfolio: Portfolio, reading: Reading, wallet_tolerance: Decimal) -> list[Difference]:
    """What the venue tells otherwise, in symbols that we follow; changes nothing."""
    theirs = {(leg.symbol, leg.side): leg for leg in reading.legs if leg.symbol in portfolio.books}
    ours = {(symbol, side) for symbol, book in portfolio.books.items() for side, leg in book.legs.items() if leg.lots}
    found: list[Difference] = []
    for symbol, side in sorted(ours | set(theirs)):
        book, told = portfolio.books[symbol], theirs.get((symbol, side))
        leg = book.legs.get(side)
        our_qty = book.instrument.qty(leg.lots) if leg is not None else ZERO
        their_qty = told.quantity if told is not None else ZERO
        if our_qty != their_qty:
            found.append(Difference("position", symbol, side, our_qty, their_qty))
        elif our_qty and leg is not None and told is not None:
            our_entry = leg.entry_price(book.instrument)
            if abs(our_entry - told.entry_price) > ENTRY_TOLERANCE * abs(our_entry):
                found.append(Difference("entry", symbol, side, our_entry, told.entry_price))
    for asset, amount in reading.wallets.items():
        held = portfolio.wallets.get(asset, ZERO)
        if abs(held - amount) > wallet_tolerance:
            found.append(Difference("wallet", asset, PositionSide.BOTH, held, amount))
    return found


def absorb(portfolio: Portfolio, reading: Reading) -> None:
    """Take over what only the venue knows: margins, leverage, liquidation prices, foreign positions, first marks."""
    portfolio.open_order_margin = reading.open_order_margin
    portfolio.foreign = {}
    told: set[tuple[str, PositionSide]] = set()
    for leg in reading.legs:
        key = (leg.symbol, leg.side)
        told.add(key)
        notional = abs(leg.quantity * leg.mark_price)
        leverage = reading.leverages.get(leg.symbol, 0)
        rate = leg.maintenance_margin / notional if notional and leg.maintenance_margin else None
        portfolio.terms[key] = VenueTerms(leverage, rate, leg.liquidation_price)
        if leg.symbol not in portfolio.books:
            if leg.quantity:
                portfolio.foreign[key] = PositionState(
                    venue=portfolio.venue, symbol=leg.symbol, position_side=leg.side, entry_price=leg.entry_price,
                    mark_price=leg.mark_price, unrealized_pnl=leg.unrealized, leverage=leverage,
                    liquidation_price=leg.liquidation_price, quantity=leg.quantity,
                )  # fmt: skip
        elif leg.mark_price.is_finite() and leg.mark_price > 0 and not portfolio.price_of(leg.symbol, reading.at_ns)[1]:
            portfolio.on_mark(leg.symbol, leg.mark_price, reading.at_ns)
    for key, terms in portfolio.terms.items():
        if key not in told:
            terms.liquidation_price = ZERO
        terms.leverage = reading.leverages.get(key[0], terms.leverage)
    for symbol, leverage in reading.leverages.items():
        for side in portfolio.books[symbol].legs if symbol in portfolio.books else ():
            portfolio.terms.setdefault((symbol, side), VenueTerms(leverage))
    portfolio.reconciled_ns = reading.at_ns


def correct(
    portfolio: Portfolio, reading: Reading, differences: list[Difference], last_trade_ids: dict[str, int]
) -> None:
    """Put the portfolio to what the venue says wherever it differs.

    Args:
        portfolio: changed.
        reading: checked, and of one moment.
        differences: from ``compare`` of the two.
        last_trade_ids: by symbol, the venue's newest trade that is part of the reading.

    Raises:
        OffGridError: the venue tells a quantity that is no whole number of lots.
    """
    theirs = {(leg.symbol, leg.side): leg for leg in reading.legs}
    for difference in differences:
        if difference.kind == "wallet":
            portfolio.wallets[difference.name] = difference.theirs
            continue
        book, told = portfolio.books[difference.name], theirs.get((difference.name, difference.side))
        quantity, entry = (told.quantity, told.entry_price) if told is not None else (ZERO, ZERO)
        lots = book.instrument.to_lots(abs(quantity)) * (-1 if quantity < 0 else 1)
        book.correct(difference.side, lots, quantity * entry, last_trade_ids.get(difference.name, 0))
