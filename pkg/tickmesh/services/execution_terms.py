"""AccountTerms: leverage and margin mode of each symbol and the account's position mode, as the venue has them.

In: the venue's answers, at a start and while trading. Out: the risk view under the venue's terms, and an alert when a
person changed one under us. It sets none of them: they are a person's to set.
"""

from __future__ import annotations

from collections.abc import Callable

from tickmesh.domain.enums import Severity
from tickmesh.risk.view import RiskView
from tickmesh.services.notices import AlertFunction
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest


class AccountTerms:
    """One account's."""

    def __init__(
        self, rest: BinanceUsdmRest, view: RiskView, alert: AlertFunction,
        on_mode: Callable[[], None],
    ) -> None:  # fmt: skip
        """``on_mode`` is called after the position mode of the view changed."""
        self._rest = rest
        self._view = view
        self._alert = alert
        self._on_mode = on_mode
        self._known: dict[str, str] = {}

    def shown(self) -> dict[str, str]:
        """What was read last, for people: ``position mode`` and, by symbol, leverage and margin mode."""
        return dict(self._known)

    async def symbols(self) -> None:
        """Leverage and margin mode of our symbols. Raises VenueCallError."""
        for line in await self._rest.leverages():
            if line.symbol in self._view.symbols:
                self._view.set_leverage(line.symbol, line.leverage)
                self._note(line.symbol, f"leverage {line.leverage}, {line.marginType.lower() or 'unnamed'} margin")

    async def position_mode(self) -> None:
        """Whether positions have sides. Raises VenueCallError."""
        hedge = await self._rest.hedge_mode()
        if hedge != self._view.hedge_mode:
            self._view.hedge_mode = hedge
            self._on_mode()
        self._note("position mode", "hedge" if hedge else "one-way")

    def _note(self, what: str, now: str) -> None:
        before = self._known.get(what)
        self._known[what] = now
        if before is not None and before != now:
            text = f"{what} was {before} and is {now} at the venue; the venue's is used"
            self._alert(Severity.WARNING, "account-terms", text)
