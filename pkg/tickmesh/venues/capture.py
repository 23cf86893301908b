"""Reader of market data captures: a file that somebody recorded comes in, records in file order go out.

Two forms, told apart by content: ``<ns> <json>`` (hftbacktest, gzipped or plain) and ``<seconds>: <frame>`` with
``URL -> time: body`` lines (cryptofeed). It reads line by line (memory is bounded by the longest line), counts and
skips what is malformed, and never repairs a frame: ``raw`` is what the venue sent, byte for byte.
``rebuild_book`` shares no code with the feed's book, so that it can be the oracle of end-to-end tests.
"""

from __future__ import annotations

import gzip
import heapq
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import IO, NamedTuple, cast

import msgspec

from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument

MAX_LINE_BYTES = 64 * 1024 * 1024
_PROBE_LINES = 20
_NS = re.compile(rb"(\d{16,20}) (\{.*)", re.DOTALL)
_SECONDS = re.compile(rb"(\d{9,12})(?:\.(\d+))?: ?(.*)", re.DOTALL)
_REST = re.compile(rb"(https?://\S+) -> (\d{9,12}(?:\.\d+)?: ?.*)", re.DOTALL)
_HEADER = re.compile(rb"(configuration:|wss?://)")
_SYMBOL = re.compile(rb"[?&]symbol=([A-Za-z0-9_]+)")


class Kind(StrEnum):
    """What a record is."""

    DEPTH = "depth"
    BOOK_TICKER = "bookTicker"
    TRADE = "trade"
    AGG_TRADE = "aggTrade"
    KLINE = "kline"
    SNAPSHOT = "snapshot"
    EXCHANGE_INFO = "exchangeInfo"
    OTHER = "other"


_KINDS = {
    "depthUpdate": Kind.DEPTH,
    "bookTicker": Kind.BOOK_TICKER,
    "trade": Kind.TRADE,
    "aggTrade": Kind.AGG_TRADE,
    "kline": Kind.KLINE,
}


class Record(NamedTuple):
    """One message; ``stream`` is the combined stream's name, empty for REST answers and single streams."""

    receive_ns: int
    kind: Kind
    symbol: str
    raw: bytes
    stream: str = ""


class _Data(msgspec.Struct):
    e: str = ""
    s: str = ""


class _Frame(msgspec.Struct):
    stream: str = ""
    data: _Data | None = None
    e: str = ""
    s: str = ""
    lastUpdateId: int | None = None
    symbols: list[msgspec.Raw] | None = None


class _Levels(msgspec.Struct):
    b: list[tuple[str, str]] = []
    a: list[tuple[str, str]] = []
    U: int = 0
    u: int = 0
    pu: int = -1


class _Depth(msgspec.Struct):
    data: _Levels


class Snapshot(msgspec.Struct):
    """A REST depth answer."""

    lastUpdateId: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


_frame = msgspec.json.Decoder(_Frame)
_depth = msgspec.json.Decoder(_Depth)
_levels = msgspec.json.Decoder(_Levels)
_snapshot = msgspec.json.Decoder(Snapshot)


class DepthDiff(NamedTuple):
    """A depth frame, decoded; ``pu`` is the ``u`` of the diff before it."""

    first_id: int
    last_id: int
    previous_id: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


def decode_diff(raw: bytes) -> DepthDiff:
    """Decodes a depth frame with or without the combined wrapper. Raises msgspec.DecodeError (never retry)."""
    found = _depth.decode(raw).data if b'"data"' in raw[:200] else _levels.decode(raw)
    return DepthDiff(found.U, found.u, found.pu, found.b, found.a)


def decode_snapshot(raw: bytes) -> Snapshot:
    """Decodes a REST depth answer. Raises msgspec.DecodeError (never retry)."""
    return _snapshot.decode(raw)


