"""The line a second says what is there and what is missing, within a terminal's width."""

import re
from typing import Any

import pytest

from tickmesh.console.ink import Ink
from tickmesh.runtime.line import StatusLine, halt_news, next_beat
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


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 130, 200])
def test_on_a_terminal_it_fits(poller: StatsPoller, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(poller, {**LIVE, "halts": []}, columns, monkeypatch)
    assert len(text) <= columns
    assert "BTCUSDT 61,835.05" in text


@pytest.mark.parametrize("columns", [80, 100, 130, 200])
def test_what_was_promised_of_the_line_is_there_on_a_terminal_of_80_columns_and_more(
    poller: StatsPoller, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = {**LIVE, "halts": [], "pnl": {"total": "-1306.5341"}, "orders": {"open": 13, "by_state": {"FILLED": 98765}}}
    for live, pnl, orders in ((LIVE | {"halts": []}, "-6.53", r"3( open of |/)526"), (busy, "-1306.53", "13.*98765")):
        text = on_terminal(poller, live, columns, monkeypatch)
        assert re.search(r"BTCUSDT 61,835\.05 (pos )?-0\.013", text), text
        assert f"P&L {pnl}" in text
        assert re.search(f"orders {orders}", text), text
        assert re.search(r"812 us p99 18\.5 ms|0\.8/18\.5 ms", text), text
    poller.latest["feed"] = {"counters": {"gaps_total": 0}}
    assert "tick-" in on_terminal(poller, LIVE | {"halts": []}, columns, monkeypatch)


def test_trouble_comes_before_what_is_well(poller: StatsPoller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = StatusLine(poller, Ink(on=True)).text(LIVE, ["execution"], "disk: 3 MB left")
    for said in ("restarting: execution", "disk: 3 MB left", "HALTED all"):
        assert said in text, said


def test_a_late_line_is_followed_by_no_burst() -> None:
    assert next_beat(10.0, 10.02) == 11.0
    assert next_beat(11.0, 11.9) == 12.4
    assert next_beat(12.0, 17.0) == 17.5


def test_a_halt_is_explained_once_until_it_is_lifted() -> None:
    told: set[tuple[str, str]] = set()
    halt = {"scope": "all", "state": "HALTED", "reason": "the feed service has not answered for 31 s", "actor": "risk"}
    other = {**halt, "scope": "account.main", "state": "REDUCING"}
    assert halt_news([halt], told) == [
        "HALTED all by risk: the feed service has not answered for 31 s; `tickmesh resume` lifts it"
    ]
    assert halt_news([halt, other], told)[0].endswith("; `tickmesh resume --scope account.main` lifts it")
    assert halt_news([halt, other], told) == []
    assert halt_news([], told) == []
    assert len(halt_news([halt], told)) == 1, "the next time is news again"


def on_terminal(poller: StatsPoller, live: dict[str, Any], columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a person sees, without the colours."""
    monkeypatch.setenv("COLUMNS", str(columns))
    text = StatusLine(poller, Ink(on=True)).text(live, [])
    assert "\x1b[" in text
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
