"""Latches: scopes that are halted or may only reduce, each until it is resumed by name.

In come commands (``messages.Control``) in any order and more than once; out goes the state of a scope. The stronger
state wins, only ``resume`` loosens: its own scope, or everything with ``all`` (docs/decisions/0072). Risk and execution
both latch what they hear, and must never come to different ends.
"""

from __future__ import annotations

import msgspec

from tickmesh.domain.enums import RiskState
from tickmesh.domain.messages import Control

ALL = "all"
KINDS = ("account", "strategy", "symbol")
HARDNESS = {RiskState.ACTIVE: 0, RiskState.REDUCING: 1, RiskState.HALTED: 2}
_STATES = {"halt": RiskState.HALTED, "reduce": RiskState.REDUCING, "resume": RiskState.ACTIVE}


class Latched(msgspec.Struct, frozen=True):
    """Why a scope is not ACTIVE; ``since_ns`` is wall time."""

    state: RiskState
    reason: str = ""
    actor: str = ""
    since_ns: int = 0


Latches = dict[str, Latched]
"""By scope: ``all``, ``account.A``, ``strategy.S``, ``symbol.X``."""


def asked_state(control: Control) -> RiskState | None:
    """What a command makes of its scope; None for a verb that is none of ours."""
    return _STATES.get(control.verb)


def state_of(latches: Latches, scope: str) -> RiskState:
    """The state of one scope by itself."""
    found = latches.get(scope)
    return found.state if found is not None else RiskState.ACTIVE


def take(latches: Latches, scope: str, control: Control, *, again: bool = False) -> bool:
    """Take a command for ``scope``; returns whether a latch changed.

    Args:
        again: replace a latch that is as hard already: the command wants more than it.
    """
    state = asked_state(control)
    if state is None:
        return False
    if state is RiskState.ACTIVE:
        lifted = list(latches) if scope == ALL else [name for name in latches if name == scope]
        for name in lifted:
            del latches[name]
        return bool(lifted)
    present = latches.get(scope)
    # A halt is not softened by a later reduce: it must be resumed.
    if present is not None and HARDNESS[present.state] >= HARDNESS[state] and not again:
        return False
    latches[scope] = Latched(state, control.reason, control.actor, control.publish_ns)
    return True
