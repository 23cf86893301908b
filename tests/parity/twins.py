"""Both halves side by side: the same input goes to both, and every answer, error and state is compared bit for bit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tickmesh import hotpath
from tickmesh.domain.errors import TickmeshError
from tickmesh.hotpath.pure import market as pure_market
from tickmesh.hotpath.pure import replica as pure_replica
from tickmesh.venues.binance_usdm.codec_market import parse_depth_snapshot

STAMPS = (1_700_000_000_000_000_001, 1_700_000_000_000_000_002, 70_000, 3, 12_345, 2**62)


def bits(values: tuple[float, ...]) -> bytes:
    return struct.pack(f"{len(values)}d", *values)


class Twins:
    """A native and a pure market that get the same input; every answer is compared."""

    def __init__(self, grids: dict[str, tuple[str, str]], depth: int = 20) -> None:
        assert hotpath.native is not None
        self.markets: tuple[Any, Any] = (hotpath.native.Market(), pure_market.Market())
        self.replicas: dict[str, tuple[Any, Any]] = {}
        for symbol, (tick, lot) in grids.items():
            pair = []
            for market, kind in zip(self.markets, (hotpath.native.BookReplica, pure_replica.BookReplica), strict=True):
                replica = kind(
                    "binance_usdm",
                    symbol,
                    tick_size=Decimal(tick),
                    lot_size=Decimal(lot),
                    depth=depth,
                    flow_half_life_ns=1_000_000_000,
                    volatility_interval_ns=100_000_000,
                    volatility_half_life_ns=7_000_000_000,
                )
                market.add(replica)
                pair.append(replica)
            self.replicas[symbol] = (pair[0], pair[1])

    def both(self, call: Callable[[int], Any]) -> Any:
        """The common result of ``call`` on both; an error of ours is a result too."""
        results = []
        for half in (0, 1):
            try:
                results.append(call(half))
            except TickmeshError as error:
                results.append((type(error), str(error), {k: str(v) for k, v in vars(error).items()}))
        assert results[0] == results[1], (results[0], results[1])
        return results[1]

    def frame(self, frame: bytes) -> Any:
        outcome = self.both(lambda half: self.markets[half].on_frame(frame))
        assert self.markets[0].last == self.markets[1].last
        return outcome

    def compare(self, *, whole: bool = False) -> None:
        for native, pure in self.replicas.values():
            for name in (
                "exchange_ns",
                "last_id",
                "gaps",
                "pending",
                "stale",
                "needs_snapshot",
                "behind_top",
                "buffered",
                "last_trade",
            ):
                assert getattr(native, name) == getattr(pure, name), name
            assert bits(native.features()) == bits(pure.features())
            assert native.levels() == pure.levels()
            if whole:
                assert native.bids() == pure.bids()
                assert native.asks() == pure.asks()
                assert native.checksum() == pure.checksum()
                native.keep_trade(), pure.keep_trade()
                assert native.encode_trades(*STAMPS) == pure.encode_trades(*STAMPS) != []
                pending = pure.pending
                assert native.encode_update(*STAMPS) == pure.encode_update(*STAMPS)
                assert native.pending == pure.pending == 0 <= pending


def snapshot(twins: Twins, symbol: str, body: bytes) -> None:
    found = parse_depth_snapshot(body)
    pure = twins.replicas[symbol][1]
    ticks, lots = pure.prices.units, pure.quantities.units
    bids = [(ticks(p), lots(q)) for p, q in found.bids]
    asks = [(ticks(p), lots(q)) for p, q in found.asks]
    twins.both(lambda half: twins.replicas[symbol][half].on_snapshot(found.lastUpdateId, bids, asks, found.E * 10**6))
