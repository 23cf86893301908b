"""The one readable line a second: what a person glances at while the system runs.

In come the gateway's live picture and the services' counters; out goes one line that says plainly what is missing.
On a terminal it is coloured and takes the longest form that fits: at 80 columns prices, position, P&L, orders and
tick-to-order are all there. A pipe gets all of it as plain text.
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

    def text(self, live: dict[str, Any] | None, down: list[str], disk: str = "") -> str:
        """One line.

        Args:
            live: the gateway's picture; None while it does not answer.
            down: the services that are being restarted.
            disk: what is wrong with the disk.
        """
        ink, clock = self._ink, time.strftime("%H:%M:%S")
        trouble = [ink.bad(f"restarting: {', '.join(down)}")] if down else []
        trouble += [ink.bad(disk)] if disk else []
        if live is None:
            return " | ".join([f"{clock}  {ink.warn('the gateway does not answer')}", *trouble])
        trouble += [ink.bad(f"{halt['state']} {halt['scope']}") for halt in live.get("halts", [])]
        whole, brief = self._prices(live, " pos "), self._prices(live, " ")
        pnl, (market, gaps) = self._pnl(live), self._market()
        more = [f"+{len(brief) - 1} more"] if len(brief) > 1 else []
        short = [*trouble, pnl, _orders_briefly(live), _latency_briefly(live, "tick-order "), *gaps]
        clock = f"{ink.dim(clock)}  "
        forms = [
            [clock + whole[0], *whole[1:], *trouble, pnl, _orders(live), _latency(live), market],
            [clock + whole[0], *whole[1:], *trouble, pnl, _orders(live), _latency(live), *gaps],
            [clock + brief[0], *brief[1:], *short],
            [clock + brief[0], *more, *short],
            [clock + brief[0], *short],
            [brief[0], *short],
            [brief[0], *trouble, pnl, _orders_briefly(live), _latency_briefly(live, ""), *gaps],
        ]
        return _fit(forms) if ink.on else " | ".join(forms[0])

    def _prices(self, live: dict[str, Any], held_mark: str) -> list[str]:
        """Each symbol with its price and what we hold of it."""
        prices, held = sorted(live.get("prices", {}).items()), _held(live)
        shown = [
            f"{symbol} {self._price(price)}{held_mark}{_amount(held.pop(symbol, 0.0))}"
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

    def _market(self) -> tuple[str, list[str]]:
        """Events a second and gaps; and the gaps alone, if there are any."""
        events, gaps = self._poller.counter("feed", "events_total"), self._poller.counter("feed", "gaps_total")
        now_s, before = time.monotonic(), self._before
        self._before = (now_s, events)
        rate = max(0.0, (events - before[1]) / max(0.001, now_s - before[0])) if before else 0.0
        lost = f"{gaps} gap{'' if gaps == 1 else 's'}"
        lost = self._ink.bad(lost) if gaps else lost
        return f"{rate:,.0f} events/s {lost}", [lost] if gaps else []


def halt_news(halts: list[dict[str, Any]], told: set[tuple[str, str]]) -> list[str]:
    """A sentence for each halt that is not in ``told``, which follows: why, by whom, and how to go on."""
    now = {(halt["scope"], halt["state"]) for halt in halts}
    news = [
        f"{halt['state']} {halt['scope']} by {halt.get('actor') or 'unknown'}: {halt.get('reason') or 'no reason'}; "
        f"`tickmesh resume{'' if halt['scope'] == 'all' else ' --scope ' + halt['scope']}` lifts it"
        for halt in halts if (halt["scope"], halt["state"]) not in told
    ]  # fmt: skip
    told.clear()
    told |= now
    return news


def next_beat(beat_s: float, now_s: float) -> float:
    """When the line after that of ``beat_s`` is due: a second later, or half a second from a now that came late.

    A late line is followed by no burst of those that were missed.
    """
    return max(beat_s + 1.0, now_s + 0.5)


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
    return f"orders {orders.get('open', 0)} open of {_count(live)} | fills {live.get('fills', 0)}"


def _orders_briefly(live: dict[str, Any]) -> str:
    return f"orders {live.get('orders', {}).get('open', 0)}/{_count(live)}"


def _count(live: dict[str, Any]) -> int:
    return sum(live.get("orders", {}).get("by_state", {}).values())


def _latency(live: dict[str, Any]) -> str:
    took = live.get("latency_us", {}).get("tick_to_order", {})
    if not took.get("n"):
        return "tick-to-order -"
    return f"tick-to-order {_duration(took['p50'])} p99 {_duration(took['p99'])}"


def _latency_briefly(live: dict[str, Any], name: str) -> str:
    """Both quantiles in one unit."""
    took = live.get("latency_us", {}).get("tick_to_order", {})
    if not took.get("n"):
        return f"{name}-"
    if took["p99"] < 1000:
        return f"{name}{took['p50']:.0f}/{took['p99']:.0f} us"
    return f"{name}{took['p50'] / 1000:.1f}/{took['p99'] / 1000:.1f} ms"


def _duration(us: float) -> str:
    return f"{us:.0f} us" if us < 1000 else f"{us / 1000:.1f} ms"


def _grouped(text: str) -> str:
    head, dot, rest = text.partition(".")
    return f"{int(head):,}{dot}{rest}"


def _fit(forms: list[list[str]]) -> str:
    """The first form that the terminal is wide enough for; of the last as many parts as fit, from the left."""
    columns = shutil.get_terminal_size().columns
    for parts in forms:
        if _width(parts) <= columns:
            return " | ".join(parts)
    while len(parts) > 1 and _width(parts) > columns:
        parts = parts[:-1]
    return " | ".join(parts)


def _width(parts: list[str]) -> int:
    return len(_COLOUR.sub("", " | ".join(parts)))
