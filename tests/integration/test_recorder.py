"""The recorder with a real Postgres and a real nats-server."""

import asyncio
import os
import signal
from decimal import Decimal
from pathlib import Path

from recording import START_NS, a_fill, a_step, a_trade, publish_fills, rig

from tickmesh.domain import subjects
from tickmesh.domain.enums import Severity, Side
from tickmesh.domain.messages import (
    AccountSnapshot,
    Alert,
    Audit,
    BalanceState,
    BookUpdate,
    MarkPrice,
    PositionState,
    SignalMessage,
    encode,
)
from tickmesh.store.migrate import packaged


async def test_every_kind_of_message_becomes_a_row_with_exact_money(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        publish = r.bus.publish
        publish(subjects.order_event("main", "c1"), encode(a_step(1)))
        publish(subjects.fill("main", "BTCUSDT"), encode(a_fill(1)))
        publish(subjects.trade("binance_usdm", "BTCUSDT"), encode(a_trade(7)))
        stamp = {"publish_ns": START_NS, "epoch": 1, "seq": 1}
        publish(
            subjects.signal("momentum"),
            encode(SignalMessage(strategy="momentum", symbol="BTCUSDT", venue="binance_usdm", side=Side.BUY,
                                 strength=0.5, price_ticks=10, qty_lots=2, reason="a\x00b", **stamp)),
        )  # fmt: skip
        publish(
            subjects.account_snapshot("main"),
            encode(AccountSnapshot(
                account="main", venue="binance_usdm", equity=Decimal("1000.00000001"),
                balances=[BalanceState(asset="USDT", wallet=Decimal("1000"))],
                positions=[PositionState(venue="binance_usdm", symbol="BTCUSDT", qty_lots=-5)], **stamp)),
        )  # fmt: skip
        alert = Alert(severity=Severity.WARNING, kind="gap", text="a gap", fields={"symbol": "BTCUSDT"}, **stamp)
        publish(subjects.alert(Severity.WARNING, "gap"), encode(alert))
        publish(subjects.audit("gateway"), encode(Audit(source="gateway", event="halt", actor="ann", **stamp)))
        book = BookUpdate(venue="binance_usdm", symbol="BTCUSDT", bids=[(100, 1)], asks=[(103, 2)], receive_ns=START_NS)
        publish(subjects.book("binance_usdm", "BTCUSDT"), encode(book))
        mark = MarkPrice(venue="binance_usdm", symbol="BTCUSDT", mark_price=Decimal("65000.123"), exchange_ns=START_NS)
        publish(subjects.mark("binance_usdm", "BTCUSDT"), encode(mark))
        await r.bus.flush()
        await r.recorder(book_sample_ms="50", max_wait_ms="50")
        tables = [
            "order_events",
            "fills",
            "trades",
            "signals",
            "account_snapshots",
            "position_snapshots",
            "alerts",
            "audit",
            "market_data_snapshots",
            "mark_prices",
            "trade_bars",
        ]
        assert {table: await r.count(table, 1) for table in tables} == dict.fromkeys(tables, 1)
        fill = (await r.query("SELECT * FROM fills"))[0]
        assert (fill["price"], fill["quantity"], fill["commission"]) == (
            Decimal("65000.1"), Decimal("0.005"), Decimal("0.0123"),
        )  # fmt: skip
        step = (await r.query("SELECT * FROM order_events"))[0]
        assert (step["event_type"], step["status"]) == ("SUBMITTED->FILLED", "FILLED")
        snapshot = (await r.query("SELECT * FROM market_data_snapshots"))[0]
        assert (snapshot["spread"], snapshot["mid_price"]) == (Decimal("0.3"), Decimal("10.15"))
        assert (await r.query("SELECT equity FROM account_snapshots"))[0][0] == Decimal("1000.00000001")
        assert (await r.query("SELECT reason FROM signals"))[0][0] == "a\ufffdb"


async def test_a_full_batch_of_duplicates_changes_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await publish_fills(r.bus, 1, 500)
        await r.recorder(max_wait_ms="50")
        assert await r.count("fills", 500) == 500
        for n in range(1, 501):  # a stream that does not know them any more, as after its duplicate window
            again = a_fill(n)
            again.exchange_ns += 5_000_000_000  # and told with another time, as by a reconciliation
            r.bus.publish(subjects.fill("main", "BTCUSDT"), encode(again))
        await publish_fills(r.bus, 501, 501)
        assert await r.count("fills", 501) == 501
        assert (await r.query("SELECT count(DISTINCT trade_id) FROM fills"))[0][0] == 501


async def test_killed_in_the_middle_every_fill_is_there_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        recorder = await r.recorder(batch="50", max_wait_ms="0")
        sending = asyncio.create_task(publish_fills(r.bus, 1, 3000))
        kills = 0
        for wanted in (200, 900, 1800):
            assert await r.count("fills", wanted) >= wanted
            pid = recorder.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            kills += 1
            async with asyncio.timeout(30):
                while recorder.pid in (None, pid):
                    await asyncio.sleep(0.02)
        await sending
        assert await r.count("fills", 3000, 90) == 3000
        assert await r.query("SELECT trade_id FROM fills GROUP BY 1 HAVING count(*) > 1") == []
        assert (await r.query("SELECT min(trade_id), max(trade_id) FROM fills"))[0][:] == (1, 3000)
        assert kills == 3 and recorder.restarts >= 3
        progress = await r.query("SELECT high_seq, missed FROM recorder_progress WHERE lane = 'orders'")
        assert progress[0][:] == (3000, 0)


async def test_postgres_killed_and_away_means_waiting_and_nothing_missing(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        recorder = await r.recorder(max_wait_ms="20")
        await publish_fills(r.bus, 1, 100)
        assert await r.count("fills", 100) == 100
        assert r.postgres.pid is not None
        os.kill(r.postgres.pid, signal.SIGKILL)
        await publish_fills(r.bus, 101, 600)
        assert await r.count("fills", 600) == 600  # the supervisor started Postgres again
        await r.postgres.stop()
        await publish_fills(r.bus, 601, 900)
        async with asyncio.timeout(20):
            while await recorder.wait_ready(0.2):  # readiness tells that Postgres is away
                await asyncio.sleep(0.1)
        await r.postgres.start()
        assert await r.count("fills", 900) == 900
        assert recorder.restarts == 0
        assert await recorder.wait_ready(30)


async def test_two_recorders_that_start_at_once_on_an_empty_database_share_the_work(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await publish_fills(r.bus, 1, 1000)
        for n in range(1, 2001):
            r.bus.publish(subjects.trade("binance_usdm", "BTCUSDT"), encode(a_trade(n)))
        await r.bus.flush()
        one, two = await asyncio.gather(r.recorder(batch="100", wait=False), r.recorder(batch="100", wait=False))
        assert await one.wait_ready(60) and await two.wait_ready(60)
        await publish_fills(r.bus, 1001, 2000)
        assert await r.count("fills", 2000) == 2000
        assert await r.count("trades", 2000) == 2000, one.last_lines(40) + two.last_lines(40)
        bars = await r.query("SELECT sum(trades), sum(lots), min(low_ticks), max(high_ticks) FROM trade_bars")
        assert bars[0][:] == (2000, 6000, 650_000, 650_049)
        versions = await r.query("SELECT version FROM schema_migrations ORDER BY 1")
        assert [v[0] for v in versions] == [m.version for m in packaged()]
        assert one.restarts == two.restarts == 0


async def test_poison_is_set_aside_once_and_the_rest_of_its_batch_is_recorded(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        subject = subjects.fill("main", "BTCUSDT")
        await publish_fills(r.bus, 1, 10)
        r.bus.publish(subject, b"\xff not a message, and apiKey=SECRETSECRET too")
        impossible = a_fill(11)
        impossible.epoch, impossible.venue_order_id = 1, -(2**63)
        impossible.account = "nul\x00account"  # decodes, but no Postgres text holds it
        r.bus.publish(subject, encode(impossible))
        await publish_fills(r.bus, 13, 20)
        recorder = await r.recorder(max_wait_ms="50")
        assert await r.count("fills", 18) == 18
        assert recorder.restarts == 0
        lines = recorder.last_lines(200)
        assert lines.count("is set aside for good") == 1  # one kind, told once, though there were two
        assert "SECRETSECRET" not in lines
        pending = await r.bus.jetstream.consumer_info("ORDERS", "recorder-orders")
        assert (pending.num_pending, pending.num_ack_pending) == (0, 0)


async def test_a_stop_drains_what_is_in_the_streams_within_seconds(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        recorder = await r.recorder()
        await publish_fills(r.bus, 1, 2000)
        begun = asyncio.get_running_loop().time()
        await recorder.stop()
        assert asyncio.get_running_loop().time() - begun < 9
        assert await r.count("fills", 2000, 1) == 2000
