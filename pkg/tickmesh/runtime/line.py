"""The one readable line a second."""

from __future__ import annotations

import time
from typing import Any

from tickmesh.runtime.poll import StatsPoller


def status_line(live: dict[str, Any] | None, down: list[str], poller: StatsPoller) -> str:
    """Prices, position, P&L, orders, tick-to-order; says plainly what is missing."""
    clock = time.strftime("%H:%M:%S")
    suffix = f" | restarting: {', '.join(down)}" if down else ""
    if live is None:
        return f"{clock} the gateway does not answer{suffix}"
    prices = "  ".join(
        f"{symbol} {price.get('mid') or price.get('bid') or '-'}{'*' if price.get('stale') else ''}"
        for symbol, price in sorted(live.get("prices", {}).items())
    )
    positions = (
        " ".join(f"{p['symbol']} {p.get('quantity', '0')}" for p in live.get("positions", []) if _amount(p)) or "flat"
    )
    pnl = live.get("pnl", {})
    orders = live.get("orders", {})
    total = sum(orders.get("by_state", {}).values()) if isinstance(orders.get("by_state"), dict) else 0
    latency = live.get("latency_us", {}).get("tick_to_order", {})
    took = f"{latency.get('p50', 0):.0f}/{latency.get('p99', 0):.0f} us" if latency.get("n") else "-"
    return (
        f"{clock} {prices or 'no prices yet'} | pos {positions} | pnl {_money(pnl.get('total'))}"
        f" | orders {orders.get('open', 0)} open {total} total {live.get('fills', 0)} fills"
        f" | tick-to-order p50/p99 {took}"
        f" | {poller.counter('feed', 'events_total'):,} events {poller.counter('feed', 'gaps_total')} gaps{suffix}"
    )


def _amount(position: dict[str, Any]) -> bool:
    return float(position.get("quantity") or 0) != 0


def _money(value: Any) -> str:
    return f"{float(value):+.2f}" if value not in (None, "") else "-"
