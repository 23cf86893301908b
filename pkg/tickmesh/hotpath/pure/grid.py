"""Text to ticks or lots, exactly: the venue's decimal strings become integers, and one off the grid is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from tickmesh.domain.errors import OffGridError

_MAX_CACHED = 200_000
_MAX_UNITS = 2**53  # still exact as a float, where features begin
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


class Grid:
    """Integer units of ``step``. Prices repeat endlessly, so the answers are cached (bounded)."""

    __slots__ = ("_step", "_symbol", "_what", "known")

    def __init__(self, step: Decimal, what: str, symbol: str) -> None:
        self._step = step
        self._what = what
        self._symbol = symbol
        self.known: Mapping[str, int] = _Known(self._convert)
        """``units`` by subscript, for loops over levels."""

    def units(self, text: str) -> int:
        """Whole steps in ``text``, which is digits with at most one point inside.

        Raises:
            OffGridError: it is no such number (negative, in powers of ten, ...), no multiple, or beyond 2**53 steps.
        """
        return self.known[text]

    def _convert(self, text: str) -> int:
        if _NUMBER.fullmatch(text) is None:
            raise OffGridError(self._what, text[:40], self._step, self._symbol)
        try:
            units, rest = divmod(Decimal(text), self._step)
        except InvalidOperation:
            raise OffGridError(self._what, text[:40], self._step, self._symbol) from None
        if rest or units > _MAX_UNITS:
            raise OffGridError(self._what, text[:40], self._step, self._symbol)
        return int(units)


class _Known(dict[str, int]):
    """Answers of a conversion, kept."""

    __slots__ = ("_convert",)

    def __init__(self, convert: Callable[[str], int]) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, text: str) -> int:
        units = self._convert(text)
        if len(self) >= _MAX_CACHED:
            self.clear()
        self[text] = units
        return units
