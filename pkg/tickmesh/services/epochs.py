"""Epochs: who speaks for a strategy now, so that a process that was succeeded is not obeyed (decisions 0131 and 0180).

In: every intent's epoch, and at a start what strategies wrote into their checkpoints: a strategy stores the epoch
under which it takes over before its first intent leaves. Out: whether an intent is of an older epoch.
"""

from __future__ import annotations

import logging

import msgspec

from tickmesh.domain.messages import OrderIntent
from tickmesh.ports import Bus

log = logging.getLogger(__name__)

BUCKET = "checkpoints"
PREFIX = "strategy."


class _Speaker(msgspec.Struct):
    """As much of a strategy's checkpoint as matters here."""

    name: str
    epoch: int = 0


class Epochs:
    """The newest epoch of each strategy and shard; one owner."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, int], int] = {}

    async def restore(self, bus: Bus) -> None:
        """Take over what strategies stored while we could not hear them.

        Raises:
            DependencyError: the bucket cannot be read; nobody may trade before it was.
        """
        bucket = await bus.kv(BUCKET)
        for key in await bucket.keys():
            entry = await bucket.get(key) if key.startswith(PREFIX) else None
            if entry is None or not entry.value:
                continue
            try:
                speaker = msgspec.json.decode(entry.value, type=_Speaker)
                shard = int(key.removeprefix(PREFIX + speaker.name).removeprefix(".") or 0)
            except (msgspec.MsgspecError, ValueError) as error:
                log.error(
                    "checkpoint %s cannot be read (%s); its strategy is fenced from its first intent on", key, error
                )
                continue
            self._hear(speaker.name, shard, speaker.epoch)

    def outdated(self, intent: OrderIntent) -> bool:
        """Whether a later epoch of the same strategy and shard was heard; an intent without an epoch never is."""
        newest = self._hear(intent.strategy, intent.shard, intent.epoch)
        return 0 < intent.epoch < newest

    def _hear(self, strategy: str, shard: int, epoch: int) -> int:
        key = (strategy, shard)
        newest = self._newest.get(key, 0)
        if epoch > newest:
            newest = self._newest[key] = epoch
        return newest
