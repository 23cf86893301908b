"""recorder pod: JetStream in, Postgres out, at least once and each row once.

Orders and fills, account, signals, alerts, audit and public trades come one by one through durable consumers
(``store.lane``); books and mark prices are sampled (``store.sampler``). Intents are a work queue of execution
and are not touched: what became of them is in the order events. Postgres away means waiting, never losing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import Message
from tickmesh.ports import KeyValue, Subscription
from tickmesh.risk.breaker import BreakerConfig
from tickmesh.services.breakers import NATS, BreakerBoard
from tickmesh.services.instruments import BUCKET, instrument_key
from tickmesh.services.service import Service
from tickmesh.settings.recorder import RecorderSettings
from tickmesh.store import upkeep
from tickmesh.store.errors import AWAY, BadRowError, classify
from tickmesh.store.lane import Lane, LaneSpec
from tickmesh.store.sampler import Sampler
from tickmesh.store.writer import Writer

log = logging.getLogger(__name__)

LANES: tuple[LaneSpec, ...] = (
    LaneSpec("orders", "ORDERS"),
    LaneSpec("audit", "AUDIT"),
    LaneSpec("alerts", "ALERTS"),
    LaneSpec("account", "ACCOUNT"),
    LaneSpec("signals", "SIGNALS"),
    LaneSpec("trades", "MD", ("md.trade.>",), whole=False),
)
_FIRST = ("orders", "audit", "alerts")
"""Lanes with a connection of their own, so that a flood of trades never delays a fill."""

_UPKEEP_S = 3600.0
_ACK_WAIT_S = 15.0  # what a killed recorder held comes again after this; twice is harmless, rows have keys
_LEARN_AGAIN_S = 5.0
_SAMPLES_PER_WRITE = 5000
_TICK_S = 0.25
_ASK_S = 2.0
_POSTGRES = BreakerConfig(failures=5, window_ns=30_000_000_000, open_ns=2_000_000_000, probes=1)
"""Rows wait in JetStream whether it is open or not, so it may look again soon."""


class Grids:
    """The instruments that turn ticks into prices, read from the ``config`` bucket when first met."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._known: dict[tuple[str, str], Instrument] = {}
        self._asked_s: dict[tuple[str, str], float] = {}
        self._asking = asyncio.Lock()

    def find(self, venue: str, symbol: str) -> Instrument | None:
        return self._known.get((venue, symbol))

    async def learn(self, messages: Sequence[Message]) -> None:
        """Read what ``messages`` need; what nobody has published yet stays unknown, its prices NULL."""
        wanted = {(venue, symbol) for m in messages if (venue := getattr(m, "venue", "")) and (symbol := _symbol_of(m))}
        if not wanted - self._known.keys():
            return
        async with self._asking:  # lanes that meet an instrument together wait for the one that asks
            await self._ask(wanted - self._known.keys())

    async def _ask(self, unknown: set[tuple[str, str]]) -> None:
        now_s = time.monotonic()
        for key in unknown:
            if now_s - self._asked_s.get(key, -_LEARN_AGAIN_S) < _LEARN_AGAIN_S:
                continue
            self._asked_s[key] = now_s
            try:
                entry = await self._bucket.get(instrument_key(*key))
                if entry is not None and entry.value:
                    self._known[key] = msgspec.json.decode(entry.value, type=Instrument)
            except (DependencyError, ValueError) as error:
                log.warning("instrument %s of %s cannot be read (%s); its prices stay NULL", key[1], key[0], error)


def _symbol_of(message: Message) -> str:
    return str(getattr(message, "symbol", ""))


