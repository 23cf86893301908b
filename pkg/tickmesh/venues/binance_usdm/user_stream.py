"""UserStream: the private WebSocket of one account, kept alive for ever.

In: frames of /ws/<listenKey>. Out: decoded events to ``on_event``, and ``on_gap`` after every (re)connection,
because what happened in between was said to nobody: the caller asks the venue for it. It keeps the key alive,
takes a new one when it expires, and refuses to stop at a malformed frame (counted, logged once per kind).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import websockets
from websockets.asyncio.client import connect

from tickmesh.domain.errors import MalformedFrameError
from tickmesh.ports.gate import Gate, NoGate
from tickmesh.venues.binance_usdm.codec_trading import ListenKeyExpired, UserEvent, VenueCallError, decode_user_event
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

log = logging.getLogger(__name__)

_MAX_BACKOFF_S = 60.0
_SHUT_S = 0.25
"""How often the circuit breaker is looked at."""
_MAX_FRAME_BYTES = 4 * 1024 * 1024
_SHOWN = 400
"""How much of a frame that makes no sense is told."""


class UserStream:
    """Make it, then await ``run`` in a task of its own."""

    def __init__(
        self,
        rest: BinanceUsdmRest,
        stream_url: str,
        on_event: Callable[[UserEvent], None],
        on_gap: Callable[[], Awaitable[None]],
        *,
        keepalive_s: float = 1500.0,
        first_backoff_s: float = 1.0,
        ping_s: float = 10.0,
        connect: Callable[..., Any] = connect,
        gate: Gate | None = None,
        on_malformed: Callable[[str], None] | None = None,
    ) -> None:
        self._on_malformed = on_malformed
        self._connect = connect
        self._rest = rest
        self._url = stream_url.rstrip("/")
        self._on_event = on_event
        self._on_gap = on_gap
        self._keepalive_s = keepalive_s
        self._first_backoff_s = first_backoff_s
        self._ping_s = ping_s
        self._gate: Gate = gate or NoGate()
        self._ticket: int | None = None
        self._seen_kinds: set[str] = set()
        self.connected = False
        self.down_since_s = 0.0
        """Loop time of the last loss; meaningful while not ``connected``."""
        self.connections = 0
        self.malformed = 0

    async def run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        self.down_since_s = loop.time()
        backoff_s = self._first_backoff_s
        while True:
            while (ticket := self._gate.enter()) is None:
                await asyncio.sleep(_SHUT_S)
            self._ticket = ticket
            started_s = loop.time()
            try:
                await self._serve()
                reason = "the venue closed it"
            except (VenueCallError, OSError, TimeoutError, websockets.WebSocketException) as error:
                reason = str(error) or type(error).__name__
            finally:
                if self.connected:
                    self.connected = False
                    self.down_since_s = loop.time()
            if loop.time() - started_s > _MAX_BACKOFF_S:
                backoff_s = self._first_backoff_s
            self._lost(reason)
            log.warning("user stream is down (%s); connecting again in about %.1f s", reason, backoff_s)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            # A connection that lived a while proves that the venue is there: start over from the shortest wait.
            lived = loop.time() - started_s > 10 * self._first_backoff_s
            backoff_s = self._first_backoff_s if lived else min(backoff_s * 2, _MAX_BACKOFF_S)

    async def _serve(self) -> None:
        key = await self._rest.create_listen_key()
        async with self._connect(
            f"{self._url}/ws/{key}", max_size=_MAX_FRAME_BYTES, ping_interval=self._ping_s, ping_timeout=self._ping_s,
            open_timeout=5.0, close_timeout=1.0, compression=None, proxy=None,
        ) as socket:  # fmt: skip
            self.connections += 1
            self.connected = True
            if self._ticket is not None:
                self._gate.success(self._ticket)
                self._ticket = None
            keeper = asyncio.create_task(self._keep(socket))
            gap = asyncio.ensure_future(self._on_gap())
            try:
                async for frame in socket:
                    if not self._take(frame):
                        return
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                if not gap.done():
                    gap.cancel()
                for result in await asyncio.gather(gap, return_exceptions=True):
                    if isinstance(result, Exception):
                        log.warning("catching up after a reconnection failed (%s); reconciliation will", result)

    def _lost(self, reason: str) -> None:
        """A connection that could not be made, or was made and is lost, is one failure."""
        ticket = self._ticket if self._ticket is not None else self._gate.enter()
        self._ticket = None
        if ticket is not None:
            self._gate.failure(ticket, reason)

    def _take(self, frame: str | bytes) -> bool:
        try:
            event = decode_user_event(frame)
        except MalformedFrameError as error:
            self.malformed += 1
            if error.kind not in self._seen_kinds:
                self._seen_kinds.add(error.kind)
                log.warning("user stream: %s", error)
            if self._on_malformed is not None:
                text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
                self._on_malformed(f"{error}: {text[:_SHOWN]}")
            return True
        if isinstance(event, ListenKeyExpired):
            log.warning("user stream: the listen key expired")
            return False
        self._on_event(event)
        return True

    async def _keep(self, socket: websockets.ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._keepalive_s
        while True:
            await asyncio.sleep(min(_SHUT_S, max(0.0, due_s - loop.time())))
            if self._gate.shut:
                log.warning("user stream: its circuit breaker is open; parting")
                await socket.close()
                return
            if loop.time() < due_s:
                continue
            due_s = loop.time() + self._keepalive_s
            try:
                await self._rest.keep_listen_key()
            except VenueCallError as error:
                log.warning("user stream: the listen key could not be prolonged (%s); connecting again", error)
                await socket.close()
                return
