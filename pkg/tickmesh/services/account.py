"""account pod: fills from the bus and the journal, prices from the feed, truth from the venue; snapshots out.

A fill counts once, wherever it comes from first. The state is saved before the snapshot that shows it is
published, so nothing that anybody saw is forgotten by a kill; what came after is in the ORDERS journal. One process
follows an account, others stand by and begin with that state when the lease is given back or runs out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from decimal import Decimal
from pathlib import Path

import msgspec

from tickmesh.domain import subjects
from tickmesh.domain.enums import Severity
from tickmesh.domain.errors import DependencyError, NotFiniteError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, FillEvent, MarkPrice, decode, encode
from tickmesh.portfolio.portfolio import Portfolio, PortfolioState
from tickmesh.portfolio.position import Verdict
from tickmesh.ports import KeyValue
from tickmesh.services.account_reconcile import Reconciler
from tickmesh.services.account_venue import VenueReader
from tickmesh.services.breakers import NATS, BreakerBoard
from tickmesh.services.claim import Claim, work_alone
from tickmesh.services.instruments import wait_for_instruments
from tickmesh.services.notices import alert
from tickmesh.services.service import Service
from tickmesh.services.venue_budget import SharedBudget, budget_of
from tickmesh.services.venue_gate import READING, VenueGate

log = logging.getLogger("tickmesh.account")

BUCKET = "checkpoints"
_RETRY_S = 0.5
_STOP_S = 0.6


def state_key(account: str) -> str:
    """Where the account's state is saved in the ``checkpoints`` bucket."""
    return f"account.{subjects.token(account)}"


async def run(service: Service) -> None:
    """Follow the account until told to stop."""
    settings = service.settings
    account = settings.venue.account
    lock = Path(settings.local.data_dir) / "account" / f"{account}.lock"
    claim = Claim(service, f"account.{account}", lock, ttl_ms=settings.account.lease_ttl_ms)

    async def follow() -> None:
        follower = Follower(service, claim)
        try:
            await follower.work()
        finally:
            await follower.close()

    await work_alone(service, claim, follow)


