"""The last words of a run for a person: what it did, and whether the venue's own record agrees."""

from __future__ import annotations

from typing import Any

_SHOWN = 5


def closing(summary: dict[str, Any]) -> list[str]:
    """Lines about a run that was started without a mistake; ``summary`` as ``report.collect_summary`` makes it."""
    if "error" in summary:
        return [f"{summary['error']}; what was lost or duplicated is not known"]
    orders = summary["orders"]
    states = ", ".join(f"{count} {state.replace('_', ' ').lower()}" for state, count in sorted(orders.items()))
    total = summary.get("pnl", {}).get("total")
    parts = [
        f"{sum(orders.values())} orders" + (f" ({states})" if states else ""),
        f"{summary['fills']} fills",
        "P&L not known" if total in (None, "") else f"P&L {float(total):+.2f}",
    ]
    differences = summary["differences"]
    return [
        f"{', '.join(parts)}; compared with the venue's own record: {summary['lost']} lost, "
        f"{summary['duplicated']} duplicated",
        *(f"  {difference}" for difference in differences[:_SHOWN]),
        *([f"  and {len(differences) - _SHOWN} more; --json lists them"] if len(differences) > _SHOWN else []),
    ]
