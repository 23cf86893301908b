"""The measured parts of docs/benchmarks.md, written by the run that measured them.

In: a document with blocks between ``<!-- bench:NAME -->`` and ``<!-- /bench:NAME -->``, and the outcomes of a run. Out:
the same document with those blocks replaced. A run of some benchmarks replaces their lines and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tickmesh.domain.errors import ConfigError
from tickmesh.runtime.bench import goals, loop
from tickmesh.runtime.bench.result import Outcome, Result, ratios

_LINE = re.compile(r"^\| `(?P<name>[a-z0-9_]+)` \|")
_PARTS = {f"tick_to_order_{way.name}_{stage}" for way in loop.WAYS for stage in loop.STAGES}


def write(path: Path, about: Mapping[str, Any], outcomes: Sequence[Outcome], *, whole: bool) -> None:
    """Bring the file at ``path`` up to date; ``whole`` is a run of every benchmark that there is.

    Raises:
        ConfigError: it cannot be read or lacks a block.
    """
    path.write_text(updated(_read(path), about, outcomes, whole=whole), encoding="utf-8")


def check(path: Path) -> None:
    """See that ``path`` can be brought up to date. Raises ConfigError like ``write``."""
    text = _read(path)
    for block in ("lines", "conditions", "goals", "ratios", "parts"):
        _block(text, block)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--write: cannot read {path} ({error.strerror})") from None


def updated(text: str, about: Mapping[str, Any], outcomes: Sequence[Outcome], *, whole: bool) -> str:
    """``text`` with its measured blocks as this run has them.

    Raises:
        ConfigError: a block is not there.
    """
    results = [o for o in outcomes if isinstance(o, Result)]
    text = _replace(text, "lines", _lines(_block(text, "lines"), results, whole))
    if whole:
        text = _replace(text, "conditions", _conditions(about))
        text = _replace(text, "goals", "\n".join(goals.rows(goals.judge(results))))
        text = _replace(text, "ratios", _ratios(results))
        text = _replace(text, "parts", _parts({r.name: r for r in results}))
    return text


def _conditions(about: Mapping[str, Any]) -> str:
    system = about["system"].partition("-")[0]  # the rest names somebody's build
    where = f"{about['cores']} cores ({about['machine']}), {system}, Python {about['python']}"
    return f"{where}, load before the run {about['load_before']}."


def _ratios(results: Sequence[Result]) -> str:
    head = ["| ratio of medians | value | meaning |", "|---|---:|---|"]
    return "\n".join(head + [f"| `{r['name']}` | {r['value']:,g} | {r['meaning']} |" for r in ratios(results)])


def _lines(old: str, results: Sequence[Result], whole: bool) -> str:
    """One row per benchmark: this run's, and the others as they stood; a whole run sets the order."""
    rows = {m["name"]: line for line in old.splitlines() if (m := _LINE.match(line))}
    new = {
        r.name: f"| `{r.name}` | {r.p50:,g} | {r.p99:,g} | {r.unit} | {r.n:,} | {r.what} |"
        for r in results
        if r.name not in _PARTS
    }
    head = ["| name | p50 | p99 | unit | n | what |", "|---|---:|---:|---|---:|---|"]
    merged = {**new, **rows, **new} if whole else {**rows, **new}
    return "\n".join([*head, *merged.values()])


def _parts(results: Mapping[str, Result]) -> str:
    """One column per way through the loop, one row per part of an order's way."""
    ways = [w for w in loop.WAYS if f"tick_to_order_{w.name}" in results]
    lines = ["| part (median, us) | " + " | ".join(w.name for w in ways) + " |", "|---|" + "---:|" * len(ways)]
    for stage in loop.STAGES:
        cells = [results.get(f"tick_to_order_{w.name}_{stage}") for w in ways]
        lines.append(f"| `{stage}` | " + " | ".join(f"{c.p50:,g}" if c else "" for c in cells) + " |")
    whole = [results[f"tick_to_order_{w.name}"] for w in ways]
    lines.append("| **whole** | " + " | ".join(f"{r.p50:,g}" for r in whole) + " |")
    lines.append("| whole, p99 | " + " | ".join(f"{r.p99:,g}" for r in whole) + " |")
    lines.append("| orders measured | " + " | ".join(f"{r.n:,}" for r in whole) + " |")
    return "\n".join(lines)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- bench:{name} -->\n)(.*?)(\n?<!-- /bench:{name} -->)", re.DOTALL)


def _block(text: str, name: str) -> str:
    found = _pattern(name).search(text)
    if found is None:
        raise ConfigError(f"--write: the document has no block <!-- bench:{name} --> ... <!-- /bench:{name} -->")
    return found[2]


def _replace(text: str, name: str, content: str) -> str:
    _block(text, name)
    return _pattern(name).sub(lambda m: f"{m[1]}{content}\n{m[3].lstrip()}", text)
