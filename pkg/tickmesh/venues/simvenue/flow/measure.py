"""Measuring a market from its frames: records of a capture (or of the synthetic market) in, its statistics out.

The same code measures both, so that the calibration can be checked. It does no I/O and reads no clock.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from math import log

import msgspec

from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.capture import Kind, Record, decode_diff, decode_snapshot
from tickmesh.venues.simvenue.flow.parameters import PROBABILITIES

_SECOND_NS = 1_000_000_000
NEAR_TICKS = 10
WIDE_TICKS = 100


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of one symbol; rates per second, sizes in lots, distances in ticks, quantiles at PROBABILITIES.

    ``touch_moves_per_s`` counts changes of the best bid. ``lots_touch``, ``lots_near`` and ``lots_wide`` are medians,
    per side, of what rests at the touch and within NEAR_TICKS and WIDE_TICKS of it, sampled once a second.
    """

    mid_ticks: int
    diffs_per_s: float
    level_changes_per_s: float
    quotes_per_s: float
    trades_per_s: float
    cancel_ratio: float
    one_tick_spread_ratio: float
    mean_spread_ticks: float
    volatility_bps_per_sqrt_s: float
    trade_lots: tuple[int, ...]
    level_lots: tuple[int, ...]
    distance_ticks: tuple[int, ...]
    touch_moves_per_s: float
    move_ticks: tuple[int, ...]
    lots_touch: int
    lots_near: int
    lots_wide: int


class Measurement:
    """Takes records in order, then says what it saw."""

    def __init__(self, grid: Instrument) -> None:
        self.grid = grid
        self._levels: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._touch = (0, 0)
        self._changes = self._cheaper = self._quotes = self._tight = self._diffs = self._spread_sum = 0
        self._trade_lots: list[int] = []
        self._level_lots: list[int] = []
        self._distances: list[int] = []
        self._moves: list[int] = []
        self._mids: dict[int, float] = {}
        self._depths: list[tuple[int, int, int]] = []
        self._first_ns = self._last_ns = 0

    def take(self, record: Record) -> None:
        self._first_ns = min(self._first_ns or record.receive_ns, record.receive_ns)
        self._last_ns = max(self._last_ns, record.receive_ns)
        if record.kind is Kind.SNAPSHOT:
            found = decode_snapshot(record.raw)
            for side, levels in zip(self._levels, (found.bids, found.asks), strict=True):
                side.update({self.grid.to_ticks(price): self.grid.to_lots(qty) for price, qty in levels})
        elif record.kind is Kind.DEPTH:
            diff = decode_diff(record.raw)
            self._diffs += 1
            for is_ask, levels in enumerate((diff.bids, diff.asks)):
                for price, qty in levels:
                    self._change(is_ask, self.grid.to_ticks(price), self.grid.to_lots(qty))
        elif record.kind in (Kind.BOOK_TICKER, Kind.TRADE, Kind.AGG_TRADE):
            body = msgspec.json.decode(record.raw)
            data = body.get("data", body)
            if record.kind is Kind.BOOK_TICKER:
                self._quote(record.receive_ns, self.grid.to_ticks(data["b"]), self.grid.to_ticks(data["a"]))
            else:
                self._trade_lots.append(self.grid.to_lots(data["q"]))

    def _change(self, is_ask: int, ticks: int, lots: int) -> None:
        levels = self._levels[is_ask]
        before = levels.get(ticks, 0)
        levels[ticks] = lots
        if lots == before:
            return
        self._changes += 1
        self._cheaper += lots < before
        if lots > before:
            self._level_lots.append(lots - before)
        if self._touch[0]:
            self._distances.append(max(0, ticks - self._touch[1] if is_ask else self._touch[0] - ticks))

    def _quote(self, receive_ns: int, bid: int, ask: int) -> None:
        if self._touch[0] and bid != self._touch[0]:
            self._moves.append(abs(bid - self._touch[0]))
        self._touch = (bid, ask)
        self._quotes += 1
        self._tight += ask - bid == 1
        self._spread_sum += ask - bid
        second = receive_ns // _SECOND_NS
        if second not in self._mids:
            for side, touch, away in ((self._levels[0], bid, -1), (self._levels[1], ask, 1)):
                found = [side.get(touch + away * step, 0) for step in range(WIDE_TICKS)]
                self._depths.append((found[0], sum(found[:NEAR_TICKS]), sum(found)))
        self._mids[second] = (bid + ask) / 2

    def result(self, name: str) -> Measured:
        """What was measured. Raises ConfigError, naming ``name``, when it was too little."""
        span_s = (self._last_ns - self._first_ns) / _SECOND_NS
        if not (self._trade_lots and self._level_lots and self._distances and len(self._mids) > 2 and span_s > 0):
            raise ConfigError(f"{name} is too short to calibrate: it needs seconds of depth, bookTicker and trades")
        mids = [self._mids[second] for second in sorted(self._mids)]
        returns = [log(after / before) * 1e4 for before, after in itertools.pairwise(mids)]
        touch, near, wide = (round(statistics.median(sizes)) for sizes in zip(*self._depths, strict=True))
        return Measured(
            mid_ticks=round(mids[0]),
            diffs_per_s=round(self._diffs / span_s, 2),
            level_changes_per_s=round(self._changes / span_s, 2),
            quotes_per_s=round(self._quotes / span_s, 2),
            trades_per_s=round(len(self._trade_lots) / span_s, 2),
            cancel_ratio=round(self._cheaper / self._changes, 4),
            one_tick_spread_ratio=round(self._tight / self._quotes, 4),
            mean_spread_ticks=round(self._spread_sum / self._quotes, 2),
            volatility_bps_per_sqrt_s=round(statistics.pstdev(returns), 4),
            trade_lots=quantiles(self._trade_lots),
            level_lots=quantiles(self._level_lots),
            distance_ticks=quantiles(self._distances),
            touch_moves_per_s=round(len(self._moves) / span_s, 2),
            move_ticks=quantiles(self._moves or [0]),
            lots_touch=touch,
            lots_near=near,
            lots_wide=wide,
        )


def measure(records: Iterable[Record], grid: Instrument, name: str) -> Measured:
    """Statistics of one symbol's records. Raises ConfigError when they are too few."""
    measurement = Measurement(grid)
    for record in records:
        if record.symbol == grid.symbol:
            measurement.take(record)
    return measurement.result(name)


def quantiles(values: list[int]) -> tuple[int, ...]:
    """The order statistics at PROBABILITIES."""
    ordered = sorted(values)
    return tuple(ordered[min(len(ordered) - 1, int(p * len(ordered)))] for p in PROBABILITIES)
