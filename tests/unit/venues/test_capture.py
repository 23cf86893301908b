"""Captures are read whole, in both forms, and what is broken is counted and skipped."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tickmesh.domain.errors import ConfigError
from tickmesh.venues.capture import (
    Capture,
    Contents,
    Kind,
    decode_diff,
    decode_snapshot,
    infer_instruments,
    rebuild_book,
)

DATA = Path(os.environ.get("TICKMESH_DATA") or Path(__file__).resolve().parents[3] / "../shared/data") / "binance-usdm"
BTC = DATA / "btcusdt_20240808.gz"
STREAM = DATA / "stream_2021.txt"
needs_data = pytest.mark.skipif(not BTC.exists(), reason="real captures are not beside the repository")


def diff(pu: int, u: int, bid: str = "10.0", qty: str = "1.5", symbol: str = "XUSDT") -> bytes:
    body = f'"e":"depthUpdate","s":"{symbol}","U":{pu + 1},"u":{u},"pu":{pu},"b":[["{bid}","{qty}"]],"a":[]'
    return b"1723161255000000000 " + f'{{"stream":"x@depth","data":{{{body}}}}}'.encode() + b"\n"


def snapshot(last_id: int) -> bytes:
    body = f'{{"lastUpdateId":{last_id},"bids":[["9.0","2"]],"asks":[["11.0","3"]]}}'
    return f"1723161255000000001 {body}\n".encode()


@needs_data
def test_the_2024_capture_is_read_whole_and_its_chain_has_no_gap() -> None:
    capture, kinds, previous, breaks = Capture(BTC), Counter[Kind](), None, 0
    for record in capture.records():
        kinds[record.kind] += 1
        assert record.symbol == "BTCUSDT"
        if record.kind is Kind.DEPTH:
            found = decode_diff(record.raw)
            breaks += previous is not None and found.previous_id != previous
            previous = found.last_id
    assert kinds == {Kind.DEPTH: 6551, Kind.BOOK_TICKER: 66089, Kind.TRADE: 21313, Kind.SNAPSHOT: 1}
    assert not capture.skipped
    assert breaks == 0


@pytest.mark.slow
@needs_data
def test_the_2024_book_is_rebuilt_uncrossed_without_gap() -> None:
    book = rebuild_book(BTC, "BTCUSDT")
    assert (book.synchronised, book.gaps) == (True, 0)
    assert book.applied + book.dropped == 6551
    assert max(book.bids) < min(book.asks)


@needs_data
def test_the_2021_capture_brings_its_siblings() -> None:
    capture = Capture(STREAM)
    kinds = Counter(record.kind for record in capture.records())
    assert kinds == {
        Kind.DEPTH: 764,
        Kind.BOOK_TICKER: 613,
        Kind.AGG_TRADE: 91,
        Kind.KLINE: 67,
        Kind.SNAPSHOT: 4,
        Kind.EXCHANGE_INFO: 1,
    }
    assert not capture.skipped


@needs_data
def test_the_grid_comes_from_the_data() -> None:
    btc = infer_instruments(BTC)["BTCUSDT"]
    assert (btc.tick_size, btc.lot_size, btc.base) == (Decimal("0.1"), Decimal("0.001"), "BTC")


def test_prices_finer_than_the_listed_tick_make_the_grid_finer_and_coarser_ones_do_not(tmp_path: Path) -> None:
    def listing(symbol: str) -> str:
        filters = '{"filterType":"PRICE_FILTER","tickSize":"0.00100"},{"filterType":"LOT_SIZE","stepSize":"0.1"}'
        return f'{{"symbol":"{symbol}","baseAsset":"X","quoteAsset":"USDT","filters":[{filters}]}}'

    path = tmp_path / "capture"
    info = f'1723161254000000000 {{"symbols":[{listing("FINEUSDT")},{listing("COARSEUSDT")}]}}\n'
    frames = diff(0, 1, bid="0.50579", symbol="FINEUSDT") + diff(0, 1, bid="0.500", symbol="COARSEUSDT")
    path.write_bytes(info.encode() + frames)
    found = infer_instruments(path)
    assert found["FINEUSDT"].tick_size == Decimal("0.00001")
    assert found["COARSEUSDT"].tick_size == Decimal("0.001")
    assert found["FINEUSDT"].lot_size == found["COARSEUSDT"].lot_size == Decimal("0.1")


@needs_data
def test_every_level_of_the_2021_capture_lies_on_the_grid_that_it_is_replayed_on() -> None:
    grids, levels = infer_instruments(STREAM), 0
    for record in Capture(STREAM).records():
        if record.kind is Kind.DEPTH:
            found = decode_diff(record.raw)
        elif record.kind is Kind.SNAPSHOT:
            found = decode_snapshot(record.raw)
        else:
            continue
        for price, qty in [*found.bids, *found.asks]:
            grids[record.symbol].to_ticks(price)  # raises OffGridError
            grids[record.symbol].to_lots(qty)
            levels += 1
    assert levels > 10_000


def test_only_symbols_with_a_snapshot_and_a_chain_can_be_replayed(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    spot = diff(0, 1, symbol="SPOTUSDT").replace(b'"pu":0,', b"")
    path.write_bytes(diff(0, 1, symbol="AUSDT") + snapshot(0) + spot + snapshot(0) + diff(0, 1, symbol="BUSDT"))
    assert Contents.of(path).replayable() == ["AUSDT"]
    assert str(Contents.of(path)) == "3 depth, 2 snapshot"


@needs_data
def test_the_captures_say_which_trades_they_hold() -> None:
    assert not Contents.of(BTC).only_aggregated_trades
    found = Contents.of(STREAM)
    assert found.only_aggregated_trades
    assert found.replayable() == ["AKROUSDT", "CTKUSDT", "KEEPUSDT", "SUSHIUSDT"]


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_the_snapshot_may_stand_anywhere(tmp_path: Path, where: str) -> None:
    diffs = [diff(10 * i, 10 * i + 10, bid=f"1{i}.0") for i in range(5)]
    place = {"first": 0, "middle": 3, "last": 5}[where]
    path = tmp_path / "capture"
    path.write_bytes(b"".join([*diffs[:place], snapshot(15), *diffs[place:]]))
    book = rebuild_book(path, "XUSDT")
    assert (book.applied, book.dropped, book.gaps, book.last_id) == (4, 1, 0, 50)
    assert Decimal("9.0") in book.bids and Decimal("10.0") not in book.bids


def test_a_missing_diff_is_a_gap_until_another_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(snapshot(5) + diff(0, 10) + diff(20, 30) + diff(30, 40))
    book = rebuild_book(path, "XUSDT")
    assert (book.gaps, book.synchronised, book.last_id) == (1, False, 10)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=150, max_value=2000), garbage=st.binary(max_size=80), zipped=st.booleans())
def test_a_cut_and_soiled_file_gives_its_whole_records(tmp_path: Path, cut: int, garbage: bytes, zipped: bool) -> None:
    lines = [diff(10 * i, 10 * i + 10, qty=str(i * 7919 % 997 + 1)) for i in range(40)]
    content = lines[0] + garbage.replace(b"\n", b"") + b"\n" + b"".join(lines[1:])
    whole = gzip.compress(content, mtime=0) if zipped else content
    path = tmp_path / "capture"
    path.write_bytes(whole[:cut] if not zipped else whole[: max(cut, len(whole) // 2)])
    found = [r.raw for r in Capture(path).records() if r.kind is Kind.DEPTH]
    expected = [line.split(b" ", 1)[1].strip() for line in lines]
    assert found == expected[: len(found)]


def test_a_file_of_another_kind_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("price,qty\n1,2\n")
    with pytest.raises(ConfigError, match="is not a market data capture"):
        Capture(path)
    with pytest.raises(ConfigError, match="cannot read the capture"):
        Capture(tmp_path / "absent")
