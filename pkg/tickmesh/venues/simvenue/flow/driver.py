"""FlowDriver: the thin asyncio shell of the background flow, one task of the simvenue process.

In: a capture or the synthetic generator, and the clock. Out: frames on the hub and calls on the exchange. A replay
starts with the first subscriber of one of its symbols (and, when it is to hold, with ``go``: so that nobody misses its
beginning), waits for slow consumers instead of dropping, and ends by setting ``finished``.
It decides nothing about matching and holds no socket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from tickmesh.domain.instrument import Instrument
from tickmesh.venues.capture import Capture, Kind, Record, Snapshot, decode_snapshot, infer_instruments
from tickmesh.venues.simvenue.flow.ports import FlowExchange, FlowHub
from tickmesh.venues.simvenue.flow.replay import FULL_DEPTH, ReplayBook
from tickmesh.venues.simvenue.flow.synthetic import SyntheticMarket

SUBSCRIBER_POLL_S = 0.02
SYNTHETIC_STEP_S = 0.005
_YIELD_EVERY = 64
_SENT = frozenset({Kind.DEPTH, Kind.BOOK_TICKER, Kind.TRADE, Kind.AGG_TRADE, Kind.KLINE, Kind.OTHER})


class FlowDriver:
    """Drives ``exchange`` and ``hub``; ``replay`` empty means the synthetic market.

    Args: ``instruments`` as the exchange lists them (for a replay: ``replay_instruments(path)``); ``wall_ns`` and
    ``mono_ns`` are the process's clocks; ``rate`` scales the synthetic event rate; ``start_prices``
    are where the synthetic market goes on after a restart.
    """

    def __init__(
        self,
        exchange: FlowExchange,
        hub: FlowHub,
        instruments: Mapping[str, Instrument],
        *,
        wall_ns: Callable[[], int],
        mono_ns: Callable[[], int],
        replay: str = "",
        replay_speed: float = 1.0,
        replay_hold_s: float = 0.0,
        seed: int = 1,
        rate: float = 1.0,
        start_prices: Mapping[str, float] | None = None,
    ) -> None:
        self._start_prices = start_prices or {}
        self._exchange, self._hub, self._instruments = exchange, hub, dict(instruments)
        self._wall_ns, self._mono_ns = wall_ns, mono_ns
        self._speed, self._seed, self._rate = replay_speed, seed, rate
        self._capture = Capture(replay) if replay else None
        self._books = self._load_books(self._capture) if self._capture is not None else {}
        self.sent: Counter[str] = Counter()
        self.finished: dict[str, int] | None = None
        self._hold_s, self._go = replay_hold_s, asyncio.Event()

    def go(self) -> None:
        """Let a replay that holds start; nothing happens to one that is running."""
        self._go.set()

    @property
    def held(self) -> bool:
        """True while a replay waits for ``go``."""
        return self._capture is not None and self._hold_s > 0 and not self._go.is_set()

    def depth(self, symbol: str, limit: int = FULL_DEPTH) -> bytes | None:
        """Body of GET depth during a replay; None: answer from the exchange's own book (or refuse, in a replay)."""
        book = self._books.get(symbol)
        return book.depth(limit) if book is not None else None

    def stats(self) -> dict[str, object]:
        """For the admin page: what was sent by kind, what the books refused, and ``finished``."""
        books = {symbol: dict(book.counts) for symbol, book in self._books.items()}
        skipped = dict(self._capture.skipped) if self._capture is not None else {}
        return {"sent": dict(self.sent), "books": books, "skipped": skipped, "finished": self.finished}

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop`` is set; a replay that is through returns at once."""
        if self._capture is not None:
            await self._replay(self._capture, stop)
        else:
            await self._synthesise(stop)

    def _load_books(self, capture: Capture) -> dict[str, ReplayBook]:
        snapshots: dict[str, list[Snapshot]] = {symbol: [] for symbol in self._instruments}
        for record in capture.records():
            if record.kind is Kind.SNAPSHOT and record.symbol in snapshots:
                snapshots[record.symbol].append(decode_snapshot(record.raw))
        return {s: ReplayBook(self._instruments[s], found, self._exchange) for s, found in snapshots.items()}

    async def _replay(self, capture: Capture, stop: asyncio.Event) -> None:
        while not stop.is_set() and not any(self._hub.subscribed(s) for s in self._books):
            await asyncio.sleep(SUBSCRIBER_POLL_S)
        give_up_ns = self._mono_ns() + int(self._hold_s * 1e9)
        while self.held and not stop.is_set() and self._mono_ns() < give_up_ns:
            await asyncio.sleep(SUBSCRIBER_POLL_S)
        self._go.set()
        first_ns, start_ns = 0, self._mono_ns()
        for number, record in enumerate(capture.records()):
            if stop.is_set():
                return
            if record.kind not in _SENT or record.symbol not in self._books:
                continue
            first_ns = first_ns or record.receive_ns
            if self._speed > 0:
                due_ns = start_ns + int((record.receive_ns - first_ns) / self._speed)
                if (wait_ns := due_ns - self._mono_ns()) > 0:
                    await asyncio.sleep(wait_ns / 1e9)
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            await self._send(record)
        self.finished = dict(self.sent)

    async def _send(self, record: Record) -> None:
        """The book moves first: a depth answer that overtakes the frame then already contains it, which is safe."""
        self._books[record.symbol].apply(record, self._wall_ns())
        await self._hub.send_raw(record.stream or f"{record.symbol.lower()}@{record.kind}", record.raw)
        self._hub.publish_pending()
        self.sent[str(record.kind)] += 1

    async def _synthesise(self, stop: asyncio.Event) -> None:
        market = SyntheticMarket(
            self._exchange, self._instruments, Random(self._seed), rate=self._rate, start_prices=self._start_prices
        )
        market.open(self._wall_ns())
        self._hub.publish_pending()
        previous_ns = self._mono_ns()
        while not stop.is_set():
            await asyncio.sleep(SYNTHETIC_STEP_S)
            now_ns = self._mono_ns()
            # A process that was stopped for long does not make up for it: at most one second of flow at once.
            market.advance(min(now_ns - previous_ns, 1_000_000_000), self._wall_ns())
            previous_ns = now_ns
            self._hub.publish_pending()


def replay_instruments(path: Path | str) -> dict[str, Instrument]:
    """The symbols of a capture with their grids, for the exchange that will replay it."""
    return infer_instruments(path)
