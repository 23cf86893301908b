"""HaltLatch: what is halted or only reducing, latched until it is resumed by name.

In come control commands with their place in the CTL stream; out goes the state of each scope. It refuses to
loosen itself: only ``resume`` of the same scope, or of ``all``, lifts a latch.
"""

from __future__ import annotations

import msgspec

from tickmesh.domain.enums import RiskState
from tickmesh.domain.halt import ALL, HARDNESS, Latches, asked_state, state_of, take
from tickmesh.domain.messages import Control


class HaltState(msgspec.Struct):
    """What is persisted: latches by scope, and the last command of the CTL stream that is in them."""

    scopes: Latches = msgspec.field(default_factory=dict)
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
        if other is None or HARDNESS[other.state] < HARDNESS[latched.state]:
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
        state, scope, held = asked_state(control), control.scope, self.state
        if state is None or not self.concerns_us(scope):
            return False
        present = held.scopes.get(scope)
        flatten = state is RiskState.HALTED and control.arguments.get("flatten") == "true"
        # A later command may want flat what is halted already.
        again = flatten and present is not None and control.publish_ns > present.since_ns
        if not take(held.scopes, scope, control, again=again):
            return False
        if flatten:
            held.flatten = sorted({*held.flatten, scope})
        elif state is RiskState.ACTIVE:
            held.flatten = [other for other in held.flatten if other in held.scopes]
        return True

    def of(self, scope: str) -> RiskState:
        return state_of(self.state.scopes, scope)
