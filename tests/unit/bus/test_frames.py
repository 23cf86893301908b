"""Frames reads the NATS protocol however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.bus.frames import FrameError, Frames, parse_headers

_subject = st.text("abcXYZ019_-", min_size=1, max_size=12).map(str.encode)
_reply = st.one_of(st.just(b""), _subject)
_head = st.one_of(st.just(b""), st.just(b"NATS/1.0\r\nA: b\r\n\r\n"))
_message = st.tuples(st.integers(0, 10**9), _subject, _reply, _head, st.binary(max_size=80))
_line = st.sampled_from([b"PING", b"PONG", b"+OK", b"-ERR 'Stale Connection'", b'INFO {"a":1}'])


def wire(item: object) -> bytes:
    if isinstance(item, bytes):
        return item + b"\r\n"
    assert isinstance(item, tuple)
    sid, subject, reply, head, payload = item
    words = [subject, b"%d" % sid, *([reply] if reply else [])]
    if head:
        words += [b"%d" % len(head), b"%d" % (len(head) + len(payload))]
        return b"HMSG " + b" ".join(words) + b"\r\n" + head + payload + b"\r\n"
    return b"MSG " + b" ".join([*words, b"%d" % len(payload)]) + b"\r\n" + payload + b"\r\n"


@given(st.lists(st.one_of(_message, _line), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_what_was_sent_comes_out_in_order_however_the_bytes_are_cut(items: list[object], cuts: list[int]) -> None:
    out: list[object] = []
    frames = Frames(lambda *message: out.append(message), out.append)
    rest, i = b"".join(wire(item) for item in items), 0
    while rest:
        size = cuts[i % len(cuts)]
        frames.feed(rest[:size])
        rest, i = rest[size:], i + 1
    assert out == items


@given(st.binary(min_size=1, max_size=60))
def test_noise_is_refused_or_waited_for_but_never_raises_anything_else(noise: bytes) -> None:
    frames = Frames(lambda *_: None, lambda _: None)
    try:
        frames.feed(noise)
    except FrameError:
        pass


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(FrameError, match="4096"):
        Frames(lambda *_: None, lambda _: None).feed(b"MSG " + b"a" * 5000)


def test_a_status_line_and_headers_are_read() -> None:
    assert parse_headers(b"NATS/1.0 503\r\n\r\n") == {"Status": "503"}
    assert parse_headers(b"NATS/1.0 409 Consumer Deleted\r\nNats-Pending-Messages: 4\r\n\r\n") == {
        "Status": "409", "Description": "Consumer Deleted", "Nats-Pending-Messages": "4",
    }  # fmt: skip
    assert parse_headers(b"NATS/1.0\r\ntraceparent: 00-a\r\n\r\n") == {"traceparent": "00-a"}
