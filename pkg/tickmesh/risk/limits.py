"""Limits of one account: JSON from the ``limits`` bucket in, a validated Limits out, or LimitsError.

A document names only what differs from the defaults; an unknown name, a wrong type, NaN or a value out of
range refuses the whole document, so that a typing error never loosens a limit.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tickmesh.domain.errors import TickmeshError


class LimitsError(TickmeshError, ValueError):
    """A limits document that cannot be used; the last good one stays in force. Retrying does not help."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the limits document is refused: {detail}")
        self.detail = detail


class SymbolLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of one symbol; None means the account's, or no limit for quantities."""

    max_order_qty: Decimal | None = None
    max_position_qty: Decimal | None = None
    max_order_notional: Decimal | None = None
    max_position_notional: Decimal | None = None
    max_open_orders: int | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every limit, with defaults for a small account. Money in quote currency, shares as fractions of 1.

    Pre-trade: ``max_exposure_notional`` bounds the sum over symbols of the worst case of positions and open
    orders; ``max_margin_use`` is the share of equity that their initial margin may take. ``collar_bps`` bounds
    how far through the opposite touch an order may reach, ``mark_collar_bps`` how far past the mark, and
    ``passive_collar_bps`` how far behind its own side (or from the mark, for a trigger) it may lie.
    ``throttle_orders`` within ``throttle_window_s`` shut a strategy until a person reopens it (RTS 6 Art. 15).

    Portfolio: past a ``reduce_*`` value positions may only shrink; past a ``max_*`` one everything halts.
    ``margin_ratio`` is maintenance margin over margin balance, as Binance has it: 1 means liquidation. Prices
    alone can carry the exposure past ``max_exposure_notional``: then positions may only shrink, and past
    ``exposure_halt_factor`` times that everything halts. More than ``max_rejections`` of the venue, or
    ``max_mismatches`` corrections, within their windows halt. ``flatten_on_halt`` also closes positions.
    """

    max_order_notional: Decimal = Decimal(50_000)
    max_position_notional: Decimal = Decimal(200_000)
    max_exposure_notional: Decimal = Decimal(500_000)
    max_margin_use: Decimal = Decimal("0.8")
    max_leverage: int = 20
    max_open_orders: int = 100
    max_identical_open: int = 3
    collar_bps: int = 50
    mark_collar_bps: int = 200
    passive_collar_bps: int = 1000
    max_book_age_ms: int = 2000
    max_mark_age_ms: int = 10_000
    require_mark: bool = True
    max_messages_per_s: int = 50
    max_messages_per_min: int = 1000
    throttle_orders: int = 100_000
    throttle_window_s: int = 3600
    reduce_daily_drawdown: Decimal = Decimal("0.03")
    max_daily_drawdown: Decimal = Decimal("0.05")
    reduce_margin_ratio: Decimal = Decimal("0.5")
    max_margin_ratio: Decimal = Decimal("0.8")
    max_rejections: int = 10
    rejection_window_s: int = 60
    max_mismatches: int = 3
    mismatch_window_s: int = 300
    exposure_halt_factor: Decimal = Decimal("1.2")
    flatten_on_halt: bool = False
    symbols: dict[str, SymbolLimits] = msgspec.field(default_factory=dict)


_SHARES = ("max_margin_use", "reduce_daily_drawdown", "max_daily_drawdown", "reduce_margin_ratio", "max_margin_ratio")
_MAY_BE_ZERO = ("collar_bps", "max_rejections")
_ORDERED = (("reduce_daily_drawdown", "max_daily_drawdown"), ("reduce_margin_ratio", "max_margin_ratio"))


def check(limits: Limits) -> Limits:
    """Return ``limits`` when every value makes sense.

    Raises:
        LimitsError: a value is not finite, not positive or contradicts another; names it.
    """
    for name in Limits.__struct_fields__:
        if name != "symbols":
            _check_value(name, getattr(limits, name))
    for symbol, own in limits.symbols.items():
        for name in SymbolLimits.__struct_fields__:
            if getattr(own, name) is not None:
                _check_value(f"symbols.{symbol}.{name}", getattr(own, name))
    for name in _SHARES:
        if getattr(limits, name) > 1:
            raise LimitsError(f"{name} is a share and may not exceed 1, found {getattr(limits, name)}")
    if limits.exposure_halt_factor < 1:
        raise LimitsError(f"exposure_halt_factor may not be below 1, found {limits.exposure_halt_factor}")
    for lower, upper in _ORDERED:
        if getattr(limits, lower) > getattr(limits, upper):
            raise LimitsError(f"{lower} may not exceed {upper}")
    return limits


def _check_value(name: str, value: Decimal | int | bool) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, Decimal) and not value.is_finite():
        raise LimitsError(f"{name} must be a finite number, found {value}")
    if value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        raise LimitsError(f"{name} must be positive, found {value}")


def parse(document: bytes, defaults: Limits) -> Limits:
    """Read a JSON document over ``defaults``.

    Raises:
        LimitsError: see ``check``; also for text that is not JSON, unknown names and wrong types.
    """
    try:
        given = msgspec.json.decode(document)
        if not isinstance(given, dict):
            raise LimitsError("it must be a JSON object of limit names and values")
        typed = msgspec.json.decode(document, type=Limits)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LimitsError(str(error)) from None
    merged = {name: getattr(typed if name in given else defaults, name) for name in Limits.__struct_fields__}
    if "symbols" in given:
        merged["symbols"] = {**defaults.symbols, **typed.symbols}
    return check(Limits(**merged))
