"""A TCP proxy whose line can be cut: half-open (connections live, nothing moves) or refused (connections die)."""

from __future__ import annotations

import asyncio
import contextlib
import enum


class Line(enum.Enum):
    """What the line does with bytes and with new connections."""

    WHOLE = "whole"
    HALF_OPEN = "half-open"
    """Connections are accepted and kept and nothing moves; what was written is still in the buffers afterwards."""
    REFUSED = "refused"


class CutProxy:
    """Forwards to one port of this machine; in ``HALF_OPEN`` neither end learns that the other is gone."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.cuts = 0
        self._target_port = target_port
        self._line = Line.WHOLE
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._sockets: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, line: Line) -> None:
        """Cut or mend."""
        self._line = line
        if line is Line.HALF_OPEN:
            self._open.clear()
        else:
            self._open.set()
        if line is Line.REFUSED:
            self._drop()
        self.cuts += line is not Line.WHOLE

    def say(self, text: bytes) -> int:
        """Put a WebSocket text frame of our own into what the server says; returns on how many connections.

        It goes between two writes of the server, each of which ends with a frame on the loopback.
        """
        head = bytes((0x81, len(text))) if len(text) < 126 else bytes((0x81, 126)) + len(text).to_bytes(2)
        for writer in self._sockets:
            writer.write(head + text)
        return len(self._sockets)

    def _drop(self) -> None:
        for writer in list(self._writers):
            with contextlib.suppress(RuntimeError):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            if self._line is Line.REFUSED:
                return
            back, other = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(other)
            await asyncio.gather(self._pump(reader, other, writer), self._pump(back, writer))
        except OSError:
            pass  # an end went away; the other one learns of it below, as on a real line
        finally:
            self._sockets.discard(writer)
            for end in (writer, other):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter | None = None
    ) -> None:
        while data := await reader.read(65_536):
            await self._open.wait()
            if client is not None and b"upgrade: websocket" in data[:2_048].lower():
                self._sockets.add(client)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError("one end closed")
