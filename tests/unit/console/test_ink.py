"""Colour is for terminals, and the table says everything without it."""

from tickmesh.console.ink import Ink
from tickmesh.console.status import grid, table

LIVE = {
    "prices": {"BTCUSDT": {"bid": "60000.10", "ask": "60000.20", "spread": "0.10", "age_ms": 3, "stale": True}},
    "positions": [],
    "pnl": {"total": "-1.23456789", "realized": "0", "unrealized": "0", "commission": "1.2", "funding": "0"},
    "orders": {"open": 1, "by_state": {"SUBMITTED": 1}},
    "fills": 2,
    "maker_fills": 1,
    "latency_us": {"tick_to_order": {"n": 4, "p50": 812.4, "p95": 900.0, "p99": 990.6}},
    "services": {"risk": {"ready": False, "because": {"down": "it does not answer"}}},
    "halts": [{"scope": "all", "state": "HALTED", "reason": "drill", "actor": "ann", "at_ns": 1}],
    "alerts": [],
    "market": {"events": 12345, "gaps": 0},
}


def test_the_table_names_what_is_halted_stale_and_down() -> None:
    text = table(LIVE)
    for said in ("HALTED all by ann: drill", "stale", "risk", "it does not answer", "12,345 events", "-1.2345", "812"):
        assert said in text
    assert "\x1b" not in text


def test_with_ink_only_colour_is_added() -> None:
    import re

    assert re.sub(r"\x1b\[[0-9;]*m", "", table(LIVE, Ink(on=True))) == table(LIVE)


def test_a_pipe_gets_no_colour() -> None:
    assert not Ink.for_stdout({}).on


def test_a_grid_without_rows_is_nothing() -> None:
    assert grid(["a"], []) == ""
