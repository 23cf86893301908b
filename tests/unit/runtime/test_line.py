"""The line a second says what is there and what is missing, within a terminal's width."""

import re
from typing import Any

import pytest

from tickmesh.console.ink import Ink
from tickmesh.runtime.line import StatusLine
from tickmesh.runtime.poll import StatsPoller

LIVE: dict[str, Any] = {
    "prices": {
        "BTCUSDT": {"mid": "61835.05", "stale": False},
        "ETHUSDT": {"mid": "2681.605", "stale": True},
    },
    "positions": [
        {"symbol": "BTCUSDT", "quantity": "-0.0130"},
        {"symbol": "ETHUSDT", "quantity": "0"},
        {"symbol": "XRPUSDT", "quantity": "7"},
    ],
    "pnl": {"total": "-6.5341"},
    "orders": {"open": 3, "by_state": {"CANCELED": 309, "FILLED": 214, "SUBMITTED": 3}},
    "fills": 277,
    "latency_us": {"tick_to_order": {"n": 524, "p50": 812.4, "p99": 18469.0}},
    "halts": [{"scope": "all", "state": "HALTED"}],
}


@pytest.fixture
def poller() -> StatsPoller:
    made = StatsPoller({})
    made.latest["feed"] = {"counters": {"events_total{symbol=BTCUSDT}": 100, "gaps_total": 1}}
    return made


def test_everything_is_said(poller: StatsPoller) -> None:
    text = StatusLine(poller, Ink(on=False)).text(LIVE, ["feed"])
    for said in (
        "BTCUSDT 61,835.05 pos -0.013", "ETHUSDT 2,681.605 stale pos 0", "restarting: feed", "HALTED all",
        "XRPUSDT pos +7", "P&L -6.53", "3 open of 526", "fills 277", "tick-to-order 812 us p99 18.5 ms", "1 gap",
    ):  # fmt: skip
        assert said in text, said
    assert "\x1b" not in text


def test_what_is_missing_is_said(poller: StatsPoller) -> None:
    line = StatusLine(poller, Ink(on=False))
    assert "the gateway does not answer" in line.text(None, ["gateway"])
    empty = line.text({"prices": {}, "positions": [], "pnl": {}, "orders": {}, "latency_us": {}}, [])
    for said in ("no prices yet", "P&L -", "tick-to-order -"):
        assert said in empty, said


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_on_a_terminal_it_fits(poller: StatsPoller, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = StatusLine(poller, Ink(on=True)).text({**LIVE, "halts": []}, [])
    assert len(re.sub(r"\x1b\[[0-9;]*m", "", text)) <= columns
    assert "BTCUSDT 61,835.05" in text
    assert "\x1b[" in text
