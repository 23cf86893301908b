"""What a strategy process remembers: the journal read up to here, and the checkpoints in the bucket.

In: desks. Out: the same desks, told everything that the ORDERS stream holds of them; their pictures in the bucket, and
a desk that stood by filled with what only its predecessor knew. Telling twice changes nothing (decision 0052).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tickmesh.domain.enums import Mode
from tickmesh.ports import Bus, Clock
from tickmesh.services import strategy_checkpoint as checkpoints
from tickmesh.strategy.desk import Desk
from tickmesh.strategy.floor import Floor

Tell = Callable[[str, bytes, int], None]


class Memory:
    """Of one process. ``tell`` takes one line of the journal: subject, payload, stream sequence."""

    def __init__(self, bus: Bus, clock: Clock, floor: Floor, tell: Tell) -> None:
        self.journal_seq = 0
        self.epoch = 0
        self._bus, self._clock, self._floor, self._tell = bus, clock, floor, tell
        self._saved: dict[str, bytes] = {}
        self._reading = asyncio.Lock()

    def next_epoch(self, checkpoint: checkpoints.Checkpoint | None) -> int:
        """Later than every epoch before it, even when the wall clock was set back (decision 0051)."""
        earlier = checkpoint.epoch if checkpoint is not None else 0
        self.epoch = max(self.epoch + 1, earlier + 1, self._clock.wall_ns() // 1_000_000)
        return self.epoch

    async def catch_up(self) -> None:
        """Read what the journal holds since the last time; what we heard live already changes nothing."""
        async with self._reading:
            last = self.journal_seq
            async for subject, payload, seq in self._bus.replay("ORDERS", start_seq=self.journal_seq + 1):
                last = seq
                self._tell(subject, payload, seq)
            self.journal_seq = last
            for desk in self._floor.desks.values():
                if last > desk.journal_seq:
                    desk.caught_up(last)

    async def catch_up_desk(self, desk: Desk) -> None:
        """As ``catch_up``, for one desk that came later."""
        async with self._reading:
            last = desk.journal_seq
            async for subject, payload, seq in self._bus.replay("ORDERS", start_seq=desk.journal_seq + 1):
                last = seq
                self._tell(subject, payload, seq)
            desk.caught_up(max(last, desk.journal_seq))

    async def take_over(self, desk: Desk) -> int:
        """Make a desk that stood by the one that acts; the new epoch, which is stored when this returns.

        Raises:
            DependencyError: the bucket or the journal cannot be read now; nothing was changed that matters, try again.
        """
        key = desk.plan.share.key(desk.name)
        checkpoint = await checkpoints.read(self._bus, key)
        if checkpoint is not None and checkpoint.account == desk.account:
            checkpoints.take_over(desk, checkpoint, self._clock.mono_ns())
        await self.catch_up_desk(desk)
        epoch, before = self.next_epoch(checkpoint), desk.epoch
        desk.epoch = epoch
        try:
            await self.save(desk, force=True)  # the epoch is safe before the first intent leaves
        except BaseException:
            desk.epoch = before
            raise
        desk.begin(epoch)
        desk.show_positions()
        return epoch

    async def save(self, desk: Desk, *, force: bool = False) -> None:
        """Store a picture of a desk when it has changed."""
        picture = checkpoints.checkpoint_of(desk)
        if force or picture != self._saved.get(desk.name):
            await checkpoints.write(self._bus, desk.plan.share.key(desk.name), picture)
            self._saved[desk.name] = picture

    async def close(self, desk: Desk) -> None:
        """The last picture of a strategy that is gone, or none when it holds nothing."""
        key = desk.plan.share.key(desk.name)
        await checkpoints.write(self._bus, key, checkpoints.checkpoint_of(desk))
        if not any(held.qty_lots for held in desk.live.holdings.values()):
            await checkpoints.delete(self._bus, key)
        self._saved.pop(desk.name, None)


def open_orders(desk: Desk) -> int:
    """Orders that may still trade, on paper too when the strategy trades on paper."""
    return len(desk.live.orders) + (len(desk.paper.orders) if desk.mode is Mode.SIMULATION else 0)
