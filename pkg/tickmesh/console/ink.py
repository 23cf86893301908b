"""Ink: colour for a terminal, nothing for a pipe; colour never says what the words do not say too."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ink:
    """Wraps text in colour when ``on``."""

    on: bool

    @classmethod
    def for_stdout(cls, environ: Mapping[str, str] | None = None) -> Ink:
        """On for a terminal, unless NO_COLOR is set or the terminal is dumb."""
        environ = os.environ if environ is None else environ
        return cls(on=sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb")

    def good(self, text: str) -> str:
        return self._paint("32", text)

    def bad(self, text: str) -> str:
        return self._paint("31;1", text)

    def warn(self, text: str) -> str:
        return self._paint("33", text)

    def dim(self, text: str) -> str:
        return self._paint("2", text)

    def signed(self, value: object, text: str) -> str:
        """Green above zero, red below."""
        number = float(str(value))
        return self.good(text) if number > 0 else self._paint("31", text) if number < 0 else text

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on else text
