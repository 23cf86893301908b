"""One command trades: the whole system as real processes, with kills, restarts and the real capture."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tickmesh import hotpath
from tickmesh.venues.capture import rebuild_book

sys.path.insert(0, str(Path(__file__).parent))
from harness import ROOT, SERVERS, SERVICES, Run, assert_sound
from pace import Pace

DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data")) / "binance-usdm"
CAPTURE = DATA / "btcusdt_20240808.gz"
CAPTURE_2021 = DATA / "stream_2021.txt"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Start = Callable[..., Run]


def test_ticks_become_orders_become_fills_and_a_second_run_picks_the_state_up(up: Start) -> None:
    run = up("--for", "20s")
    first = run.summary()
    assert run.halves() == {name: {hotpath.HALF} for name in SERVICES}
    assert_sound(first)
    assert first["events"] > 100
    assert first["gaps"] == 0
    assert sum(first["orders"].values()) > 0
    assert first["fills"] > 0
    assert first["latency_us"]["tick_to_order"]["n"] > 0
    assert_complete(first)
    second = up("--for", "10s").summary()
    assert_sound(second)
    assert sum(second["orders"].values()) > 0


def assert_complete(summary: dict[str, Any]) -> None:
    """Every figure that was promised is there and can be true, in a run of which nothing was killed."""
    assert summary["events_per_s"] > 0
    assert summary["differences"] == []
    assert summary["restarts"] == {}
    for key in ("cpu_s", "rss_mb"):
        assert set(summary[key]) == {*SERVERS, *SERVICES}
        assert all(figure > 0 for figure in summary[key].values()), summary[key]
    latency = summary["latency_us"]
    assert latency.keys() == {"feed", "strategy", "transport", "validation", "tick_to_order"}
    for stage, took in latency.items():
        assert took["n"] > 0 and 0 < took["p50"] <= took["p95"] <= took["p99"] <= took["max"], (stage, took)
    orders = summary["orders"]
    assert set(orders) <= {"FILLED", "CANCELED", "REJECTED", "EXPIRED"}
    # Of every order that reached the venue, and not of a sample: what was filled or cancelled was there for certain.
    assert orders.get("FILLED", 0) + orders.get("CANCELED", 0) <= latency["tick_to_order"]["n"] <= sum(orders.values())
    assert {part["n"] for part in summary["order_path_us"].values()} == {latency["tick_to_order"]["n"]}
    money = {
        name: Decimal(summary["pnl"][name]) for name in ("realized", "unrealized", "commission", "funding", "total")
    }
    assert money["total"] == money["realized"] + money["unrealized"] - money["commission"] + money["funding"]


def test_ctrl_c_drains(up: Start) -> None:
    run = up()
    run.wait_for("dashboard:")
    time.sleep(5)
    with Pace() as pace:
        began = time.monotonic()
        run.process.send_signal(signal.SIGINT)
        assert_sound(run.summary())
        pace.assert_within(30, time.monotonic() - began)
    assert run.process.returncode == 0


@pytest.mark.parametrize("victim", [*SERVICES, *SERVERS])
def test_killing_any_one_process_loses_and_doubles_nothing(up: Start, victim: str) -> None:
    run = up("--for", "20s")
    run.wait_for("dashboard:")
    time.sleep(5)
    run.children()[victim].kill()
    summary = run.summary()
    assert_sound(summary)
    assert summary["restarts"].get(victim, 0) >= 1
    assert sum(summary["orders"].values()) > 0


def test_the_shared_memory_ring_carries_the_loop_too(up: Start) -> None:
    summary = up("--for", "15s", "--transport", "shm").summary()
    assert_sound(summary)
    assert sum(summary["orders"].values()) > 0


def test_the_capture_runs_through_the_whole_loop_to_the_independent_book(up: Start) -> None:
    if not CAPTURE.exists():
        pytest.skip(f"the capture {CAPTURE.name} is not there (TICKMESH_DATA)")
    run = up("--replay", str(CAPTURE), "--replay-speed", "0")
    summary = run.summary(400)
    assert_sound(summary)
    assert "the replay is through" in run.output()
    assert summary["gaps"] == 0
    assert summary["events"] >= 6_551 + 66_089 + 21_313
    assert sum(summary["orders"].values()) > 0
    assert_final_book(run, CAPTURE, "BTCUSDT")


def test_a_capture_of_four_symbols_with_aggregated_trades_and_a_widened_tick_ends_in_the_independent_books(
    up: Start,
) -> None:
    if not CAPTURE_2021.exists():
        pytest.skip(f"the capture {CAPTURE_2021.name} is not there (TICKMESH_DATA)")
    run = up("--replay", str(CAPTURE_2021), "--replay-speed", "0")
    summary = run.summary()
    assert_sound(summary)
    assert summary["gaps"] == 0
    assert summary["events"] >= 764 + 613 + 91, "depth, bookTicker, aggTrade"
    for symbol in ("AKROUSDT", "CTKUSDT", "KEEPUSDT", "SUSHIUSDT"):
        assert_final_book(run, CAPTURE_2021, symbol)


def assert_final_book(run: Run, capture: Path, symbol: str) -> None:
    book = json.loads((run.data_dir / "books" / f"{symbol}.json").read_text())
    oracle = rebuild_book(capture, symbol)
    assert oracle.applied > 0
    assert {Decimal(p): Decimal(q) for p, q in book["bids"]} == oracle.bids
    assert {Decimal(p): Decimal(q) for p, q in book["asks"]} == oracle.asks


def test_a_second_one_on_the_same_state_is_refused_in_one_sentence(up: Start) -> None:
    run = up()
    run.wait_for("starting")
    second = Run(run.data_dir)
    second.log = run.log  # both wrote there; only the exit code matters here
    assert second.process.wait(60) == 2
    run.kill_all()
