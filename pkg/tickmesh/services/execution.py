"""execution pod: the only writer to one venue account.

In come order intents (fast lane and stream), market data, control commands and the venue's user stream. Out go
orders to the venue and the journal (order events and fills) to ORDERS. It is ready only when the journal is read
back and the venue has said what is open; a drain cancels what is open and flushes the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from tickmesh.bus.ring import INTENTS, SPIN_US, RingReader
from tickmesh.domain import subjects
from tickmesh.domain.enums import PositionSide, Severity
from tickmesh.domain.errors import DependencyError, MalformedFrameError, NotFiniteError, TickmeshError
from tickmesh.domain.halt import ALL
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import Alert, MarkPrice, OrderEvent, decode, encode
from tickmesh.engine.effects import ViewEffects
from tickmesh.engine.replay import picture_of
from tickmesh.execution.ledger import OrderLedger, Record
from tickmesh.execution.machine import OrderMachine
from tickmesh.execution.plausible import implausible
from tickmesh.observe.admin import json_response
from tickmesh.risk.pretrade import PreTrade
from tickmesh.risk.view import RiskView
from tickmesh.services.claim import Claim, sole_holder
from tickmesh.services.execution_breakers import TradingBreakers
from tickmesh.services.execution_deadman import DeadMan
from tickmesh.services.execution_flatten import Flattener
from tickmesh.services.execution_halt import HaltKeeper
from tickmesh.services.execution_journal import JournalWriter
from tickmesh.services.execution_lists import VenueLists
from tickmesh.services.execution_memory import Memory
from tickmesh.services.execution_outside import OUTSIDE, Outside
from tickmesh.services.execution_path import OrderPath
from tickmesh.services.execution_reconcile import Reconciler
from tickmesh.services.execution_terms import AccountTerms
from tickmesh.services.execution_unknown import UnknownOrders
from tickmesh.services.instruments import wait_for_instruments
from tickmesh.services.journals import wait_until_durable
from tickmesh.services.lease import Lease
from tickmesh.services.limits import LimitsBook, load_limits, watch_limits
from tickmesh.services.service import Service
from tickmesh.services.venue_budget import SharedBudget, budget_of
from tickmesh.services.venue_gate import VenueGate
from tickmesh.venues.binance_usdm.codec_trading import OrderTradeUpdate, UserEvent, VenueCallError
from tickmesh.venues.binance_usdm.http import NotSentError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest
from tickmesh.venues.binance_usdm.translate_trading import fact_of_update, trade_of_update
from tickmesh.venues.binance_usdm.user_stream import UserStream

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_HOUSEKEEPING_S = 0.1
_WARM_EVERY_TURNS = 20
_ODD_PER_S = 10
"""Most inputs that make no sense that are journaled and told in a second."""


async def run(service: Service, outside: Outside = OUTSIDE) -> None:
    """Serve one account until told to stop."""
    desk: list[_Desk] = []

    async def halt(request: web.Request) -> web.StreamResponse:
        if not desk:
            return json_response({"error": "the execution service is still starting"}, status=503)
        flatten = request.query.get("flatten", "") == "true"
        desk[0].halt_now(request.query.get("reason", "halted by hand"), "admin endpoint", flatten=flatten)
        return json_response({"halted": service.settings.venue.account})

    async def state(_: web.Request) -> web.StreamResponse:
        if not desk:
            return json_response({"error": "the execution service is still starting"}, status=503)
        return json_response(desk[0].state())

    service.admin.add_post("/halt", halt)
    service.admin.add_get("/state", state)
    service.health.require("reconciled", "the venue has not been asked yet what is open")
    settings, health = service.settings, service.health
    account = settings.venue.account
    state_dir = Path(settings.execution.state_dir or Path(settings.local.data_dir) / "execution")
    claim = Claim(
        service, f"execution.{account}", state_dir / f"{account}.lock", ttl_ms=settings.execution.lease_ttl_ms
    )

    def stands_by() -> None:
        log.info("another execution process is the writer of %s; standing by", account)
        health.satisfy("reconciled")
        health.set_started()

    async with sole_holder(service, claim, stands_by) as lease:
        if lease is None:
            return
        health.require("reconciled", "the venue has not been asked yet what is open")
        instruments = await _unless_stopping(service, _instruments(service))
        if instruments is None:
            return
        desk.append(_Desk(service, instruments, lease, state_dir, outside))
        try:
            if await _unless_stopping(service, desk[0].start()):
                service.health.satisfy("reconciled")
                service.health.set_started()
                await desk[0].serve()
        finally:
            await desk[0].stop()


async def _instruments(service: Service) -> dict[str, Instrument]:
    venue = service.settings.venue
    return await wait_for_instruments(service.bus, venue.name, venue.symbols, timeout_s=60.0)


async def _unless_stopping(service: Service, work: Coroutine[Any, Any, _T]) -> _T | None:
    """The result of ``work``, or None when the service was told to stop first."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(service.stopping.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return None


