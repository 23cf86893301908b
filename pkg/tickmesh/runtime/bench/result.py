"""What a benchmark gives back, and how a list of that becomes a table.

In: durations in ns, one per operation, all of them. Out: quantiles in a named unit. It does not decide what is good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class Result:
    """One line of the table. ``p50`` and ``p99`` are in ``unit``; ``n`` operations were measured."""

    name: str
    unit: str
    p50: float
    p99: float
    n: int
    what: str
    mean: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Skipped:
    """A benchmark that could not run here; ``why`` says what to install or to give."""

    name: str
    why: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Failed:
    """A benchmark that should have run and did not; ``why`` is its error."""

    name: str
    why: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Outcome = Result | Skipped | Failed


def from_ns(name: str, durations_ns: Sequence[int], what: str, *, per: int = 1) -> Result:
    """Quantiles in microseconds; ``per`` operations were done in each measured duration."""
    ordered = sorted(durations_ns)
    if not ordered:
        raise ValueError(f"{name} measured nothing")
    scale = 1000 * per
    return Result(
        name,
        "us",
        p50=round(ordered[len(ordered) // 2] / scale, 3),
        p99=round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] / scale, 3),
        n=len(ordered) * per,
        what=what,
        mean=round(sum(ordered) / len(ordered) / scale, 3),
    )


_RATIOS = (
    ("depth_native", "depth_nautilus", "how many times faster than NautilusTrader's path", True),
    ("depth_native", "depth_msgspec_floor", "share of a bare msgspec decode", False),
    ("depth_pure", "depth_nautilus", "how many times faster than NautilusTrader's path", True),
    ("depth_pure", "depth_cryptofeed", "how many times faster than cryptofeed's path", True),
    ("hop_nats", "hop_nats_raw", "times a raw-socket NATS round trip", False),
    ("tick_to_order_nats", "hop_nats_raw", "times a raw-socket NATS round trip", False),
    ("tick_to_order_ring", "hop_nats_raw", "times a raw-socket NATS round trip", False),
    ("tick_to_order_fused", "hop_nats_raw", "times a raw-socket NATS round trip", False),
    ("tick_to_order_fused_spin", "hop_nats_raw", "times a raw-socket NATS round trip", False),
    ("tick_to_order_fused_rehearsed", "hop_nats_raw", "times a raw-socket NATS round trip", False),
    ("tick_to_order_fused_spin_rehearsed", "hop_nats_raw", "times a raw-socket NATS round trip", False),
    ("tick_to_order_nats", "hop_nats_raw_2ms", "times the same round trip at a market's pace", False),
    ("tick_to_order_fused_spin", "hop_nats_raw_2ms", "times the same round trip at a market's pace", False),
    ("tick_to_order_fused_spin_rehearsed", "hop_nats_raw_2ms", "times the same round trip at a market's pace", False),
)


def ratios(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The comparisons that matter, from medians of the same run."""
    by_name = {r.name: r for r in results}
    found = []
    for name, other, meaning, inverse in _RATIOS:
        mine, theirs = by_name.get(name), by_name.get(other)
        if mine is None or theirs is None or not mine.p50 or not theirs.p50:
            continue
        value = theirs.p50 / mine.p50 if inverse else mine.p50 / theirs.p50
        found.append({"name": f"{name} / {other}", "value": round(value, 3), "meaning": meaning})
    return found


def table(results: Sequence[Outcome]) -> str:
    """Markdown: results, then ratios, then what was skipped or failed, and why."""
    done = [r for r in results if isinstance(r, Result)]
    lines = ["| name | p50 | p99 | unit | n | what |", "|---|---:|---:|---|---:|---|"]
    lines += [f"| `{r.name}` | {r.p50:,.3f} | {r.p99:,.3f} | {r.unit} | {r.n:,} | {r.what} |" for r in done]
    if compared := ratios(done):
        lines += ["", "| ratio of medians | value | meaning |", "|---|---:|---|"]
        lines += [f"| `{r['name']}` | {r['value']:,.3f} | {r['meaning']} |" for r in compared]
    for kind, word in ((Skipped, "skipped"), (Failed, "failed")):
        missing = [r for r in results if isinstance(r, kind)]
        if missing:
            lines += ["", *(f"- {word} `{m.name}`: {m.why}" for m in missing)]
    return "\n".join(lines)
