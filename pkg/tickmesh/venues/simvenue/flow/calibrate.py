"""Calibration: a capture in, the FlowParameters of one symbol out. ``python -m ...flow.calibrate FILE`` prints YAML."""

from __future__ import annotations

import itertools
import statistics
import sys
from math import log
from pathlib import Path

import msgspec
import yaml

from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.capture import Capture, Kind, Record, decode_diff, decode_snapshot, infer_instruments
from tickmesh.venues.simvenue.flow.parameters import PROBABILITIES, FlowParameters

_SECOND_NS = 1_000_000_000


class _Tally:
    """Running observations of one symbol."""

    def __init__(self, grid: Instrument) -> None:
        self.grid = grid
        self.levels: dict[tuple[bool, str], int] = {}
        self.touch = (0, 0)
        self.changes = self.cheaper = self.quotes = self.tight = 0
        self.trade_lots: list[int] = []
        self.level_lots: list[int] = []
        self.distances: list[int] = []
        self.mids: dict[int, float] = {}
        self.first_ns = self.last_ns = 0

    def take(self, record: Record) -> None:
        self.first_ns = min(self.first_ns or record.receive_ns, record.receive_ns)
        self.last_ns = max(self.last_ns, record.receive_ns)
        if record.kind is Kind.SNAPSHOT:
            found = decode_snapshot(record.raw)
            for is_bid, levels in ((True, found.bids), (False, found.asks)):
                self.levels |= {(is_bid, price): self.grid.to_lots(qty) for price, qty in levels}
        elif record.kind is Kind.DEPTH:
            diff = decode_diff(record.raw)
            for is_bid, levels in ((True, diff.bids), (False, diff.asks)):
                for price, qty in levels:
                    self._change(is_bid, price, self.grid.to_lots(qty))
        elif record.kind in (Kind.BOOK_TICKER, Kind.TRADE, Kind.AGG_TRADE):
            body = msgspec.json.decode(record.raw)
            data = body.get("data", body)
            if record.kind is Kind.BOOK_TICKER:
                self._quote(record.receive_ns, self.grid.to_ticks(data["b"]), self.grid.to_ticks(data["a"]))
            else:
                self.trade_lots.append(self.grid.to_lots(data["q"]))

    def _change(self, is_bid: bool, price: str, lots: int) -> None:
        before = self.levels.get((is_bid, price), 0)
        self.levels[is_bid, price] = lots
        if lots == before:
            return
        self.changes += 1
        self.cheaper += lots < before
        if lots > before:
            self.level_lots.append(lots - before)
        if self.touch[0]:
            ticks = self.grid.to_ticks(price)
            self.distances.append(max(0, self.touch[0] - ticks if is_bid else ticks - self.touch[1]))

    def _quote(self, receive_ns: int, bid: int, ask: int) -> None:
        self.touch = (bid, ask)
        self.quotes += 1
        self.tight += ask - bid == 1
        self.mids[receive_ns // _SECOND_NS] = (bid + ask) / 2


def calibrate(path: Path | str, symbol: str = "") -> FlowParameters:
    """Measures a capture (``symbol`` empty: its first). Raises ConfigError when it lacks quotes, trades or diffs."""
    grids = infer_instruments(path)
    symbol = symbol.upper() or next(iter(grids), "")
    if symbol not in grids:
        raise ConfigError(f"{path} holds no depth of {symbol or 'any symbol'}; calibrate on a capture that does")
    tally = _Tally(grids[symbol])
    for record in Capture(path).records():
        if record.symbol == symbol:
            tally.take(record)
    span_s = (tally.last_ns - tally.first_ns) / _SECOND_NS
    if not (tally.trade_lots and tally.level_lots and tally.distances and len(tally.mids) > 2 and span_s > 0):
        raise ConfigError(
            f"{path} is too short to calibrate {symbol}: it needs seconds of depth, bookTicker and trades"
        )
    mids = [tally.mids[second] for second in sorted(tally.mids)]
    returns = [log(after / before) * 1e4 for before, after in itertools.pairwise(mids)]
    return FlowParameters(
        mid_ticks=round(mids[0]),
        level_changes_per_s=round(tally.changes / span_s, 2),
        trades_per_s=round(len(tally.trade_lots) / span_s, 2),
        cancel_ratio=round(tally.cheaper / tally.changes, 4),
        one_tick_spread_ratio=round(tally.tight / tally.quotes, 4),
        volatility_bps_per_sqrt_s=round(statistics.pstdev(returns), 4),
        trade_lots=quantiles(tally.trade_lots),
        level_lots=quantiles(tally.level_lots),
        distance_ticks=quantiles(tally.distances),
    )


def quantiles(values: list[int]) -> tuple[int, ...]:
    """The order statistics at PROBABILITIES."""
    ordered = sorted(values)
    return tuple(ordered[min(len(ordered) - 1, int(p * len(ordered)))] for p in PROBABILITIES)


def main(arguments: list[str]) -> int:
    """Prints a capture's parameters; 2 and one sentence when it cannot."""
    if len(arguments) not in (1, 2):
        print("usage: python -m tickmesh.venues.simvenue.flow.calibrate FILE [SYMBOL]", file=sys.stderr)
        return 2
    try:
        found = calibrate(*arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(yaml.safe_dump(msgspec.to_builtins(found), sort_keys=False), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
