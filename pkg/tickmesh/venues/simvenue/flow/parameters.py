"""Numbers of the synthetic market, as plain data: printed by ``calibrate``, read by ``SyntheticMarket``."""

from __future__ import annotations

import msgspec

PROBABILITIES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


class FlowParameters(msgspec.Struct, frozen=True, kw_only=True):
    """A market's statistics; tuples are quantiles at PROBABILITIES, sizes in lots, distances in ticks from the touch.

    ``cancel_ratio`` is the share of level changes that lower the level.
    """

    mid_ticks: int
    level_changes_per_s: float
    trades_per_s: float
    cancel_ratio: float
    one_tick_spread_ratio: float
    volatility_bps_per_sqrt_s: float
    trade_lots: tuple[int, ...]
    level_lots: tuple[int, ...]
    distance_ticks: tuple[int, ...]
    touch_moves_per_s: float
    lots_touch: int


# python -m tickmesh.venues.simvenue.flow.calibrate ../shared/data/binance-usdm/btcusdt_20240808.gz
BTCUSDT = FlowParameters(
    mid_ticks=618000,
    level_changes_per_s=1174.36,
    trades_per_s=61.81,
    cancel_ratio=0.4974,
    one_tick_spread_ratio=0.9417,
    volatility_bps_per_sqrt_s=1.2405,
    trade_lots=(2, 3, 16, 81, 265, 1146),
    level_lots=(2, 8, 65, 308, 970, 15991),
    distance_ticks=(59, 176, 406, 947, 3734, 432795),
    touch_moves_per_s=3.85,
    lots_touch=3024,
)