class Follower:
    """One account, followed; nothing is saved or said without the claim."""

    def __init__(self, service: Service, claim: Claim) -> None:
        self._service = service
        self._claim = claim
        settings = service.settings
        self._account = settings.venue.account
        self._portfolio: Portfolio | None = None
        self._instruments: dict[str, Instrument] = {}
        self._venue = VenueReader(settings, service.clock)
        self._board = BreakerBoard(service)
        self._board.add(f"bus-account-{self._account}", NATS, target="bus", probe=lambda: service.bus.connected)
        breaker = self._board.add(f"venue-rest-account-{self._account}", READING, target="venue-rest")
        self._budget = SharedBudget(service, self._account, budget_of(settings))
        self._venue.stand_behind(VenueGate(service.clock, self._board.gate(breaker), self._budget), self._budget)
        self._bucket: KeyValue | None = None
        self._saved = b""
        self._prices: dict[str, bytes] = {}
        self._changed = asyncio.Event()
        self._seq = 0
        self._epoch = service.clock.wall_ns()
        metrics = service.metrics
        self._fills = {v: metrics.counter("fills_total", "fills heard", verdict=v.value) for v in Verdict}
        self._anomalies = metrics.counter("anomalies_total", "messages that made no sense and were skipped")
        self._snapshots = metrics.counter("snapshots_total", "snapshots published")
        self._equity = metrics.gauge("equity", "margin balance in quote currency")
        self._daily = metrics.gauge("daily_pnl", "profit since midnight UTC in quote currency")
        self._fill_latency = metrics.latency("fill_to_snapshot_latency_us", "a fill's arrival to its snapshot")
        self._first_fill_mono_ns = 0
        service.health.require("venue", "the venue has not told positions and balances yet")

    async def work(self) -> None:
        """Start, then publish snapshots for ever; reconciliation runs beside it."""
        portfolio = await self._start()
        reconciler = Reconciler(self._service, portfolio, self._venue, self._changed, self._catch_up)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._board.run())
            group.create_task(self._budget.run())
            group.create_task(reconciler.run())
            group.create_task(self._publish_snapshots(portfolio, reconciler))

    async def close(self) -> None:
        """Save once more, bounded in time; what is not saved is in the journal."""
        if self._portfolio is not None and self._claim.valid():
            with contextlib.suppress(DependencyError, TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await self._save(self._portfolio)
        await self._venue.close()

    async def _start(self) -> Portfolio:
        service, venue = self._service, self._service.settings.venue
        service.health.require("instruments", "the feed has not told the instruments yet")
        while not self._instruments:
            try:
                self._instruments = await wait_for_instruments(service.bus, venue.name, venue.symbols, timeout_s=30.0)
                self._bucket = await service.bus.kv(BUCKET)
                await self._budget.load()
            except DependencyError as error:
                log.warning("%s", error)
                await asyncio.sleep(_RETRY_S)
        service.health.satisfy("instruments")
        keys = service.settings.account
        portfolio = Portfolio(
            self._account, venue.name, self._instruments, quote=keys.quote,
            default_maintenance_rate=keys.default_maintenance_rate,
            max_price_age_ns=int(keys.max_price_age_s * 1e9),
        )  # fmt: skip
        while not await self._load(portfolio):
            await asyncio.sleep(_RETRY_S)
        self._portfolio = portfolio
        for subject, handler in (
            (f"fill.{subjects.token(self._account)}.>", self._on_fill_message),
            (f"md.mark.{venue.name}.>", self._on_price_message),
            (f"md.book.{venue.name}.>", self._on_price_message),
        ):
            await service.bus.subscribe(subject, handler)
        service.health.set_started()
        return portfolio

    async def _load(self, portfolio: Portfolio) -> bool:
        """Take over the saved state and what the journal has since; False when the bus is away."""
        assert self._bucket is not None
        try:
            entry = await self._bucket.get(state_key(self._account))
            if entry is not None and entry.value:
                portfolio.load(msgspec.msgpack.decode(entry.value, type=PortfolioState))
                self._saved = entry.value
            await self._catch_up(portfolio)
        except DependencyError as error:
            log.warning("cannot load the account's state: %s; retrying", error)
            return False
        except msgspec.MsgspecError as error:
            alert(
                self._service, Severity.CRITICAL, "account_state", f"the saved state of {self._account} cannot be read "
                f"({error}); daily P&L and drawdown start anew",
            )  # fmt: skip
            await self._catch_up(portfolio)
        return True

    async def _catch_up(self, portfolio: Portfolio) -> None:
        """Read the journal's fills since the last time. Raises DependencyError."""
        subject = f"fill.{subjects.token(self._account)}.>"
        async for _, payload, seq in self._service.bus.replay(
            "ORDERS", filter_subject=subject, start_seq=portfolio.journal_seq + 1
        ):
            self._on_fill(portfolio, payload)
            portfolio.journal_seq = seq

    # Messages.

    def _on_fill_message(self, _: str, payload: bytes) -> None:
        if self._portfolio is not None:
            self._on_fill(self._portfolio, payload)

    def _on_fill(self, portfolio: Portfolio, payload: bytes) -> None:
        try:
            fill = decode(FillEvent, payload)
            verdict = portfolio.on_fill(fill)
        except (msgspec.MsgspecError, NotFiniteError) as error:
            self._anomalies.inc()
            alert(self._service, Severity.WARNING, "bad_fill", f"a fill makes no sense and was skipped: {error}")
            return
        self._fills[verdict].inc()
        if verdict is Verdict.APPLIED:
            self._first_fill_mono_ns = self._first_fill_mono_ns or self._service.clock.mono_ns()
            self._changed.set()

    def _on_price_message(self, subject: str, payload: bytes) -> None:
        """Only the newest counts, and only when a snapshot is made: ten thousand a second cost one store each."""
        self._prices[subject] = payload

    def _apply_prices(self, portfolio: Portfolio) -> None:
        prices, self._prices = self._prices, {}
        now_ns = self._service.clock.wall_ns()
        for subject, payload in prices.items():
            try:
                if subject.startswith("md.mark."):
                    mark = decode(MarkPrice, payload)
                    portfolio.on_mark(mark.symbol, mark.mark_price, now_ns)
                    continue
                book = decode(BookUpdate, payload)
                instrument = self._instruments.get(book.symbol)
                if instrument is not None and not book.stale and book.bids and book.asks:
                    middle = instrument.price(book.bids[0][0] + book.asks[0][0]) / 2
                    portfolio.on_mid(book.symbol, Decimal(middle), now_ns)
            except (msgspec.MsgspecError, NotFiniteError):
                self._anomalies.inc()

    # Snapshots.

    async def _publish_snapshots(self, portfolio: Portfolio, reconciler: Reconciler) -> None:
        keys = self._service.settings.account
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(keys.snapshot_interval_s):
                    await self._changed.wait()
            self._changed.clear()
            self._apply_prices(portfolio)
            if reconciler.reconciled and self._claim.valid():
                try:
                    await self._publish(portfolio)
                except DependencyError as error:
                    log.warning("no snapshot: %s", error)
            await asyncio.sleep(keys.snapshot_gap_ms / 1000)

    async def _publish(self, portfolio: Portfolio) -> None:
        service = self._service
        first_ns, self._first_fill_mono_ns = self._first_fill_mono_ns, 0
        snapshot = portfolio.snapshot(service.clock.wall_ns())
        await self._save(portfolio)
        if not self._claim.valid():
            return  # we were stopped in between: a successor speaks
        self._seq += 1
        snapshot.seq, snapshot.epoch = self._seq, self._epoch
        snapshot.publish_ns = service.clock.wall_ns()
        service.bus.publish(subjects.account_snapshot(self._account), encode(snapshot))
        self._snapshots.inc()
        self._equity.set(float(snapshot.equity))
        self._daily.set(float(snapshot.daily_pnl))
        if first_ns:
            self._fill_latency.record_ns(service.clock.mono_ns() - first_ns)

    async def _save(self, portfolio: Portfolio) -> None:
        """Raises DependencyError; an unchanged state is not written again."""
        state = msgspec.msgpack.encode(portfolio.state())
        if self._bucket is not None and state != self._saved:
            await self._bucket.put(state_key(self._account), state)
            self._saved = state
