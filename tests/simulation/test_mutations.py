"""The simulation can fail: each mutation takes one safeguard out of the product, and a promise is seen to break.

Every mutation is a change that somebody could make; most of them are a pain cited from another system.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import msgspec
import pytest

from tickmesh.domain.enums import OrderState
from tickmesh.engine.effects import ViewEffects
from tickmesh.engine.intake import IntentDesk
from tickmesh.execution import machine
from tickmesh.execution.halt import HaltLatch
from tickmesh.execution.ledger import OrderLedger
from tickmesh.execution.machine import OrderMachine
from tickmesh.hotpath import RateWindow
from tickmesh.risk import checks
from tickmesh.risk.pretrade import PreTrade
from tickmesh.runtime.simulation.drama import Outcome, play
from tickmesh.runtime.simulation.plan import ORDER, QUERY, Fault, Plan, draw
from tickmesh.services.epochs import Epochs
from tickmesh.services.execution import _Desk
from tickmesh.services.execution_halt import HaltKeeper
from tickmesh.services.execution_lists import VenueLists
from tickmesh.services.execution_path import OrderPath
from tickmesh.services.execution_reconcile import Reconciler
from tickmesh.services.execution_unknown import UnknownOrders
from tickmesh.venues.binance_usdm.codec_trading import Outcome as CallOutcome
from tickmesh.venues.binance_usdm.codec_trading import VenueCallError

SEEDS = 40
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def quiet() -> object:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def timeout_is_a_rejection(patch: Patch) -> None:
    """nautilus_trader#4152, #4215: an ambiguous submit becomes a reject while the order is live."""
    real = OrderPath._failed

    def failed(self: OrderPath, order: OrderMachine, error: VenueCallError) -> None:
        real(self, order, VenueCallError(CallOutcome.REJECTED, error.message, code=error.code or -1))

    patch.setattr(OrderPath, "_failed", failed)


def sent_again_under_another_id(patch: Patch) -> None:
    """hummingbot#493, #601: a timeout is taken for a failure, and the order is placed once more."""
    real = OrderPath._failed

    def failed(self: OrderPath, order: OrderMachine, error: VenueCallError) -> None:
        real(self, order, error)
        if error.outcome is CallOutcome.UNKNOWN:
            quantity = self._instruments[order.symbol].qty(order.qty_lots)
            again = {"symbol": order.symbol, "side": order.side.name, "type": "MARKET", "quantity": quantity}
            self._rest.place_now({**again, "newClientOrderId": "tm-" + "a" * 24})

    patch.setattr(OrderPath, "_failed", failed)


def intents_are_not_deduplicated(patch: Patch) -> None:
    """JetStream's window is trusted instead of our own memory."""
    patch.setattr(OrderLedger, "seen", lambda self, intent_id: False)
    real = IntentDesk.known

    def known(self: IntentDesk, intent: Any, now_ns: int) -> Any:
        found = self._ledger.orders.get(intent.intent_id)
        return real(self, intent, now_ns) if found is not None else None

    patch.setattr(IntentDesk, "known", known)
    _without(patch, checks.duplicate)


def old_intents_are_sent(patch: Patch) -> None:
    """After a restart an intent from before it is judged like a fresh one, for ever."""
    real = IntentDesk.judge

    def judge(self: IntentDesk, intent: Any, now_ns: int, *rest: Any, **keys: Any) -> Any:
        return real(self, msgspec.structs.replace(intent, ttl_ns=10**15), now_ns, *rest, **keys)

    patch.setattr(IntentDesk, "judge", judge)
    patch.setattr(OrderPath, "ready_from", lambda self, now_ns: None)
    patch.setattr(VenueLists, "orders_since", _nothing)


def no_fence(patch: Patch) -> None:
    """A process that was paused past its lease goes on."""
    patch.setattr(_Desk, "_is_writer", lambda self: True)


def fills_are_not_deduplicated(patch: Patch) -> None:
    """The stream and the trade list both count."""
    patch.setattr(OrderLedger, "knows_trade", lambda self, symbol, trade_id: False)


def missed_fills_are_not_fetched(patch: Patch) -> None:
    """ccxt#22719, Lean.IB#249: what traded during a disconnect is never heard of."""
    patch.setattr(VenueLists, "trades", _nothing)


