"""`tickmesh bench` as a person runs it: real processes, real nats-server, one JSON line at the end."""

import contextlib
import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tickmesh.runtime.bench.suite import NAMES

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data"))
CAPTURE = DATA / "binance-usdm" / "btcusdt_20240808.gz"


COMMAND = [sys.executable, "-m", "tickmesh.runtime.cli", "bench"]


def environment(*first: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, [*first, ROOT / "pkg"]))}


def bench(*arguments: str, first: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run it; modules in ``first`` come before all others."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=150, check=False, env=environment(*first)
    )


def test_hops_are_measured_between_processes_and_reported_as_json() -> None:
    done = bench("--json", "--only", "timer,hop_tcp,hop_nats_raw,hop_nats,hop_ring")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    results = {r["name"]: r for r in document["results"]}
    assert list(results) == ["timer", "hop_tcp", "hop_nats_raw", "hop_nats", "hop_ring"]
    for result in results.values():
        assert result["unit"] == "us"
        assert 0 < result["p50"] <= result["p99"]
        assert result["n"] >= 5_000


@pytest.mark.parametrize(
    ("only", "said"), [("faster", "faster"), ("timer,faster,slower", "faster, slower"), (",", "','")]
)
def test_an_unknown_benchmark_ends_with_one_sentence(only: str, said: str) -> None:
    done = bench("--only", only)
    assert done.returncode == 2
    assert done.stderr.startswith(f"tickmesh: there is no benchmark {said}; there are timer, ")
    assert len(done.stderr.splitlines()) == 1


CONTRACT = (
    "depth_native", "depth_pure", "depth_nautilus", "depth_cryptofeed", "depth_msgspec_floor", "top_native",
    "engine_native", "engine_pure", "hop_ring", "hop_nats", "hop_nats_raw", "hop_tcp", "tick_to_order_ring",
    "tick_to_order_nats", "feed_cpu_pct",
)  # fmt: skip


def test_the_benchmarks_that_were_promised_are_there() -> None:
    assert not set(CONTRACT) - set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.skipif(not CAPTURE.is_file(), reason=f"the capture {CAPTURE.name} is not there (TICKMESH_DATA)")
def test_the_engine_is_measured_from_tick_to_signal_on_real_messages() -> None:
    done = bench("--json", "--data", str(CAPTURE), "--only", "engine_pure,engine_pure_tick,engine_pure_signal")
    assert done.returncode == 0, done.stderr
    results = {r["name"]: r for r in json.loads(done.stdout.splitlines()[-1])["results"]}
    assert list(results) == ["engine_pure", "engine_pure_tick", "engine_pure_signal"]
    assert all(r["n"] > 10_000 and 0 < r["p50"] <= r["p99"] for r in results.values())
    assert results["engine_pure"]["n"] == results["engine_pure_signal"]["n"]


IN_PROCESS = (
    "timer", "copy_floor", "depth_msgspec_floor", "depth_native", "depth_pure", "depth_cryptofeed", "depth_nautilus",
    "depth_hftbacktest", "top_native", "top_pure", "trade_native", "trade_pure", "mix_native", "mix_pure",
    "allocations_native", "engine_native", "engine_pure",
)  # fmt: skip
needs_captures = pytest.mark.skipif(not CAPTURE.is_file(), reason="the captures are not there (TICKMESH_DATA)")


def _raw_stream(into: Path) -> Path:
    """The beginning of the capture as a connection to ``/ws`` has it: frames without their envelope."""
    made = into / "raw.txt"
    with gzip.open(CAPTURE, "rt") as source, made.open("w") as out:
        for line in itertools.islice(source, 3_000):
            at, _, frame = line.partition(" ")
            data = frame.partition('"data":')[2]
            out.write(f"{at} {data.rstrip()[:-1]}\n" if data else line)
    return made


