"""Funding is booked as funding, and a venue whose clock jumps is followed. The venue runs in this process."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from pathlib import Path

from desk import S, desk

from tickmesh.bus.memory import MemoryBus
from tickmesh.observe.admin import AdminServer
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.runtime.servers import free_ports
from tickmesh.services import simvenue
from tickmesh.services.service import Service
from tickmesh.settings import load
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

EIGHT_HOURS_NS = 8 * 3600 * 10**9


class JumpingClock:
    """The venue's clock, which a test puts ahead."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def wall_ns(self) -> int:
        return time.time_ns() + self.ahead_ns

    def mono_ns(self) -> int:
        return time.monotonic_ns()


async def test_funding_after_eight_hours_is_booked_once_and_is_no_mismatch(tmp_path: Path) -> None:
    port, clock = free_ports(1)[0], JumpingClock()
    settings = load(
        {"TICKMESH_SIMVENUE__PORT": str(port), "TICKMESH_SIMVENUE__FLOW_RATE": "0.2",
         "TICKMESH_LOCAL__DATA_DIR": str(tmp_path / "near"), "TICKMESH_VENUE__SYMBOLS": S}
    )  # fmt: skip
    metrics, health = Metrics("simvenue"), Health()
    service = Service(
        "simvenue", settings, MemoryBus(), clock, metrics, health, AdminServer("127.0.0.1", 0, metrics, health)
    )
    venue = asyncio.create_task(simvenue.run(service))
    try:
        async with asyncio.timeout(20):
            while not health.started:
                await asyncio.sleep(0.02)
                assert not venue.done(), venue.result()
        async with desk(tmp_path) as d:
            await d.rest.close()
            d.rest = BinanceUsdmRest(f"http://127.0.0.1:{port}", "tickmesh-local-key", "tickmesh-local-secret", 5000,
                                     clock)  # fmt: skip
            d.env["TICKMESH_VENUE__REST_URL"] = f"http://127.0.0.1:{port}"
            await d.start("account", terms_interval_s="0.5")
            await d.until(lambda: d.snapshots)
            await d.trade("BUY", "0.1")
            await d.until(lambda: d.lots == 100)
            before = d.snapshots[-1]
            clock.ahead_ns += EIGHT_HOURS_NS
            await d.until(lambda: d.snapshots[-1].funding)
            seen = len(d.snapshots)
            await d.until(lambda: len(d.snapshots) > seen + 10)
            after = d.snapshots[-1]
            lines = await d.rest.income(income_type="FUNDING_FEE")
            assert after.funding == sum((line.income for line in lines), Decimal(0)) != 0
            assert after.wallet == before.wallet + after.funding == (await d.rest.account()).totalWalletBalance
            assert after.commission == before.commission and after.realized_pnl == before.realized_pnl
            assert after.mismatches == 0
            assert (d.get("account", "/readyz") or {}).get("ready")
    finally:
        service.stopping.set()
        await asyncio.wait_for(venue, 10)