class Capture:
    """A capture and its siblings. ``skipped`` counts, by kind, what the last pass could not read."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.skipped: Counter[str] = Counter()
        _check_form(self.path)
        self.siblings = _siblings(self.path)

    def records(self) -> Iterator[Record]:
        """Yields every message; siblings are merged in by receive time. May be called again for another pass."""
        self.skipped.clear()
        main = self._file(self.path)
        if not self.siblings:
            return main
        return heapq.merge(main, *(self._file(p) for p in self.siblings), key=lambda r: r.receive_ns)

    def _file(self, path: Path) -> Iterator[Record]:
        """A snapshot of the ``<ns>`` form names no symbol: it takes that of the messages around it."""
        symbol, waiting = "", []
        for record in self._parsed(path):
            if record.kind is Kind.SNAPSHOT and not record.symbol:
                if not symbol:
                    waiting.append(record)
                    continue
                record = record._replace(symbol=symbol)
            elif record.symbol:
                symbol = record.symbol
                yield from (held._replace(symbol=symbol) for held in waiting)
                waiting.clear()
            yield record
        yield from waiting

    def _parsed(self, path: Path) -> Iterator[Record]:
        for line in _lines(path, self.skipped):
            record = self._parse(line)
            if record is not None:
                yield record

    def _parse(self, line: bytes) -> Record | None:
        text, url = line.strip(), b""
        if not text or _HEADER.match(text):
            return None
        if found := _NS.fullmatch(text):
            return self._message(int(found[1]), found[2], url)
        if rest := _REST.fullmatch(text):
            url, text = rest[1], rest[2]
        if found := _SECONDS.fullmatch(text):
            fraction = (found[2] or b"").ljust(9, b"0")[:9]
            return self._message(int(found[1]) * 1_000_000_000 + int(fraction), found[3], url)
        self.skipped["line"] += 1
        return None

    def _message(self, receive_ns: int, raw: bytes, url: bytes) -> Record | None:
        try:
            frame = _frame.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.skipped["json"] += 1
            return None
        if frame.lastUpdateId is not None and not frame.stream and not frame.e:
            return self._rest_depth(receive_ns, raw, url)
        if frame.symbols is not None:
            return Record(receive_ns, Kind.EXCHANGE_INFO, "", raw)
        data = frame.data if frame.data is not None else frame
        return Record(receive_ns, _KINDS.get(data.e, Kind.OTHER), data.s.upper(), raw, frame.stream)

    def _rest_depth(self, receive_ns: int, raw: bytes, url: bytes) -> Record | None:
        try:
            decode_snapshot(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.skipped["snapshot"] += 1
            return None
        named = _SYMBOL.search(url)
        return Record(receive_ns, Kind.SNAPSHOT, named[1].decode().upper() if named else "", raw)


def _open(path: Path) -> IO[bytes]:
    try:
        with path.open("rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        return cast("IO[bytes]", gzip.open(path, "rb")) if zipped else path.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot read the capture {path}: {error.strerror}; check the path") from error


def _lines(path: Path, skipped: Counter[str]) -> Iterator[bytes]:
    """Lines until the end or until the gzip breaks off, which is counted: what came before it is still good."""
    with _open(path) as source:
        while True:
            try:
                line = source.readline(MAX_LINE_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                skipped["gzip"] += 1
                return
            if not line:
                return
            yield line


def _check_form(path: Path) -> None:
    for number, line in enumerate(_lines(path, Counter())):
        text = line.strip()
        if _HEADER.match(text) or _NS.fullmatch(text) or _SECONDS.fullmatch(text) or _REST.fullmatch(text):
            return
        if number >= _PROBE_LINES:
            break
    raise ConfigError(
        f"{path} is not a market data capture: its lines must read '<ns> <json>' or '<seconds>: <json>'; "
        "give another file"
    )


def _siblings(path: Path) -> list[Path]:
    if not path.name.startswith("stream_"):
        return []
    names = (path.name.replace("stream_", prefix, 1) for prefix in ("exchange_info_", "snapshots_"))
    return [found for name in names if (found := path.with_name(name)).is_file()]


class Contents:
    """What a capture holds, by symbol and kind: enough to say whether, and with which streams, it can be replayed."""

    def __init__(self) -> None:
        self.kinds: dict[str, Counter[Kind]] = {}
        self.chained: set[str] = set()

    @classmethod
    def of(cls, path: Path | str) -> Contents:
        """Reads the whole file. Raises ConfigError when it is no capture."""
        found = cls()
        for record in Capture(path).records():
            found.kinds.setdefault(record.symbol, Counter())[record.kind] += 1
            if record.kind is Kind.DEPTH and b'"pu":' in record.raw:
                found.chained.add(record.symbol)
        return found

    def replayable(self) -> list[str]:
        """Symbols with a snapshot and a chain of diffs; without both the book would be a guess."""
        return sorted(s for s, kinds in self.kinds.items() if s in self.chained and kinds[Kind.SNAPSHOT])

    @property
    def only_aggregated_trades(self) -> bool:
        """True when trades are there as aggTrade and not one by one."""
        total = self._total()
        return bool(total[Kind.AGG_TRADE]) and not total[Kind.TRADE]

    def _total(self) -> Counter[Kind]:
        return sum(self.kinds.values(), Counter[Kind]())

    def __str__(self) -> str:
        """For people: kinds with their counts."""
        return ", ".join(f"{count} {kind}" for kind, count in self._total().most_common()) or "no message"


class Rebuilt(NamedTuple):
    """An independently rebuilt book; prices and quantities are the venue's own numbers."""

    bids: dict[Decimal, Decimal]
    asks: dict[Decimal, Decimal]
    last_id: int
    synchronised: bool
    applied: int
    dropped: int
    gaps: int


