"""A plugin behind glass: what it raises, returns or wastes is noted here and goes no further.

In: calls to a plugin's callbacks. Out: their results, or nothing and a Report. After ``max_errors`` errors within
``window_ns`` the plugin is disabled until its resource or file changes. A call that takes longer than ``block_ns``
is an error too. Ending a call that does not return is the Watch's business (services.strategy_watchdog).
"""

from __future__ import annotations

import re
import traceback
from collections import deque
from typing import Any, NamedTuple, Protocol

import msgspec

from tickmesh.domain.enums import Side, Urgency
from tickmesh.domain.errors import ConfigError
from tickmesh.ports import Clock
from tickmesh.strategy.interface import Signal, Strategy

MAX_SIGNALS_PER_CALL = 64
_MAX_REPORTS = 100
_MAX_QUOTES = 4096
_QUOTE = re.compile(r"[A-Za-z0-9_-]{0,16}")


class Report(NamedTuple):
    """One sentence about a plugin; ``disabled`` when it was the last straw."""

    text: str
    disabled: bool = False


class PluginBlockedError(BaseException):
    """Raised into a plugin that does not return; not an Exception, so that the plugin does not swallow it."""


class Watch(Protocol):
    """Is told when plugin code starts and ends; ``leave`` gives a pending PluginBlockedError time to arrive."""

    def enter(self, what: str) -> None: ...

    def leave(self) -> None: ...


class NoWatch:
    """Watches nothing; for tests, the backtest and replays."""

    def enter(self, what: str) -> None:
        return

    def leave(self) -> None:
        return


class GuardPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When errors end a plugin, and how long a call may take."""

    max_errors: int = 5
    window_ns: int = 60_000_000_000
    block_ns: int = 1_000_000_000


class Guard:
    """One plugin instance and its record."""

    def __init__(self, plugin: Strategy, name: str, clock: Clock, policy: GuardPolicy, watch: Watch) -> None:
        self.plugin = plugin
        self.name = name
        self.errors = 0
        self.calls = 0
        self.longest_ns = 0
        self.last_error = ""
        self.disabled = False
        self.hears_trades = hears_trades(type(plugin))
        self._clock = clock
        self._policy = policy
        self._watch = watch
        self._recent: deque[int] = deque(maxlen=policy.max_errors)
        self._reports: list[Report] = []

    def signals(self, data: Any) -> list[Signal]:
        """``on_market_data``, with its result checked; empty when disabled or when it fails."""
        if self.disabled:
            return []
        result = self._call("on_market_data", (data,))
        if not result:
            if result is not None and not isinstance(result, list):
                self._note("on_market_data", f"returned {_short(result)} instead of a list of Signal")
            return []
        if not isinstance(result, list):
            self._note("on_market_data", f"returned {_short(result)} instead of a list of Signal")
            return []
        for signal in result:
            if not isinstance(signal, Signal):
                self._note("on_market_data", f"returned {_short(result)} instead of a list of Signal")
                return []
        if len(result) > MAX_SIGNALS_PER_CALL:
            self._note("on_market_data", f"returned {len(result)} signals; at most {MAX_SIGNALS_PER_CALL} are taken")
            return []
        for signal in result:
            mistake = "" if _plainly_right(signal) else check_signal(signal)
            if mistake:
                self._note("on_market_data", f"returned a signal whose {mistake}")
                return []
        return result

    def state(self) -> dict[str, Any]:
        """``get_state``, also of a disabled plugin; empty when it fails or gives no dict."""
        result = self._call("get_state", ())
        return result if isinstance(result, dict) else {}

    def call(self, callback: str, *arguments: Any) -> Any:
        """Call one callback; None when disabled or when it raises."""
        return None if self.disabled else self._call(callback, arguments)

    def _call(self, callback: str, arguments: tuple[Any, ...]) -> Any:
        watch = self._watch
        started = self._clock.mono_ns()
        try:
            watch.enter(self.name)
            try:
                result = getattr(self.plugin, callback)(*arguments)
            finally:
                watch.leave()
        except PluginBlockedError:
            self._note(callback, f"was interrupted after {(self._clock.mono_ns() - started) / 1e9:.1f} s")
            return None
        except (Exception, SystemExit) as error:  # somebody else's code: reported, counted, never ours to die of
            self._note(callback, describe(error))
            return None
        took = self._clock.mono_ns() - started
        self.calls += 1
        if took > self.longest_ns:
            self.longest_ns = took
        if took > self._policy.block_ns:
            self._note(callback, f"took {took / 1e6:.0f} ms; everything else of this process waited")
        return result

    def take_reports(self) -> list[Report]:
        """What happened since the last time, oldest first, at most a hundred."""
        if not self._reports:
            return []
        reports, self._reports = self._reports, []
        return reports

    def _note(self, callback: str, text: str) -> None:
        now = self._clock.mono_ns()
        self.errors += 1
        self._recent.append(now)
        self.last_error = f"{callback} {text}"
        if len(self._recent) == self._policy.max_errors and now - self._recent[0] <= self._policy.window_ns:
            self.disabled = True
            self.last_error += (
                f"; disabled after {self._policy.max_errors} errors within {self._policy.window_ns / 1e9:g} s, "
                "until its resource or file is edited"
            )
        if len(self._reports) < _MAX_REPORTS:
            self._reports.append(Report(self.last_error, self.disabled))


def hears_trades(cls: type) -> bool:
    """What a class of plugins says, unless a subclass of the one that says it hears in a way of its own."""
    for each in cls.__mro__:
        if "hears_trades" in vars(each):
            return vars(each)["hears_trades"] is not False
        if "on_market_data" in vars(each):
            return True
    return True


_right_quotes: set[str] = set()
"""Names of quotes that were found right, so that the pattern is not asked again."""


def _plainly_right(signal: Signal) -> bool:
    """Whether nothing can be wrong with a signal; most are so, and the rest is for ``check_signal`` to say."""
    return (
        type(signal.qty_lots) is int
        and type(signal.price_ticks) is int
        and type(signal.ttl_ns) is int
        and type(signal.rest_ns) is int
        and signal.qty_lots >= 0 <= signal.price_ticks
        and signal.ttl_ns > 0 < signal.rest_ns
        and type(signal.side) is Side
        and type(signal.urgency) is Urgency
        and type(signal.symbol) is str
        and type(signal.reason) is str
        and type(signal.strength) is float
        and 0.0 < signal.strength <= 1.0
        and type(signal.quote) is str
        and signal.quote in _right_quotes
    )


def check_signal(signal: Signal) -> str:
    """What is wrong with a signal, as a clause; empty when nothing is."""
    for field, low in (("qty_lots", 0), ("price_ticks", 0), ("ttl_ns", 1), ("rest_ns", 1)):
        value = getattr(signal, field)
        if type(value) is not int or value < low:
            return f"{field} is {value!r}; it must be a whole number, {low} or more"
    if signal.side not in (1, -1):
        return f"side is {signal.side!r}; it must be Side.BUY or Side.SELL"
    if signal.urgency not in tuple(Urgency):
        return f"urgency is {signal.urgency!r}; it must be one of Urgency"
    for field in ("symbol", "reason"):
        if not isinstance(getattr(signal, field), str):
            return f"{field} is {getattr(signal, field)!r}; it must be a text"
    if not isinstance(signal.strength, (int, float)) or not 0.0 < signal.strength <= 1.0:
        return f"strength is {signal.strength!r}; it must lie in (0, 1]"
    if not isinstance(signal.quote, str) or not _QUOTE.fullmatch(signal.quote) or signal.quote == "d":
        return f"quote is {signal.quote!r}; it must be at most 16 letters, digits, - and _, and not d"
    if len(_right_quotes) < _MAX_QUOTES:
        _right_quotes.add(str(signal.quote))
    return ""


def describe(error: BaseException) -> str:
    """An exception of a plugin as one clause, with the place in the plugin."""
    if isinstance(error, ConfigError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    text = " ".join(str(error).split())[:300]
    return f"raised {type(error).__name__}{f' ({text})' if text else ''}{where}"


def _short(value: object) -> str:
    return "a list with other things in it" if isinstance(value, list) else f"a {type(value).__name__}"
