"""Frames: bytes of a NATS connection in, protocol operations out, in order, however the bytes were cut.

Pure and synchronous, so that a message reaches its handler in the very call that brought its bytes. Refuses
what is not the protocol; never copies a payload more than once.
"""

from __future__ import annotations

from collections.abc import Callable

from tickmesh.domain.errors import TickmeshError

MAX_LINE = 4096
_M, _I = b"MI"
_MESSAGE, _LINE = b"MH", b"P+-I"

OnMessage = Callable[[int, bytes, bytes, bytes, bytes], None]
"""Called with (sid, subject, reply, header block, payload); reply and headers may be empty."""


class FrameError(TickmeshError, ValueError):
    """These bytes are not the NATS protocol; the connection must be made anew."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the server sent what is not the NATS protocol: {found}")
        self.found = found


class Frames:
    """Incremental reader of what a server sends."""

    __slots__ = ("_on_message", "_on_other", "_rest")

    def __init__(self, on_message: OnMessage, on_other: Callable[[bytes], None]) -> None:
        """``on_other`` gets a whole line without its end: PING, PONG, +OK, -ERR ..., INFO ..."""
        self._on_message = on_message
        self._on_other = on_other
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            FrameError: see there; what came before the bad bytes was delivered.
        """
        buffer = self._rest + data if self._rest else data
        at, size = 0, len(buffer)
        while at < size:
            end = buffer.find(b"\r\n", at)
            if end < 0:
                if size - at > MAX_LINE and buffer[at] != _I:
                    raise FrameError(f"a line of more than {MAX_LINE} bytes")
                break
            kind = buffer[at]
            if kind in _MESSAGE:
                words = buffer[at:end].split()
                try:
                    payload_at = end + 2
                    stop = payload_at + int(words[-1])
                    if size < stop + 2:
                        break
                    if kind == _M:
                        head_end = payload_at
                        reply = words[3] if len(words) == 5 else b""
                    else:
                        head_end = payload_at + int(words[-2])
                        reply = words[3] if len(words) == 6 else b""
                    subject, sid = words[1], int(words[2])
                except (IndexError, ValueError):
                    raise FrameError(f"malformed message line of {end - at} bytes") from None
                at = stop + 2
                self._on_message(sid, subject, reply, buffer[payload_at:head_end], buffer[head_end:stop])
            elif kind in _LINE:
                line = buffer[at:end]
                at = end + 2
                self._on_other(line)
            else:
                raise FrameError(f"an operation that begins with {buffer[at : at + 1]!r}")
        self._rest = buffer[at:]


def parse_headers(block: bytes) -> dict[str, str]:
    """Headers of a block; a status line ``NATS/1.0 503 words`` becomes ``Status`` and ``Description``."""
    if not block:
        return {}
    lines = block.decode(errors="replace").split("\r\n")
    found: dict[str, str] = {}
    status = lines[0].removeprefix("NATS/1.0").strip()
    if status:
        code, _, words = status.partition(" ")
        found["Status"] = code
        if words:
            found["Description"] = words
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip()] = value.strip()
    return found
