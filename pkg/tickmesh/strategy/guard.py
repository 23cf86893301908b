"""A plugin behind glass: what it raises, returns or wastes is noted here and goes no further.

In: calls to a plugin's callbacks. Out: their results, or nothing and a sentence. After ``max_consecutive`` errors in
a row the plugin is disabled until its resource or file changes. It cannot stop an endless loop in the same process.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from tickmesh.domain.errors import ConfigError
from tickmesh.ports import Clock
from tickmesh.strategy.interface import Signal, Strategy

MAX_SIGNALS_PER_CALL = 64


class Guard:
    """One plugin instance and its record."""

    def __init__(
        self,
        plugin: Strategy,
        clock: Clock,
        *,
        max_consecutive: int,
        budget_ns: int,
        on_error: Callable[[str], None],
        on_duration: Callable[[int], None],
    ) -> None:
        self.plugin = plugin
        self.errors = 0
        self.consecutive = 0
        self.over_budget = 0
        self.calls = 0
        self.last_error = ""
        self.disabled = False
        self._clock = clock
        self._max_consecutive = max_consecutive
        self._budget_ns = budget_ns
        self._on_error = on_error
        self._on_duration = on_duration

    def signals(self, data: Any) -> list[Signal]:
        """``on_market_data``, with its result checked; empty when disabled or when it fails."""
        if self.disabled:
            return []
        result = self.call("on_market_data", data)
        if not result:
            return []
        if not isinstance(result, list) or not all(isinstance(s, Signal) for s in result):
            self._note("on_market_data", f"returned {_short(result)} instead of a list of Signal")
            return []
        if len(result) > MAX_SIGNALS_PER_CALL:
            self._note("on_market_data", f"returned {len(result)} signals; at most {MAX_SIGNALS_PER_CALL} are taken")
            return []
        return result

    def call(self, callback: str, *arguments: Any) -> Any:
        """Call one callback; None when disabled or when it raises."""
        if self.disabled:
            return None
        started = self._clock.mono_ns()
        try:
            result = getattr(self.plugin, callback)(*arguments)
        except (Exception, SystemExit) as error:
            self._note(callback, describe(error))
            return None
        took = self._clock.mono_ns() - started
        self.calls += 1
        self._on_duration(took)
        if took > self._budget_ns:
            self.over_budget += 1
        if callback == "on_market_data":
            # Only the callback that is always called clears the row: a plugin whose fills fail is broken too.
            self.consecutive = 0 if self.consecutive < 2 else self.consecutive - 1
        return result

    def _note(self, callback: str, text: str) -> None:
        self.errors += 1
        self.consecutive += 1
        self.last_error = f"{callback} {text}"
        if self.consecutive >= self._max_consecutive:
            self.disabled = True
            self.last_error += f"; disabled after {self.consecutive} errors, until its resource or file is edited"
        self._on_error(self.last_error)


def describe(error: BaseException) -> str:
    """An exception of a plugin as one clause, with the place in the plugin."""
    if isinstance(error, ConfigError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    text = " ".join(str(error).split())[:300]
    return f"raised {type(error).__name__}{f' ({text})' if text else ''}{where}"


def _short(value: object) -> str:
    text = f"{type(value).__name__}"
    return f"a {text}" if not isinstance(value, list) else "a list with other things in it"
