"""Sampler: one book and one mark price per symbol and interval, out of the thousands that pass.

The stream itself conflates: it is asked for the newest message of each subject, so what is skipped costs
nothing here. Samples wait in a bounded buffer (oldest dropped, counted) while Postgres is away. Refuses to
touch trades, which are recorded one by one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from tickmesh.domain.messages import BookUpdate, MarkPrice, Message, decode
from tickmesh.ports import Bus
from tickmesh.store.rows import FindInstrument, Rows, merge, rows_of

log = logging.getLogger(__name__)

MAX_WAITING = 50_000
_SAMPLED: tuple[tuple[str, type[Message]], ...] = (("md.book.>", BookUpdate), ("md.mark.>", MarkPrice))


class Sampler:
    """Samples of the MD stream that wait for the next transaction."""

    def __init__(self, bus: Bus, find: FindInstrument, learn: Callable[[Sequence[Message]], Awaitable[None]]) -> None:
        self.waiting: deque[Rows] = deque(maxlen=MAX_WAITING)
        self.dropped = 0
        self.poison = 0
        self._bus = bus
        self._find = find
        self._learn = learn
        self._seen: dict[str, int] = {}

    async def sample(self) -> int:
        """Read the newest of each subject; those that changed since last time join ``waiting``.

        Raises:
            DependencyError: NATS did not answer; the next interval tries again.
        """
        fresh: list[Message] = []
        for pattern, kind in _SAMPLED:
            for subject, payload, seq in await self._bus.last_of_each("MD", pattern):
                if self._seen.get(subject) == seq:
                    continue
                self._seen[subject] = seq
                try:
                    fresh.append(decode(kind, payload))
                except (msgspec.DecodeError, ValueError) as error:
                    if self.poison == 0:
                        log.error("%s holds what is no %s (%s); more are only counted", subject, kind.__name__, error)
                    self.poison += 1
        await self._learn(fresh)
        for message in fresh:
            if len(self.waiting) == MAX_WAITING:
                self.dropped += 1
            self.waiting.append(rows_of(message, self._find))
        return len(fresh)

    def take(self, limit: int) -> Rows:
        """The oldest ``limit`` samples; ``done`` removes them once they are committed."""
        return merge([self.waiting[i] for i in range(min(limit, len(self.waiting)))])

    def done(self, limit: int) -> None:
        for _ in range(min(limit, len(self.waiting))):
            self.waiting.popleft()
