"""The recorder with a real Postgres and a real nats-server."""

from decimal import Decimal
from pathlib import Path

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

from .recording import START_NS, a_fill, a_step, a_trade, publish_fills, rig


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
