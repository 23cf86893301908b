"""Pre-trade checks: each refuses what it is there for, and the same order passes once its cause is gone."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tickmesh.domain.approval import ApprovedOrder, Refusal
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import IntentAction, OrderType, PositionSide, RiskState, Side, TimeInForce
from tickmesh.domain.errors import NotFiniteError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import OrderIntent
from tickmesh.risk import checks
from tickmesh.risk.limits import Limits, SymbolLimits
from tickmesh.risk.pretrade import PreTrade
from tickmesh.risk.view import RiskView

PACKAGE = Path(__file__).resolve().parents[3] / "pkg" / "tickmesh"
NOW_NS = 1_700_000_000_000_000_000
MONO_NS = 50_000_000_000
BTC = Instrument(
    venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001"),
    min_price=Decimal("556.80"), max_price=Decimal("4529764"), min_qty=Decimal("0.001"), max_qty=Decimal("1000"),
    market_min_qty=Decimal("0.001"), market_max_qty=Decimal("120"), min_notional=Decimal("100"),
    percent_price_up=Decimal("1.05"), percent_price_down=Decimal("0.95"), max_open_orders=200,
)  # fmt: skip
ETH = Instrument(
    venue="binance", symbol="ETHUSDT", base="ETH", quote="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"),
    min_notional=Decimal("20"),
)  # fmt: skip


@dataclass
class Desk:
    """A view with a healthy market at 60,000 and one order that passes."""

    view: RiskView
    pretrade: PreTrade
    count: int = 0

    def intent(self, **changes: object) -> OrderIntent:
        self.count += 1
        base = OrderIntent(
            intent_id=f"i{self.count}", strategy="mm", account="main", venue="binance", symbol="BTCUSDT",
            side=Side.BUY, price_ticks=599_990, qty_lots=10, publish_ns=NOW_NS - 1_000_000,
        )  # fmt: skip
        return msgspec.structs.replace(base, **changes)

    def ask(self, mono_ns: int = MONO_NS, **changes: object) -> ApprovedOrder | Refusal:
        return self.pretrade.approve(self.intent(**changes), self.view, NOW_NS, mono_ns)

    def code(self, mono_ns: int = MONO_NS, **changes: object) -> str:
        answer = self.ask(mono_ns, **changes)
        return answer.code if isinstance(answer, Refusal) else "ok"


def make_desk(*, hedge_mode: bool = False, without: Callable[..., object] | None = None, **limits: object) -> Desk:
    instruments = {"BTCUSDT": BTC, "ETHUSDT": ETH}
    view = RiskView("main", instruments, hedge_mode=hedge_mode)
    view.on_book("BTCUSDT", 599_999, 600_000, MONO_NS)
    view.on_mark("BTCUSDT", Decimal("60000"), MONO_NS)
    view.on_book("ETHUSDT", 299_999, 300_000, MONO_NS)
    view.on_mark("ETHUSDT", Decimal("3000"), MONO_NS)
    view.on_balances(Decimal(100_000), Decimal(100_000))
    for symbol in instruments:
        view.set_leverage(symbol, 10)
    kept = tuple(c for c in checks.CHECKS if c is not without)
    return Desk(view, PreTrade(instruments, Limits(**limits), checks=kept))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Case:
    """``spoil`` makes the base order (with ``changes``) fail with ``code``; without ``check`` it would pass."""

    code: str
    check: Callable[..., object]
    changes: dict[str, object] | None = None
    spoil: Callable[[Desk], object] | None = None
    limits: dict[str, object] | None = None
    hedge_mode: bool = False

    def run(self, *, without: Callable[..., object] | None = None) -> str:
        desk = make_desk(hedge_mode=self.hedge_mode, without=without, **(self.limits or {}))
        if self.spoil is not None:
            self.spoil(desk)
        return desk.code(**(self.changes or {}))


def open_sell(desk: Desk) -> None:
    assert desk.code(side=Side.SELL, price_ticks=600_005) == "ok"


CASES = {
    "duplicate intent": Case("duplicate", checks.duplicate, {"intent_id": "x"}, lambda d: d.view.seen.add("x")),
    "reserved before a restart": Case(
        "duplicate", checks.duplicate, {"intent_id": "x"},
        lambda d: d.view.adopt(client_order_id("mm", "x"), "BTCUSDT", Side.BUY, 599_000, 5)),
    "identical orders": Case("identical", checks.duplicate, None, lambda d: [d.ask() for _ in range(3)]),
    "expired": Case("expired", checks.freshness, {"publish_ns": NOW_NS - 250_000_001}),
    "unstamped": Case("expired", checks.freshness, {"publish_ns": 0}),
    "from the future": Case("future", checks.freshness, {"publish_ns": NOW_NS + 2_000_000_000}),
    "all halted": Case("halted", checks.halt_state, None, lambda d: setattr(d.view, "overall", RiskState.HALTED)),
    "account halted": Case(
        "halted", checks.halt_state, None, lambda d: setattr(d.view, "account_state", RiskState.HALTED)),
    "strategy halted": Case(
        "halted", checks.halt_state, None, lambda d: d.view.strategy_state.update(mm=RiskState.HALTED)),
    "symbol halted": Case(
        "halted", checks.halt_state, None, lambda d: setattr(d.view.symbols["BTCUSDT"], "state", RiskState.HALTED)),
    "reducing": Case("reducing", checks.halt_state, None, lambda d: setattr(d.view, "overall", RiskState.REDUCING)),
    "throttled": Case("throttled", checks.halt_state, None, lambda d: d.view.throttled.add("mm")),
    "breaker open": Case("breaker", checks.breakers, None, lambda d: d.view.open_breakers.add("venue_rest")),
    "breaker of the strategy": Case(
        "breaker", checks.breakers, None, lambda d: d.view.open_breakers.add("strategy.mm")),
    "UNKNOWN pending": Case(
        "unknown_pending", checks.unknown, None, lambda d: d.view.set_unknown("tm-?", "BTCUSDT", True)),
    "stale book": Case(
        "stale_book", checks.market_data, None, lambda d: d.view.on_book("BTCUSDT", 1, 2, MONO_NS, True)),
    "old book": Case(
        "stale_book", checks.market_data, None,
        lambda d: d.view.on_book("BTCUSDT", 599_999, 600_000, MONO_NS - 2_000_000_001)),
    "no book": Case("no_book", checks.market_data, None, lambda d: d.view.on_book("BTCUSDT", 599_999, 600_000, 0)),
    "crossed book": Case(
        "bad_book", checks.market_data, None, lambda d: d.view.on_book("BTCUSDT", 600_000, 600_000, MONO_NS)),
    "empty side": Case("bad_book", checks.market_data, None, lambda d: d.view.on_book("BTCUSDT", 0, 600_000, MONO_NS)),
    "old mark": Case(
        "stale_mark", checks.market_data, None,
        lambda d: d.view.on_mark("BTCUSDT", Decimal(60_000), MONO_NS - 10_000_000_001)),
    "no mark": Case(
        "no_mark", checks.market_data, None, lambda d: setattr(d.view.symbols["BTCUSDT"], "mark_ticks", 0)),
    "break at the venue": Case(
        "not_trading", checks.form, None,
        lambda d: d.pretrade.set_instrument(msgspec.structs.replace(BTC, status="BREAK"))),
    "other account": Case("wrong_account", checks.form, {"account": "other"}),
    "other venue": Case("wrong_account", checks.form, {"venue": "other"}),
    "no identity": Case("no_identity", checks.form, {"strategy": ""}),
    "position side in one-way mode": Case("position_side", checks.form, {"position_side": PositionSide.LONG}),
    "no position side in hedge mode": Case("position_side", checks.form, hedge_mode=True),
    "limit without price": Case("fields", checks.form, {"price_ticks": 0}),
    "market with price": Case("fields", checks.form, {"order_type": OrderType.MARKET}),
    "post-only market": Case("fields", checks.form, {"order_type": OrderType.MARKET, "price_ticks": 0}),
    "price range": Case("price_filter", checks.filters, {"price_ticks": 5_567}),
    "zero quantity": Case("qty_filter", checks.filters, {"qty_lots": 0}),
    "negative quantity": Case("qty_filter", checks.filters, {"qty_lots": -10}),
    "quantity too large": Case("qty_filter", checks.filters, {"qty_lots": 1_000_001}),
    "min notional": Case("min_notional", checks.filters, {"qty_lots": 1}),
    "percent price": Case("percent_price", checks.filters, {"price_ticks": 630_001}),
    "percent price of a sell": Case("percent_price", checks.filters, {"price_ticks": 569_999, "side": Side.SELL}),
    "through the touch": Case("collar", checks.collar, {"price_ticks": 603_001}),
    "sell through the touch": Case("collar", checks.collar, {"price_ticks": 596_990, "side": Side.SELL}),
    "past the mark": Case(
        "collar", checks.collar, {"price_ticks": 600_001},
        lambda d: d.view.on_mark("BTCUSDT", Decimal(58_800), MONO_NS)),
    "market order past the mark": Case(
        "collar", checks.collar,
        {"order_type": OrderType.MARKET, "price_ticks": 0, "time_in_force": TimeInForce.GTC},
        lambda d: d.view.on_mark("BTCUSDT", Decimal(58_800), MONO_NS)),
    "far behind the touch": Case("collar", checks.collar, {"price_ticks": 539_998}),
    "order quantity": Case(
        "max_order_qty", checks.order_size, {"qty_lots": 11},
        limits={"symbols": {"BTCUSDT": SymbolLimits(max_order_qty=Decimal("0.0109"))}}),
    "order value": Case("max_order_notional", checks.order_size, {"qty_lots": 834}),
    "open orders": Case(
        "max_open_orders", checks.order_size, None, lambda d: d.ask(qty_lots=7), {"max_open_orders": 1}),
    "reduce-only without position": Case("reduce_only", checks.reduce_only, {"reduce_only": True}),
    "reduce-only more than the position": Case(
        "reduce_only", checks.reduce_only, {"reduce_only": True}, lambda d: d.view.set_position("BTCUSDT", -9)),
    "closing more than the hedge leg": Case(
        "reduce_only", checks.reduce_only, {"position_side": PositionSide.SHORT},
        lambda d: d.view.set_position("BTCUSDT", -9, PositionSide.SHORT), hedge_mode=True),
    "position quantity": Case(
        "max_position_qty", checks.position, None, lambda d: d.view.set_position("BTCUSDT", 11),
        {"symbols": {"BTCUSDT": SymbolLimits(max_position_qty=Decimal("0.020"))}}),
    "position value": Case(
        "max_position_notional", checks.position, {"qty_lots": 500},
        lambda d: d.view.set_position("BTCUSDT", 2_900)),
    "open orders count for the position": Case(
        "max_position_notional", checks.position, {"qty_lots": 500},
        lambda d: [d.ask(qty_lots=499 - n, price_ticks=599_990 - n) for n in range(6)]),
    "exposure of other symbols": Case(
        "max_exposure", checks.position, None, lambda d: d.view.set_position("ETHUSDT", 166_600)),
    "foreign exposure": Case(
        "max_exposure", checks.position, None, lambda d: d.view.set_foreign_exposure("X", Decimal(-499_999))),
    "leverage": Case("max_leverage", checks.position, None, lambda d: d.view.set_leverage("BTCUSDT", 21)),
    "unknown balance": Case("no_balance", checks.position, None, lambda d: setattr(d.view, "equity_atto", None)),
    "available balance": Case(
        "margin", checks.position, None, lambda d: d.view.on_balances(Decimal(100_000), Decimal(59))),
    "equity": Case("margin", checks.position, None, lambda d: d.view.on_balances(Decimal(74), Decimal(100_000))),
    "self-trade": Case("self_trade", checks.self_trade, {"price_ticks": 600_005}, open_sell),
    "market self-trade": Case(
        "self_trade", checks.self_trade,
        {"order_type": OrderType.MARKET, "price_ticks": 0, "time_in_force": TimeInForce.GTC}, open_sell),
    "messages a second": Case(
        "message_rate", checks.message_rate, None, lambda d: [d.ask(qty_lots=20 + n) for n in range(5)],
        {"max_messages_per_s": 5}),
    "messages a minute": Case(
        "message_rate", checks.message_rate, None,
        lambda d: [d.ask(MONO_NS - 1_500_000_000, qty_lots=20 + n) for n in range(5)],
        {"max_messages_per_min": 5}),
}  # fmt: skip


def test_the_order_that_every_case_spoils_passes() -> None:
    assert make_desk().code() == "ok"


@pytest.mark.parametrize("name", CASES)
def test_refuses(name: str) -> None:
    assert CASES[name].run() == CASES[name].code


@pytest.mark.parametrize("name", CASES)
def test_only_that_check_refuses_it(name: str) -> None:
    case = CASES[name]
    assert case.run(without=case.check) != case.code


def test_every_check_has_a_case() -> None:
    assert {case.check for case in CASES.values()} == set(checks.CHECKS)


@pytest.mark.parametrize("action", [IntentAction.CANCEL, IntentAction.CANCEL_ALL])
def test_a_cancel_passes_halted_late_and_blind(action: IntentAction) -> None:
    desk = make_desk()
    desk.view.overall = RiskState.HALTED
    desk.view.open_breakers.add("venue_rest")
    answer = desk.ask(action=action, symbol="NOSUCH", publish_ns=0, target_client_order_id="tm-1")
    assert isinstance(answer, ApprovedOrder)
    assert answer.client_order_id == "tm-1"


def test_reducing_lets_a_shrinking_order_through_and_no_more_than_the_position() -> None:
    desk = make_desk()
    desk.view.set_position("BTCUSDT", -15)
    desk.view.account_state = RiskState.REDUCING
    assert desk.code(qty_lots=10) == "ok"
    assert desk.code(qty_lots=10) == "reducing"
    assert desk.code(qty_lots=5) == "ok"
    assert desk.code(side=Side.SELL, price_ticks=600_005) == "reducing"


def test_shrinking_needs_no_margin_and_no_room() -> None:
    desk = make_desk()
    desk.view.set_position("BTCUSDT", -15)
    desk.view.on_balances(Decimal(0), Decimal(0))
    desk.view.set_foreign_exposure("X", Decimal(10**9))
    assert desk.code(qty_lots=15) == "ok"
    assert desk.code(qty_lots=15) == "max_exposure"


def test_room_returns_when_an_order_ends_and_stays_taken_while_it_is_unknown() -> None:
    desk = make_desk(max_position_notional=Decimal(1000))
    first = desk.ask()
    assert isinstance(first, ApprovedOrder)
    assert desk.code() == "max_position_notional"
    desk.view.set_unknown(first.client_order_id, "BTCUSDT", True)
    assert desk.code() == "unknown_pending"
    desk.view.set_unknown(first.client_order_id, "BTCUSDT", False)
    assert desk.code() == "max_position_notional"
    desk.view.release(first.client_order_id)
    assert desk.code() == "ok"


def test_a_fill_moves_room_from_the_order_to_the_position() -> None:
    desk = make_desk(max_position_notional=Decimal(1000))
    first = desk.ask()
    assert isinstance(first, ApprovedOrder)
    desk.view.on_fill(first.client_order_id, "BTCUSDT", Side.BUY, 10)
    desk.view.release(first.client_order_id)
    assert desk.view.symbols["BTCUSDT"].both.position_lots == 10
    assert desk.code() == "max_position_notional"
    assert desk.code(side=Side.SELL, price_ticks=600_005, reduce_only=True) == "ok"


def test_a_late_fill_of_a_forgotten_order_still_moves_the_position() -> None:
    desk = make_desk()
    desk.view.on_fill("tm-gone", "BTCUSDT", Side.SELL, 4)
    assert desk.view.symbols["BTCUSDT"].both.position_lots == -4


def test_limits_change_without_a_restart() -> None:
    desk = make_desk()
    desk.pretrade.set_limits(Limits(max_order_notional=Decimal(599)))
    assert desk.code() == "max_order_notional"
    desk.pretrade.set_limits(Limits(max_messages_per_s=1))
    assert [desk.code(qty_lots=9), desk.code(qty_lots=8)] == ["ok", "message_rate"]
    desk.pretrade.set_limits(Limits(max_messages_per_s=2))
    assert [desk.code(qty_lots=7), desk.code(qty_lots=6)] == ["ok", "message_rate"]


def test_the_throttle_shuts_a_strategy_until_a_person_reopens_it() -> None:
    desk = make_desk(throttle_orders=2)
    codes = [desk.code(qty_lots=20 + n) for n in range(3)]
    later_ns = MONO_NS + 7_200_000_000_000
    desk.view.on_book("BTCUSDT", 599_999, 600_000, later_ns)
    desk.view.on_mark("BTCUSDT", Decimal(60_000), later_ns)
    assert [*codes, desk.code(later_ns)] == ["ok", "ok", "throttled", "throttled"]
    assert desk.code(later_ns, strategy="other") == "ok"
    desk.view.throttled.discard("mm")
    assert desk.code(later_ns) == "ok"


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_refuses_new_risk_instead_of_passing(bad: str) -> None:
    desk = make_desk()
    with pytest.raises(NotFiniteError):
        desk.view.on_mark("BTCUSDT", Decimal(bad), MONO_NS)
    assert desk.code() == "no_mark"
    desk.view.on_mark("BTCUSDT", Decimal(60_000), MONO_NS)
    with pytest.raises(NotFiniteError):
        desk.view.on_balances(Decimal(100), Decimal(bad))
    assert desk.code() == "no_balance"


def test_a_stop_is_collared_around_the_mark_and_rests_in_no_book() -> None:
    desk = make_desk()
    stop = {"order_type": OrderType.STOP_MARKET, "time_in_force": TimeInForce.GTC, "price_ticks": 0}
    assert desk.code(stop_price_ticks=601_000, **stop) == "ok"
    assert desk.code(stop_price_ticks=660_001, **stop) == "collar"
    assert desk.code(side=Side.SELL, price_ticks=600_005) == "ok"


def test_only_pretrade_makes_an_approved_order() -> None:
    makers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")) == "ApprovedOrder"
    }
    assert makers == {"risk/pretrade.py"}
