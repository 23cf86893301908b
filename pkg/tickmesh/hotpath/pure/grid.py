"""Text to ticks or lots, exactly: the venue's decimal strings become integers, and one off the grid is an error."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from tickmesh.domain.errors import OffGridError

_MAX_CACHED = 200_000


class Grid:
    """Integer units of ``step``. Prices repeat endlessly, so the answers are cached (bounded)."""

    __slots__ = ("_cache", "_step", "_symbol", "_what")

    def __init__(self, step: Decimal, what: str, symbol: str) -> None:
        self._step = step
        self._what = what
        self._symbol = symbol
        self._cache: dict[str, int] = {}

    def units(self, text: str) -> int:
        """Whole steps in ``text``. Raises OffGridError when it is no multiple, not finite or not a number."""
        found = self._cache.get(text)
        return found if found is not None else self._convert(text)

    def _convert(self, text: str) -> int:
        try:
            value = Decimal(text)
            units, rest = divmod(value, self._step)
        except InvalidOperation:
            raise OffGridError(self._what, text[:40], self._step, self._symbol) from None
        if rest or not value.is_finite():
            raise OffGridError(self._what, text[:40], self._step, self._symbol)
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        result = self._cache[text] = int(units)
        return result
