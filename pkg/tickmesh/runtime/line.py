"""The one readable line a second: what a person glances at while the system runs.

In come the gateway's live picture and the services' counters; out goes one line that says plainly what is missing.
On a terminal it is coloured and cut to its width, the least important part first; a pipe gets all of it as plain text.
"""

from __future__ import annotations

import re
import shutil
import time
from typing import Any

from tickmesh.console.ink import Ink
from tickmesh.runtime.poll import StatsPoller

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MAX_SYMBOLS = 4


class StatusLine:
    """Makes the lines of one run; remembers only the last event count, for the rate."""

    def __init__(self, poller: StatsPoller, ink: Ink | None = None) -> None:
        self._poller = poller
        self._ink = ink or Ink.for_stdout()
        self._before: tuple[float, int] | None = None

    def text(self, live: dict[str, Any] | None, down: list[str]) -> str:
        """One line; ``live`` is None while the gateway does not answer, ``down`` are the services being restarted."""
        ink, clock = self._ink, time.strftime("%H:%M:%S")
        trouble = [ink.bad(f"restarting: {', '.join(down)}")] if down else []
        if live is None:
            return " | ".join([f"{clock}  {ink.warn('the gateway does not answer')}", *trouble])
        trouble += [ink.bad(f"{halt['state']} {halt['scope']}") for halt in live.get("halts", [])]
        first, *others = self._prices(live)
        parts = [
            f"{ink.dim(clock)}  {first}",
            *others,
            *trouble,
            self._pnl(live),
            _orders(live),
            _latency(live),
            self._market(),
        ]
        return _fit(parts) if ink.on else " | ".join(parts)

    def _prices(self, live: dict[str, Any]) -> list[str]:
        """Each symbol with its price and what we hold of it."""
        prices, held = sorted(live.get("prices", {}).items()), _held(live)
        shown = [
            f"{symbol} {self._price(price)} pos {_amount(held.pop(symbol, 0.0))}"
            for symbol, price in prices[:_MAX_SYMBOLS]
        ]
        shown += [f"{symbol} pos {_amount(held[symbol])}" for symbol in sorted(held)[:_MAX_SYMBOLS]]
        more = [f"+{len(prices) - _MAX_SYMBOLS}"] if len(prices) > _MAX_SYMBOLS else []
        return [*shown, *more] or [self._ink.warn("no prices yet")]

    def _price(self, price: dict[str, Any]) -> str:
        text = _grouped(price["mid"])
        return self._ink.warn(f"{text} stale") if price.get("stale") else text

    def _pnl(self, live: dict[str, Any]) -> str:
        total = live.get("pnl", {}).get("total")
        return "P&L -" if total in (None, "") else f"P&L {self._ink.signed(total, f'{float(total):+.2f}')}"

    def _market(self) -> str:
        events, gaps = self._poller.counter("feed", "events_total"), self._poller.counter("feed", "gaps_total")
        now_s, before = time.monotonic(), self._before
        self._before = (now_s, events)
        rate = max(0.0, (events - before[1]) / max(0.001, now_s - before[0])) if before else 0.0
        lost = f"{gaps} gap{'' if gaps == 1 else 's'}"
        return f"{rate:,.0f} events/s {self._ink.bad(lost) if gaps else lost}"


def _held(live: dict[str, Any]) -> dict[str, float]:
    """Quantity by symbol over all accounts; for the eye only, so a float will do."""
    held: dict[str, float] = {}
    for position in live.get("positions", []):
        quantity = float(position.get("quantity") or 0)
        if quantity:
            held[position["symbol"]] = held.get(position["symbol"], 0.0) + quantity
    return held


def _amount(quantity: float) -> str:
    return f"{quantity:+.6g}" if quantity else "0"


def _orders(live: dict[str, Any]) -> str:
    orders = live.get("orders", {})
    total = sum(orders.get("by_state", {}).values())
    return f"orders {orders.get('open', 0)} open of {total} | fills {live.get('fills', 0)}"


def _latency(live: dict[str, Any]) -> str:
    took = live.get("latency_us", {}).get("tick_to_order", {})
    if not took.get("n"):
        return "tick-to-order -"
    return f"tick-to-order {_duration(took['p50'])} p99 {_duration(took['p99'])}"


def _duration(us: float) -> str:
    return f"{us:.0f} us" if us < 1000 else f"{us / 1000:.1f} ms"


def _grouped(text: str) -> str:
    head, dot, rest = text.partition(".")
    return f"{int(head):,}{dot}{rest}"


def _fit(parts: list[str]) -> str:
    """As many parts as the terminal's width takes, from the left."""
    columns = shutil.get_terminal_size().columns
    while len(parts) > 1 and len(_COLOUR.sub("", " | ".join(parts))) > columns:
        parts = parts[:-1]
    return " | ".join(parts)
