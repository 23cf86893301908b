"""Lane: the messages of one stream on their way into Postgres.

In comes a batch from a durable consumer; out goes one committed transaction, and only then the
acknowledgements, so a kill at any moment repeats rows and never loses one (their keys make that harmless).
Postgres away: the batch waits here, the rest waits in JetStream. Poison (bytes that are no message, a row
that Postgres will never take) is terminated, counted, and logged once per kind, without its contents.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import (
    AccountSnapshot,
    Alert,
    Audit,
    FillEvent,
    MarkPrice,
    Message,
    OrderEvent,
    SignalMessage,
    Trade,
    decode,
)
from tickmesh.ports import Clock, DurableMessage
from tickmesh.store.errors import BadRowError
from tickmesh.store.progress import Progress, advance
from tickmesh.store.rows import FindInstrument, Rows, merge, rows_of
from tickmesh.store.writer import Advance, Writer, Written

log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.1
_HOLE_GRACE_NS = 300_000_000_000  # a redelivery after a kill comes within ack_wait, far sooner than this
_KINDS: tuple[tuple[str, type[Message]], ...] = (
    ("order.event.", OrderEvent),
    ("fill.", FillEvent),
    ("md.trade.", Trade),
    ("md.mark.", MarkPrice),
    ("signal.", SignalMessage),
    ("alert.", Alert),
    ("audit.", Audit),
)


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """What a lane reads. ``whole`` lanes read every message of their stream, so a hole in it is a loss."""

    name: str
    stream: str
    filter_subjects: tuple[str, ...] = ()
    whole: bool = True

    @property
    def durable(self) -> str:
        return f"recorder-{self.name}"


@dataclass(slots=True)
class LaneCounts:
    """What a lane has done since this process started; ``rows`` and ``duplicates`` by table."""

    messages: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    poison: int = 0
    ignored: int = 0
    missed: int = 0
    retries: int = 0


def kind_of(subject: str) -> type[Message] | None:
    """Which message travels on ``subject``; None for what is not recorded."""
    if subject.startswith("account."):
        return AccountSnapshot if subject.endswith(".snapshot") else None
    for prefix, kind in _KINDS:
        if subject.startswith(prefix):
            return kind
    return None


class Lane:
    """Handler of one stream's batches. One batch at a time; the consumer asks for the next when it returns."""

    def __init__(
        self,
        spec: LaneSpec,
        writer: Writer,
        clock: Clock,
        find: FindInstrument,
        *,
        learn: Callable[[Sequence[Message]], Awaitable[None]],
        on_trouble: Callable[[DependencyError | None], None],
        retry_max_s: float,
    ) -> None:
        self.spec = spec
        self.counts = LaneCounts()
        self.busy = False
        self.behind = 0
        """Messages that were waiting in the stream when the last batch left it."""
        self._writer = writer
        self._clock = clock
        self._find = find
        self._learn = learn
        self._on_trouble = on_trouble
        self._retry_max_s = retry_max_s
        self._told: set[str] = set()

    async def take(self, messages: list[DurableMessage]) -> None:
        """Record ``messages`` and acknowledge them; waits for Postgres as long as it takes."""
        self.busy = True
        try:
            good: list[tuple[DurableMessage, Message]] = []
            ignored: list[DurableMessage] = []
            for message in messages:
                kind = kind_of(message.subject)
                if kind is None:
                    ignored.append(message)
                    continue
                try:
                    good.append((message, decode(kind, message.data)))
                except (msgspec.DecodeError, ValueError) as error:
                    await self._poison(message, kind.__name__, f"cannot be decoded: {error}")
            await self._learn([decoded for _, decoded in good])
            self.counts.ignored += len(ignored)
            await self._record(good, self._advance(messages))
            for message in ignored:
                await message.ack()
            self.counts.messages += len(messages)
            self.behind = messages[-1].pending if messages else 0
        finally:
            self.busy = False

    async def _record(self, good: list[tuple[DurableMessage, Message]], advances: dict[str, Advance]) -> None:
        """Commit and acknowledge; a row that can never be written is found by halving."""
        try:
            rows = merge([rows_of(decoded, self._find, message.stream_seq) for message, decoded in good])
            self._note(await self._write(rows, advances))
        except (BadRowError, ValueError, ArithmeticError) as error:
            if len(good) > 1:
                middle = len(good) // 2
                await self._record(good[:middle], {})
                await self._record(good[middle:], advances)
                return
            if not good:
                raise
            await self._poison(good[0][0], type(good[0][1]).__name__, str(error))
            self._note(await self._write({}, advances))
            return
        for message, _ in good:
            await message.ack()

    async def _write(self, rows: Rows, advances: dict[str, Advance]) -> Written:
        """Write, repeating while Postgres is away."""
        pause_s = _FIRST_RETRY_S
        while True:
            try:
                written = await self._writer.write(rows, advances)
            except DependencyError as error:
                self.counts.retries += 1
                self._on_trouble(error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._retry_max_s)
            else:
                self._on_trouble(None)
                return written

    def _advance(self, messages: list[DurableMessage]) -> dict[str, Advance]:
        if not self.spec.whole:
            return {}
        seen = [(m.stream_seq, m.redelivered) for m in messages]
        now_ns = self._clock.wall_ns()

        def step(progress: Progress) -> Progress:
            return advance(progress, seen, now_ns, _HOLE_GRACE_NS)

        return {self.spec.name: step}

    def _note(self, written: Written) -> None:
        counts = self.counts
        counts.missed += written.missed
        for table, n in written.rows.items():
            counts.rows[table] = counts.rows.get(table, 0) + n
        for table, n in written.duplicates.items():
            counts.duplicates[table] = counts.duplicates.get(table, 0) + n

    async def _poison(self, message: DurableMessage, kind: str, why: str) -> None:
        await message.term()
        self.counts.poison += 1
        if kind not in self._told:
            self._told.add(kind)
            log.error(
                "message %d of stream %s cannot be recorded as %s and is set aside for good (%s); "
                "more of this kind are only counted",
                message.stream_seq, self.spec.stream, kind, why[:200],
            )  # fmt: skip
