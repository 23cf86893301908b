"""IntentDesk: what becomes of an intent. Intents in; an ApprovedOrder out, or a Settled that says why there is none.

It decides and keeps the ledger; it sends nothing. The order of its questions is the promise: seen before, older than
this start, at the venue already, not now, and only then the pre-trade checks, which reserve. Pure; time comes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tickmesh.domain.approval import ApprovedOrder, Refusal
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import OrderState, OrderType, TimeInForce, Urgency
from tickmesh.domain.messages import OrderIntent
from tickmesh.domain.subjects import is_token
from tickmesh.execution.ledger import OrderLedger
from tickmesh.risk.pretrade import PreTrade
from tickmesh.risk.view import RiskView

REPEATED, FORGOTTEN, LINKED, STALE = "repeated", "forgotten", "linked", "older_than_start"
_AT_ONCE = frozenset({OrderType.LIMIT, OrderType.MARKET})
# Members of enumerations as constants: looking one up through its class costs ten times as much.
_LIMIT: Final = OrderType.LIMIT
_MARKET: Final = OrderType.MARKET
_IMMEDIATE: Final = Urgency.IMMEDIATE
_PASSIVE: Final = Urgency.PASSIVE
_GTX: Final = TimeInForce.GTX
_IOC: Final = TimeInForce.IOC
_FOK: Final = TimeInForce.FOK


@dataclass(slots=True)
class Settled:
    """An intent that leads to no order of its own: ``code`` is stable, for counters and callers."""

    code: str
    reason: str = ""


def taken_liquidity_only_when_urgent(intent: OrderIntent) -> str:
    """Make a limit order post-only unless its urgency pays for taking; the reason why it cannot be sent, or empty."""
    if intent.order_type is _LIMIT:
        if intent.urgency is _IMMEDIATE:
            if intent.time_in_force is _GTX:
                intent.time_in_force = _IOC
        elif intent.urgency is _PASSIVE or intent.time_in_force in (_IOC, _FOK):
            intent.time_in_force = _GTX
        return ""
    if intent.order_type is _MARKET and intent.urgency is not _IMMEDIATE and not intent.reduce_only:
        return "a market order takes liquidity; set its urgency to IMMEDIATE or make it a limit order"
    return ""


def never_sent(intent: OrderIntent) -> Refusal | None:
    """Why an intent of this kind becomes no order, whatever the market and the limits say.

    A halt goes by a strategy's name, a breaker by the name made a token: what stops a strategy must find it either way.
    The venue takes conditional orders at a service of its own, where none of ours is placed (decision 0210).
    """
    if intent.order_type not in _AT_ONCE:
        return Refusal(
            "conditional",
            f"a {intent.order_type} order waits at the venue for a trigger, and execution places none of these: keep "
            "the trigger in the strategy and send a LIMIT or MARKET order when it is met",
        )
    if not is_token(intent.strategy):
        return Refusal(
            "strategy_name",
            f"a strategy's name is made of letters, digits, - and _, not {intent.strategy[:64]!r}: rename the strategy",
        )
    return None


class IntentDesk:
    """The intents of one account; one owner, no locks."""

    def __init__(self, ledger: OrderLedger, pretrade: PreTrade, view: RiskView, horizon_ns: int) -> None:
        self._ledger = ledger
        self._pretrade = pretrade
        self._view = view
        self._horizon_ns = horizon_ns
        self.not_before_ns = 0
        """Wall time of readiness: what was published before may have been sent by a former life of ours."""

    def known(self, intent: OrderIntent, now_ns: int) -> Settled | None:
        """Whether there is nothing to judge: the intent was seen, is too old, or its order is at the venue already."""
        ledger = self._ledger
        if ledger.seen(intent.intent_id):
            return Settled(REPEATED)
        order = ledger.orders.get(client_order_id(intent.strategy, intent.intent_id))
        if intent.publish_ns >= self.not_before_ns:
            if order is None:
                return None
            ledger.relink(ledger.begin(intent), now_ns)
            return Settled(LINKED)
        if now_ns - intent.publish_ns > self._horizon_ns:
            return Settled(FORGOTTEN)  # older than the journal that was read: whatever became of it is recorded
        begun = ledger.begin(intent)
        if order is not None:
            ledger.relink(begun, now_ns)
            return Settled(LINKED)
        reason = "the intent is older than this start of the execution service; it was never sent"
        ledger.advance(begun, OrderState.EXPIRED, now_ns, reason)
        return Settled(STALE, reason)

    def judge(self, intent: OrderIntent, now_ns: int, now_mono_ns: int, not_now: str = "") -> ApprovedOrder | Settled:
        """Approve and reserve, or refuse and journal the refusal. ``not_now``: why nothing may be sent at present.

        Call ``known`` first. An approved order is not in the ledger yet: ``begin`` it there when it was sent.
        """
        if never := never_sent(intent):
            return self.refuse(intent, never.code, never.reason, now_ns)
        reason = taken_liquidity_only_when_urgent(intent) or not_now
        if reason:
            return self.refuse(intent, "not_now", reason, now_ns)
        answer = self._pretrade.approve(intent, self._view, now_ns, now_mono_ns)
        if isinstance(answer, Refusal):
            return self.refuse(intent, answer.code, answer.reason, now_ns)
        return answer

    def refuse(self, intent: OrderIntent, code: str, reason: str, now_ns: int) -> Settled:
        """Journal that this intent becomes no order, and why."""
        if code == "duplicate":
            return Settled(REPEATED, reason)
        state = OrderState.EXPIRED if code == "expired" else OrderState.REJECTED
        self._ledger.advance(self._ledger.begin(intent), state, now_ns, reason)
        return Settled(code, reason)