class Recorder:
    """One recorder process: two writers, a lane per stream, a sampler, upkeep."""

    def __init__(self, service: Service, grids: Grids) -> None:
        self._service = service
        self._settings: RecorderSettings = service.settings.recorder
        dsn = service.settings.postgres.dsn.get_secret_value()
        timeout_s = service.settings.postgres.timeout_s
        self._dsn = dsn
        self.board = BreakerBoard(service)
        self.board.add("bus-recorder", NATS, target="bus", probe=lambda: service.bus.connected)
        gate = self._gate = self.board.gate(self.board.add("postgres-recorder", _POSTGRES, target="database"))
        self._first = Writer(dsn, name="recorder-first", timeout_s=timeout_s, gate=gate)
        self._bulk = Writer(dsn, name="recorder-bulk", timeout_s=timeout_s, gate=gate)
        self._grids = grids
        self.lanes = [self._lane(spec) for spec in LANES]
        self.sampler = Sampler(service.bus, grids.find, grids.learn)
        self._trouble: dict[str, str] = {}

    def _lane(self, spec: LaneSpec) -> Lane:
        def on_trouble(error: DependencyError | None) -> None:
            self._tell(spec.name, error)

        return Lane(
            spec,
            self._first if spec.name in _FIRST else self._bulk,
            self._service.clock,
            self._grids.find,
            learn=self._grids.learn,
            on_trouble=on_trouble,
            retry_max_s=self._settings.retry_max_s,
        )

    def _tell(self, who: str, error: DependencyError | None) -> None:
        """Keep readiness and the log in step with Postgres: one line when it goes, one when it is back."""
        was_away = bool(self._trouble)
        if error is None:
            self._trouble.pop(who, None)
            if was_away and not self._trouble:
                self._service.health.satisfy("postgres")
                log.info("Postgres is back; recording what waited in JetStream")
            return
        self._trouble[who] = str(error)
        self._service.health.require("postgres", str(error))
        if not was_away:
            log.warning("%s", error)

    async def open(self) -> bool:
        """Bring the schema up, waiting for Postgres; False when told to stop meanwhile.

        Raises:
            ConfigError: the schema is not one of this release.
        """
        pause_s = 0.1
        while not self._service.stopping.is_set():
            try:
                for migration in await upkeep.open_schema(self._dsn, self._service.settings.postgres.timeout_s):
                    log.info("schema: applied %04d_%s", migration.version, migration.name)
                await self.keep_up()
            except AWAY as error:
                self._tell("schema", _dependency(error))
                self._gate.note(str(_dependency(error)))
                await self._sleep(pause_s)
                pause_s = min(pause_s * 2, self._settings.retry_max_s)
            else:
                self._tell("schema", None)
                self._gate.note()
                return True
        return False

    async def keep_up(self) -> None:
        """Partitions ahead, retention behind."""
        settings = self._settings
        keep = dict.fromkeys(
            ("market_data_snapshots", "trades", "mark_prices", "signals"), settings.keep_market_data_days
        )
        keep |= dict.fromkeys(("account_snapshots", "position_snapshots", "alerts"), settings.keep_account_days)
        keep |= dict.fromkeys(("order_events", "fills"), settings.keep_order_days)
        today = datetime.fromtimestamp(self._service.clock.wall_ns() / 1e9, UTC).date()
        connection = await asyncpg.connect(self._dsn, timeout=self._service.settings.postgres.timeout_s)
        try:
            async with asyncio.timeout(60):
                made = await upkeep.make_days(connection, today, settings.days_ahead)
                gone = await upkeep.drop_days(connection, today, keep)
        finally:
            await connection.close(timeout=1.0)
        if made or gone:
            log.info("history: %d partitions made, %d past their keeping dropped", made, gone)

    async def consume(self) -> list[Subscription]:
        """Start every lane."""
        settings = self._settings
        return [
            await self._service.bus.consume_batches(
                lane.spec.stream,
                lane.spec.durable,
                lane.take,
                filter_subjects=lane.spec.filter_subjects,
                batch=settings.batch,
                max_wait_s=settings.max_wait_ms / 1000,
                ack_wait_s=_ACK_WAIT_S,
            )
            for lane in self.lanes
        ]

    async def sample(self) -> None:
        """Sample and write until told to stop."""
        while not self._service.stopping.is_set():
            await self._sleep(self._settings.book_sample_ms / 1000)
            try:
                await self.sampler.sample()
            except DependencyError as error:
                log.debug("no sample: %s", error)
            await self.write_samples()

    async def write_samples(self) -> None:
        """Write what waits; Postgres away keeps it, within the sampler's bound."""
        limit = _SAMPLES_PER_WRITE
        while self.sampler.waiting:
            try:
                await self._bulk.write(self.sampler.take(limit))
            except DependencyError as error:
                self._tell("samples", error)
                return
            except BadRowError as error:
                if limit > 1:
                    limit = 1
                    continue
                log.error("a sample cannot be recorded (%s)", error)
                self.sampler.poison += 1
            self._tell("samples", None)
            self.sampler.done(limit)

    async def ask(self) -> None:
        """Ask Postgres, by an empty transaction, whether it is there when nothing else is written; for ever."""
        while True:
            await asyncio.sleep(_ASK_S)
            try:
                await self._bulk.write({})
            except DependencyError as error:
                self._tell("heartbeat", error)
            else:
                self._tell("heartbeat", None)

    async def upkeep(self) -> None:
        """Keep partitions ahead of time until told to stop."""
        while True:
            await self._sleep(_UPKEEP_S)
            if self._service.stopping.is_set():
                return
            try:
                await self.keep_up()
            except AWAY as error:
                log.warning("%s; partitions are made at the next hour or when a row needs one", _dependency(error))

    async def drain(self) -> None:
        """Wait until the streams hold nothing that we have not recorded, at most ``drain_s``.

        Postgres away ends the wait: what is left stays in JetStream for the next start.
        """
        quiet_s = self._settings.max_wait_ms / 1000 + 0.3
        loop = asyncio.get_running_loop()
        last_busy_s = loop.time()
        try:
            async with asyncio.timeout(self._settings.drain_s):
                seen = -1
                while loop.time() - last_busy_s < quiet_s and not self._trouble:
                    now = sum(lane.counts.messages for lane in self.lanes)
                    if now != seen or any(lane.busy or lane.behind for lane in self.lanes):
                        seen, last_busy_s = now, loop.time()
                    await asyncio.sleep(0.02)
                await self.write_samples()
        except TimeoutError:
            log.warning("not everything is recorded after %g s; the next start goes on", self._settings.drain_s)

    async def close(self) -> None:
        await asyncio.gather(self._first.close(), self._bulk.close())

    def report(self) -> None:
        """Copy the counts into the metrics."""
        metrics = self._service.metrics
        for lane in self.lanes:
            counts, name = lane.counts, lane.spec.name
            metrics.counter(
                "recorded_messages_total", "messages taken from the stream", lane=name
            ).value = counts.messages
            metrics.counter("poison_total", "messages that can never be recorded", lane=name).value = counts.poison
            metrics.counter(
                "missed_total", "messages the stream lost before we read them", lane=name
            ).value = counts.missed
            metrics.counter(
                "retries_total", "transactions repeated, Postgres being away", lane=name
            ).value = counts.retries
            metrics.counter(
                "ignored_total", "messages of a kind that is not recorded", lane=name
            ).value = counts.ignored
            metrics.gauge("behind", "messages that wait in the stream", lane=name).set(lane.behind)
            for table, rows in counts.rows.items():
                metrics.counter("rows_total", "rows written", table=table).value = rows
            for table, rows in counts.duplicates.items():
                metrics.counter("duplicate_rows_total", "rows that were there already", table=table).value = rows
        metrics.gauge("samples_waiting", "books and marks that wait for Postgres").set(len(self.sampler.waiting))
        metrics.counter(
            "samples_dropped_total", "books and marks dropped, Postgres being away"
        ).value = self.sampler.dropped
        metrics.gauge("postgres_up", "1 while every lane can write").set(0 if self._trouble else 1)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, less when told to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._service.stopping.wait()
        except TimeoutError:
            return


def _dependency(error: BaseException) -> DependencyError:
    found = classify(error)
    return found if isinstance(found, DependencyError) else DependencyError("postgres", str(found))


async def run(service: Service) -> None:
    """Record until told to stop, then drain."""
    service.health.require("postgres", "the schema has not been opened yet")
    recorder = Recorder(service, Grids(await service.bus.kv(BUCKET)))
    board = asyncio.create_task(recorder.board.run())
    service.health.set_started()  # a restart would not bring Postgres back; readiness tells
    tasks, subscriptions = [board], []
    try:
        if not await recorder.open():
            return
        service.health.satisfy("postgres")
        subscriptions = await recorder.consume()
        tasks += [asyncio.create_task(w) for w in (recorder.sample(), recorder.upkeep(), recorder.ask())]
        while not service.stopping.is_set():
            recorder.report()
            for task in tasks:
                if task.done() and not service.stopping.is_set():
                    task.result()  # a bug: end loudly, the supervisor starts us again
            try:
                async with asyncio.timeout(_TICK_S):
                    await service.stopping.wait()
            except TimeoutError:
                continue
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await recorder.drain()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *(s.unsubscribe() for s in subscriptions), return_exceptions=True)
        recorder.report()
        await recorder.close()