def rebuild_book(path: Path | str, symbol: str) -> Rebuilt:
    """Rebuilds the final book of ``symbol`` by Binance USD-M's rules.

    A diff joins a snapshot when ``pu <= lastUpdateId < u`` (the documented ``U <= lastUpdateId + 1 <= u``, but USD-M
    ids skip numbers between diffs); from then on ``pu`` must be the ``u`` before it. A break counts as a gap and waits
    for another snapshot. The snapshots are collected in a pass of their own, so they may stand anywhere in the file.
    """
    capture, symbol = Capture(path), symbol.upper()
    snapshots = sorted(
        (decode_snapshot(r.raw) for r in capture.records() if r.kind is Kind.SNAPSHOT and r.symbol == symbol),
        key=lambda s: s.lastUpdateId,
    )
    bids: dict[Decimal, Decimal] = {}
    asks: dict[Decimal, Decimal] = {}
    last_id, chained, applied, dropped, gaps, index = -1, False, 0, 0, 0, 0
    for record in capture.records():
        if record.kind is not Kind.DEPTH or record.symbol != symbol:
            continue
        try:
            diff = decode_diff(record.raw)
        except msgspec.MsgspecError:
            dropped += 1
            continue
        if chained and diff.previous_id != last_id:
            if diff.last_id <= last_id:
                dropped += 1
                continue
            gaps, chained = gaps + 1, False
        if not chained:
            while index < len(snapshots) and snapshots[index].lastUpdateId < diff.previous_id:
                index += 1
            if index == len(snapshots) or diff.last_id <= snapshots[index].lastUpdateId:
                dropped += 1
                continue
            bids, asks = _numbers(snapshots[index].bids), _numbers(snapshots[index].asks)
            chained = True
        _apply(bids, diff.bids)
        _apply(asks, diff.asks)
        last_id, applied = diff.last_id, applied + 1
    if not applied and snapshots:
        bids, asks, last_id = _numbers(snapshots[-1].bids), _numbers(snapshots[-1].asks), snapshots[-1].lastUpdateId
    return Rebuilt(bids, asks, last_id, chained, applied, dropped, gaps)


