"""The pre-trade kernel says yes exactly when every Python check passes, in both halves, and never else."""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tickmesh import hotpath
from tickmesh.domain.approval import ApprovedOrder, Refusal
from tickmesh.domain.enums import OrderType, PositionSide, RiskState, Side, TimeInForce
from tickmesh.domain.errors import NotFiniteError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import OrderIntent
from tickmesh.hotpath.pure import pretrade as pure
from tickmesh.hotpath.pure.risk_state import NEVER_NS
from tickmesh.risk import checks as rule_book
from tickmesh.risk.limits import Limits, SymbolLimits
from tickmesh.risk.pretrade import PreTrade
from tickmesh.risk.view import RiskView

SEEDS = range(int(os.environ.get("TICKMESH_PRETRADE_SEEDS", "150")))
NEVER_HERE = {"no_book", "not_trading", "no_balance", "no_mark", "breaker"}
"""Refusals that no step here leads to; tests/unit/risk has them."""

KERNELS: list[Any] = [pure.PreTradeKernel, *([hotpath.native.PreTradeKernel] if hotpath.native else [])]
NOW_NS, MONO_NS = 1_700_000_000_000_000_000, 50_000_000_000
BTC = Instrument(
    venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001"),
    min_price=Decimal("556.80"), max_price=Decimal("4529764"), min_qty=Decimal("0.001"), max_qty=Decimal("1000"),
    market_min_qty=Decimal("0.001"), market_max_qty=Decimal("120"), min_notional=Decimal("100"),
    percent_price_up=Decimal("1.05"), percent_price_down=Decimal("0.95"), max_open_orders=200,
)  # fmt: skip

TICKS = (0, 1, 588_000, 597_000, 603_000, 612_000, 660_001, -5, 2**63, 2**70)
LOTS = (0, 1, 833, 834, 3_333, 3_334, 120_001, -5, 2**63)