def one_not_found_is_proof(patch: Patch) -> None:
    """The first "order does not exist" turns UNKNOWN into REJECTED."""

    async def resolve(self: UnknownOrders, order: OrderMachine) -> None:
        while order.state is OrderState.UNKNOWN:
            await asyncio.sleep(0.02)
            try:
                self._lists.take(await self._rest.query(order.symbol, order.client_order_id, urgent=True))
            except VenueCallError as error:
                if error.code == -2013:
                    self._ledger.advance(order, OrderState.REJECTED, self._clock.wall_ns(), "not found", -2013)

    patch.setattr(UnknownOrders, "_resolve", resolve)


def phantom_cancel_is_believed(patch: Patch) -> None:
    """nautilus_trader PR#4288: -2011 is taken for "it is cancelled"."""

    async def once(self: OrderPath, symbol: str, client_id: str) -> None:
        try:
            await self._rest.cancel(symbol, client_id)
        except VenueCallError as error:
            if error.code != -2011:
                raise
        order = self._ledger.orders[client_id]
        order._final, order._final_ms = OrderState.CANCELED, 0
        self._ledger._after(order, order._settle(order.visible), self._clock.wall_ns())
        self.flush()

    patch.setattr(OrderPath, "_cancel_once", once)


def halts_are_ignored(patch: Patch) -> None:
    """The halt is latched and nobody looks at it."""
    _without(patch, checks.halt_state)


def halts_are_forgotten(patch: Patch) -> None:
    """A resume of one scope lifts all."""
    real = HaltLatch.apply

    def apply(self: HaltLatch, control: Any, ctl_seq: int = 0) -> bool:
        changed = real(self, control, ctl_seq)
        self.state.scopes.clear()
        return changed

    patch.setattr(HaltLatch, "apply", apply)


def unknown_reserves_nothing(patch: Patch) -> None:
    """An order whose fate is UNKNOWN gives its exposure back, and its symbol stays open to new risk."""
    real = ViewEffects.on_step

    def on_step(self: ViewEffects, order: OrderMachine, step: Any) -> None:
        real(self, order, step)
        if step.state is OrderState.UNKNOWN:
            self._view.release(order.client_order_id)

    patch.setattr(ViewEffects, "on_step", on_step)
    _without(patch, checks.unknown)


def a_lost_cancel_is_not_repeated(patch: Patch) -> None:
    """One request to cancel, whatever became of it."""

    async def cancel(self: OrderPath, order: OrderMachine) -> None:
        with contextlib.suppress(VenueCallError):
            await self._cancel_once(order.symbol, order.client_order_id)

    patch.setattr(OrderPath, "_cancel", cancel)


def successors_are_not_heeded(patch: Patch) -> None:
    """The strategy's process that was succeeded is obeyed."""
    patch.setattr(Epochs, "outdated", lambda self, intent: False)


def epochs_are_forgotten(patch: Patch) -> None:
    """After a restart of execution whoever speaks first is obeyed."""
    patch.setattr(Epochs, "restore", _nothing)


def throttle_never_shuts(patch: Patch) -> None:
    patch.setattr(PreTrade, "_new_throttle", lambda self: RateWindow(100_000, 10**9))


def throttle_is_not_latched(patch: Patch) -> None:
    """What the throttle shut is open again after a restart, and a resume has nothing to lift."""
    patch.setattr(_Desk, "_on_throttled", lambda self, strategy: None)


def partial_fills_outrank_the_end(patch: Patch) -> None:
    """A swapped transition: what was filled in part and then cancelled counts as open."""
    real = OrderMachine._derive

    def derive(self: OrderMachine) -> OrderState:
        partly = 0 < self.cum_lots < self.qty_lots
        return OrderState.PARTIALLY_FILLED if partly else real(self)

    patch.setattr(OrderMachine, "_derive", derive)


def rows_of_the_table_are_swapped(patch: Patch) -> None:
    """Two rows of the transition table changed places: the venue's answers look like anomalies."""
    rows = dict(machine.TRANSITIONS)
    rows[OrderState.PENDING_SUBMIT], rows[OrderState.CANCELED] = (
        rows[OrderState.CANCELED],
        rows[OrderState.PENDING_SUBMIT],
    )
    patch.setattr(machine, "TRANSITIONS", rows)


def unanswered_reserves_nothing(patch: Patch) -> None:
    """Exposure counts only from the venue's answer on: what is on its way, or UNKNOWN, is given back."""
    real = ViewEffects.on_step

    def on_step(self: ViewEffects, order: OrderMachine, step: Any) -> None:
        real(self, order, step)
        if step.state in (OrderState.PENDING_SUBMIT, OrderState.UNKNOWN):
            self._view.release(order.client_order_id)

    patch.setattr(ViewEffects, "on_step", on_step)
    _without(patch, checks.unknown)