@needs_captures
@pytest.mark.parametrize(("name", "trades"), [("stream_2021.txt", False), ("raw.txt", True)])
def test_any_capture_will_do_and_what_it_lacks_is_skipped_by_name(tmp_path: Path, name: str, trades: bool) -> None:
    capture = _raw_stream(tmp_path) if name == "raw.txt" else CAPTURE.parent / name
    done = bench("--json", "--data", str(capture), "--only", ",".join(IN_PROCESS))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert document["failed"] == []
    skipped = {each["name"]: each["why"] for each in document["skipped"]}
    results = {each["name"]: each for each in document["results"]}
    assert set(results) | set(skipped) == set(IN_PROCESS)
    assert all(r["n"] >= 30 and r["p50"] >= 0 for r in results.values())
    assert all(r["p50"] <= r["p99"] for r in results.values() if r["unit"] == "us")
    assert ("trade_pure" in results) is trades
    assert {"depth_pure", "top_pure", "mix_pure", "engine_pure"} <= set(results)
    if not trades:
        assert skipped["trade_pure"] == "the capture has no trade messages"


@needs_captures
@pytest.mark.parametrize("name", ["exchange_info_2021.txt", "snapshots_2021.txt", "messages/trade_stream.json"])
def test_a_file_that_is_no_market_ends_with_one_sentence(name: str) -> None:
    done = bench("--json", "--data", str(CAPTURE.parent / name), "--only", "depth_pure")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"tickmesh: {CAPTURE.parent / name} ")
    assert "Traceback" not in done.stderr


def _module(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@needs_captures
def test_a_rival_that_is_not_installed_is_skipped_by_name_with_what_to_install(tmp_path: Path) -> None:
    for name in ("nautilus_trader", "hftbacktest", "order_book", "yapic"):
        _module(tmp_path, f"{name}.py", "raise ModuleNotFoundError(f'No module named {__name__}', name=__name__)")
    rivals = "depth_nautilus,depth_cryptofeed,depth_hftbacktest"
    done = bench("--json", "--only", f"timer,{rivals}", first=(tmp_path,))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert [r["name"] for r in document["results"]] == ["timer"]
    assert {s["name"] for s in document["skipped"]} == set(rivals.split(","))
    assert all("is not installed" in s["why"] and "tickmesh[rivals]" in s["why"] for s in document["skipped"])


_LAZY = """
class Side(dict):
    def index(self, number):
        return list(self.items())[number]
    def __setitem__(self, price, size):
        if not self:
            super().__setitem__(price, size)
    def __delitem__(self, price):
        pass

class OrderBook:
    def __init__(self, max_depth):
        self.bids, self.asks = Side(), Side()
"""


@needs_captures
def test_a_rival_that_does_not_do_the_work_gets_no_figure_and_the_others_do(tmp_path: Path) -> None:
    _module(tmp_path, "order_book.py", _LAZY)
    _module(tmp_path, "yapic/__init__.py", "import json")
    done = bench("--json", "--only", "copy_floor,depth_cryptofeed,depth_pure", first=(tmp_path,))
    document = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1, "something failed"
    assert [r["name"] for r in document["results"]] == ["copy_floor", "depth_pure"]
    (failed,) = document["failed"]
    assert failed["name"] == "depth_cryptofeed" and "the figure would compare different work" in failed["why"]


def test_whoever_reads_may_stop_reading() -> None:
    for arguments in (["--only", "timer"], ["--json", "--only", "timer"]):
        with subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            said = process.stderr.read()
            assert process.wait(60) == 0
        assert "Traceback" not in said and "BrokenPipe" not in said, said


@pytest.mark.parametrize(("name", "processes"), [("hop_nats", 2), ("hop_ring", 1), ("tick_to_order_nats", 6)])
def test_ctrl_c_ends_it_with_everything_that_it_started(name: str, processes: int) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--json", "--only", name], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **environment()}, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == f"{name} ...\n"
        deadline = time.monotonic() + 60
        while len(started := psutil.Process(process.pid).children(recursive=True)) < processes:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(90) == 130
        assert psutil.wait_procs(started, timeout=30)[1] == []
        assert "Traceback" not in process.stderr.read()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
