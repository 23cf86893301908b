"""HaltBook: which scopes are halted or may only reduce, latched until a person resumes them.

In come Control messages, in any order and more than once; out come the state of an order's scopes. The
stronger state wins, only ``resume`` loosens: its own scope, or everything with ``all``. A resume on the bus is final:
its two steps are taken where the person acts (docs/decisions/0072). Names are compared as subject tokens, so
that no spelling slips past a halt.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tickmesh.domain.enums import RiskState
from tickmesh.domain.messages import Control
from tickmesh.domain.subjects import clean_scope, token
from tickmesh.risk.view import RiskView

ALL = "all"
KINDS = ("account", "strategy", "symbol")
_STATES = {"halt": RiskState.HALTED, "reduce": RiskState.REDUCING, "resume": RiskState.ACTIVE}
_RANK = {RiskState.ACTIVE: 0, RiskState.REDUCING: 1, RiskState.HALTED: 2}


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
        self._halts = {halt.scope: halt for halt in halts}

    @property
    def halts(self) -> list[Halt]:
        """Every scope that is not ACTIVE, sorted by name; also the saved form."""
        return [self._halts[scope] for scope in sorted(self._halts)]

    def apply(self, control: Control) -> bool:
        """Take a command; returns whether it changed anything. Verbs of others and malformed scopes change nothing."""
        state, scope = _STATES.get(control.verb), clean_scope(control.scope)
        if state is None or not is_scope(scope) or control.scope.endswith("."):
            return False
        if state is RiskState.ACTIVE:
            lifted = list(self._halts) if scope == ALL else [s for s in self._halts if s == scope]
            for name in lifted:
                del self._halts[name]
            return bool(lifted)
        if _RANK[state] <= _RANK[self.of(scope)]:
            return False
        self._halts[scope] = Halt(scope, state, control.reason, control.actor, control.publish_ns)
        return True

    def of(self, scope: str) -> RiskState:
        """The state of one scope by itself."""
        halt = self._halts.get(scope)
        return halt.state if halt is not None else RiskState.ACTIVE

    def state(self, account: str = "", strategy: str = "", symbol: str = "") -> RiskState:
        """The strictest state that covers an order of this account, strategy and symbol."""
        names = {"account": account, "strategy": strategy, "symbol": symbol}
        scopes = [ALL, *(scope_of(kind, name) for kind, name in names.items() if name)]
        return max((self.of(scope) for scope in scopes), key=_RANK.__getitem__)

    def write_to(self, view: RiskView, strategies: Iterable[str] = ()) -> None:
        """Put the states into the view that pre-trade checks look at.

        Args:
            view: changed; its throttles stay as they are.
            strategies: strategies that are known by name; halted ones not among them are written as tokens.
        """
        view.overall = self.of(ALL)
        view.account_state = self.of(scope_of("account", view.account))
        for symbol, seen in view.symbols.items():
            seen.state = self.of(scope_of("symbol", symbol))
        view.strategy_state.clear()
        for scope, halt in self._halts.items():
            kind, _, name = scope.partition(".")
            if kind == "strategy":
                view.strategy_state[name] = halt.state
        for strategy in strategies:
            view.strategy_state[strategy] = self.of(scope_of("strategy", strategy))


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