def position_limit_is_not_checked(patch: Patch) -> None:
    _without(patch, checks.position)


def nothing_is_reconciled_at_the_start(patch: Patch) -> None:
    """nautilus_trader#3104, #5000: positions and orders do not survive a restart."""
    patch.setattr(Reconciler, "start", _nothing)


def sent_orders_are_not_looked_for(patch: Patch) -> None:
    """What a former life sent and did not live to journal is not adopted; its intent is then judged anew."""
    patch.setattr(VenueLists, "orders_since", _nothing)
    patch.setattr(Reconciler, "sweep", _nothing)


def canceled_takes_no_more_fills(patch: Patch) -> None:
    """A fill after a local end is refused."""
    real = OrderLedger.on_trade

    def on_trade(self: OrderLedger, trade: Any, order: OrderMachine, now_ns: int) -> bool:
        return False if order.state.terminal else real(self, trade, order, now_ns)

    patch.setattr(OrderLedger, "on_trade", on_trade)


def what_waits_is_not_judged_again(patch: Patch) -> None:
    """An order that waited for a connection leaves, whatever was commanded meanwhile."""
    patch.setattr(OrderPath, "_not_any_more", lambda self, order, intent, exits: "")


def missed_commands_are_not_read(patch: Patch) -> None:
    """A writer that takes its lapsed lease again goes on before its consumer brings what was commanded meanwhile."""
    patch.setattr(HaltKeeper, "catch_up", _nothing)


def trades_are_asked_for_from_the_newest_on(patch: Patch) -> None:
    """What the stream lost before a trade that it brought is never asked for."""

    async def trades(self: VenueLists, symbol: str, *, urgent: bool = False) -> None:
        last = self._ledger.last_trade_id.get(symbol, 0)
        page = await self._rest.user_trades(symbol, from_id=last or None, start_time_ms=self.since_ms, urgent=urgent)
        await self._join(symbol, page, urgent=urgent)

    patch.setattr(VenueLists, "trades", trades)


def reducing_is_ignored(patch: Patch) -> None:
    """A scope that may only reduce opens positions."""
    _without(patch, checks.halt_state)


def amendments_are_not_seen(patch: Patch) -> None:
    """An order that somebody amended is taken for what it was."""
    patch.setattr(OrderMachine, "reprice", lambda self, price_ticks, update_ms: None)


UNKNOWN_FOR_LONG = (
    Fault(0, 5.0, "stream_lost", 12.0, 1.0),
    Fault(1, 5.0, "temper", 12.0, 1.0, "unknown_503_done", ORDER),
    Fault(2, 5.0, "temper", 12.0, 1.0, "hang_done", QUERY),
)
NOT_FOUND_FOR_LONG = (
    Fault(0, 5.0, "stream_lost", 12.0, 1.0),
    Fault(1, 5.0, "temper", 12.0, 0.5, "unknown_503_done", ORDER),
    Fault(2, 5.0, "temper", 12.0, 1.0, "lag_2013", QUERY),
)
KILLED_AND_TOLD_AGAIN = tuple(
    fault
    for number, callbacks in enumerate((2, 4, 9, 40))
    for fault in (
        Fault(number, 5.0 + 3 * number, "kill_after_send", size=callbacks),
        Fault(10 + number, 7.5 + 3 * number, "redelivery"),
    )
)
SUCCEEDED_AND_KILLED = (
    Fault(0, 5.0, "succession", 18.0, detail="s1"),
    Fault(1, 5.0, "succession", 18.0, detail="s2"),
    *(Fault(2 + number, 6.0 + 2 * number, "kill") for number in range(8)),
)
CANCELS_LOST = (Fault(0, 5.0, "temper", 14.0, 0.7, "hang_lost", ("DELETE /fapi/v1/order",)),)
CROWDED_AND_HALTED = (
    Fault(0, 8.5, "runaway", 4.0, 2.0, "s1"),
    Fault(1, 8.5, "temper", 1.2, 1.0, "hang_lost", ORDER),
    Fault(2, 10.2, "halt", 6.0, detail="account.main"),
)
HALTED_WHILE_CUT_OFF = (
    Fault(0, 8.0, "nats_cut", 5.0, detail="first"),
    Fault(1, 9.5, "halt", 10.0, detail="account.main"),
)
SOME_FRAMES_LOST = (Fault(0, 8.0, "stream_lost", 8.0, 0.5),)
ONLY_REDUCING = (Fault(0, 8.0, "reduce", 12.0, detail="all"),)
AMENDED = tuple(Fault(number, 5.0 + number, "amend_by_hand") for number in range(16))

