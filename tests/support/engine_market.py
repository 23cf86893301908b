"""One instrument on one grid, and a time to begin at, for tests of the whole engine."""

from __future__ import annotations

from decimal import Decimal

from tickmesh.domain.instrument import Instrument

S = 1_000_000_000
NOW = 1_767_225_600 * S
INSTRUMENT = Instrument(
    venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"),
    min_price=Decimal("0.1"), max_price=Decimal(1_000_000), min_qty=Decimal("0.001"), max_qty=Decimal(100),
    min_notional=Decimal(5),
)  # fmt: skip
