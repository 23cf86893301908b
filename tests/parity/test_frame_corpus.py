"""Frames that are wrong in ways people know: every cut of real frames, every number JSON has or has not, one by one.

``test_parser_fuzz`` looks for ways that nobody thought of; here each case is named, so that a failure says which.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from tests.parity.test_parser_fuzz import DEPTH, FRAMES, NEW_DEPTH, NEW_TOP, RAW, TOP, TRADE, twins
from tests.parity.twins import Twins, snapshot

from tickmesh import hotpath
from tickmesh.domain.errors import MalformedFrameError, OffGridError
from tickmesh.venues.capture import Capture, Kind

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TICKMESH_DATA", ROOT.parent / "shared" / "data")) / "binance-usdm"


def error(outcome: Any) -> type | None:
    return outcome[0] if isinstance(outcome, tuple) else None


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_cut_at_any_byte_is_malformed_and_changes_nothing(frame: bytes) -> None:
    made = twins()
    before = made.replicas["BTCUSDT"][0].checksum()
    for end in range(len(frame)):
        assert error(made.frame(frame[:end])) is MalformedFrameError, frame[:end]
        assert made.replicas["BTCUSDT"][0].checksum() == before
    made.compare(whole=True)
    assert error(made.frame(frame)) is None


def test_real_frames_cut_at_any_byte_are_malformed_alike_and_the_book_is_the_captures_own() -> None:
    if not (DATA / "btcusdt_20240808.gz").is_file():
        pytest.skip("no capture")
    made = Twins({"BTCUSDT": ("0.10", "0.001")})
    kinds = dict.fromkeys((Kind.DEPTH, Kind.BOOK_TICKER, Kind.TRADE), 0)
    for record in itertools.islice(Capture(DATA / "btcusdt_20240808.gz").records(), 400):
        if record.kind is Kind.SNAPSHOT:
            snapshot(made, "BTCUSDT", record.raw)
            continue
        kinds[record.kind] += 1
        if kinds[record.kind] <= 4:
            for end in range(len(record.raw)):
                assert error(made.frame(record.raw[:end])) is MalformedFrameError
        assert error(made.frame(record.raw)) is None
        made.compare()
    assert min(kinds.values()) > 4
    made.compare(whole=True)
    native, pure = made.replicas["BTCUSDT"]
    assert native.synchronised and native.gaps == pure.gaps == 0, "no cut frame has eaten a whole one"


NUMBERS = (
    "1e5", "1E5", "1e-5", "1e400", "1e-400", "1e99999999999", "-0", "-0.0", "-1", "+1", "01", "007.10", "1.", ".5",
    ".", "", "0", "0.0", "00", "1.0.0", "1,0", "1_000", "0x10", "Infinity", "-Infinity", "NaN", "nan", "1 ", " 1",
    "１", "٣", "1\u00a0", "9007199254740992", "9007199254740993", "900719925474099.2", "900719925474099.3",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "9" * 400, "0" * 400 + "1",
    "0.1" + "0" * 400, "0.10000000000000000000000001", "61800.20", "61800.2", "61800.25", "1.001", "1.0001",
)  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("place", [b'"61800.20"', b'"2.909"', b'"12345678.901"', b'"61800.30"', b'"0.003"', b'"1.091"'])
def test_a_number_as_text_is_the_same_integer_or_the_same_error(number: str, place: bytes) -> None:
    made = twins()
    for frame in FRAMES:
        made.frame(frame.replace(place, b'"' + number.encode() + b'"', 1))
        made.frame(frame.replace(place, number.encode() or b"null", 1))  # without its quotes it is no text
    made.compare(whole=True)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", ["E", "T", "U", "u", "pu", "t", "st", "m"])
def test_a_number_that_is_an_integer_of_json_is_the_same_or_the_same_error(field: str, number: str) -> None:
    made = twins()
    for frame in FRAMES:
        at = frame.find(f'"{field}":'.encode())
        if at < 0:
            continue
        start = at + len(field) + 3
        end = min(frame.find(b",", start) % (1 << 30), frame.find(b"}", start) % (1 << 30))
        for text in (number, f'"{number}"'):
            made.frame(frame[:start] + text.encode() + frame[end:])
    made.compare(whole=True)


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("a mark of order before it", b"\xef\xbb\xbf"),
        ("a mark of order of another encoding", b"\xff\xfe"),
        ("a NUL", b"\x00"),
        ("white space", b" \t\r\n"),
        ("white space that is none in JSON", b"\x0b\x0c\xc2\xa0"),
        ("a comment", b"/* */"),
        ("half a character", b"\xc3"),
        ("an overlong NUL", b"\xc0\x80"),
        ("half a pair of surrogates, encoded", b"\xed\xa0\x80"),
        ("beyond the last character", b"\xf4\x90\x80\x80"),
        ("half a pair of surrogates, escaped", b"\\ud800"),
        ("an escape", b"\\u0042"),
        ("an escape that there is not", b"\\x42"),
        ("a lone backslash", b"\\"),
        ("a bell", b"\x07"),
        ("a comma", b","),
        ("a quote", b'"'),
        ("an end", b"}"),
    ],
)
def test_a_piece_anywhere_has_one_outcome_in_both_halves(name: str, piece: bytes) -> None:
    made = twins()
    for frame in (DEPTH, TOP, TRADE, NEW_DEPTH, NEW_TOP, RAW):
        for at in range(len(frame) + 1):
            made.frame(frame[:at] + piece + frame[at:])
    made.compare(whole=True)


@pytest.mark.parametrize(
    "field", [b'"e":"trade"', b'"E":5', b'"s":"ETHUSDT"', b'"s":"BTCUSDT"', b'"u":99', b'"b":[]', b'"x":1']
)
def test_a_field_twice_means_the_same_in_both_halves(field: bytes) -> None:
    made = twins()
    for frame in FRAMES:
        start = frame.index(b'{"e"') + 1
        made.frame(frame[:start] + field + b"," + frame[start:])
        end = len(frame) - (1 if frame in (RAW, *FRAMES[5:]) else 2)
        made.frame(frame[:end] + b"," + field + frame[end:])
    made.compare(whole=True)


@pytest.mark.parametrize(
    "levels",
    [
        b'[["1.0"]]',
        b'[["1.0","1","1"]]',
        b"[[]]",
        b"[1]",
        b'["1.0","1"]',
        b"{}",
        b"null",
        b'""',
        b'[["1.0",1]]',
        b'[["1.0","1"],]',
        b'[,["1.0","1"]]',
        b'[["1.0","1"]["1.0","1"]]',
    ],
)
def test_levels_of_another_shape_are_malformed(levels: bytes) -> None:
    made = twins()
    for side in (b'"b":', b'"a":'):
        start = DEPTH.index(side) + 4
        end = DEPTH.index(b"]]", start) + 2
        assert error(made.frame(DEPTH[:start] + levels + DEPTH[end:])) is MalformedFrameError
    made.compare(whole=True)


def test_what_is_off_the_grid_is_an_error_at_any_place_of_a_long_frame_and_nothing_of_it_is_applied() -> None:
    made = twins()
    levels = [f'["{61_000 + n}.{n % 10}0","{n}.{n % 1000:03}"]' for n in range(1, 200)]
    before = made.replicas["BTCUSDT"][0].checksum()
    for at in range(0, 199, 7):
        for wrong in ('["61800.25","1.000"]', '["61800.20","1.0005"]', '["0.01","0.000"]'):
            sides = ",".join([*levels[:at], wrong, *levels[at + 1 :]])
            frame = DEPTH[: DEPTH.index(b'"b":')] + f'"b":[["61700.00","1.000"]],"a":[{sides}]}}}}'.encode()
            assert error(made.frame(frame)) is OffGridError
            assert made.replicas["BTCUSDT"][0].checksum() == before
    made.compare(whole=True)
