"""Memory: what a start of execution knows of former lives, and how far the next one need not look back.

In: the journal from the checkpoint on, and each line as it is stored. Out: the ledger as it was, and the checkpoint in
its bucket. It asks the venue nothing: what the journal does not know, the reconciler finds out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from tickmesh.domain import subjects
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import FillEvent, OrderEvent, decode
from tickmesh.execution.checkpoint import Checkpoint, CheckpointKeeper
from tickmesh.execution.ledger import OrderLedger
from tickmesh.services.execution_journal import STREAM, JournalWriter
from tickmesh.services.service import Service

log = logging.getLogger(__name__)


class Memory:
    """One account's. ``restore`` once, then ``note`` each line that is stored and ``save`` now and then."""

    def __init__(
        self, service: Service, ledger: OrderLedger, journal: JournalWriter, is_writer: Callable[[], bool]
    ) -> None:
        self._service = service
        self._ledger = ledger
        self._journal = journal
        self._is_writer = is_writer
        self._account = service.settings.venue.account
        self._key = f"execution.{self._account}"
        self._horizon_s = service.settings.execution.journal_horizon_s
        self._saved = Checkpoint()
        self._keeper = CheckpointKeeper(self._horizon_s, Checkpoint())
        self.read_from_seq = 1
        """The journal's line at which this start began to read."""

    def note(self, message: OrderEvent | FillEvent, seq: int) -> None:
        """A line is stored as ``seq``."""
        self._keeper.note(message, seq)

    async def restore(self) -> tuple[int, int]:
        """Read the journal; returns the wall times of its newest and oldest line."""
        self._saved = start = await self._load()
        self.read_from_seq = start.seq
        self._keeper = CheckpointKeeper(self._horizon_s, start)
        self._ledger.known_trades_below = dict(start.trades)
        self._ledger.last_trade_id.update(start.trades)
        newest, oldest = start.oldest_ns, start.oldest_ns
        account = subjects.token(self._account)
        events, fills = f"order.event.{account}.", f"fill.{account}."
        async for subject, payload, seq in self._service.bus.replay(STREAM, start_seq=start.seq):
            self._journal.last_seq = max(self._journal.last_seq, seq)
            kind: type[OrderEvent] | type[FillEvent] | None = (
                OrderEvent if subject.startswith(events) else FillEvent if subject.startswith(fills) else None
            )
            if kind is None:
                continue
            try:
                message = decode(kind, payload)
            except msgspec.DecodeError as error:
                log.error("journal line %d cannot be decoded (%s); it is skipped", seq, error)
                continue
            self._ledger.restore(message)
            self._keeper.note(message, seq)
            newest, oldest = max(newest, message.publish_ns), oldest or message.publish_ns
        return newest, oldest

    async def _load(self) -> Checkpoint:
        entry = await (await self._service.bus.kv("checkpoints")).get(self._key)
        try:
            return msgspec.json.decode(entry.value or b"", type=Checkpoint) if entry is not None else Checkpoint()
        except msgspec.MsgspecError as error:
            log.error("the checkpoint cannot be read (%s); the whole journal is", error)
            return Checkpoint()

    async def save(self) -> None:
        """Keep how far the journal need not be read any more; a failure costs time at the next start only."""
        point = self._keeper.advance(self._ledger, self._service.clock.wall_ns())
        if point == self._saved or not self._is_writer():
            return
        try:
            await (await self._service.bus.kv("checkpoints")).put(self._key, msgspec.json.encode(point))
            self._saved = point
        except DependencyError as error:
            log.warning("checkpoint: %s", error)
