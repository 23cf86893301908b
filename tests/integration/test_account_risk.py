"""account and risk as processes of their own, with a real nats-server and a real (simulated) venue."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from decimal import Decimal
from pathlib import Path

import msgspec
from desk import Desk, S, desk
from pace import Pace

from tickmesh.domain import subjects
from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import Audit, Control, FillEvent, OrderEvent, decode, encode
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import free_ports


def kill(child: Child) -> None:
    """SIGKILL; the child is started again, as the supervisor does."""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)


async def test_the_account_follows_fills_and_equals_the_venue(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.start("account")
        await d.until(lambda: d.snapshots and d.snapshots[-1].equity == 100_000)
        before = d.counter("account", "mismatches_total")
        await d.trade("BUY", "0.03")
        await d.trade("SELL", "0.05")
        await d.until(lambda: d.lots == -20)
        seen = len(d.snapshots)
        await d.until(lambda: len(d.snapshots) > seen + 8)
        sums, snapshot = await d.rest.account(), d.snapshots[-1]
        assert snapshot.wallet == sums.totalWalletBalance
        assert snapshot.fills >= 2 and snapshot.maker_fills == 0
        assert snapshot.realized_pnl - snapshot.commission == snapshot.wallet - 100_000
        assert d.counter("account", "mismatches_total") == before == 0
        assert not d.alerts


async def test_fills_that_never_came_over_the_bus_come_from_the_venue_and_are_no_mismatch(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.start("account")
        await d.until(lambda: d.snapshots)
        await d.trade("BUY", "0.01")
        await d.until(lambda: d.lots == 10)
        missed = await d.trade("BUY", "0.02", publish=False)
        await d.until(lambda: d.lots == 30)
        for trade in missed:  # and now they come after all
            await d.publish_fill(trade)
        seen = len(d.snapshots)
        await d.until(lambda: len(d.snapshots) > seen + 8)
        assert d.lots == 30 and d.snapshots[-1].mismatches == 0
        assert (await d.rest.account()).totalWalletBalance == d.snapshots[-1].wallet


async def test_a_mismatch_is_corrected_to_the_venue_counted_and_alerted_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.start("account")
        await d.until(lambda: d.snapshots)
        trades = await d.trade("BUY", "0.01")
        await d.until(lambda: d.lots == 10)
        await d.publish_fill(msgspec.structs.replace(trades[-1], id=10**9))  # a fill that the venue never made
        await d.until(lambda: d.snapshots[-1].mismatches)
        seen = len(d.snapshots)
        await d.until(lambda: len(d.snapshots) > seen + 8)
        last = d.snapshots[-1]
        assert d.lots == 10 and last.wallet == (await d.rest.account()).totalWalletBalance
        assert last.mismatches == 2  # the position and the wallet
        assert [a.kind for a in d.alerts] == ["reconciliation_mismatch"]
        assert "position of BTCUSDT" in d.alerts[0].text and "wallet of USDT" in d.alerts[0].text
        await d.trade("SELL", "0.01")  # the venue's own ids are lower than the false one, and still count
        await d.until(lambda: d.lots == 0)
        assert d.snapshots[-1].mismatches == 2


async def test_a_mismatch_is_not_seen_while_the_account_trades_without_pause(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.start("account", reconcile_interval_s="0.25")
        await d.until(lambda: d.snapshots)
        for i in range(40):
            side = "BUY" if i % 2 else "SELL"
            trades = await d.trade(side, "0.005" if i % 3 else "0.008", publish=False)
            await asyncio.sleep(0.02 * (i % 4))  # the bus lags behind the venue
            for trade in trades:
                await d.publish_fill(trade)
        await asyncio.sleep(1.0)
        last = d.snapshots[-1]
        assert last.mismatches == 0 and not d.alerts
        assert last.wallet == (await d.rest.account()).totalWalletBalance
        assert d.counter("account", "reconciliations_total") > 5


async def test_messages_that_make_no_sense_are_alerted_and_change_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        account, risk = await d.start("account"), await d.start("risk")
        await d.until(lambda: d.snapshots)
        await d.trade("BUY", "0.01")
        await d.until(lambda: d.lots == 10)
        subject = subjects.fill("main", S)
        sane = FillEvent(
            account="main", venue="binance", symbol=S, trade_id=10**9, client_order_id="c", venue_order_id=1,
            price_ticks=600_000, qty_lots=5,
        )  # fmt: skip
        for change in ({"qty_lots": -5}, {"qty_lots": 0}, {"price_ticks": -1}, {"commission": Decimal("NaN")}):
            d.bus.publish(subject, encode(msgspec.structs.replace(sane, **change)))
        d.bus.publish(subject, b"\xc1 no message")
        d.bus.publish(subjects.fill("main", "DOGEUSDT"), encode(msgspec.structs.replace(sane, symbol="DOGEUSDT")))
        d.bus.publish(subjects.mark("binance", S), b"\xc1")
        d.mark("NaN")
        d.bus.publish(subjects.account_snapshot("main"), encode(
            msgspec.structs.replace(d.snapshots[-1], equity=Decimal("NaN"), margin_ratio=Decimal("Infinity"))
        ))  # fmt: skip
        d.bus.publish("ctl.halt.all", b"\xc1")
        await d.until(lambda: [a.kind for a in d.alerts].count("bad_fill") >= 5)
        await d.until(lambda: any(a.kind == "bad_snapshot" for a in d.alerts))
        seen = len(d.snapshots)
        await d.until(lambda: len(d.snapshots) > seen + 5)
        assert d.lots == 10 and d.snapshots[-1].mismatches == 0
        assert d.counter("account", "anomalies_total") >= 5 and d.counter("risk", "anomalies_total") >= 2
        assert not d.get("risk", "/halts")["halts"]
        assert account.restarts == risk.restarts == 0


async def test_both_stop_within_a_second_wherever_they_are(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        account, risk = await d.start("account"), await d.start("risk")
        await d.until(lambda: d.snapshots)
        assert await risk.wait_ready(30)
        with Pace() as pace:
            for child in (account, risk):
                started = time.monotonic()
                await child.stop()
                pace.assert_within(1.0, time.monotonic() - started)
            await asyncio.to_thread(d.venue.stop)
            late = await d.start("account")  # nobody answers at the venue
            await d.until(lambda: d.counter("account", "reconciliation_errors_total") > 0)
            started = time.monotonic()
            await late.stop()
            pace.assert_within(1.0, time.monotonic() - started)


async def test_a_drawdown_breach_halts_the_account_and_stays_over_a_kill(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.start("account", max_price_age_s="600")
        risk = await d.start("risk")
        assert await risk.wait_ready(30)
        trades = await d.trade("BUY", "0.5")
        await d.until(lambda: d.lots == 500)
        price = trades[0].price
        for _ in range(3):
            d.mark(str(price - Decimal(12_000)))  # 0.5 BTC times 12,000 is 6 % of 100,000
            await asyncio.sleep(0.3)
        await d.until(lambda: any(c.verb == "halt" for c in d.controls))
        halts = [c for c in d.controls if c.verb == "halt"]
        assert {(c.scope, c.actor) for c in halts} == {("account.main", "risk")}
        assert halts[0].arguments["kind"] == "daily_drawdown" and "daily drawdown" in halts[0].reason
        assert any(a.severity == "critical" and a.kind == "daily_drawdown" for a in d.alerts)
        await d.until(lambda: d.get("risk", "/halts")["halts"])
        kill(risk)
        await d.until(lambda: risk.restarts == 1 and (d.get("risk", "/halts") or {}).get("halts"))
        assert d.get("risk", "/halts")["halts"][0]["scope"] == "account.main"


async def test_a_kill_keeps_daily_pnl_drawdown_and_fills(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        account = await d.start("account", max_price_age_s="600")
        await d.until(lambda: d.snapshots)
        await d.trade("BUY", "0.1")
        await d.until(lambda: d.lots == 100)
        before = d.snapshots[-1]
        kill(account)
        d.snapshots.clear()
        await d.trade("SELL", "0.1")  # while it is away
        await d.until(lambda: d.snapshots and d.lots == 0)
        after = d.snapshots[-1]
        assert (after.day_start_equity, after.day_ns) == (before.day_start_equity, before.day_ns)
        assert after.peak_equity >= before.peak_equity
        assert after.fills > before.fills and after.mismatches == 0
        assert after.daily_pnl == after.equity - before.day_start_equity < 0
        assert after.drawdown > 0


async def test_changed_limits_take_effect_without_a_restart(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.start("account")
        risk = await d.start("risk")
        assert await risk.wait_ready(30)
        await d.trade("BUY", "0.1")
        await d.until(lambda: d.lots == 100 and d.snapshots[-1].exposure > 1000)
        assert not d.controls
        bucket = await d.bus.kv("limits")
        await bucket.put("main", b'{"max_exposure_notional": "NaN"}')
        await d.until(lambda: any(a.kind == "bad_limits" for a in d.alerts))
        assert not d.controls
        await bucket.put("main", b'{"max_exposure_notional": "100"}')
        await d.until(lambda: any(c.verb == "halt" and c.arguments["kind"] == "exposure" for c in d.controls))


async def test_nats_and_the_venue_may_go_and_return(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        account = await d.start("account")
        risk = await d.start("risk")
        await d.until(lambda: d.snapshots)
        kill(d.nats)
        await asyncio.to_thread(d.venue.kill)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(d.venue.start)
        await asyncio.sleep(1.0)
        d.snapshots.clear()
        await d.until(lambda: d.snapshots)
        await d.until(lambda: (d.get("account", "/readyz") or {}).get("ready"))
        await d.trade("BUY", "0.01")
        await d.until(lambda: d.lots == 10)
        assert account.restarts == risk.restarts == 0
        assert S in {p.symbol for p in d.snapshots[-1].positions}


async def test_an_unreachable_venue_opens_the_breaker_which_people_can_hold_and_let_go(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.start("account")
        await d.start("risk")
        await d.until(lambda: d.snapshots)

        def state() -> str:
            found = (d.get("risk", "/halts") or {}).get("breakers", [])
            return next((b["state"] for b in found if b["name"] == "venue-rest-account-main"), "")

        await d.until(lambda: state() == "Closed")
        await asyncio.to_thread(d.venue.kill)
        await d.until(lambda: state() == "Open")
        assert any(a.kind == "circuit_breaker" and a.severity == "critical" for a in d.alerts)
        await asyncio.to_thread(d.venue.start)
        await d.until(lambda: state() == "Closed")
        bucket = await d.bus.kv("breakers")
        await bucket.put("force.venue-rest", b'{"state": "Open", "actor": "ann"}')
        await d.until(lambda: state() == "Open")
        await d.until(lambda: not (d.get("account", "/readyz") or {}).get("ready"))
        await bucket.delete("force.venue-rest")
        await d.until(lambda: state() == "Closed")
        await d.until(lambda: (d.get("account", "/readyz") or {}).get("ready"))
        assert not d.controls  # reading less stops nobody


async def test_rejections_and_a_person_halt_and_resume(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        risk = await d.start("risk")
        assert await risk.wait_ready(30)
        for i in range(11):
            event = OrderEvent(
                account="main", venue="binance", symbol=S, client_order_id=f"r{i}", state=OrderState.REJECTED,
                venue_code=-2010, reason="no",
            )  # fmt: skip
            await d.bus.publish_durable(subjects.order_event("main", f"r{i}"), encode(event), message_id=f"r{i}")
        await d.until(lambda: [c.arguments["kind"] for c in d.controls] == ["rejections"])
        assert d.controls[0].arguments["cancel"] == "true" and d.controls[0].arguments["flatten"] == "false"
        await d.until(lambda: d.get("risk", "/halts")["halts"])
        for verb, halted in (("resume", 0), ("halt", 1)):
            control = Control(verb=verb, scope="account.main", actor="ann", reason="seen", publish_ns=time.time_ns())
            subject = subjects.control(verb, control.scope)
            await d.bus.publish_durable(subject, encode(control), message_id=f"{verb}-1")
            await d.until(lambda n=halted: len(d.get("risk", "/halts")["halts"]) == n)
        kill(risk)
        await d.until(lambda: risk.restarts == 1 and len((d.get("risk", "/halts") or {}).get("halts", [])) == 1)
        assert d.get("risk", "/halts")["halts"][0]["actor"] == "ann"


async def tickmesh(d: Desk, *arguments: str) -> tuple[int, str]:
    """The command as a person types it: exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tickmesh.runtime.cli", *arguments, env=d.env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, output.decode()


