"""JournalWriter: records in, in order; the ORDERS stream out, each exactly once.

Records wait in memory and are written in pipelined batches, off the hot path. After a failure the writer reads
the stream's tail before it repeats anything, because JetStream's own window of deduplication is short.
It never drops: past ``max_waiting`` it says so (``full``) and the order path refuses new orders.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import OrderEvent, encode
from tickmesh.execution.ledger import Record
from tickmesh.ports import Bus

log = logging.getLogger(__name__)

_BATCH = 64
_PUBLISH_TIMEOUT_S = 5.0
_RETRY_S = 0.25
STREAM = "ORDERS"


class JournalWriter:
    """The one writer of an account's journal."""

    def __init__(self, bus: Bus, on_stored: Callable[[Record, int], None], *, max_waiting: int = 200_000) -> None:
        self._bus = bus
        self._on_stored = on_stored
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Record, bytes]] = deque()  # bounded: ``full`` closes the way for orders
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.last_seq = 0
        """Stream sequence up to which we know what is stored."""
        self.retries = 0
        self.may_write: Callable[[], bool] = lambda: True
        """The fence: what another process may be writing by now is not written by us."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the stream has been away for so long that new orders must be refused."""
        return len(self._waiting) >= self._max_waiting

    def put(self, records: list[Record]) -> None:
        """Take records over; returns at once."""
        if not records:
            return
        for record in records:
            self._waiting.append((record, encode(record.message)))
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if not self.may_write():
                    await asyncio.sleep(_RETRY_S / 5)
                    continue
                batch = [self._waiting[i] for i in range(min(_BATCH, len(self._waiting)))]
                stored = await self._write(batch)
                for seq in stored:
                    record, _ = self._waiting.popleft()
                    self._on_stored(record, seq)
                if len(stored) < len(batch):
                    await self._catch_up(len(batch) - len(stored))
            self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until everything is stored; False when it is not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _write(self, batch: list[tuple[Record, bytes]]) -> list[int]:
        """Publish all at once, in order; returns the sequences of the first ones, as far as they are stored."""
        results = await asyncio.gather(
            *(
                self._bus.publish_durable(
                    record.subject, payload, message_id=record.message_id, timeout_s=_PUBLISH_TIMEOUT_S
                )
                for record, payload in batch
            ),
            return_exceptions=True,
        )
        stored: list[int] = []
        for result in results:
            if isinstance(result, DependencyError):
                log.warning("journal: %s; %d records wait", result, len(self._waiting))
                break
            if isinstance(result, BaseException):
                raise result
            self.last_seq = max(self.last_seq, result)
            stored.append(result)
        return stored

    async def _catch_up(self, count: int) -> None:
        """Settle the first ``count`` waiting records against what the stream holds after a failure."""
        self.retries += 1
        await asyncio.sleep(_RETRY_S)
        first = [self._waiting[i] for i in range(count)]
        wanted = {(record.subject, payload) for record, payload in first}
        found: dict[tuple[str, bytes], int] = {}
        last_seq = self.last_seq
        try:
            async for subject, payload, seq in self._bus.replay(STREAM, start_seq=self.last_seq + 1):
                last_seq = max(last_seq, seq)
                if (subject, payload) in wanted:
                    found[(subject, payload)] = seq
        except Exception as error:  # whatever it is, nothing was decided: the next round asks again
            log.warning("journal: the tail cannot be read (%s)", error or type(error).__name__)
            return
        self.last_seq = last_seq
        for _ in range(count):
            self._waiting.popleft()
        keep = []
        for position, (record, payload) in enumerate(first):
            later_stored = isinstance(record.message, OrderEvent) and any(
                r.subject == record.subject and (r.subject, p) in found for r, p in first[position + 1 :]
            )
            if (record.subject, payload) in found or later_stored:
                # A later line of the same order says all that this one does: storing it now would go backwards.
                self._on_stored(record, found.get((record.subject, payload), last_seq))
            else:
                keep.append((record, payload))
        self._waiting.extendleft(reversed(keep))
