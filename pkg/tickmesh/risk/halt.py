"""HaltBook: what the risk service holds halted, and how a risk view shows latches.

In come Control messages (``domain.halt`` says what they do); out come the state of a scope and the saved form. Names
are compared as subject tokens, so that no spelling slips past a halt. A resume on the bus is final: its two steps are
taken where the person acts (docs/decisions/0072).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tickmesh.domain.enums import RiskState
from tickmesh.domain.halt import ALL, KINDS, Latched, Latches, asked_state, state_of, take
from tickmesh.domain.messages import Control
from tickmesh.domain.subjects import clean_scope, token
from tickmesh.risk.view import RiskView


class Halt(msgspec.Struct, frozen=True):
    """One scope that does not trade freely, who stopped it and why; ``at_ns`` is wall time."""

    scope: str
    state: RiskState
    reason: str
    actor: str
    at_ns: int


def scope_of(kind: str, name: str) -> str:
    """The scope of one account, strategy or symbol."""
    return f"{kind}.{token(name)}"


class HaltBook:
    """All scopes that are not ACTIVE."""

    def __init__(self, halts: Iterable[Halt] = ()) -> None:
        self._latches: Latches = {h.scope: Latched(h.state, h.reason, h.actor, h.at_ns) for h in halts}

    @property
    def halts(self) -> list[Halt]:
        """Every scope that is not ACTIVE, sorted by name; also the saved form."""
        return [
            Halt(scope, held.state, held.reason, held.actor, held.since_ns)
            for scope, held in sorted(self._latches.items())
        ]

    def apply(self, control: Control) -> bool:
        """Take a command; returns whether it changed anything. Verbs of others and malformed scopes change nothing."""
        scope = clean_scope(control.scope)
        if asked_state(control) is None or not is_scope(scope) or control.scope.endswith("."):
            return False
        return take(self._latches, scope, control)

    def of(self, scope: str) -> RiskState:
        """The state of one scope by itself."""
        return state_of(self._latches, scope)


def show(latches: Latches, view: RiskView) -> None:
    """Put the states into the view that pre-trade checks look at; its throttles stay as they are."""
    view.overall = state_of(latches, ALL)
    view.account_state = state_of(latches, f"account.{view.account}")
    for symbol, seen in view.symbols.items():
        seen.state = state_of(latches, f"symbol.{symbol}")
    view.strategy_state = {
        scope.partition(".")[2]: held.state for scope, held in latches.items() if scope.startswith("strategy.")
    }


def reopen(view: RiskView, control: Control) -> bool:
    """A person's resume of a strategy, or of all, reopens what the execution throttle shut; nothing else does."""
    scope = clean_scope(control.scope)
    if control.verb != "resume" or not control.actor or control.actor == "risk":
        return False
    shut = {name for name in view.throttled if scope in (ALL, scope_of("strategy", name))}
    view.throttled -= shut
    for name in shut:
        view.strategy_orders.pop(name, None)
    return bool(shut)


def is_scope(scope: str) -> bool:
    """Whether ``scope`` is ``all`` or a kind that we know with a name."""
    kind, dot, name = scope.partition(".")
    return scope == ALL or (bool(dot) and kind in KINDS and bool(name) and "." not in name)