class Chance:
    """Mostly sensible input, sometimes absurd, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def rarely(self, one_in: int = 20) -> bool:
        return self.random.randrange(one_in) == 0

    def ticks(self) -> int:
        return self.random.choice(TICKS) if self.rarely() else self.random.randint(599_850, 600_150)

    def intent(self, number: int) -> OrderIntent:
        choice, rarely = self.random.choice, self.rarely
        kind = choice(tuple(OrderType)) if rarely(4) else OrderType.LIMIT
        priced = kind in (OrderType.LIMIT, OrderType.STOP, OrderType.TAKE_PROFIT)
        conditional = kind not in (OrderType.LIMIT, OrderType.MARKET)
        return OrderIntent(
            intent_id=choice(("a", "b", "")) if rarely() else str(number),
            strategy=choice(("halted", "")) if rarely() else choice(("mm", "other", "third")),
            account="x" if rarely(50) else "main",
            venue="x" if rarely(50) else "binance",
            symbol="BTCUSDT",
            side=choice(tuple(Side)),
            order_type=kind,
            time_in_force=choice(tuple(TimeInForce)),
            price_ticks=self.ticks() if priced != rarely(50) else 0,
            stop_price_ticks=self.ticks() if conditional != rarely(50) else 0,
            qty_lots=choice(LOTS) if rarely(10) else self.random.randint(2, 60),
            reduce_only=rarely(15),
            position_side=PositionSide.BOTH,
            publish_ns=NOW_NS - (self.random.randint(-(2**61), 2**61) if rarely(50) else 1_000_000),
            ttl_ns=999_999 if rarely(50) else 250_000_000,
        )

    def step(self, number: int, hedge_mode: bool) -> tuple[Any, ...]:
        choice, integer = self.random.choice, self.random.randint
        if not self.rarely(3):
            intent = self.intent(number)
            if self.rarely(8):
                intent.side, intent.price_ticks, intent.qty_lots = Side.BUY, 599_950, 2
            if hedge_mode != self.rarely():
                intent.position_side = choice((PositionSide.LONG, PositionSide.SHORT))
            return ("intent", intent)
        match integer(0, 19):
            case 0:
                return ("book", self.ticks(), self.ticks(), self.rarely(3), integer(0, 3 * 10**9))
            case 1:
                return ("mark", choice(("60000", "59990.55", "61000", "0.01", "1e30")), integer(0, 11))
            case 2:
                return ("balances", integer(-1000, 200_000), integer(-10, 200_000))
            case 3 | 4:
                held = choice((integer(-4_000, 4_000), integer(2_980, 3_000)))
                return ("position", choice(tuple(PositionSide)), integer(-100, 100) if self.rarely(2) else held)
            case 5:
                return ("leverage", integer(0, 22))
            case 6:
                return ("state", choice(("overall", "account_state", "symbol")), choice(tuple(RiskState)))
            case 7:
                return ("unknown", self.rarely(2))
            case 8 | 9:
                return ("release", integer(0, 5))
            case 10:
                return ("time", integer(0, 2_000_000_000))
            case 11 if self.rarely(4):
                return ("mode", hedge_mode != self.rarely(4))
            case 11 | 12 | 13 | 14 | 15 | 16:
                return ("calm",)
            case _:
                return ("near", integer(599_900, 600_100), integer(0, 2))

    def limits(self) -> Limits:
        choice = self.random.choice
        return Limits(
            max_open_orders=choice((3, 100)),
            max_identical_open=choice((1, 3)),
            max_messages_per_s=choice((2, 50)),
            max_messages_per_min=choice((4, 1000, 1000)),
            max_margin_use=choice((Decimal("0.8"), Decimal("0.3333"), Decimal(1))),
            max_exposure_notional=choice((Decimal(500_000), Decimal("10000.123"))),
            max_order_notional=choice((Decimal(50_000), Decimal("2400.012"))),
            collar_bps=choice((0, 1, 50, 50, 50, 50)),
            require_mark=choice((True, False)),
            throttle_orders=choice((5, 100_000, 100_000)),
            symbols=choice(
                ({}, {}, {}, {"BTCUSDT": SymbolLimits(max_order_qty=Decimal("0.02"), max_position_qty=Decimal(3))})
            ),
        )


class Desk:
    """One account, judged with one kernel (or with none: by the checks alone)."""

    def __init__(self, kernel: Any, bounds: Limits, hedge_mode: bool) -> None:
        self.view, self.hedge_mode = RiskView("main", {"BTCUSDT": BTC}, hedge_mode=hedge_mode), hedge_mode
        self.pretrade = PreTrade({"BTCUSDT": BTC}, bounds, kernel=kernel)
        self.view.strategy_state["halted"] = RiskState.HALTED
        self.mono_ns = MONO_NS
        self.approved: list[str] = []
        self.do(("calm",))

    def do(self, step: tuple[Any, ...]) -> Any:
        view, symbol = self.view, self.view.symbols["BTCUSDT"]
        match step:
            case ("intent", intent):
                return self.judge(intent)
            case ("book", bid, ask, stale, age):
                view.on_book("BTCUSDT", bid, ask, self.mono_ns - age, stale)
            case ("near", mid, half):
                view.on_book("BTCUSDT", mid - half, mid + half, self.mono_ns)
            case ("mark", price, age_s):
                with contextlib.suppress(NotFiniteError):  # a mark that no venue has is none
                    view.on_mark("BTCUSDT", Decimal(price), self.mono_ns - age_s * 10**9)
            case ("balances", equity, available):
                view.on_balances(Decimal(equity), Decimal(available))
            case ("position", side, held):
                view.set_position("BTCUSDT", held, side)
            case ("leverage", leverage):
                view.set_leverage("BTCUSDT", leverage)
            case ("state", "symbol", state):
                symbol.state = state
            case ("state", name, state):
                setattr(view, name, state)
            case ("unknown", unknown):
                view.set_unknown("somebody", "BTCUSDT", unknown)
            case ("release", number):
                if number < len(self.approved):
                    view.release(self.approved.pop(number))
            case ("time", passed_ns):
                self.mono_ns += passed_ns
            case ("mode", hedge_mode):  # somebody changed it at the venue
                view.hedge_mode = hedge_mode
                view.refresh(symbol)
            case ("calm",):
                view.hedge_mode = self.hedge_mode
                view.overall = view.account_state = symbol.state = RiskState.ACTIVE
                symbol.unknown.clear()
                for passing in (("near", 600_000, 1), ("mark", "60000", 0), ("balances", 100_000, 100_000)):
                    self.do(passing)
                self.do(("leverage", 10))
        return None

    def judge(self, intent: OrderIntent) -> ApprovedOrder | Refusal:
        answer = self.pretrade.approve(intent, self.view, NOW_NS, self.mono_ns)
        if isinstance(answer, ApprovedOrder):
            self.approved.append(answer.client_order_id)
        return answer


def plain(view: RiskView, intent: OrderIntent) -> bool:
    """Whether the kernel is asked for this at all and can count it: no REDUCING, no open breaker, 64 bits."""
    symbol = view.symbols["BTCUSDT"]
    numbers = (intent.price_ticks, intent.stop_price_ticks, intent.qty_lots, symbol.bid_ticks, symbol.ask_ticks)
    reducing = RiskState.REDUCING in (view.overall, view.account_state, symbol.state)
    return not reducing and all(abs(n) < 2**40 for n in (*numbers, symbol.ref_ticks))


ORDER = ("strategy", "side", "leg", "price_ticks", "lots", "left_lots", "worth_ticks", "resting_ticks")


def reserved(view: RiskView) -> dict[str, tuple[Any, ...]]:
    """Every open order as it is counted."""
    assert len(view.symbols["BTCUSDT"].orders) == len(view.reservations)
    return {name: tuple(getattr(view.reserved(name), field) for field in ORDER) for name in view.reservations}


def test_the_kernel_passes_exactly_what_all_checks_pass() -> None:
    codes: Counter[str] = Counter()
    for seed in SEEDS:
        chance, hedge_mode, number = Chance(seed), seed % 3 == 0, 0
        bounds = chance.limits()
        checks, *fast = (Desk(kernel, bounds, hedge_mode) for kernel in (None, *KERNELS))
        for number in range(60):
            step = chance.step(number, hedge_mode)
            before = [desk.pretrade.quick for desk in fast]
            answer = checks.do(step)
            for desk, quick in zip(fast, before, strict=True):
                where = (seed, number, step, answer)
                assert desk.do(step) == answer, where
                passed = desk.pretrade.quick > quick
                if step[0] == "intent":
                    assert not passed or isinstance(answer, ApprovedOrder), where
                    if plain(desk.view, step[1]):
                        assert passed == isinstance(answer, ApprovedOrder), where
                assert desk.view.exposure_atto == checks.view.exposure_atto, where
                assert desk.view.margin_atto == checks.view.margin_atto, where
                assert reserved(desk.view) == reserved(checks.view), where
                assert len(desk.view.seen) == len(checks.view.seen), where
                assert desk.view.throttled == checks.view.throttled, where
            if step[0] == "intent":
                codes["passes" if isinstance(answer, ApprovedOrder) else answer.code] += 1
    if len(SEEDS) >= 150:
        every = set(re.findall(r'Refusal\(\s*"(\w+)"', Path(rule_book.__file__).read_text()))
        assert codes["passes"] > sum(codes.values()) // 12, codes
        assert every - set(codes) <= NEVER_HERE, codes


BOUNDS: dict[str, Any] = {
    "min_ticks": 1, "max_ticks": 10**6, "min_lots": 1, "max_lots": 10**6, "market_min_lots": 1,
    "market_max_lots": 10**5, "own_max_lots": 1000, "max_position_lots": 2000, "min_notional_tl": 100,
    "max_order_tl": 10**9, "max_position_tl": 2 * 10**9, "max_open_orders": 5, "max_identical_open": 3,
    "collar_bps": 50,
    "mark_collar_bps": 200, "passive_collar_bps": 1000, "max_book_age_ns": 10**9, "max_mark_age_ns": 10**9,
    "require_mark": True, "unit_atto": 10**14, "max_exposure_atto": 10**23, "max_leverage": 20,
    "margin_numerator": 4, "margin_denominator": 5,
}  # fmt: skip
ARGUMENTS = [name for name in inspect.signature(pure.PreTradeKernel.check).parameters if name != "self"]
FLAGS = {"buying", "hedge", "post_only", "reduce_only", "reducing", "stale", "unknown", "balances"}
GOOD: dict[str, Any] = dict.fromkeys(ARGUMENTS, 0) | dict.fromkeys(FLAGS, False) | {
    "buying": True, "price": 100_000, "lots": 10, "ttl_ns": 10, "now_mono_ns": 10**9, "bid": 100_000, "ask": 100_001,
    "book_mono_ns": 10**9, "mark": 100_000, "mark_mono_ns": 10**9, "mark_high": 105_000, "mark_low": 95_000,
    "ref": 100_000, "leverage": 10, "equity": 10**23, "available": 10**23, "balances": True,
    "second_mono_ns": NEVER_NS, "minute_mono_ns": NEVER_NS,
}  # fmt: skip
anything = st.integers(-3, 3) | st.integers(99_000, 101_000) | st.integers(-(2**63), 2**63 - 1)
wide = anything | st.integers(0, 10**24) | st.integers(-(2**127), 2**127 - 1)


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(ARGUMENTS), max_size=6, unique=True)):
        if name in FLAGS:
            changed[name] = draw(st.booleans())
        elif name == "kind":
            changed[name] = draw(st.integers(0, 3))
        elif name == "leg":
            changed[name] = draw(st.integers(0, 2))
        elif name == "leverage":
            changed[name] = draw(st.integers(1, 30))
        else:
            changed[name] = draw(wide if name in ("exposure", "margin", "equity", "available") else anything)
    return GOOD | changed


@pytest.mark.slow
@pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")
@settings(max_examples=500, deadline=None)
@given(arguments(), st.booleans())
def test_both_kernels_give_one_answer_to_any_numbers(given_: dict[str, Any], marks: bool) -> None:
    made = [kernel(**BOUNDS | {"require_mark": marks}) for kernel in reversed(KERNELS)]
    native, twin = (kernel.check(*(given_[name] for name in ARGUMENTS)) for kernel in made)
    event(str(min(twin, 0)))
    if native == pure.UNSURE:
        numbers = [abs(v) for k, v in given_.items() if k not in FLAGS]
        assert max(numbers) > 2**40, "only numbers that no venue has may be too large to count with"
    else:
        assert native == twin


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_good_order_passes_and_a_bound_that_cannot_be_counted_with_is_refused(kernel: Any) -> None:
    assert kernel(**BOUNDS).check(*GOOD.values()) == 100_000
    for name, bound in (("min_ticks", 2**63), ("max_order_tl", 2**127), ("unit_atto", -1)):
        with pytest.raises(OverflowError):
            kernel(**BOUNDS | {name: bound})


AT_THE_BOUND: dict[str, tuple[int, dict[str, int], dict[str, int]]] = {
    "min_ticks": (pure.FILTERS, {"min_ticks": 100_000}, {"min_ticks": 100_001}),
    "max_ticks": (pure.FILTERS, {"max_ticks": 100_000}, {"max_ticks": 99_999}),
    "min_lots": (pure.FILTERS, {"min_lots": 10}, {"min_lots": 11}),
    "max_lots": (pure.FILTERS, {"max_lots": 10}, {"max_lots": 9}),
    "min_notional": (pure.FILTERS, {"min_notional_tl": 1_000_000}, {"min_notional_tl": 1_000_001}),
    "band": (pure.FILTERS, {"mark_high": 100_000}, {"mark_high": 99_999}),
    "order lots": (pure.ORDER_SIZE, {"own_max_lots": 10}, {"own_max_lots": 9}),
    "order value": (pure.ORDER_SIZE, {"max_order_tl": 1_000_000}, {"max_order_tl": 999_999}),
    "open orders": (pure.ORDER_SIZE, {"open_orders": 4}, {"open_orders": 5}),
    "position lots": (pure.POSITION, {"max_position_lots": 10}, {"max_position_lots": 9}),
    "position lots held": (pure.POSITION, {"position": 1_990}, {"position": 1_991}),
    "position lots open": (pure.POSITION, {"open_buy": 1_990, "open_buy_tl": 1}, {"open_buy": 1_991, "open_buy_tl": 1}),
    "position value": (pure.POSITION, {"max_position_tl": 1_000_000}, {"max_position_tl": 999_999}),
    "exposure": (pure.ACCOUNT, {"max_exposure_atto": 10**20}, {"max_exposure_atto": 10**20 - 1}),
    "leverage": (pure.ACCOUNT, {"leverage": 20}, {"leverage": 21}),
    "available": (pure.ACCOUNT, {"available": 10**19}, {"available": 10**19 - 1}),
    "margin share": (pure.ACCOUNT, {"equity": 5 * 10**19 // 4}, {"equity": 5 * 10**19 // 4 - 1}),
    "age": (pure.FRESHNESS, {"age_ns": 10}, {"age_ns": 11}),
    "future": (pure.FRESHNESS, {"age_ns": -(10**9)}, {"age_ns": -(10**9) - 1}),
    "book age": (pure.MARKET_DATA, {"book_mono_ns": 10**9 - 5, "max_book_age_ns": 5},
                 {"book_mono_ns": 10**9 - 5, "max_book_age_ns": 4}),
    "mark age": (pure.MARKET_DATA, {"mark_mono_ns": 10**9 - 5, "max_mark_age_ns": 5},
                 {"mark_mono_ns": 10**9 - 5, "max_mark_age_ns": 4}),
    "collar": (pure.COLLAR, {"bid": 99_999, "ask": 100_000, "price": 100_500},
               {"bid": 99_999, "ask": 100_000, "price": 100_501}),
    "mark collar": (pure.COLLAR, {"bid": 101_998, "ask": 101_999, "price": 102_000},
                    {"bid": 101_998, "ask": 101_999, "price": 102_001}),
    "own order": (pure.SELF_TRADE, {"resting": 100_001}, {"resting": 100_000}),
    "a second": (pure.MESSAGE_RATE, {"second_mono_ns": 0}, {"second_mono_ns": 1}),
    "a minute": (pure.MESSAGE_RATE, {"minute_mono_ns": -59 * 10**9}, {"minute_mono_ns": -59 * 10**9 + 1}),
}  # fmt: skip
"""What refuses; numbers at the bound, which pass; numbers one beyond it."""


@pytest.mark.parametrize("what", AT_THE_BOUND)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_bound_lets_its_own_value_pass_and_nothing_beyond(kernel: Any, what: str) -> None:
    def answer(changed: dict[str, int]) -> Any:
        bounds = BOUNDS | {name: value for name, value in changed.items() if name in BOUNDS}
        numbers = GOOD | {name: value for name, value in changed.items() if name in GOOD}
        assert set(changed) <= set(BOUNDS) | set(GOOD)
        return kernel(**bounds).check(*(numbers[name] for name in ARGUMENTS))

    code, at, beyond = AT_THE_BOUND[what]
    assert answer(at) >= 0
    assert answer(beyond) == code


def test_limits_too_fine_to_count_with_leave_every_order_to_the_checks() -> None:
    share = Decimal("0." + "3" * 60)
    desk = Desk(hotpath.PreTradeKernel, Limits(max_margin_use=share), hedge_mode=False)
    order = OrderIntent(
        intent_id="a", strategy="mm", account="main", venue="binance", symbol="BTCUSDT", side=Side.BUY,
        price_ticks=599_990, qty_lots=10, publish_ns=NOW_NS,
    )  # fmt: skip
    assert isinstance(desk.judge(order), ApprovedOrder) and desk.pretrade.quick == 0
    desk.pretrade.set_limits(Limits())
    assert isinstance(desk.judge(msgspec.structs.replace(order, intent_id="b")), ApprovedOrder)
    assert desk.pretrade.quick == 1, "new limits must reach the kernel"
    desk.pretrade.set_limits(Limits(max_order_notional=Decimal(1)))
    answer = desk.judge(msgspec.structs.replace(order, intent_id="c"))
    assert isinstance(answer, Refusal) and answer.code == "max_order_notional"
