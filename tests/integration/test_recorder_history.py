"""What was recorded can be read back, exact and bounded, also through the cache."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from recording import INSTRUMENT, START_NS, a_fill, a_step, a_trade

from tickmesh.bus.memory import MemoryBus
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import AccountSnapshot
from tickmesh.gateway.api import Api, Watch
from tickmesh.gateway.guard import Access
from tickmesh.gateway.record import record_routes
from tickmesh.gateway.replica import Replica
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.metrics import Metrics
from tickmesh.store import upkeep
from tickmesh.store.cache import Cache
from tickmesh.store.history import History
from tickmesh.store.rows import account_rows, fill_rows, merge, order_rows, trade_rows
from tickmesh.store.writer import Writer

from .test_recorder_schema import postgres

FOREVER = 10**19
MINUTE_NS = 60_000_000_000


def find(venue: str, symbol: str):
    return INSTRUMENT


async def test_fills_orders_account_and_bars_are_told_newest_first_and_exact(tmp_path: Path) -> None:
    async with postgres(tmp_path) as dsn:
        await upkeep.open_schema(dsn, 30)
        writer = Writer(dsn, name="test", timeout_s=20)
        rows = [fill_rows(a_fill(n, "main" if n % 2 else "other"), find, n) for n in range(1, 11)]
        rows += [order_rows(a_step(n), find, n) for n in range(1, 6)]
        rows += [trade_rows(a_trade(n), find) for n in range(1, 101)]
        for second in range(60):
            snapshot = AccountSnapshot(
                account="main", venue="binance_usdm", equity=Decimal("1000.01") + second, seq=second,
                publish_ns=START_NS + second * 1_000_000_000,
            )  # fmt: skip
            rows.append(account_rows(snapshot))
        await writer.write(merge(rows))
        await writer.close()
        history = History(dsn)
        fills = msgspec.json.decode(await history.fills(0, FOREVER, account="main", limit=3))
        assert [(f["trade_id"], f["price"], f["quantity"]) for f in fills] == [
            (9, "65000.9", "0.005"), (7, "65000.7", "0.005"), (5, "65000.5", "0.005"),
        ]  # fmt: skip
        since = START_NS + 4_500_000
        assert [f["trade_id"] for f in msgspec.json.decode(await history.fills(since, FOREVER, limit=100))] == [
            10, 9, 8, 7, 6, 5,
        ]  # fmt: skip
        assert msgspec.json.decode(await history.fills(0, since, symbol="NONE", limit=100)) == []
        steps = msgspec.json.decode(await history.order_events(0, FOREVER, limit=100))
        assert [s["client_order_id"] for s in steps] == ["c5", "c4", "c3", "c2", "c1"]
        curve = msgspec.json.decode(await history.account(0, FOREVER, "main", every_s=10, limit=100))
        assert len(curve) in (6, 7) and curve[0]["equity"] == "1059.01"
        bars = msgspec.json.decode(await history.bars(0, FOREVER, "binance_usdm", "BTCUSDT", limit=5))
        assert sum(bar["trades"] for bar in bars) == 100
        for limit in (0, 10_001):
            with pytest.raises(ValueError, match="limit must be"):
                await history.fills(0, 1, limit=limit)
        await history.close()


async def test_the_gateway_tells_the_record_and_says_503_while_postgres_is_away(tmp_path: Path) -> None:
    access = Access(token="", local=True)
    async with postgres(tmp_path) as dsn:
        await upkeep.open_schema(dsn, 30)
        writer = Writer(dsn, name="test", timeout_s=20)
        await writer.write(merge([fill_rows(a_fill(n), find, n) for n in range(1, 4)]))
        await writer.close()
        cache = Cache("redis://127.0.0.1:1/0", timeout_s=0.1)  # nobody is there: slower, not broken
        history = History(dsn, cache=cache, timeout_s=3)
        clock = SystemClock()
        api = Api(
            Replica(), MemoryBus(), clock, Metrics("x"), watch=Watch(), access=access,
            more_routes=record_routes(history, clock),
        )  # fmt: skip
        async with TestClient(TestServer(api.app)) as client:
            span = {"since_ms": "0", "until_ms": str(START_NS // 1_000_000 + 1000)}
            response = await client.get("/api/v1/record/fills", params={**span, "account": "main", "limit": "2"})
            assert response.status == 200
            assert [f["trade_id"] for f in await response.json()] == [3, 2]
            for path in ("order-events", "accounts/main", "bars/binance_usdm/BTCUSDT"):
                assert (await client.get(f"/api/v1/record/{path}", params=span)).status == 200
            wrong = await client.get("/api/v1/record/fills", params={"limit": "99999"})
            assert wrong.status == 400 and "limit must be" in await wrong.text()
            await history.close()
            history._dsn = "postgresql://nobody@127.0.0.1:1/none"
            gone = await client.get("/api/v1/record/fills", params=span)
            assert gone.status == 503 and "Postgres is away" in await gone.text()
        await cache.close()


async def test_postgres_away_is_one_sentence(tmp_path: Path) -> None:
    history = History("postgresql://nobody@127.0.0.1:1/none", timeout_s=2)
    with pytest.raises(DependencyError, match="the history cannot be read: Postgres is away"):
        await history.fills(0, 1, limit=1)
    await history.close()
