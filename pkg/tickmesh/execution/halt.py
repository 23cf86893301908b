"""HaltLatch: what is halted or only reducing, latched until it is resumed by name.

In come control commands with their place in the CTL stream; out goes the state of each scope. It refuses to
loosen itself: only ``resume`` of the same scope, or of ``all``, lifts a latch.
"""

from __future__ import annotations

import msgspec

from tickmesh.domain.enums import RiskState
from tickmesh.domain.messages import Control

ALL = "all"
_STATES = {"halt": RiskState.HALTED, "reduce": RiskState.REDUCING, "resume": RiskState.ACTIVE}
_HARDNESS = {RiskState.ACTIVE: 0, RiskState.REDUCING: 1, RiskState.HALTED: 2}


class Latched(msgspec.Struct, frozen=True):
    """Why a scope is not ACTIVE."""

    state: RiskState
    reason: str = ""
    actor: str = ""
    since_ns: int = 0


class HaltState(msgspec.Struct):
    """What is persisted: latches by scope, and the last command of the CTL stream that is in them."""

    scopes: dict[str, Latched] = msgspec.field(default_factory=dict)
    ctl_seq: int = 0
    flatten: list[str] = []
    """Scopes that are halted and still to be flattened."""


def merge(mine: HaltState, theirs: HaltState) -> HaltState:
    """The state to begin with, from our file and from what the former writer of the account left.

    Latches are lifted by the stream only: who has read further in it knows better. Else every latch of either holds.
    """
    if mine.ctl_seq != theirs.ctl_seq:
        return max(mine, theirs, key=lambda state: state.ctl_seq)
    both = dict(theirs.scopes)
    for scope, latched in mine.scopes.items():
        other = both.get(scope)
        if other is None or _HARDNESS[other.state] < _HARDNESS[latched.state]:
            both[scope] = latched
    return HaltState(both, mine.ctl_seq, sorted({*mine.flatten, *theirs.flatten}))


class HaltLatch:
    """The latches of one account's execution. Scopes: ``all``, ``account.A``, ``strategy.S``, ``symbol.X``."""

    def __init__(self, account: str, state: HaltState | None = None) -> None:
        self._account = account
        self.state = state or HaltState()

    def concerns_us(self, scope: str) -> bool:
        """Whether a command of ``scope`` is for this account."""
        kind, _, name = scope.partition(".")
        return (
            scope == ALL
            or (kind in ("strategy", "symbol") and name != "")
            or (kind, name) == ("account", self._account)
        )

    def apply(self, control: Control, ctl_seq: int = 0) -> bool:
        """Take a command; True when a latch changed. A command that is in the state already changes nothing."""
        if ctl_seq:
            if ctl_seq <= self.state.ctl_seq:
                return False
            self.state.ctl_seq = ctl_seq
        state = _STATES.get(control.verb)
        if state is None or not self.concerns_us(control.scope):
            return False
        scopes = self.state.scopes
        if state is RiskState.ACTIVE:
            lifted = list(scopes) if control.scope == ALL else [s for s in scopes if s == control.scope]
            for scope in lifted:
                del scopes[scope]
            self.state.flatten = [scope for scope in self.state.flatten if scope in scopes]
            return bool(lifted)
        present = scopes.get(control.scope)
        flatten = state is RiskState.HALTED and control.arguments.get("flatten") == "true"
        # A halt is not softened by a later reduce: it must be resumed. A later command may want it flat as well.
        if (
            present is not None
            and _HARDNESS[present.state] >= _HARDNESS[state]
            and not (flatten and control.publish_ns > present.since_ns)
        ):
            return False
        scopes[control.scope] = Latched(state, control.reason, control.actor, control.publish_ns)
        if flatten:
            self.state.flatten = sorted({*self.state.flatten, control.scope})
        return True

    def of(self, scope: str) -> RiskState:
        found = self.state.scopes.get(scope)
        return found.state if found is not None else RiskState.ACTIVE
