"""OrderPath: intents in, requests to the venue out, and what came of them into the ledger.

The hot path is ``on_intent`` down to ``_send``: one synchronous run from the message to the socket, without an
await and without the journal; what must be durable is durable before (the intent, in its stream) or after (the
order, in ORDERS), see docs/decisions/0062. It refuses to send what risk has not approved, and to send anything
twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import msgspec

from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.client_order_id import client_order_id, is_ours
from tickmesh.domain.enums import IntentAction, OrderState
from tickmesh.domain.errors import TickmeshError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import OrderEvent, OrderIntent, decoder
from tickmesh.engine.intake import FORGOTTEN, LINKED, REPEATED, IntentDesk, Settled
from tickmesh.execution.budget import RateBudget
from tickmesh.execution.ledger import OrderLedger, Record
from tickmesh.execution.machine import OrderMachine
from tickmesh.hotpath import top_of_book
from tickmesh.hotpath.pure.top_of_book import top_of_book as any_top_of_book
from tickmesh.ports import DurableMessage
from tickmesh.risk.pretrade import PreTrade
from tickmesh.risk.view import RiskView
from tickmesh.services.epochs import Epochs
from tickmesh.services.execution_algo import AlgoOrders
from tickmesh.services.execution_journal import JournalWriter
from tickmesh.services.service import Service
from tickmesh.venues.binance_usdm.codec_trading import Outcome, VenueCallError
from tickmesh.venues.binance_usdm.http import Exchange, WithdrawnError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.binance_usdm.translate_trading import fact_of_order, place_parameters

log = logging.getLogger(__name__)

_MAX_KEPT = 100_000
# Members of enumerations as constants: looking one up through its class costs ten times as much.
_PLACE: Final = IntentAction.PLACE
_PENDING_SUBMIT: Final = OrderState.PENDING_SUBMIT
_intent_of = decoder(OrderIntent)
_MAX_WITHDRAWN = 10_000
_CANCEL_RETRY_S = (0.1, 0.25, 0.5, 1.0, 2.0)
_CANCEL_LOGGED = 3
_NOT_OPEN = -2011
_NOT_FOUND = -2013
_DUPLICATE_ID = -4116
_SUCCEEDED = "a successor of the process that wanted this order runs the strategy already"


class OrderPath:
    """The order path of one account."""

    def __init__(
        self, service: Service, rest: BinanceUsdmRest, ledger: OrderLedger, pretrade: PreTrade, view: RiskView,
        instruments: dict[str, Instrument], journal: JournalWriter, budget: RateBudget,
    ) -> None:  # fmt: skip
        self._service = service
        self._clock = service.clock
        self._rest = rest
        self._ledger = ledger
        self._view = view
        self._instruments = instruments
        self._journal = journal
        self._budget = budget
        self._max_in_flight = service.settings.execution.max_in_flight
        self._intents = IntentDesk(ledger, pretrade, view, int(service.settings.execution.journal_horizon_s * 1e9))
        self._books: dict[str, bytes] = {}
        self._book_prefix = f"md.book.{service.settings.venue.name}."
        self.algos = AlgoOrders(rest, ledger, instruments, service.clock)
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._cancelling: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unacked: OrderedDict[str, DurableMessage] = OrderedDict()
        self._journaled: OrderedDict[str, None] = OrderedDict()
        self.epochs = Epochs()
        self._cancel_intents: OrderedDict[str, asyncio.Task[None]] = OrderedDict()
        self._withdrawn: OrderedDict[str, None] = OrderedDict()
        """Client order ids of which the cancel came before the order."""
        self.draining = False
        self.is_writer: Callable[[], bool] = lambda: True
        self.on_anomaly: Callable[[OrderEvent], None] = lambda _: None
        self.on_throttled: Callable[[str], None] = lambda _: None
        """Called with a strategy whose order was the last that the execution throttle lets pass."""
        self._anomalies_told = 0
        """The fence, asked before every intent: another process may be the account's writer by now."""
        m = service.metrics
        self._validation = m.latency("validation_latency_us", "intent received to approved by all pre-trade checks")
        self._to_socket = m.latency("execution_latency_us", "intent received to bytes handed to the venue's socket")
        self._tick_to_order = m.latency("tick_to_order_latency_us", "frame received in the feed to bytes at the socket")
        self._ack = m.latency("ack_latency_us", "bytes handed to the socket to the venue's answer")
        self._sent = m.counter("orders_sent_total", "orders handed to the venue's socket")
        self._refused = m.counter("orders_refused_total", "intents that did not become an order at the venue")
        self._repeated = m.counter("intents_repeated_total", "intents that had been seen already")
        self._fenced = m.counter("intents_fenced_total", "intents left to the stream while not the account's writer")
        self._malformed = m.counter("decode_errors_total", "messages on the bus that could not be decoded")
        self._in_flight = m.gauge("orders_in_flight", "orders without an answer of the venue")

    def ready_from(self, now_ns: int) -> None:
        """From this wall time on intents are taken up; older ones may have been sent by a former life of ours."""
        self._intents.not_before_ns = now_ns

    # Market data.

    def on_book(self, subject: str, payload: bytes) -> None:
        """Keep the newest book's bytes; they are decoded when an intent needs them."""
        self._books[subject[len(self._book_prefix) :]] = payload

    def on_ring(self, subject: str, payload: bytes) -> None:
        """The same from the shared-memory ring, which carries all market data."""
        if subject.startswith(self._book_prefix):
            self._books[subject[len(self._book_prefix) :]] = payload

    def _take_book(self, symbol: str) -> None:
        payload = self._books.pop(symbol, None)
        view = self._view.symbols.get(symbol)
        if payload is None or view is None:
            return
        top = top_of_book(payload) or any_top_of_book(payload)  # the second of another version's feed
        if top is None:
            self._malformed.inc()
            return
        bid, ask, receive_mono_ns, stale = top
        if view.mark_ticks:
            view.on_book(bid, ask, receive_mono_ns, stale)
        else:
            self._view.on_book(symbol, bid, ask, receive_mono_ns, stale)

    # Intents.

    def on_intent(self, subject: str, payload: bytes) -> None:
        """The fast lane: a core message."""
        received = self._clock.mono_ns()
        if not self.is_writer():
            self._fenced.inc()  # the stream brings it again, to whoever is the writer then
            return
        intent = self._decode(payload)
        if intent is not None:
            self._take(intent, received)

    async def on_stored_intent(self, message: DurableMessage) -> None:
        """The same intent from its stream: what the fast lane missed, and what must be acknowledged."""
        if not self.is_writer():
            await message.nak(delay_s=1.0)
            return
        intent = self._decode(message.data)
        if intent is None:
            await message.term()
            return
        if intent.action is not _PLACE:
            self.spawn(_ack_after(self._take_cancel(intent), message))
            return
        if intent.intent_id in self._journaled:
            await message.ack()
            return
        self._unacked[intent.intent_id] = message
        while len(self._unacked) > _MAX_KEPT:
            self._unacked.popitem(last=False)
        self._take(intent, self._clock.mono_ns())

    def on_record_stored(self, record: Record) -> None:
        """The journal holds a line: its intent needs no redelivery any more."""
        intent_id = getattr(record.message, "intent_id", "")
        if not intent_id or intent_id in self._journaled:
            return
        self._journaled[intent_id] = None
        if len(self._journaled) > _MAX_KEPT:
            self._journaled.popitem(last=False)
        message = self._unacked.pop(intent_id, None)
        if message is not None:
            self.spawn(message.ack())

    def _decode(self, payload: bytes) -> OrderIntent | None:
        try:
            return _intent_of(payload)
        except msgspec.DecodeError as error:
            self._malformed.inc()
            log.warning("an order intent could not be decoded (%s); it is skipped", error)
            return None

    def _take(self, intent: OrderIntent, received_mono_ns: int) -> None:
        outdated = self.epochs.outdated(intent)
        if intent.action is not _PLACE:
            self._take_cancel(intent)
            return
        now_ns = self._clock.wall_ns()
        settled = self._intents.known(intent, now_ns)
        if settled is not None:
            self._settled(intent, settled)
            return
        if outdated:
            self._settled(intent, self._intents.refuse(intent, "fenced", _SUCCEEDED, now_ns))
            return
        if self._withdrawn and client_order_id(intent.strategy, intent.intent_id) in self._withdrawn:
            reason = "it was cancelled before it arrived; it was never sent"
            self._settled(intent, self._intents.refuse(intent, "withdrawn", reason, now_ns))
            return
        intent.stamps.execution_receive_mono_ns = received_mono_ns
        self._place(intent, received_mono_ns, now_ns)

    def _place(self, intent: OrderIntent, received_mono_ns: int, now_ns: int) -> None:
        clock, ledger = self._clock, self._ledger
        self._take_book(intent.symbol)
        answer = self._intents.judge(intent, now_ns, clock.mono_ns(), self._not_now(received_mono_ns))
        if isinstance(answer, Settled):
            self._settled(intent, answer)
            return
        stamps = intent.stamps
        stamps.validated_mono_ns = clock.mono_ns()
        instrument = self._instruments[intent.symbol]
        exchange = self._rest.place_approved(answer, instrument)
        order = ledger.begin(intent)  # after the send: nothing in between can fail or wait
        if exchange is None:
            parameters = place_parameters(answer, instrument)
            self._answers[order.client_order_id] = self.spawn(self._send_later(order, parameters, intent))
        else:
            self._sent_now(order, exchange)
            self._answers[order.client_order_id] = self.spawn(self._await_answer(order, exchange))
        self._validation.record_ns(stamps.validated_mono_ns - received_mono_ns)
        self._in_flight.set(len(self._answers))
        if intent.strategy in self._view.throttled:
            self.on_throttled(intent.strategy)

    def place_exit(self, approved: ApprovedOrder) -> asyncio.Task[None]:
        """Send an order of the emergency stop; the task ends with the venue's answer. The fence does not hold it up:
        whoever sends it, it can only shrink what is held."""
        intent = approved.intent
        parameters = place_parameters(approved, self._instruments[intent.symbol])
        exchange = self._rest.place_now(parameters)
        order = self._ledger.begin(intent)
        if exchange is None:
            task = self.spawn(self._send_later(order, parameters, intent, exits=True))
        else:
            self._sent_now(order, exchange)
            task = self.spawn(self._await_answer(order, exchange))
        self._answers[order.client_order_id] = task
        return task

    def _settled(self, intent: OrderIntent, settled: Settled) -> None:
        """Count an intent that leads to no order, and journal what there is to say of it."""
        if settled.code in (REPEATED, FORGOTTEN):
            self._repeated.inc()
            if settled.code == FORGOTTEN:
                self._journaled[intent.intent_id] = None
            return
        if settled.code != LINKED:
            self._refused.inc()
            self._service.metrics.counter("refusals_total", "intents refused, by reason", code=settled.code).inc()
        self.flush()

    def _not_now(self, mono_ns: int) -> str:
        if self.draining:
            return "the execution service is draining"
        if len(self._answers) >= self._max_in_flight:
            return f"{len(self._answers)} orders wait for the venue's answer already"
        if self._journal.full:
            return "the order journal cannot be written; new orders wait until it can"
        return self._budget.may_place(mono_ns)

    # Placing.

    def _sent_now(self, order: OrderMachine, exchange: Exchange) -> None:
        stamps = order.stamps
        stamps.sent_mono_ns = exchange.sent_mono_ns
        self._budget.placed(exchange.sent_mono_ns)
        self._sent.inc()
        self._to_socket.record_ns(exchange.sent_mono_ns - stamps.execution_receive_mono_ns)
        if stamps.tick_receive_mono_ns:
            self._tick_to_order.record_ns(exchange.sent_mono_ns - stamps.tick_receive_mono_ns)
        self._ledger.advance(order, _PENDING_SUBMIT, self._clock.wall_ns())
        self.flush()

    async def _send_later(
        self, order: OrderMachine, parameters: dict[str, Any], intent: OrderIntent, *, exits: bool = False
    ) -> None:
        """Send when a connection is free, within the intent's time to live (the wait is cut before the send).

        What was approved before the wait is judged once more at its end: the account may have been halted meanwhile.
        """
        try:
            left_ns = order.created_ns + intent.ttl_ns - self._clock.wall_ns()
            async with asyncio.timeout(max(0, left_ns) / 1e9):
                exchange = await self._rest.place_soon(parameters, partial(self._not_any_more, order, intent, exits))
        except TimeoutError:
            self._never_sent(order, "no connection to the venue was free within the intent's time to live")
        except WithdrawnError as withdrawn:
            self._never_sent(order, withdrawn.reason)
        except VenueCallError as error:
            self._ledger.advance(order, _PENDING_SUBMIT, self._clock.wall_ns())
            self._failed(order, error)
            self._answered(order)
        else:
            self._sent_now(order, exchange)
            await self._await_answer(order, exchange)

    def _never_sent(self, order: OrderMachine, reason: str) -> None:
        self._ledger.advance(order, OrderState.EXPIRED, self._clock.wall_ns(), f"{reason}; it was never sent")
        self._answered(order)

    def _not_any_more(self, order: OrderMachine, intent: OrderIntent, exits: bool) -> str:
        """Why an order that waits for a connection may not leave; empty when it may.

        A halt, a breaker that opened and a cancel are at work on it already. One that ``exits`` asks for no lease: it
        can only shrink what is held, whoever sends it.
        """
        if order.client_order_id in self._cancelling:
            return "it was cancelled while it waited for a connection to the venue"
        if exits:
            return ""
        if not self.is_writer():
            return "the account's lease ended while it waited for a connection to the venue"
        if self.epochs.outdated(intent):
            return _SUCCEEDED
        return self._budget.may_place(self._clock.mono_ns())

    async def _await_answer(self, order: OrderMachine, exchange: Exchange) -> None:
        try:
            answer = await self._rest.order_answer(exchange)
            self.note_evidence(order)
            self._ledger.on_fact(fact_of_order(answer, self._instruments[order.symbol]), self._clock.wall_ns())
        except VenueCallError as error:
            if error.outcome is not Outcome.UNKNOWN:
                self.note_evidence(order)
            self._failed(order, error)
        except (TickmeshError, KeyError, ValueError) as error:
            log.error("the venue's answer for %s makes no sense (%s); asking", order.client_order_id, error)
            reason = f"the venue's answer makes no sense ({error})"
            self._ledger.advance(order, OrderState.UNKNOWN, self._clock.wall_ns(), reason)
        finally:
            self._answered(order)

    def _answered(self, order: OrderMachine) -> None:
        self._answers.pop(order.client_order_id, None)
        self._in_flight.set(len(self._answers))
        self.flush()

    def _failed(self, order: OrderMachine, error: VenueCallError) -> None:
        """What a failed placement means; only a sure "no" becomes REJECTED."""
        now_ns = self._clock.wall_ns()
        if error.outcome is Outcome.RATE_LIMITED:
            self.note_limited(error)
        if error.outcome is Outcome.UNKNOWN or error.code == _DUPLICATE_ID:
            self._ledger.advance(order, OrderState.UNKNOWN, now_ns, error.message, error.code)
            return
        self._refused.inc()
        self._service.metrics.counter(
            "venue_refusals_total", "orders that the venue refused", code=str(error.code)
        ).inc()
        self._ledger.advance(order, OrderState.REJECTED, now_ns, error.message, error.code)

    # Cancelling: always passes, is safe to repeat, and ends when the order has.

    def _take_cancel(self, intent: OrderIntent) -> asyncio.Task[None]:
        """Carry a cancel out once, however often it comes; the task ends when its orders have."""
        task = self._cancel_intents.get(intent.intent_id)
        if task is not None:
            self._repeated.inc()
            return task
        task = self._cancel_intents[intent.intent_id] = self.spawn(self._cancel_intent(intent))
        if len(self._cancel_intents) > _MAX_KEPT:
            self._cancel_intents.popitem(last=False)
        return task

    async def _cancel_intent(self, intent: OrderIntent) -> None:
        if intent.action is IntentAction.CANCEL_ALL:
            cancels = self.cancel_all(strategy=intent.strategy, symbol=intent.symbol)
            if cancels:
                await asyncio.wait(cancels)
            return
        order = self._ledger.orders.get(intent.target_client_order_id)
        if order is not None:
            await asyncio.wait({self.cancel(order)})
        elif intent.symbol in self._instruments:
            self._withdraw(intent.target_client_order_id)
            await self._cancel_stranger(intent.symbol, intent.target_client_order_id)
        else:
            log.warning("cancel of %s: no such order and no such symbol", intent.target_client_order_id)

    def _withdraw(self, client_id: str) -> None:
        """The intent of this order may still be on its way: a redelivery overtaken by its cancel."""
        if is_ours(client_id):
            self._withdrawn[client_id] = None
            if len(self._withdrawn) > _MAX_WITHDRAWN:
                self._withdrawn.popitem(last=False)

    def cancel_all(self, strategy: str = "", symbol: str = "") -> list[asyncio.Task[None]]:
        """Cancel every open order of a strategy and a symbol; empty means all."""
        return [self.cancel(order) for order in self._ledger.open_of(strategy, symbol)]

    def cancel(self, order: OrderMachine) -> asyncio.Task[None]:
        """Cancel one order; the task ends when the order has ended."""
        client_id = order.client_order_id
        running = self._cancelling.get(client_id)
        if running is None:
            running = self._cancelling[client_id] = self.spawn(self._cancel(order))
            running.add_done_callback(lambda _: self._cancelling.pop(client_id, None))
        return running

    async def _cancel(self, order: OrderMachine) -> None:
        answer = self._answers.get(order.client_order_id)
        if answer is not None:  # overtaking the placement would find nothing to cancel
            await asyncio.wait({answer})
        attempt = 0
        while not order.state.terminal:
            wait_s = self._budget.wait_for_cancel_s(self._clock.mono_ns())
            if wait_s:
                await asyncio.sleep(min(wait_s, 5.0))
                continue
            try:
                await self._cancel_once(order.symbol, order.client_order_id)
            except VenueCallError as error:
                if attempt < _CANCEL_LOGGED:
                    log.info("cancel of %s: %s; trying again", order.client_order_id, error)
            if not order.state.terminal:
                await asyncio.sleep(_CANCEL_RETRY_S[min(attempt, len(_CANCEL_RETRY_S) - 1)])
                attempt += 1

    async def _cancel_stranger(self, symbol: str, client_id: str) -> None:
        try:
            await self._cancel_once(symbol, client_id)
        except VenueCallError as error:
            log.warning("cancel of %s, which we do not know: %s", client_id, error)

    async def _cancel_once(self, symbol: str, client_id: str) -> None:
        """One attempt; "no such open order" means to ask what became of it. Raises VenueCallError."""
        known = self._ledger.orders.get(client_id)
        if known is not None and known.waits_for_trigger:
            await self.algos.cancel(known)
            self.flush()
            return
        try:
            answer = await self._rest.cancel(symbol, client_id)
        except VenueCallError as error:
            if error.outcome is Outcome.RATE_LIMITED:
                self.note_limited(error)
            if error.code != _NOT_OPEN:
                raise
            try:
                answer = await self._rest.query(symbol, client_id, urgent=True)
            except VenueCallError as missing:
                if missing.code == _NOT_FOUND:
                    self._mark_unknown(client_id, missing.message)
                raise
        self._ledger.on_fact(fact_of_order(answer, self._instruments[symbol]), self._clock.wall_ns())
        self.flush()

    def _mark_unknown(self, client_id: str, reason: str) -> None:
        order = self._ledger.orders.get(client_id)
        if order is not None and order.state is _PENDING_SUBMIT:
            self._ledger.advance(order, OrderState.UNKNOWN, self._clock.wall_ns(), reason)
            self.flush()

    # Shared.

    def note_evidence(self, order: OrderMachine) -> None:
        """The venue has spoken of this order; the first time is its acknowledgement, whichever way it came."""
        stamps = order.stamps
        if stamps.sent_mono_ns and not stamps.ack_mono_ns:
            stamps.ack_mono_ns = self._clock.mono_ns()
            self._ack.record_ns(stamps.ack_mono_ns - stamps.sent_mono_ns)

    def awaits_answer(self, client_id: str) -> bool:
        """Whether the placement of this order has not been answered yet."""
        return client_id in self._answers

    def flush(self) -> None:
        """Hand what the ledger has to say to the journal."""
        if self._ledger.outbox:
            records = self._ledger.take_outbox()
            self._journal.put(records)
            if self._ledger.anomalies != self._anomalies_told:
                self._anomalies_told = self._ledger.anomalies
                for record in records:
                    if isinstance(record.message, OrderEvent) and record.message.anomaly:
                        self.on_anomaly(record.message)

    def note_limited(self, error: VenueCallError) -> None:
        self._service.metrics.counter("rate_limited_total", "requests that the venue refused for being too fast").inc()
        log.warning("the venue says to slow down for %.1f s: %s", error.retry_after_s, error)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run in the background, kept until it ends; a failure is logged, never lost."""
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background work failed", exc_info=task.exception())

    async def answered(self, timeout_s: float) -> None:
        """Wait until every placement has its answer, or for so long."""
        if self._answers:
            await asyncio.wait(set(self._answers.values()), timeout=timeout_s)

    async def close(self) -> None:
        """Stop background work; whatever is unanswered is UNKNOWN at the next start and will be asked for."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _ack_after(task: asyncio.Task[None], message: DurableMessage) -> None:
    """A cancel is acknowledged when it is done: a crash before that brings it again."""
    await asyncio.wait({task})
    await message.ack()
