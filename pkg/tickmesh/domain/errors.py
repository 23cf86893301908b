"""The error tree. Each error carries its facts as fields and reads as one sentence a person can act on."""

from __future__ import annotations


class TickmeshError(Exception):
    """Root of every error that tickmesh raises on purpose."""


class ConfigError(TickmeshError):
    """A setting or a file the user gave is wrong; nothing was started. Retrying does not help."""


class DependencyError(TickmeshError):
    """A server we need (NATS, Postgres, the venue, ...) is absent or failing. Retrying may help."""

    def __init__(self, dependency: str, message: str) -> None:
        super().__init__(message)
        self.dependency = dependency


class OffGridError(TickmeshError, ValueError):
    """A price or quantity is not a whole number of ticks or lots; we never round what we were given."""

    def __init__(self, what: str, found: object, step: object, symbol: str) -> None:
        super().__init__(f"{what} {found} of {symbol} is not a multiple of {step}")
        self.what = what
        self.found = found
        self.step = step
        self.symbol = symbol


class MalformedFrameError(TickmeshError, ValueError):
    """Bytes from a venue that are not the message they should be; the frame is counted and skipped."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"malformed {kind}: {detail}")
        self.kind = kind
        self.detail = detail


class UnknownSymbolError(TickmeshError, KeyError):
    """A symbol the venue does not list."""

    def __init__(self, symbol: str, venue: str) -> None:
        super().__init__(symbol)
        self.symbol = symbol
        self.venue = venue

    def __str__(self) -> str:
        return f"{self.venue} does not list {self.symbol}; see GET /fapi/v1/exchangeInfo for what it lists"


class NotFiniteError(TickmeshError, ValueError):
    """A price, balance or quantity is NaN, infinite or not positive where it must be; it is refused where it enters."""

    def __init__(self, what: str, found: object) -> None:
        super().__init__(f"{what} must be a finite number in range, found {found}")
        self.what = what
        self.found = found
