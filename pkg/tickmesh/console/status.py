"""``tickmesh status``: the gateway's live picture as a table, or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from tickmesh.domain.errors import ConfigError
from tickmesh.settings import load

_TIMEOUT_S = 3.0


def main(argv: list[str]) -> int:
    """Print the status once, or every second with --watch; 1 when nothing answers."""
    parser = argparse.ArgumentParser(prog="tickmesh status", description="What the running system is doing.")
    parser.add_argument("--json", action="store_true", help="print the whole picture as JSON")
    parser.add_argument("--watch", action="store_true", help="again every second")
    parser.add_argument("--url", help="gateway to ask (default: the configured one)")
    arguments = parser.parse_args(argv)
    try:
        settings = load()
    except ConfigError as error:
        print(f"tickmesh: {error}", file=sys.stderr)
        return 2
    url = arguments.url or f"http://{settings.observe.host}:{settings.gateway.port}"
    while True:
        try:
            live = fetch(url, settings.gateway.token.get_secret_value())
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            print(f"tickmesh: no gateway answers at {url} ({reason}); start one with `make run`", file=sys.stderr)
            return 1
        if arguments.watch and not arguments.json:
            print("\x1b[2J\x1b[H", end="")
        print(json.dumps(live) if arguments.json else table(live), flush=True)
        if not arguments.watch:
            return 0
        time.sleep(1.0)


def fetch(url: str, token: str = "") -> dict[str, Any]:
    """The live picture of the gateway at ``url``; raises OSError or ValueError when there is none."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("the URL must begin with http:// or https://")
    request = urllib.request.Request(
        url + "/api/v1/live", headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        live: dict[str, Any] = json.load(response)
    return live


def table(live: dict[str, Any]) -> str:
    """The picture as text."""
    pnl, orders, latency = live["pnl"], live["orders"], live["latency_us"]["tick_to_order"]
    states = ", ".join(f"{n} {state.lower()}" for state, n in sorted(orders["by_state"].items()))
    parts = [
        grid(
            ["symbol", "bid", "ask", "spread", "age ms", ""],
            [
                [symbol, p["bid"], p["ask"], p["spread"], p["age_ms"], "stale" if p["stale"] else ""]
                for symbol, p in sorted(live["prices"].items())
            ],
        ),
        grid(
            ["position", "quantity", "entry", "mark", "open P&L", "realised"],
            [
                [p["symbol"], p["quantity"], p["entry_price"], p["mark_price"], p["unrealized_pnl"], p["realized_pnl"]]
                for p in live["positions"]
            ],
        ),
        f"P&L     {pnl['total']} (realised {pnl['realized']}, open {pnl['unrealized']}, fees {pnl['commission']})",
        f"orders  {orders['open']} open; {states or 'none yet'}",
        f"fills   {live['fills']} ({live['maker_fills']} as maker)",
        f"tick to order  p50 {latency['p50']:.0f} us  p99 {latency['p99']:.0f} us  of {latency['n']} orders",
        grid(
            ["service", "ready", "because"],
            [
                [name, "yes" if s.get("ready") else "NO", "; ".join((s.get("because") or {}).values())]
                for name, s in sorted(live["services"].items())
            ],
        ),
    ]
    return "\n".join(part for part in parts if part)


def grid(head: list[str], rows: list[list[Any]]) -> str:
    """Columns under headings; empty without rows."""
    if not rows:
        return ""
    cells = [head, *[[_short(value) for value in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells) + "\n"


def _short(value: Any) -> str:
    text = str(value)
    head, dot, rest = text.partition(".")
    return f"{head}.{rest[:4]}" if dot and len(rest) > 4 else text
