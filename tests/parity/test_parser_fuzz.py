"""Whatever bytes arrive, both halves give the same outcome or the same error, and no book is left half changed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.parity.twins import Twins

from tickmesh import hotpath
from tickmesh.domain.errors import MalformedFrameError, OffGridError

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")

DEPTH = (
    b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256560,"T":1723161256559,"s":"BTCUSDT",'
    b'"U":11,"u":20,"pu":10,"b":[["61800.20","2.909"],["5000.00","0.000"],["61799.90","0.004"]],'
    b'"a":[["61800.30","1.091"],["1234567.8","12345678.901"]]}}'
)
TOP = (
    b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":25,"s":"BTCUSDT","b":"61800.20","B":"2.890",'
    b'"a":"61800.30","A":"1.091","T":1723161256562,"E":1723161256562}}'
)
TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256624,"T":1723161256624,"s":"BTCUSDT","t":5266583940,'
    b'"p":"61800.30","q":"0.003","X":"MARKET","m":false}}'
)
RAW = DEPTH[DEPTH.index(b'{"e"') : -1]
# As the venue documents them at the end of 2025: other places, and fields that the captures do not have.
NEW_DEPTH = (
    b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":123456789,"T":123456788,"s":"BTCUSDT","ps":"BTCUSDT",'
    b'"st":1,"U":11,"u":20,"pu":10,"b":[["61800.20","10.000"]],"a":[["61800.30","1"]]}}'
)
NEW_TOP = (
    b'{"e":"bookTicker","u":25,"E":1568014460893,"T":1568014460891,"s":"BTCUSDT","b":"61800.2","B":"31.210",'
    b'"a":"61800.30000000","A":"40.66000000","st":1,"ps":"BTCUSDT"}'
)
NEW_TRADE = (
    b'{"e":"trade","E":123456789,"s":"BTCUSDT","t":5933014,"p":"61800.30","q":"100","T":123456785,"m":true,'
    b'"x":null,"y":"text","z":false}'
)
NEW = (NEW_DEPTH, NEW_TOP, NEW_TRADE)
FRAMES = (DEPTH, TOP, TRADE, RAW, *NEW)

PLAIN = b'0 9 . - + e9 " , [ ] { } null true NaN 1e400 9223372036854775808 00 .0 _ 0x1 "E":1, ["1.0","1"], "x":1,'
ODD = [b" ", b"\n", b"\\", b"\\u0041", b"\x00", b"\x7f", b"\xff", b"\xc3\xa9", b"9" * 30, b"0" * 30, "٣".encode()]
PIECES = st.sampled_from(PLAIN.split(b" ")) | st.sampled_from(ODD)


def twins() -> Twins:
    made = Twins({"BTCUSDT": ("0.10", "0.001"), "ETHUSDT": ("0.05", "10")}, depth=3)
    for replicas in made.replicas.values():
        made.both(lambda half, r=replicas: r[half].on_snapshot(10, [(617_000, 5)], [(618_100, 5)], 0))
        for replica in replicas:
            replica.disconnect()
            replica.on_snapshot(10, [(617_000, 5)], [(618_100, 5)], 0)
    return made


def take(made: Twins, frame: bytes) -> Any:
    outcome = made.frame(frame)
    made.compare(whole=True)
    return outcome


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    frame = bytearray(draw(st.sampled_from(FRAMES)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(frame)))
        match draw(st.integers(0, 4)):
            case 0:
                frame[at:] = b""
            case 1:
                frame[at : at + draw(st.integers(1, 6))] = b""
            case 2:
                frame[at:at] = draw(PIECES)
            case 3:
                frame[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case _:
                frame[at : at + draw(st.integers(1, 12))] = draw(PIECES)
    return bytes(frame)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(broken())
@example(b"")
@example(b"{")
@example(DEPTH[:-1])
@example(DEPTH + b" ")
@example(DEPTH.replace(b'"s":"BTCUSDT"', b'"s":"BTC\\u0055SDT"'))
@example(TRADE.replace(b"0.003", b"0.000"))
@example(TRADE.replace(b"MARKET", b"NA"))
@example(TOP.replace(b"BTCUSDT", b"ETHUSDT"))
def test_a_broken_frame_has_one_outcome_in_both_halves(frame: bytes) -> None:
    made = twins()
    take(made, frame)
    take(made, DEPTH)  # what follows is not disturbed


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_random_bytes_are_refused_alike(frames: list[bytes]) -> None:
    made = twins()
    for frame in frames:
        take(made, frame)


number = st.one_of(
    st.decimals(0, 10**9, places=4).map(str),
    st.from_regex(r"[0-9]{1,25}(\.[0-9]{1,25})?", fullmatch=True),
    st.sampled_from(
        ["0", "0.0", "1.", ".5", "00001.10", "1e3", "-1.0", "+1", "", " 1", "1 ", "9007199254740993", "NaN"]
    ),
    st.integers(0, 2**54).map(lambda n: f"{n // 10}.{n % 10}"),
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(number, number), max_size=4), st.lists(st.tuples(number, number), max_size=4))
def test_any_number_is_read_alike(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
    made = twins()
    sides = [",".join(f'["{p}","{q}"]' for p, q in side) for side in (bids, asks)]
    for symbol in ("BTCUSDT", "ETHUSDT"):
        head = f'{{"e":"depthUpdate","E":1,"T":1,"s":"{symbol}","U":11,"u":20,"pu":10,'
        take(made, (head + f'"b":[{sides[0]}],"a":[{sides[1]}]}}').encode())


@pytest.mark.parametrize("frame", FRAMES)
def test_the_venues_own_layouts_old_and_new_are_read_without_the_twin(frame: bytes) -> None:
    made = twins()
    take(made, DEPTH)
    take(made, frame)
    assert made.markets[0].left_to_twin == 0


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FRAMES), st.randoms(use_true_random=False), st.booleans())
def test_fields_in_any_order_are_read_alike(frame: bytes, random: Any, double: bool) -> None:
    start = frame.index(b'{"e"')
    end = len(frame) - (1 if start == 0 else 2)
    fields = re.findall(rb'"\w+":(?:\[(?:\[[^\]]*\],?)*\]|"[^"]*"|\w+)', frame[start:end])
    random.shuffle(fields)
    made = twins()
    take(made, DEPTH)
    take(made, frame[: start + 1] + b",".join(fields + fields[:double]) + frame[end:])


def test_an_off_grid_level_is_an_error_and_the_whole_frame_is_refused() -> None:
    made = twins()
    for text in (b"61799.95", b"0.01"):
        kind, sentence, _ = take(made, DEPTH.replace(b"61799.90", text))
        assert kind is OffGridError
        assert sentence == f"price {text.decode()} of BTCUSDT is not a multiple of 0.10"
    assert made.replicas["BTCUSDT"][0].bids() == [(617_000, 5)]


@pytest.mark.parametrize("depth", [10, 1_000, 100_000])
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_deep_nesting_is_refused_without_a_crash(depth: int, bracket: bytes) -> None:
    made = twins()
    kind, _, _ = take(made, DEPTH.replace(b'"b":[', b'"z":' + bracket * depth + b',"b":['))
    assert kind is MalformedFrameError
    kind, _, _ = take(made, bracket * depth)
    assert kind is MalformedFrameError


def test_fields_in_any_order_and_with_white_space_give_the_same_book() -> None:
    made = twins()
    outcome = take(
        made,
        b' { "data" : {"a":[ ["61800.30" , "1.091"] ], "pu":10, "u":20, "U":11, "s":"BTCUSDT", "new":{"x":[1]}, '
        b'"b":[["61800.20","2.909"]], "T":1, "E":1, "e":"depthUpdate"}, "stream":"x" } ',
    )
    assert outcome == hotpath.APPLIED
    assert made.markets[0].left_to_twin == 1
    assert made.replicas["BTCUSDT"][0].bids(1) == [(618_002, 2_909)]