MUTATIONS: dict[Callable[[Patch], None], tuple[str | Fault, ...]] = {
    timeout_is_a_rejection: ("hang_done",),
    sent_again_under_another_id: ("hang_lost",),
    intents_are_not_deduplicated: (),
    old_intents_are_sent: KILLED_AND_TOLD_AGAIN,
    no_fence: ("standby", "pause"),
    fills_are_not_deduplicated: (),
    missed_fills_are_not_fetched: ("stream_lost",),
    one_not_found_is_proof: NOT_FOUND_FOR_LONG,
    phantom_cancel_is_believed: ("phantom_2011",),
    halts_are_ignored: ("halt",),
    halts_are_forgotten: ("halt",),
    unanswered_reserves_nothing: ("hang_done",),
    unknown_reserves_nothing: UNKNOWN_FOR_LONG,
    a_lost_cancel_is_not_repeated: CANCELS_LOST,
    successors_are_not_heeded: ("succession",),
    epochs_are_forgotten: SUCCEEDED_AND_KILLED,
    throttle_never_shuts: ("runaway",),
    throttle_is_not_latched: ("runaway",),
    partial_fills_outrank_the_end: (),
    rows_of_the_table_are_swapped: (),
    position_limit_is_not_checked: (),
    nothing_is_reconciled_at_the_start: ("kill",),
    sent_orders_are_not_looked_for: ("kill_after_send",),
    canceled_takes_no_more_fills: ("stream_late",),
    what_waits_is_not_judged_again: CROWDED_AND_HALTED,
    missed_commands_are_not_read: HALTED_WHILE_CUT_OFF,
    trades_are_asked_for_from_the_newest_on: SOME_FRAMES_LOST,
    reducing_is_ignored: ONLY_REDUCING,
    amendments_are_not_seen: AMENDED,
}
"""Each with what a drawn plan must contain for the safeguard to matter, or with the plan: then few seeds suffice."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
@pytest.mark.timeout(600)
def test_a_safeguard_that_is_taken_out_is_missed(mutation: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutation(monkeypatch)
    caught = first_failure(MUTATIONS[mutation])
    assert caught is not None, f"{SEEDS} fitting seeds did not notice: {mutation.__name__}"
    print(f"{mutation.__name__}: seed {caught.seed} broke {caught.broken}")


def first_failure(needs: tuple[str | Fault, ...]) -> Outcome | None:
    """Play up to SEEDS seeds, of a plan of these faults or of drawn plans that contain them, until a promise breaks."""
    for plan in islice(_plans(needs), SEEDS):
        outcome = play(plan)
        if outcome.broken:
            return outcome
    return None


def _plans(needs: tuple[str | Fault, ...]) -> Iterator[Plan]:
    faults = tuple(need for need in needs if isinstance(need, Fault))
    if faults:
        return (Plan(seed, faults, standby=False) for seed in count())
    return (plan for plan in map(draw, count()) if all(_has(plan, str(need)) for need in needs))


@pytest.mark.parametrize(
    "faults",
    [
        UNKNOWN_FOR_LONG,
        NOT_FOUND_FOR_LONG,
        KILLED_AND_TOLD_AGAIN,
        SUCCEEDED_AND_KILLED,
        CROWDED_AND_HALTED,
        HALTED_WHILE_CUT_OFF,
        CANCELS_LOST,
        SOME_FRAMES_LOST,
        ONLY_REDUCING,
        AMENDED,
    ],
    ids=[
        "unknown",
        "not found",
        "killed",
        "succeeded",
        "crowded",
        "cut off",
        "cancels lost",
        "frames lost",
        "reducing",
        "amended",
    ],
)
def test_with_the_safeguard_in_place_the_same_plans_hold(faults: tuple[Fault, ...]) -> None:
    outcomes = [play(plan) for plan in islice(_plans(faults), 5)]
    assert [outcome.detail for outcome in outcomes] == [""] * 5


def _has(plan: Plan, need: str) -> bool:
    return plan.standby if need == "standby" else any(need in (f.kind, f.detail) for f in plan.faults)


def _without(patch: Patch, check: Any) -> None:
    """Take one pre-trade check out."""
    real = PreTrade.__init__

    def made(self: PreTrade, *arguments: Any, **keys: Any) -> None:
        real(self, *arguments, checks=tuple(c for c in checks.CHECKS if c is not check), **keys)

    patch.setattr(PreTrade, "__init__", made)


async def _nothing(*_: object, **__: object) -> None:
    """Instead of something that matters."""
