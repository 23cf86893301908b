"""The real messages that benchmarks feed to every competitor: frames of one capture, in its order."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.capture import Capture, Kind, infer_instruments

_MAX_DEPTH_FRAMES = 7_000
_MAX_RECORDS = 200_000


@dataclass(slots=True)
class Frames:
    """``mix`` is everything as it came; ``depth``, ``tops`` and ``trades`` are its kinds; ``snapshot`` came first."""

    instrument: Instrument
    snapshot: bytes
    mix: list[bytes]
    depth: list[bytes]
    tops: list[bytes]
    trades: list[bytes]
    seconds: float = 0.0
    """From the first message's arrival to the last one's."""

    @property
    def mean_levels(self) -> float:
        """Levels per depth message."""
        return sum(f.count(b'["') for f in self.depth) / max(1, len(self.depth))


def default_capture() -> Path | None:
    """The capture beside the checkout, if it is there (TICKMESH_DATA overrides)."""
    import os

    base = os.environ.get("TICKMESH_DATA")
    roots = [Path(base)] if base else [p / "shared" / "data" for p in (Path.cwd().parent, *Path.cwd().parents)]
    found = (root / "binance-usdm" / "btcusdt_20240808.gz" for root in roots)
    return next((path for path in found if path.is_file()), None)


def load(path: Path) -> Frames:
    """Read the frames of a capture's symbol: of those with a depth snapshot, the one with most depth messages.

    Raises:
        ConfigError: the file is no capture, or has no such symbol.
    """
    records = list(itertools.islice(Capture(path).records(), _MAX_RECORDS))
    snapshots = {r.symbol: r.raw for r in reversed(records) if r.kind is Kind.SNAPSHOT and r.symbol}
    depth = Counter(r.symbol for r in records if r.kind is Kind.DEPTH and r.symbol in snapshots)
    if not depth:
        raise ConfigError(
            f"{path} has no symbol with both a depth snapshot and depth messages in its first {_MAX_RECORDS} messages; "
            "give another --data"
        )
    symbol = depth.most_common(1)[0][0]
    mine = [r for r in records if r.symbol == symbol and r.kind is not Kind.SNAPSHOT]

    def of(kinds: Sequence[Kind], most: int = _MAX_RECORDS) -> list[bytes]:
        return [r.raw for r in mine if r.kind in kinds][:most]

    return Frames(
        instrument=infer_instruments(path)[symbol],
        snapshot=snapshots[symbol],
        mix=of((Kind.DEPTH, Kind.BOOK_TICKER, Kind.TRADE, Kind.AGG_TRADE)),
        depth=of((Kind.DEPTH,), _MAX_DEPTH_FRAMES),
        tops=of((Kind.BOOK_TICKER,)),
        trades=of((Kind.TRADE,)),
        seconds=(mine[-1].receive_ns - mine[0].receive_ns) / 1e9,
    )