def order_window_ms(recv_window_ms: int, lease_ttl_ms: int) -> int:
    """How old an order may be at the venue: no older than the time between a writer's last act and a successor's first.

    Not below half a second: then the venue's answer to a slow network would be no (decision 0134).
    """
    return min(recv_window_ms, max(500, lease_ttl_ms // 4))


class _Desk:
    """Everything one account's execution consists of, wired."""

    def __init__(
        self, service: Service, instruments: dict[str, Instrument], lease: Lease, state_dir: Path, outside: Outside
    ) -> None:
        settings = service.settings
        venue, own = settings.venue, settings.execution
        self.service = service
        self.instruments = instruments
        self.lease = lease
        self._epoch = lease.epoch
        self._ring_spin_us = SPIN_US if settings.local.spin else 0
        self._settle = outside.settle
        self._succeeded = False
        self._leaving = False
        self.rest = BinanceUsdmRest(
            venue.rest_url, venue.api_key.get_secret_value(), venue.api_secret.get_secret_value(),
            venue.recv_window_ms, service.clock, timeout_s=own.request_timeout_s, max_connections=own.connections,
            transport=outside.transport,
            order_window_ms=order_window_ms(venue.recv_window_ms, own.lease_ttl_ms),
        )  # fmt: skip
        self.view = RiskView(venue.account, instruments)
        self.effects = ViewEffects(self.view)
        self.ledger = OrderLedger(venue.account, venue.name, self.effects)
        self.limits = LimitsBook()
        self.trading = TradingBreakers(service, venue.account, self.view, self._on_breaker)
        self.effects.judge = self.trading.judge
        self.pretrade = PreTrade(instruments, self.limits.of(venue.account))
        self.budget = budget_of(settings)
        self.shared_budget = SharedBudget(service, venue.account, self.budget)
        self.shared_budget.offset_ms = lambda: self.rest.time_offset_ms
        self.rest.gate = VenueGate(service.clock, self.trading.rest, self.shared_budget)
        self.journal = JournalWriter(service.bus, self._on_stored)
        self.memory = Memory(service, self.ledger, self.journal, self._is_writer)
        self.path = OrderPath(
            service, self.rest, self.ledger, self.pretrade, self.view, instruments, self.journal, self.budget
        )
        self.lists = VenueLists(self.rest, self.ledger, self.path, self.budget, service.clock, instruments, self._odd)
        self.unknown = UnknownOrders(service, self.rest, self.ledger, self.path, self.lists, self.alert)
        self.reconciler = Reconciler(
            service, self.rest, self.ledger, self.view, self.effects, self.path, self.lists, instruments,
            self.alert, self._odd, lambda reason: self.halt_now(reason, "reconciliation"),
            AccountTerms(self.rest, self.view, self.alert, self._use_limits),
        )  # fmt: skip
        self.halts = HaltKeeper(venue.account, state_dir / f"{venue.account}.halt.json", self.view, self._cancel_where)
        self.flattener = Flattener(
            service, self.rest, self.path, self.pretrade, instruments, self.alert,
            self.halts.flattened, self.halts.to_flatten,
        )  # fmt: skip
        self.halts.flatten = self.flattener.begin
        self.halts.picture = self.picture
        self.deadman = DeadMan(self.rest, self.ledger, service.clock, own.deadman_s, self._is_writer)
        self.stream = UserStream(
            self.rest, venue.stream_url, self._on_user_event, self.reconciler.after_gap,
            keepalive_s=own.keepalive_s, first_backoff_s=own.stream_backoff_s, connect=outside.connect,
            gate=self.trading.stream, on_malformed=lambda text: self._odd("", "", text),
        )  # fmt: skip
        self._be_asked()
        self._tasks: list[asyncio.Task[None]] = []
        m = service.metrics
        self._stream_gauge = m.gauge("user_stream_connected", "1 while the user stream is connected")
        self._odd_second = (0, 0)
        self._only_counted = 0
        self._waiting = m.gauge("journal_waiting", "journal records that are not stored yet")
        self._open = m.gauge("orders_open", "orders that may still trade")
        self._fills = m.counter("fills_total", "executions of ours")
        self._anomalies = m.counter("anomalies_total", "inputs that did not fit")

    def _be_asked(self) -> None:
        """What the parts ask of the desk while they work, and tell it."""
        self.path.algos.on_odd = self._odd
        self.rest.on_malformed = lambda text: self._odd("", "", text)
        self.journal.may_write = self._is_writer
        self.path.on_anomaly = self._tell_of
        self.path.on_throttled = self._on_throttled
        self.path.is_writer = lambda: self._is_writer() and not self._leaving

    def state(self) -> dict[str, object]:
        """What ``tickmesh replay`` rebuilds: equal hashes mean equal state once nothing waits for the journal."""
        picture = picture_of(self.ledger)
        return {
            "account": picture.account, "hash": picture.hash, "orders": len(picture.orders), "open": picture.open,
            "positions": picture.positions, "from_seq": self.memory.read_from_seq, "last_seq": self.journal.last_seq,
            "waiting": self.journal.waiting, "terms": self.reconciler.terms.shown(),
            "halted": {scope: latched.state.value for scope, latched in self.halts.latch.state.scopes.items()},
        }  # fmt: skip

    # Start and end.

    async def start(self) -> bool:
        """Read the journal back and ask the venue; from here on intents are heard."""
        venue, bus = self.service.settings.venue, self.service.bus
        await wait_until_durable(self.service)
        await load_limits(self.service, self.limits)
        self._use_limits()
        await self.halts.restore(bus)
        await self.path.epochs.restore(bus)
        self._task(watch_limits(self.service, self.limits, self._use_limits), "limits")
        await self.trading.board.load()
        await self.shared_budget.load()
        self._task(self.trading.board.run(), "breakers")
        self._task(self.shared_budget.run(), "budget")
        newest_ns, oldest_ns = await self.memory.restore()
        self.ledger.complete_journal(self.service.clock.wall_ns())
        self._task(self.journal.run(), "journal")
        for symbol in venue.symbols:
            if self.service.settings.local.transport != "shm":
                await bus.subscribe(subjects.book(venue.name, symbol), self.path.on_book)
            await bus.subscribe(subjects.mark(venue.name, symbol), self._on_mark)
            await self._latest_market(symbol)
        if self.service.settings.local.transport == "shm":
            reader = RingReader(self.service.settings.local.data_dir, spin_us=self._ring_spin_us)
            self._task(reader.run(self.path.on_ring, self.service.stopping), "ring")
        self._task(self.stream.run(), "user-stream")
        await self.reconciler.start(newest_ns, oldest_ns)
        self.path.flush()
        self.unknown.watch()
        await bus.subscribe("ctl.>", self.halts.on_live)
        await bus.consume("CTL", f"execution-{venue.account}", self.halts.on_stored)
        self.halts.cancel_latched()
        self.path.ready_from(self.service.clock.wall_ns())
        await self._keep_warm()
        subject = subjects.intent(venue.account)
        await bus.subscribe(subject, self.path.on_intent)
        await bus.consume(
            "INTENTS", f"execution-{venue.account}", self.path.on_stored_intent, filter_subjects=(subject,)
        )
        if self.service.settings.local.transport == "shm":
            # The same intents, sooner; what also comes over NATS is known by its id then.
            intents = RingReader(self.service.settings.local.data_dir, INTENTS, spin_us=self._ring_spin_us)
            self._task(intents.run(self.path.on_intent, self.service.stopping), "intent-ring")
        self._task(self.reconciler.run(), "reconcile")
        self._task(self.unknown.follow(), "unknown")
        self._task(self.deadman.run(), "dead-man")
        self._settle()
        log.info("ready: %d orders open, epoch %d", len(self.ledger.open_of()), self._epoch)
        return True

    async def serve(self) -> None:
        """Housekeeping until told to stop."""
        turns = 0
        while not self.service.stopping.is_set():
            turns += 1
            for task in self._tasks:
                if task.done() and not task.cancelled():
                    task.result()  # what no error ended is over only with us: start over rather than go on without it
            holder = self.lease.core.holder
            if holder and holder != self.lease.core.me:
                self._succeeded = True
                raise DependencyError(
                    "nats", f"{holder} is the writer of this account now; starting over as its standby"
                )
            if self.lease.held.is_set() and self.lease.epoch != self._epoch:
                await self._resume()
            await self._housekeeping(turns)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HOUSEKEEPING_S):
                    await self.service.stopping.wait()

    async def stop(self) -> None:
        """Cancel what is open or leave it to a successor, flush the journal; a successor's orders are left alone."""
        if self._succeeded:
            self.path.draining = True
        elif self.service.settings.execution.drain == "hand_over":
            await self._leave()
        else:
            self.path.draining = True
            await self._drain()
        await self.path.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.rest.close()

    async def _leave(self) -> None:
        """Take no new intent (the stream keeps it), know what became of those that left, leave the orders where they
        are, under a dead-man switch that was just wound up."""
        own = self.service.settings.execution
        self._leaving = True
        await self.path.answered(own.drain_s / 10)
        with contextlib.suppress(VenueCallError, TimeoutError):
            async with asyncio.timeout(own.drain_s / 10):
                await self.deadman.leave()
        self.path.flush()
        if not await self.journal.drain(own.drain_s):
            log.error("%d journal records could not be stored; the successor asks the venue", self.journal.waiting)
        await self.halts.share(self.service.bus)
        log.info("left with %d orders open, for a successor", len(self.ledger.open_of()))

    async def _drain(self) -> None:
        """End what is open, and prove what became of it: cancels first, then what is UNKNOWN is asked for."""
        own = self.service.settings.execution
        cancels = [self.path.cancel(order) for order in self.ledger.open_of() if not order.external]
        if cancels:
            log.info("drain: cancelling %d open orders", len(cancels))
            await asyncio.wait(cancels, timeout=own.drain_s)
        with contextlib.suppress(VenueCallError, TimeoutError):
            async with asyncio.timeout(own.drain_s / 2):
                await self.unknown.settled()
                await self.reconciler.fetch_missing_fills()
                await self.deadman.turn()
        self.path.flush()
        left = [order.client_order_id for order in self.ledger.open_of() if not order.external]
        if left:
            log.error("drain: the venue did not say what became of %s; the next start asks it", ", ".join(left[:20]))
        if not await self.journal.drain(own.drain_s):
            log.error(
                "drain: %d journal records could not be stored; the next start asks the venue", self.journal.waiting
            )

    def _is_writer(self) -> bool:
        return self.lease.valid() and self.lease.epoch == self._epoch

    async def _resume(self) -> None:
        """The lease lapsed and is ours again: go on when nobody wrote in between, else start over.

        Raises:
            DependencyError: another process was the writer meanwhile; only a fresh start knows what it did.
        """
        if self.lease.core.reign > self._epoch:
            self._succeeded = True
            raise DependencyError("nats", "another execution process wrote to this account meanwhile; starting over")
        try:
            await self.path.epochs.restore(self.service.bus)
            await self.reconciler.once()
            await self.halts.catch_up(self.service.bus)
        except (DependencyError, VenueCallError) as error:
            log.warning("the lease is ours again, but not everybody answers yet: %s", error)
            return
        log.info("the lease is ours again, epoch %d", self.lease.epoch)
        self._epoch = self.lease.epoch

    def _on_stored(self, record: Record, seq: int) -> None:
        self.path.on_record_stored(record)
        self.memory.note(record.message, seq)

    def _count(self) -> None:
        self._fills.value, self._anomalies.value = self.effects.fills, self.ledger.anomalies + self._only_counted

    async def _housekeeping(self, turns: int) -> None:
        self.path.flush()
        self._waiting.set(self.journal.waiting)
        self._open.set(len(self.ledger.open))
        self._count()
        self._watch_stream()
        self.trading.show()
        with contextlib.suppress(VenueCallError):
            await self.reconciler.set_clock()
        await self.halts.share(self.service.bus)
        if turns % _WARM_EVERY_TURNS == 0:
            await self._keep_warm()
            await self.memory.save()
            with contextlib.suppress(VenueCallError):
                await self.reconciler.fetch_missing_fills()

    def _use_limits(self) -> None:
        self.pretrade.set_limits(self.limits.of(self.service.settings.venue.account))

    def _on_breaker(self, name: str) -> None:
        """Trading is stopped, or that of one strategy: what would add risk is taken back, exits stay."""
        scope = name if name.startswith("strategy.") else ALL
        log.warning("%s is open: observing; no new orders of %s", name, scope)
        self._cancel_where(lambda order: order.in_scope(scope) and not (order.reduce_only or order.external))

    def _on_throttled(self, strategy: str) -> None:
        """Latch what the execution throttle shut: neither a restart nor a successor reopens it, a person does."""
        reason = "the execution throttle shut it: too many orders"
        self.halts.halt(reason, "execution", self.service.clock.wall_ns(), scope=f"strategy.{strategy}")
        self.alert(Severity.CRITICAL, "throttled", f"{strategy} is halted; {reason}. A person must resume it")

    def _watch_stream(self) -> None:
        """New orders are refused while nobody would tell us of their fills."""
        stream, breakers = self.stream, self.view.open_breakers
        self._stream_gauge.set(float(stream.connected))
        grace_s = self.service.settings.execution.stream_grace_s
        if stream.connected:
            breakers.discard("user-stream")
            self.service.health.satisfy("user-stream")
        elif asyncio.get_running_loop().time() - stream.down_since_s > grace_s and "user-stream" not in breakers:
            breakers.add("user-stream")
            self.service.health.require("user-stream", "the venue's user stream is down; new orders are refused")

    async def _keep_warm(self) -> None:
        try:
            await self.rest.http.keep_warm(self.service.settings.execution.warm_connections)
        except NotSentError as error:
            log.warning("the venue does not take connections: %s", error)

    # What comes in.

    async def _latest_market(self, symbol: str) -> None:
        """What the stream still holds, so that a restart need not wait for the next mark."""
        name, bus = self.service.settings.venue.name, self.service.bus
        book = await bus.last("MD", subjects.book(name, symbol))
        if book is not None:
            self.path.on_book(subjects.book(name, symbol), book)
        mark = await bus.last("MD", subjects.mark(name, symbol))
        if mark is not None:
            self._on_mark(subjects.mark(name, symbol), mark)

    def _on_mark(self, subject: str, payload: bytes) -> None:
        clock = self.service.clock
        try:
            mark = decode(MarkPrice, payload)
            age_ns = max(0, clock.wall_ns() - mark.publish_ns) if mark.publish_ns else 0
            self.view.on_mark(mark.symbol, mark.mark_price, clock.mono_ns() - age_ns)
        except (msgspec.DecodeError, NotFiniteError) as error:
            log.warning("mark price on %s is unusable: %s", subject, error)

    def _on_user_event(self, event: UserEvent) -> None:
        if not isinstance(event, OrderTradeUpdate):
            return
        instrument = self.instruments.get(event.o.s)
        if instrument is None:
            return  # a symbol that is not ours: positions there count as foreign exposure at reconciliation
        now_ns = self.service.clock.wall_ns()
        try:
            fact, trade = fact_of_update(event, instrument), trade_of_update(event, instrument)
        except (TickmeshError, KeyError, ValueError, MalformedFrameError) as error:
            self._odd(event.o.s, event.o.c, f"an event that makes no sense ({error}): {event.o}")
            return
        if wrong := implausible(fact, trade, now_ns):
            self._odd(fact.symbol, fact.client_order_id, wrong)
            return  # the next comparison asks the venue
        known = self.ledger.orders.get(fact.client_order_id)
        if known is None:
            text = f"an order that we did not know, adopted: {fact.side.name} {fact.report}"
            self._odd(fact.symbol, fact.client_order_id, text)
        if known is not None:
            self.path.note_evidence(known)
        order = self.ledger.on_fact(fact, now_ns)
        if trade is not None:
            self.ledger.on_trade(trade, order, now_ns)
        self.path.flush()

    def _odd(self, symbol: str, client_id: str, text: str) -> None:
        """Keep in the journal and tell people of an input that does not fit; a flood of them is only counted."""
        second = self.service.clock.mono_ns() // 1_000_000_000
        if second != self._odd_second[0]:
            self._odd_second = (second, 0)
        if self._odd_second[1] >= _ODD_PER_S:
            self._only_counted += 1
            self._count()
            return
        self._odd_second = (second, self._odd_second[1] + 1)
        self.ledger.refuse(symbol, client_id, text, self.service.clock.wall_ns())
        self._count()
        self.path.flush()

    def _tell_of(self, event: OrderEvent) -> None:
        self.alert(Severity.WARNING, "anomaly", f"{event.client_order_id or 'user stream'}: {event.reason}")

    # What goes out.

    def alert(self, severity: Severity, kind: str, text: str) -> None:
        """Tell people; without NATS it is in the log."""
        log.warning("alert %s: %s", kind, text)
        now_ns = self.service.clock.wall_ns()
        message = Alert(severity=severity, kind=kind, text=text, source="execution", publish_ns=now_ns)
        with contextlib.suppress(DependencyError):
            self.service.bus.publish(subjects.alert(severity, kind), encode(message))

    def halt_now(self, reason: str, actor: str, *, flatten: bool = False) -> None:
        """Stop this account, latched."""
        flatten = flatten or self.pretrade.limits.flatten_on_halt
        self.halts.halt(reason, actor, self.service.clock.wall_ns(), flatten=flatten)
        self.alert(Severity.CRITICAL, "halted", f"account {self.service.settings.venue.account} is halted: {reason}")

    def picture(self) -> dict[str, Any]:
        """Orders and positions of this moment, for the file that an emergency stop leaves behind."""
        sides = ("LONG", "SHORT") if self.view.hedge_mode else ("BOTH",)
        return {
            "at_ns": self.service.clock.wall_ns(),
            "orders": [
                {"id": o.client_order_id, "symbol": o.symbol, "side": o.side.name, "state": o.state.value,
                 "open_lots": o.qty_lots - o.filled_lots, "price_ticks": o.price_ticks, "reduce_only": o.reduce_only}
                for o in self.ledger.open_of()
            ],
            "positions": {
                f"{symbol}.{side}": seen.leg(PositionSide(side)).position_lots
                for symbol, seen in self.view.symbols.items() for side in sides
            },
        }  # fmt: skip

    def _cancel_where(self, wanted: Callable[[OrderMachine], bool]) -> None:
        for order in self.ledger.open_of():
            if wanted(order):
                self.path.cancel(order)

    def _task(self, work: object, name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))  # type: ignore[arg-type]