async def test_a_person_changes_limits_and_holds_breakers_on_the_command_line(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.start("account")
        risk = await d.start("risk")
        assert await risk.wait_ready(30)
        await d.trade("BUY", "0.1")
        await d.until(lambda: d.lots == 100 and d.snapshots[-1].exposure > 1000)
        for bad in ("max_exposure=1", "max_exposure_notional=NaN", "max_open_orders=few", "nonsense", "max_leverage=0"):
            code, said = await tickmesh(d, "limits", "--set", bad)
            assert code == 2 and said.count("\n") == 1, said
        code, said = await tickmesh(d, "limits", "--account", "default", "--set", "max_leverage=5")
        assert code == 0, said
        code, said = await tickmesh(d, "limits", "--set", "max_exposure_notional=100", "--actor", "ann")
        assert code == 0, said
        await d.until(lambda: any(c.verb == "halt" and c.arguments["kind"] == "exposure" for c in d.controls))
        shown = (await tickmesh(d, "limits"))[1].splitlines()
        lines = {line.split()[0]: line.split()[1:] for line in shown}
        assert lines["max_exposure_notional"] == ["100", "limits/main"]
        assert lines["max_leverage"] == ["5", "limits/default"] and lines["collar_bps"] == ["50", "built", "in"]
        assert (await tickmesh(d, "limits", "--unset", "max_exposure_notional"))[0] == 0
        assert "500000" in (await tickmesh(d, "limits", "--json"))[1]
        audits = [decode(Audit, p) async for s, p, _ in d.bus.replay("AUDIT") if s == "audit.cli"]
        assert [a.actor for a in audits].count("ann") == 1 and len(audits) == 3
        assert (await tickmesh(d, "breaker", "trip", "nobody"))[0] == 2
        assert (await tickmesh(d, "breaker", "trip", "venue-rest", "--reason", "maintenance"))[0] == 0
        await d.until(lambda: not (d.get("account", "/readyz") or {}).get("ready"))
        listed = (await tickmesh(d, "breaker"))[1]
        assert "Open (held)" in listed and "maintenance" in listed
        assert (await tickmesh(d, "breaker", "release", "venue-rest"))[0] == 0
        await d.until(lambda: (d.get("account", "/readyz") or {}).get("ready"))
        assert (await tickmesh(d, "breaker", "reset", "venue-rest"))[0] == 0


async def test_the_command_line_says_what_to_do_when_nats_is_away(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.nats.stop()
        code, said = await tickmesh(d, "limits")
        assert code == 1 and said.splitlines()[-1].startswith("tickmesh: no NATS server"), said


async def test_a_critical_service_that_does_not_answer_opens_its_breaker_and_halts_unless_a_person_holds_it(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as d:
        bucket = await d.bus.kv("breakers")
        await bucket.put("force.downstream", b'{"state": "Open", "actor": "ann", "reason": "the feed moves"}')
        d.env["TICKMESH_FEED__ADMIN_PORT"] = str(free_ports(1)[0])  # nobody is there
        quick = {"critical_services": '["feed"]', "check_interval_s": "0.2", "max_silent_s": "1.0"}
        risk = await d.start("risk", **quick, first_answer_s="1.0")
        assert await risk.wait_ready(30), "it is ready itself"

        def breakers() -> dict[str, str]:
            return {b["name"]: b["state"] for b in (d.get("risk", "/halts") or {}).get("breakers", [])}

        await d.until(lambda: breakers().get("feed-risk") == "Open" and breakers().get("bus-risk") == "Closed")
        await asyncio.sleep(2.0)
        assert not d.controls, "held by a person, it is not asked and nothing is held against it"
        await bucket.delete("force.downstream")
        await d.until(lambda: any(a.kind == "circuit_breaker" and "feed-risk" in a.text for a in d.alerts))
        await d.until(lambda: d.controls)
        assert (d.controls[0].verb, d.controls[0].scope) == ("halt", "all")
        assert d.controls[0].arguments["kind"] == "health" and "feed" in d.controls[0].reason
