"""What the strategy service shows of itself: the body of GET /strategies and its gauges."""

from __future__ import annotations

from typing import Any

from tickmesh.observe.metrics import Metrics
from tickmesh.ports import Clock
from tickmesh.strategy.desk import Desk
from tickmesh.strategy.floor import Floor


def status_of(floor: Floor, clock: Clock) -> list[dict[str, Any]]:
    """Every strategy as plain data."""
    now = clock.mono_ns()
    return [_desk(desk, now) for desk in floor.desks.values()]


def _desk(desk: Desk, now_mono_ns: int) -> dict[str, Any]:
    ledger = desk.ledger
    guard = desk.guard
    return {
        "name": desk.name,
        "mode": desk.mode.value,
        "file": desk.plan.file,
        "symbols": desk.plan.spec.symbols,
        "waits_because": desk.may_place("", now_mono_ns),
        "halted": sorted(desk.halted),
        "stale": sorted(desk.stale),
        "signals": desk.signals,
        "refused": desk.refused,
        "plugin": {
            "calls": guard.calls,
            "errors": guard.errors,
            "disabled": guard.disabled,
            "last_error": guard.last_error,
            "longest_us": guard.longest_ns // 1000,
        },
        "positions": {
            symbol: {
                "qty_lots": held.qty_lots,
                "realized_pnl": held.realized_pnl,
                "commission": held.commission,
                "fills": held.fills,
                "unrealized_pnl": ledger.unrealized_pnl(symbol, _mid(desk, symbol)),
            }
            for symbol, held in ledger.holdings.items()
        },
        "orders": [
            {
                "client_order_id": order.client_order_id,
                "symbol": order.symbol,
                "side": order.side.name,
                "price_ticks": order.price_ticks,
                "open_lots": order.open_lots,
                "slot": order.slot,
                "state": order.state.value,
                "adopted": order.adopted,
            }
            for order in ledger.orders.values()
        ],
    }


def _mid(desk: Desk, symbol: str) -> float:
    book = desk.books.get(symbol)
    return book.mid_ticks if book else 0.0


def update_gauges(metrics: Metrics, floor: Floor) -> None:
    """Set the gauges of every strategy."""
    for desk in floor.desks.values():
        ledger, name = desk.ledger, desk.name
        metrics.gauge("open_orders", "working orders", strategy=name).set(len(ledger.orders))
        metrics.gauge("plugin_disabled", "1 when the plugin was disabled", strategy=name).set(desk.guard.disabled)
        metrics.counter("signals_total", "signals of plugins", strategy=name).value = desk.signals
        metrics.counter("signals_refused_total", "signals that led to no order", strategy=name).value = desk.refused
        for symbol, held in ledger.holdings.items():
            labels = {"strategy": name, "symbol": symbol}
            metrics.gauge("position_lots", "position of the strategy", **labels).set(held.qty_lots)
            pnl = held.realized_pnl + ledger.unrealized_pnl(symbol, _mid(desk, symbol)) - held.commission
            metrics.gauge("strategy_pnl", "profit and loss after commission, quote", **labels).set(float(pnl))
