"""``tickmesh status``: the gateway's live picture as a table, or as JSON."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from tickmesh.console.client import GatewayClient
from tickmesh.console.ink import Ink
from tickmesh.domain.errors import DependencyError
from tickmesh.settings import load

_STAGES = {
    "feed": "feed", "transport": "transport", "strategy": "strategy", "intent": "intent to execution",
    "validation": "validation", "send": "to the socket", "tick_to_order": "tick to order",
    "venue_ack": "venue's answer",
}  # fmt: skip
_HOME_AND_CLEAR = "\x1b[H\x1b[J"


def run(arguments: argparse.Namespace) -> int:
    """Print the status once, or every second with --watch, which also waits for a gateway that is away."""
    client = GatewayClient(load(), arguments.url)
    ink = Ink.for_stdout()
    while True:
        try:
            live = client.get("/api/v1/live")
            text = json.dumps(live) if arguments.json else table(live, ink)
        except DependencyError as error:
            if not arguments.watch:
                raise
            text = json.dumps({"error": str(error)}) if arguments.json else ink.bad(str(error))
        clear = _HOME_AND_CLEAR if arguments.watch and not arguments.json and ink.on else ""
        print(clear + text, flush=True)
        if not arguments.watch:
            return 0
        time.sleep(1.0)


def table(live: dict[str, Any], ink: Ink | None = None) -> str:
    """The picture as text."""
    ink = ink or Ink(on=False)
    pnl, orders, market = live["pnl"], live["orders"], live["market"]
    states = ", ".join(f"{n} {state.lower()}" for state, n in sorted(orders["by_state"].items()))
    stopped = [
        ink.bad(f"{h['state']} {h['scope']}") + f" by {h['actor']}" + (f": {h['reason']}" if h["reason"] else "")
        for h in live["halts"]
    ]
    parts = [
        *stopped,
        grid(
            ["symbol", "bid", "ask", "spread", "age ms", ""],
            [
                [symbol, p["bid"], p["ask"], p["spread"], p["age_ms"], "stale" if p["stale"] else ""]
                for symbol, p in sorted(live["prices"].items())
            ],
        )
        or "no prices yet\n",
        grid(
            ["position", "quantity", "entry", "mark", "open P&L", "realised"],
            [
                [p["symbol"], p["quantity"], p["entry_price"], p["mark_price"], p["unrealized_pnl"], p["realized_pnl"]]
                for p in live["positions"]
            ],
        ),
        f"P&L     {ink.signed(pnl['total'], _short(pnl['total']))} (realised {_short(pnl['realized'])}, "
        f"open {_short(pnl['unrealized'])}, fees {_short(pnl['commission'])}, funding {_short(pnl['funding'])})",
        f"orders  {orders['open']} open; {states or 'none yet'}",
        f"fills   {live['fills']} ({live['maker_fills']} as maker)",
        f"market  {market['events']:,} events, {market['gaps']} gaps\n",
        grid(
            ["latency, us", "p50", "p95", "p99", "orders"],
            [
                [_STAGES.get(name, name), round(q["p50"]), round(q["p95"]), round(q["p99"]), q["n"]]
                for name, q in live["latency_us"].items()
                if q["n"]
            ],
        ),
        grid(
            ["service", "ready", "because"],
            [
                [name, "yes" if s.get("ready") else "NO", "; ".join((s.get("because") or {}).values())]
                for name, s in sorted(live["services"].items())
            ],
        ),
    ]
    return "\n".join(part for part in parts if part).rstrip()


def grid(head: list[str], rows: list[list[Any]]) -> str:
    """Columns under headings; empty without rows."""
    if not rows:
        return ""
    cells = [head, *[[_short(value) for value in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells) + "\n"


def _short(value: Any) -> str:
    """Cut decimals after the fourth; the API has them all."""
    text = str(value)
    head, dot, rest = text.partition(".")
    return f"{head}.{rest[:4]}" if dot and len(rest) > 4 and rest.isdecimal() else text