def _numbers(levels: Iterable[tuple[str, str]]) -> dict[Decimal, Decimal]:
    return {Decimal(price): Decimal(qty) for price, qty in levels if Decimal(qty)}


def _apply(side: dict[Decimal, Decimal], levels: Iterable[tuple[str, str]]) -> None:
    for price, qty in levels:
        number = Decimal(qty)
        if number:
            side[Decimal(price)] = number
        else:
            side.pop(Decimal(price), None)


_QUOTES = ("USDT", "USDC", "BUSD", "USD")


def infer_instruments(path: Path | str, venue: str = "simvenue") -> dict[str, Instrument]:
    """Instruments by symbol: from exchangeInfo where the capture has it, else the smallest decimal step seen.

    A listed step that the data do not keep gives way to the finer one seen: when a venue widens a tick, the orders that
    rest at the old one stay in its book (CTKUSDT in July 2021: 0.50579 at a listed tick of 0.001).
    """
    listed: dict[str, Instrument] = {}
    steps: dict[str, tuple[int, int]] = {}
    for record in Capture(path).records():
        if record.kind is Kind.EXCHANGE_INFO:
            listed |= _listed(record.raw, venue)
        elif record.kind in (Kind.DEPTH, Kind.SNAPSHOT) and record.symbol:
            _widen(steps, record)
    return {
        symbol: _refined(listed[symbol], *found) if symbol in listed else _inferred(symbol, venue, *found)
        for symbol, found in steps.items()
    }


def _widen(steps: dict[str, tuple[int, int]], record: Record) -> None:
    try:
        if record.kind is Kind.DEPTH:
            diff = decode_diff(record.raw)
            levels = [*diff.bids, *diff.asks]
        else:
            snapshot = decode_snapshot(record.raw)
            levels = [*snapshot.bids, *snapshot.asks]
    except msgspec.MsgspecError:
        return
    price, qty = steps.get(record.symbol, (0, 0))
    for price_text, qty_text in levels:
        price = max(price, len(price_text.partition(".")[2].rstrip("0")))
        qty = max(qty, len(qty_text.partition(".")[2].rstrip("0")))
    steps[record.symbol] = (price, qty)


def _refined(listed: Instrument, price_places: int, qty_places: int) -> Instrument:
    def step(of: Decimal, places: int) -> Decimal:
        return Decimal(1).scaleb(-places) if places > -int(of.normalize().as_tuple().exponent) else of

    return msgspec.structs.replace(
        listed, tick_size=step(listed.tick_size, price_places), lot_size=step(listed.lot_size, qty_places)
    )


def _inferred(symbol: str, venue: str, price_places: int, qty_places: int) -> Instrument:
    quote = next((q for q in _QUOTES if symbol.endswith(q) and symbol != q), "")
    return Instrument(
        venue=venue,
        symbol=symbol,
        base=symbol.removesuffix(quote) if quote else symbol,
        quote=quote,
        tick_size=Decimal(1).scaleb(-price_places),
        lot_size=Decimal(1).scaleb(-qty_places),
    )


def _listed(raw: bytes, venue: str) -> dict[str, Instrument]:
    found: dict[str, Instrument] = {}
    for entry in msgspec.json.decode(raw)["symbols"]:
        try:
            filters = {f["filterType"]: f for f in entry["filters"]}
            found[entry["symbol"]] = Instrument(
                venue=venue,
                symbol=entry["symbol"],
                base=entry["baseAsset"],
                quote=entry["quoteAsset"],
                tick_size=Decimal(filters["PRICE_FILTER"]["tickSize"]),
                lot_size=Decimal(filters["LOT_SIZE"]["stepSize"]),
            )
        except (KeyError, TypeError, InvalidOperation):
            continue  # An entry without its filters is inferred from the data like an unlisted symbol.
    return found
