"""The interface between a strategy plugin and the engine; what plugin authors import.

In: market data, own fills, own positions. Out: Signals, which say what the plugin wants; how, whether and at
what price it reaches a venue is the engine's business. A plugin is synchronous and pure: it reads no clock (time
is in the data), opens no connection, and returns quickly (docs/strategies.md).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

import msgspec

from tickmesh.domain.enums import Side, Urgency
from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, FillEvent, OrderEvent, Trade

MarketData = BookUpdate | Trade
DEFAULT_TTL_NS = 250_000_000
_MAX_WORTHS = 256


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin wants for one symbol.

    ``strength`` in (0, 1] ranks signals of equal urgency. ``price_ticks`` 0 means the best price of the own side
    (a maker's), or of the other side when the urgency is IMMEDIATE. A signal with ``quote`` names a standing order:
    the next signal with the same symbol and quote replaces it, an equal one leaves it alone, ``withdraw`` takes it
    away. A signal without ``quote`` is directional: opposing ones net out, its order rests ``rest_ns`` at most, and a
    more urgent one of the same side replaces it.
    ``ttl_ns`` is how old the intent may get before it is sent.
    """

    symbol: str
    side: Side
    qty_lots: int = 0
    strength: float = 1.0
    urgency: Urgency = Urgency.PASSIVE
    price_ticks: int = 0
    quote: str = ""
    withdraw: bool = False
    reduce_only: bool = False
    ttl_ns: int = DEFAULT_TTL_NS
    rest_ns: int = 2_000_000_000
    reason: str = ""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """This strategy's own position in one symbol, signed lots; open lots are working at the venue right now."""

    symbol: str
    qty_lots: int = 0
    entry_price_ticks: Decimal = Decimal(0)
    realized_pnl: Decimal = Decimal(0)
    open_buy_lots: int = 0
    open_sell_lots: int = 0


class ParameterError(ConfigError):
    """A parameter of a strategy resource is wrong; editing the resource helps, a retry does not."""

    def __init__(self, parameter: str, text: str) -> None:
        super().__init__(f"spec.parameters.{parameter}: {text}")
        self.parameter = parameter


class _Worth(NamedTuple):
    """A value, and the venue's least one, as fractions of ticks times lots; ``min_lots`` holds at every price."""

    notional: int
    notional_over: int
    min_notional: int
    min_notional_over: int
    min_lots: int


class StrategyConfig:
    """What a plugin is initialised with: its parameters, its symbols and their grids."""

    def __init__(
        self,
        *,
        name: str,
        symbols: tuple[str, ...],
        instruments: Mapping[str, Instrument],
        parameters: Mapping[str, Any] | None = None,
        venue: str = "",
        max_position_lots: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.venue = venue
        self.symbols = symbols
        self.instruments = dict(instruments)
        self.max_position_lots = dict(max_position_lots or {})
        self._parameters = dict(parameters or {})
        self._asked: set[str] = set()
        self._worths: dict[tuple[str, float], _Worth] = {}

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters as they stand in the resource; reading them here switches the check for unknown ones off."""
        self._asked |= set(self._parameters)
        return dict(self._parameters)

    def number(self, name: str, default: float, *, low: float = 0.0, high: float = 1e12) -> float:
        """A number within [low, high]. Raises ParameterError."""
        self._asked.add(name)
        value = self._parameters.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            raise ParameterError(name, f"expected a number, found {value!r}")
        try:
            number = float(value)
        except ValueError:
            raise ParameterError(name, f"expected a number, found {value!r}") from None
        if not low <= number <= high:
            raise ParameterError(name, f"must lie between {low:g} and {high:g}, found {number:g}")
        return number

    def text(self, name: str, default: str, *, among: tuple[str, ...] = ()) -> str:
        """A word, one of ``among`` when given. Raises ParameterError."""
        self._asked.add(name)
        value = str(self._parameters.get(name, default))
        if among and value not in among:
            raise ParameterError(name, f"must be one of {', '.join(among)}, found {value!r}")
        return value

    def check_all_known(self) -> None:
        """Raise ParameterError for a parameter that nobody asked for: it is probably misspelt."""
        for name in self._parameters:
            if name not in self._asked:
                close = difflib.get_close_matches(name, self._asked, n=1, cutoff=0.5)
                known = (
                    f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(self._asked)) or 'none'}"
                )
                raise ParameterError(name, f"the plugin has no such parameter; {known}")

    def lots_for(self, symbol: str, notional: float, price_ticks: int) -> int:
        """Lots worth about ``notional`` at a price, at least what the venue takes, at least one."""
        if price_ticks <= 0:
            return 0
        worth = self._worths.get((symbol, notional)) or self._worth(symbol, notional)
        wished = worth.notional // (worth.notional_over * price_ticks)
        least = -(-worth.min_notional // (worth.min_notional_over * price_ticks))
        return max(wished, least, worth.min_lots)

    def _worth(self, symbol: str, notional: float) -> _Worth:
        """The same wish comes with every quote: its decimals are turned into whole numbers once."""
        instrument = self.instruments[symbol]
        unit = Fraction(instrument.tick_size) * Fraction(instrument.lot_size)
        wished = Fraction(Decimal(str(notional))) / unit
        least = Fraction(instrument.min_notional or 0) / unit
        min_lots = max(1, ceil(Fraction(instrument.min_qty or 0) / Fraction(instrument.lot_size)))
        worth = _Worth(*wished.as_integer_ratio(), *least.as_integer_ratio(), min_lots)
        if len(self._worths) >= _MAX_WORTHS:
            self._worths.clear()
        self._worths[symbol, notional] = worth
        return worth


class Strategy:
    """Base of plugins. Every callback may raise: the plugin is then isolated, its neighbours go on."""

    name: str = "unnamed"
    rehearsable: bool = False
    """Whether a second instance may be shown made-up books of a made-up symbol, so that this code stays warm
    (``local.rehearse_ms``). Say yes only of a class whose instances share nothing and touch nothing but themselves."""

    hears_trades: bool = True
    """Whether ``on_market_data`` of this very class does anything with a public trade. A trade comes before the book
    that it changed, so orders of a class that says no leave earlier by what showing it to them would take."""

    def initialize(self, config: StrategyConfig) -> None:
        """Read the parameters; called once, before anything else, on every new instance."""

    def on_market_data(self, data: MarketData) -> list[Signal]:
        """React to the newest book of a symbol, or to a trade."""
        return []

    def on_order_fill(self, fill: FillEvent) -> None:
        """An order of ours was filled, at least in part; each fill comes once."""

    def on_position_update(self, position: Position) -> None:
        """Our position or open quantity changed; also called once after a start with what is held."""

    def on_order_event(self, event: OrderEvent) -> None:
        """An order of ours changed its state."""

    def get_state(self) -> dict[str, Any]:
        """What must survive a restart or a reload, as plain data."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``get_state`` gave, perhaps from an older version of this class."""


def event_ns(data: MarketData) -> int:
    """The time of market data for a strategy: the venue's, or when we received it if the venue gave none."""
    return data.exchange_ns or data.receive_ns
