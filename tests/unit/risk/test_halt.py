"""Halts: the stronger wins, only a resume loosens, any spelling of a name is the same scope."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain import subjects
from tickmesh.domain.enums import RiskState
from tickmesh.domain.halt import take
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import Control
from tickmesh.hotpath import RateWindow
from tickmesh.risk.halt import Halt, HaltBook, is_scope, reopen, scope_of, show
from tickmesh.risk.view import RiskView

BTC = Instrument(venue="s", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal(1), lot_size=Decimal(1))
SCOPES = ["all", "account.main", "strategy.mm", "symbol.BTCUSDT"]
RANK = {RiskState.ACTIVE: 0, RiskState.REDUCING: 1, RiskState.HALTED: 2}


def say(verb: str, scope: str, actor: str = "ann") -> Control:
    return Control(verb=verb, scope=scope, actor=actor, reason="why", publish_ns=7)


def test_a_halt_covers_its_scope_and_no_other() -> None:
    book = HaltBook()
    assert book.apply(say("halt", "strategy.mm"))
    assert book.of("strategy.mm") is RiskState.HALTED
    assert book.of("strategy.other") is book.of("account.main") is book.of("all") is RiskState.ACTIVE
    assert book.apply(say("reduce", "all"))
    assert book.of("all") is RiskState.REDUCING and book.of("strategy.mm") is RiskState.HALTED


def test_it_is_latched_a_reduce_does_not_soften_a_halt_and_only_resume_loosens() -> None:
    book = HaltBook()
    assert book.apply(say("halt", "account.main"))
    assert not book.apply(say("reduce", "account.main")) and not book.apply(say("halt", "account.main"))
    assert book.of("account.main") is RiskState.HALTED
    assert not book.apply(say("resume", "account.other"))
    assert book.apply(say("resume", "account.main"))
    assert book.of("account.main") is RiskState.ACTIVE
    assert not book.apply(say("resume", "account.main"))


def test_a_resume_of_all_lifts_everything() -> None:
    book = HaltBook()
    for scope in SCOPES:
        book.apply(say("halt", scope))
    assert book.apply(say("resume", "all")) and book.halts == []


def test_saved_halts_come_back_with_who_and_why() -> None:
    book = HaltBook()
    book.apply(say("halt", "symbol.BTCUSDT"))
    saved = msgspec.json.decode(msgspec.json.encode(book.halts), type=list[Halt])
    again = HaltBook(saved)
    assert again.halts == [Halt("symbol.BTCUSDT", RiskState.HALTED, "why", "ann", 7)]


@pytest.mark.parametrize("name", ["my.strategy", "my strategy", "my>strategy", "my*strategy", "my\r\nPUB x 1"])
def test_no_spelling_of_a_name_slips_past_a_halt_or_breaks_a_subject(name: str) -> None:
    book = HaltBook()
    assert book.apply(say("halt", f"strategy.{name}"))
    assert book.of(scope_of("strategy", name)) is RiskState.HALTED
    subject = subjects.control("halt", f"strategy.{name}")
    assert subject.count(".") == 3 and not set(subject) & set(" \r\n*>\t")


@pytest.mark.parametrize("scope", ["", ".", "account", "account.", "everything", "desk.main", "*", "all.x"])
def test_a_malformed_scope_changes_nothing(scope: str) -> None:
    book = HaltBook()
    assert not book.apply(say("halt", scope)) and book.halts == []
    assert not is_scope(scope)


def test_other_verbs_change_nothing() -> None:
    assert not HaltBook().apply(say("mode", "all")) and not HaltBook().apply(say("reload", "strategy.mm"))


@given(st.lists(st.tuples(st.sampled_from(["halt", "reduce", "resume"]), st.sampled_from(SCOPES)), max_size=30))
def test_each_scope_is_the_strongest_since_its_last_resume_and_saying_it_all_again_changes_nothing(
    commands: list[tuple[str, str]],
) -> None:
    book = HaltBook()
    strongest = dict.fromkeys(SCOPES, RiskState.ACTIVE)
    for verb, scope in commands:
        book.apply(say(verb, scope))
        if verb == "resume":
            strongest.update(dict.fromkeys(SCOPES if scope == "all" else [scope], RiskState.ACTIVE))
        else:
            state = RiskState.HALTED if verb == "halt" else RiskState.REDUCING
            strongest[scope] = max(strongest[scope], state, key=RANK.__getitem__)
        assert {s: book.of(s) for s in SCOPES} == strongest
    before = book.halts
    for verb, scope in commands:  # a restart that reads the stream from before its saved state
        book.apply(say(verb, scope))
    assert book.halts == before


def test_the_view_of_the_checks_shows_the_states() -> None:
    view, latches = RiskView("main", {"BTCUSDT": BTC}), {}
    for verb, scope in (
        ("reduce", "all"), ("halt", "account.main"), ("halt", "symbol.BTCUSDT"), ("halt", "strategy.a"),
        ("halt", "account.other"),
    ):  # fmt: skip
        assert take(latches, scope, say(verb, scope))
    show(latches, view)
    assert (view.overall, view.account_state) == (RiskState.REDUCING, RiskState.HALTED)
    assert view.symbols["BTCUSDT"].state is RiskState.HALTED and view.strategy_state == {"a": RiskState.HALTED}
    take(latches, "all", say("resume", "all"))
    show(latches, view)
    assert view.overall is view.account_state is view.symbols["BTCUSDT"].state is RiskState.ACTIVE
    assert view.strategy_state == {}


def test_only_a_person_reopens_what_the_throttle_shut() -> None:
    view = RiskView("main", {"BTCUSDT": BTC})
    view.throttled = {"mm", "other"}
    view.strategy_orders["mm"] = RateWindow(1, 1)
    for verb, scope, actor in (
        ("resume", "strategy.mm", ""), ("resume", "strategy.mm", "risk"), ("halt", "strategy.mm", "ann"),
        ("resume", "account.main", "ann"), ("resume", "symbol.BTCUSDT", "ann"),
    ):  # fmt: skip
        control = say(verb, scope, actor)
        assert not reopen(view, control)
    assert view.throttled == {"mm", "other"}
    assert reopen(view, say("resume", "strategy.mm"))
    assert view.throttled == {"other"} and "mm" not in view.strategy_orders
    assert reopen(view, say("resume", "all")) and not view.throttled
    assert scope_of("strategy", "a b") == "strategy.a_b"
