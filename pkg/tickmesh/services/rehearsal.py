"""Rehearsal: the way from a tick to its order, walked on a stage without an outside, so that its code stays warm.

In: nothing but time. Out: nothing. A frame made here goes through the parser, the book, the bus, a strategy, the
checks, the encoder, the signature and a send: the code of the live path, on objects of its own that no service knows.
What is left of it are warm caches, branch predictors and the interpreter's specialised instructions. It never holds a
live object, a secret, a lease or a connection to anybody. Decision record 0170.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, cast

import msgspec

from tickmesh.bus.fused import FusedBus
from tickmesh.domain import subjects
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, MarkPrice, Stamps, Trade
from tickmesh.engine.effects import ViewEffects
from tickmesh.execution.ledger import OrderLedger
from tickmesh.hotpath import BookReplica
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.risk.limits import Limits as RiskLimits
from tickmesh.risk.pretrade import PreTrade
from tickmesh.risk.view import RiskView
from tickmesh.services.execution_journal import JournalWriter
from tickmesh.services.feed_outlet import Outlet as FeedOutlet
from tickmesh.services.rehearsal_stage import Granted, Line, NoJournal, Path, Server, Venue
from tickmesh.services.service import Service
from tickmesh.services.strategy_files import ResourceFiles
from tickmesh.services.strategy_intake import Intake
from tickmesh.services.strategy_lease import StrategyLeases
from tickmesh.services.strategy_outlet import Outlet
from tickmesh.services.strategy_plugin import load_plugin
from tickmesh.services.venue_budget import budget_of
from tickmesh.settings import Settings
from tickmesh.strategy.desk import Desk, DeskPolicy
from tickmesh.strategy.drafts import Moment
from tickmesh.strategy.first_steps import initialize
from tickmesh.strategy.floor import Floor
from tickmesh.strategy.guard import Guard, GuardPolicy, NoWatch, hears_trades
from tickmesh.strategy.interface import MarketData, Signal, Strategy
from tickmesh.strategy.resource import Limits, Metadata, PluginRef, StrategyResource, StrategySpec
from tickmesh.venues.binance_usdm.codec_market import DepthSnapshot
from tickmesh.venues.binance_usdm.market_intake import Market, MarketIntake
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

log = logging.getLogger("tickmesh.rehearsal")

_VENUE, _ACCOUNT, _SYMBOL, _STRATEGY = "rehearsal", "rehearsal", "REHEARSALUSDT", "rehearsal"
_INSTRUMENT = Instrument(
    venue=_VENUE, symbol=_SYMBOL, base="REHEARSAL", quote="USDT", tick_size=Decimal("0.10"), lot_size=Decimal("0.001"),
    min_price=Decimal("0.10"), max_price=Decimal(1_000_000), min_qty=Decimal("0.001"), max_qty=Decimal(1000),
    min_notional=Decimal(5), percent_price_up=Decimal("1.05"), percent_price_down=Decimal("0.95"),
)  # fmt: skip
_LIMITS = Limits(
    max_position=Decimal(1000), max_order_notional=Decimal(10**9), max_open_orders=1, cool_down_ms=0,
    max_orders_per_second=1000,
)  # fmt: skip
_LOW, _HIGH, _LEVELS = 60_000, 60_005, 10
_PATIENCE_S = 0.002
_IN_VAIN = 50
"""Walks in a row without an order after which rehearsing is of no use."""


class Rehearsal:
    """Use it as ``async with Rehearsal.open(settings) as rehearsal``; ``once`` is one walk."""

    def __init__(self, settings: Settings) -> None:
        venue = settings.venue.model_copy(update={"name": _VENUE, "account": _ACCOUNT, "symbols": [_SYMBOL]})
        self._settings = settings.model_copy(update={"venue": venue})
        self._clock = SystemClock()
        self._number = 0
        self._instruments = {_SYMBOL: _INSTRUMENT}
        self._line = Line()
        self._server = Server(self._line)
        self._bus = FusedBus(self._server, cast(Any, None))
        metrics = Metrics("rehearsal")
        self._service = Service(
            "rehearsal", self._settings, self._bus, self._clock, metrics, Health(), cast(Any, None)
        )  # nobody can look into it: it has no admin endpoints
        self._open_feed(metrics)
        self._plan, self.plugin = _part(settings)
        self._floor = Floor()
        self._sends = Outlet(self._service, cast(StrategyLeases, Granted()))
        self._hears = Intake(
            self._clock, metrics, self._decide, conflate_after_us=10**9, hears_trades=self._floor.hears_trades
        )
        limits = RiskLimits(max_order_notional=Decimal(10**9), max_position_notional=Decimal(10**9))
        self._pretrade = PreTrade(self._instruments, limits)
        self._rest = BinanceUsdmRest(
            "http://127.0.0.1", "rehearsal", "rehearsal", settings.venue.recv_window_ms, self._clock, transport=Venue
        )
        self._http = cast(Venue, self._rest.http)
        self._path: Path
        self._ledger: OrderLedger

    def _open_feed(self, metrics: Metrics) -> None:
        keys = self._settings.feed
        replica = BookReplica(
            _VENUE, _SYMBOL, tick_size=_INSTRUMENT.tick_size, lot_size=_INSTRUMENT.lot_size, depth=keys.book_depth,
            flow_half_life_ns=keys.flow_half_life_ms * 1_000_000,
            volatility_interval_ns=keys.volatility_interval_ms * 1_000_000,
            volatility_half_life_ns=int(keys.volatility_half_life_s * 1e9),
        )  # fmt: skip
        self._market = Market(_INSTRUMENT, replica)
        self._intake = MarketIntake(_VENUE, {_SYMBOL: self._market}, self)
        self._publishes = FeedOutlet(_VENUE, self._bus, self._clock, metrics, queue_trades=1, epoch=1)
        self._update_id = 1
        bids, asks = _sides(_LOW)
        snapshot = DepthSnapshot(self._update_id, bids, asks, E=self._clock.wall_ns() // 1_000_000)
        self._intake.on_snapshot(self._market, snapshot, self._clock.mono_ns())

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Rehearsal]:
        """A stage that is set, for as long as the context lasts.

        Raises:
            ConfigError: the walk does not reach the venue's door; a rehearsal of something else is of no use.
        """
        rehearsal = cls(settings)
        try:
            await rehearsal._set()
            yield rehearsal
        finally:
            await rehearsal._strike()

    async def _set(self) -> None:
        await self._http.keep_warm(1)
        book, trade = subjects.book(_VENUE, _SYMBOL), subjects.trade(_VENUE, _SYMBOL)
        self._bus.attach(book, lambda subject, reply, payload: self._path.on_book(subject, payload))
        for subject in (book, trade) if hears_trades(type(self.plugin)) else (book,):
            self._bus.attach(subject, lambda subject, reply, payload: self._hears.on_market(subject, payload))
        intents = subjects.intent(_ACCOUNT)
        self._bus.attach(intents, lambda subject, reply, payload: self._path.on_intent(subject, payload))
        if not any(self.once() for _ in range(_IN_VAIN)):
            raise ConfigError("the rehearsal (local.rehearse_ms) sends no order; run without it and report this")

    async def run(self, every_ms: int) -> None:
        """Walk every so often, for as long as it leads to the venue's door."""
        in_vain = 0
        while in_vain < _IN_VAIN:
            await asyncio.sleep(every_ms / 1000)
            in_vain = 0 if self.once() else in_vain + 1
        log.warning("the rehearsal sends no order any more and has ended; orders take longer from now on")

    def once(self) -> bytes:
        """Walk from frames to the bytes of an order; returns those, or nothing when they did not come back at once."""
        self._http.answer()  # the last walk's, if it came late
        frames = self._prepare()
        mono_ns = self._clock.mono_ns()
        self._bus.hold()
        self._publishes.begin()
        try:
            self._intake.on_frames(frames, mono_ns)
            self._publishes.flush()
        finally:
            self._publishes.end()
            self._bus.release()
        self._line.heard()
        return self._http.answer(_PATIENCE_S)

    @property
    def stamps(self) -> Stamps:
        """Where the time of the last walk went."""
        (order,) = self._ledger.orders.values()
        return order.stamps

    async def _strike(self) -> None:
        """Give the sockets back."""
        await self._rest.close()
        self._server.leave()

    def _prepare(self) -> list[bytes]:
        """Every walk begins from nothing: no order is open, no limit is used."""
        self._number += 1
        clock, service = self._clock, self._service
        guard = Guard(self.plugin, _STRATEGY, clock, GuardPolicy(), NoWatch())
        desk = Desk(
            self._plan, guard, self._instruments, epoch=1, policy=DeskPolicy(), crosses=self._floor.crosses
        )  # its first intents have the same ids each time, so that they crowd no id of a live order out of a cache
        self._floor.put(desk)
        client_order_id.__wrapped__(_STRATEGY, f"{_STRATEGY}.1.{self._number}.bid")
        view = RiskView(_ACCOUNT, self._instruments)
        self._ledger = OrderLedger(_ACCOUNT, _VENUE, ViewEffects(view))
        view.on_mark(_SYMBOL, Decimal(_LOW), clock.mono_ns())
        view.on_balances(Decimal(10**9), Decimal(10**9))
        view.set_leverage(_SYMBOL, 10)
        self._pretrade.fit(view)
        self._path = Path(
            service, self._rest, self._ledger, self._pretrade, view, self._instruments,
            cast(JournalWriter, NoJournal()), budget_of(self._settings),
        )  # fmt: skip
        return self._frames(clock.wall_ns() // 1_000_000)

    def _frames(self, now_ms: int) -> list[bytes]:
        """A trade, and a depth message that moves every price of the book, up and down in turns."""
        before, after = (_LOW, _HIGH) if self._number % 2 else (_HIGH, _LOW)
        previous, self._update_id = self._update_id, self._update_id + 1
        gone = tuple([[price, "0"] for price, _ in side] for side in _sides(before))
        bids, asks = (old + list(map(list, new)) for old, new in zip(gone, _sides(after), strict=True))
        depth = {
            "e": "depthUpdate", "E": now_ms, "T": now_ms, "s": _SYMBOL, "U": self._update_id, "u": self._update_id,
            "pu": previous, "b": bids, "a": asks,
        }  # fmt: skip
        trade = {
            "e": "trade", "E": now_ms, "T": now_ms, "s": _SYMBOL, "t": self._number, "p": f"{before}.0", "q": "0.010",
            "X": "MARKET", "m": True,
        }  # fmt: skip
        return [_frame("trade", trade), _frame("depth@0ms", depth)]

    def _decide(self, data: BookUpdate | Trade, received: int) -> None:
        moment = Moment(self._clock.wall_ns(), received, data.receive_mono_ns, data.publish_mono_ns, data.exchange_ns)
        self._sends.send(self._floor.on_market_data(data, moment))

    # The intake's sink

    def on_trades(self, market: Market, first_id: int, mono_ns: int) -> None:
        self._publishes.trades(market, first_id, mono_ns)

    def on_dirty(self, market: Market) -> None:
        self._publishes.dirty(market)

    def on_mark(self, mark: MarkPrice, mono_ns: int) -> None: ...

    def on_gap(self, market: Market) -> None: ...

    def on_needs_snapshot(self, market: Market) -> None: ...

    def on_malformed(self, error: Exception, frame: bytes) -> None:
        log.error("the rehearsal made a frame that cannot be read: %s", error)


class Quoter(Strategy):
    """Stands in for a plugin that does not want to be rehearsed."""

    name = "rehearsal"

    def on_market_data(self, data: MarketData) -> list[Signal]:
        if not isinstance(data, BookUpdate):
            return []
        (bid, _), (ask, _) = data.bids[0], data.asks[0]
        return [
            Signal(symbol=data.symbol, side=1, quote="bid", price_ticks=bid - 1, qty_lots=10),  # type: ignore[arg-type]
            Signal(symbol=data.symbol, side=-1, quote="ask", price_ticks=ask + 1, qty_lots=10),  # type: ignore[arg-type]
        ]


def _part(settings: Settings) -> tuple[StrategyResource, Strategy]:
    """The plan of the stage's strategy, and its plugin: a second instance of one that allows it, else our own."""
    spec = StrategySpec(plugin=PluginRef(), venue=_VENUE, account=_ACCOUNT, symbols=(_SYMBOL,), limits=_LIMITS)
    plan = StrategyResource(metadata=Metadata(name=_STRATEGY), spec=spec)
    seen = ResourceFiles(settings.strategy.resources).look() if ":" not in settings.strategy.resources else None
    for resource in seen.resources.values() if seen else ():
        cls = load_plugin(resource).cls
        if not cls.rehearsable:
            continue
        own = msgspec.structs.replace(
            plan, spec=msgspec.structs.replace(spec, parameters=resource.spec.parameters), file=resource.file
        )
        plugin = cls()
        initialize(Guard(plugin, _STRATEGY, SystemClock(), GuardPolicy(), NoWatch()), own, {_SYMBOL: _INSTRUMENT})
        return own, plugin
    return plan, Quoter()


def _sides(middle: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Bids and asks around a price."""
    bids = [(f"{middle - 1 - i}.0", "1.000") for i in range(_LEVELS)]
    return bids, [(f"{middle + 1 + i}.0", "1.000") for i in range(_LEVELS)]


def _frame(stream: str, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"stream": f"{_SYMBOL.lower()}@{stream}", "data": data})
