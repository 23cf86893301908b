"""Every benchmark by name, and the run over the chosen ones.

In: names, a capture. Out: a list of outcomes in table order. One that cannot run here is skipped by name with the
reason; one that fails is named with its error, and the command ends with 1, because half an hour of other figures is
no less true for it.
"""

from __future__ import annotations

import gc
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tickmesh.domain.errors import ConfigError
from tickmesh.runtime.bench import document, engine, goals, hops, loop, market, orders, walk
from tickmesh.runtime.bench import machine as machine_bench
from tickmesh.runtime.bench.frames import Frames, default_capture, load
from tickmesh.runtime.bench.result import Failed, Outcome, Result, Skipped, ratios, table

Run = Callable[[Frames], Result]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``rival`` names the distribution that has to be installed for it."""

    name: str
    run: Run
    rival: str = ""
    capture: bool = True


def _loop(way: loop.Way) -> list[Benchmark]:
    """The whole way from tick to order and its parts, all from one run."""
    whole = Benchmark(f"tick_to_order_{way.name}", lambda _: loop.tick_to_order(way), capture=False)
    return [
        whole,
        *(
            Benchmark(f"{whole.name}_{stage}", lambda _, stage=stage: loop.stage_of(way, stage), capture=False)  # type: ignore[misc]
            for stage in loop.STAGES
        ),
    ]


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("timer", market.timer, capture=False),
    Benchmark("copy_floor", market.copy_floor),
    Benchmark("depth_msgspec_floor", market.depth_msgspec_floor),
    Benchmark("depth_native", market.depth("native")),
    Benchmark("depth_pure", market.depth("pure")),
    Benchmark("depth_cryptofeed", market.depth_cryptofeed, rival="order-book and yapic.json"),
    Benchmark("depth_nautilus", market.depth_nautilus, rival="nautilus_trader"),
    Benchmark("depth_hftbacktest", market.depth_hftbacktest, rival="hftbacktest"),
    Benchmark("top_native", market.small("native", "top")),
    Benchmark("top_pure", market.small("pure", "top")),
    Benchmark("trade_native", market.small("native", "trade")),
    Benchmark("trade_pure", market.small("pure", "trade")),
    Benchmark("mix_native", market.mix("native")),
    Benchmark("mix_pure", market.mix("pure")),
    Benchmark("allocations_native", market.allocations_native),
    *(
        Benchmark(f"engine_{name}{stage and '_' + stage}", engine.engine(name, stage))
        for name in ("native", "pure")
        for stage in engine.STAGES
    ),
    Benchmark("pretrade_native", orders.pretrade("native"), capture=False),
    Benchmark("pretrade_pure", orders.pretrade("pure"), capture=False),
    Benchmark("pretrade_checks", orders.pretrade("checks"), capture=False),
    Benchmark("order_id", orders.order_id, capture=False),
    Benchmark("orders_per_s", machine_bench.orders_per_s, capture=False),
    *(Benchmark(name, run, capture=False) for name, run in orders.CODECS.items()),
    Benchmark("ring_native", orders.ring("native"), capture=False),
    Benchmark("ring_pure", orders.ring("pure"), capture=False),
    Benchmark("hop_tcp", hops.hop_tcp, capture=False),
    Benchmark("hop_nats_raw", hops.hop_nats_raw, capture=False),
    Benchmark("hop_nats", hops.hop_nats, capture=False),
    Benchmark("hop_ring", hops.hop_ring, capture=False),
    Benchmark("hop_nats_raw_2ms", hops.hop_nats_raw_2ms, capture=False),
    *(Benchmark(pace.name, walk.walk(pace), capture=False) for pace in walk.PACES),
    *(benchmark for way in loop.WAYS for benchmark in _loop(way)),
)
FEED_CPU = "feed_cpu_pct"
NAMES = (*(b.name for b in BENCHMARKS), FEED_CPU)


def choose(only: str) -> list[str]:
    """Names in table order.

    Raises:
        ConfigError: a name that there is not.
    """
    if not only:
        return list(NAMES)
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in NAMES]
    if unknown or not wanted:
        named = ", ".join(unknown) or repr(only)
        raise ConfigError(f"there is no benchmark {named}; there are {', '.join(NAMES)}")
    return [name for name in NAMES if name in wanted]


def run(names: list[str], data: Path | None, say: Callable[[str], None]) -> list[Outcome]:
    """Run them one after the other; ``say`` gets a line as each one starts and ends."""
    data = data or default_capture()
    frames = None
    if data is not None and (FEED_CPU in names or any(b.capture for b in BENCHMARKS if b.name in names)):
        say(f"reading {data.name} ...")
        frames = load(data)
    outcomes: list[Outcome] = []
    for name in names:
        say(f"{name} ...")
        began = time.monotonic()
        try:
            outcome = _feed_cpu(data, frames) if name == FEED_CPU else _one(name, frames)
        except Exception as error:  # anything of its own or of a rival's: the others are still to come
            outcome = Failed(name, f"{type(error).__name__}: {error}")
        outcomes.append(outcome)
        if isinstance(outcome, Result):
            say(f"{name}: p50 {outcome.p50:g} p99 {outcome.p99:g} {outcome.unit} ({time.monotonic() - began:.0f} s)")
        else:
            say(f"{name}: {'failed' if isinstance(outcome, Failed) else 'skipped'}, {outcome.why}")
    return outcomes


_NO_CAPTURE = "no capture; give one with --data FILE"


def _one(name: str, frames: Frames | None) -> Outcome:
    benchmark = next(b for b in BENCHMARKS if b.name == name)
    if frames is None and benchmark.capture:
        return Skipped(name, _NO_CAPTURE)
    gc.collect()
    gc.freeze()  # what was loaded before is nobody's garbage to walk through
    try:
        return benchmark.run(frames)  # type: ignore[arg-type]  # those without a capture do not look at it
    except market.AbsentError as error:
        return Skipped(name, str(error))
    except ImportError as error:
        if not benchmark.rival:
            raise
        return Skipped(name, f"{benchmark.rival} is not installed ({error.name}): pip install 'tickmesh[rivals]'")
    finally:
        gc.unfreeze()


def _feed_cpu(data: Path | None, frames: Frames | None) -> Outcome:
    if data is None or frames is None:
        return Skipped(FEED_CPU, _NO_CAPTURE)
    if frames.seconds <= 0:
        return Skipped(FEED_CPU, "the capture has no two messages at different times")
    return loop.feed_cpu(data, len(frames.mix) / frames.seconds)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cores": hops.cores(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def main(arguments: Any) -> int:
    """``tickmesh bench``: prints progress on stderr, the table or one line of JSON on stdout."""
    import json

    names = choose(arguments.only or "")
    if arguments.write:
        document.check(Path(arguments.write))  # before the half hour, not after it
    data = Path(arguments.data) if arguments.data else None
    if data is not None and not data.is_file():
        raise ConfigError(f"there is no capture {data}; --data takes a market data file")
    about = machine()
    outcomes = run(names, data, lambda line: print(line, file=sys.stderr, flush=True))
    results = [o for o in outcomes if isinstance(o, Result)]
    verdicts = goals.judge(results)
    if arguments.json:
        found = {
            "machine": about,
            "results": [r.as_dict() for r in results],
            "ratios": ratios(results),
            "goals": [v.as_dict() for v in verdicts],
            "skipped": [o.as_dict() for o in outcomes if isinstance(o, Skipped)],
            "failed": [o.as_dict() for o in outcomes if isinstance(o, Failed)],
        }
        print(json.dumps(found))
    else:
        print(table(outcomes))
        if verdicts:
            print("\n".join(["", *goals.rows(verdicts), "", f"{goals.summary(verdicts)}."]))
    if arguments.write:
        document.write(Path(arguments.write), about, outcomes, whole=not arguments.only)
    return 1 if any(isinstance(o, Failed) for o in outcomes) else 0
