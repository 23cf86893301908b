"""Bytes of the wire: WebSocket text frames made once for all listeners, and numbers as the venue writes them.

In: payloads and exact numbers. Out: bytes and text. It holds no state and knows no connection.
"""

from __future__ import annotations

from decimal import Decimal

from tickmesh.domain.instrument import Instrument

_TEXT = 0x81


def text_frame(payload: bytes) -> bytes:
    """An unmasked, final text frame (RFC 6455, 5.2): a server's frames are the same for every client."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload


def wrapped(stream: str, data: bytes) -> bytes:
    """The combined stream's envelope; ``data`` stays byte for byte what it was."""
    return b'{"stream":"%s","data":%s}' % (stream.encode(), data)


def unwrapped(frame: bytes) -> bytes:
    """The data of a combined frame, byte for byte; a bare frame is returned as it is."""
    if not frame.startswith(b'{"stream"'):
        return frame
    at = frame.find(b'"data":')
    return frame[at + 7 : frame.rindex(b"}")] if at > 0 else frame


def price_text(instrument: Instrument, ticks: int) -> str:
    """Ticks as the venue prints a price."""
    return f"{instrument.price(ticks):f}"


def qty_text(instrument: Instrument, lots: int) -> str:
    """Lots as the venue prints a quantity."""
    return f"{instrument.qty(lots):f}"


def money(value: Decimal) -> str:
    """An amount with the venue's eight places."""
    return f"{value:.8f}"


def plain(value: Decimal) -> str:
    """A number without an exponent, as exact as it is."""
    return f"{value:f}" if value else "0"
