"""Checkpoints of strategies in the ``checkpoints`` bucket: what a killed process needs to go on.

In: a Desk. Out: one JSON value under ``strategy.<name>``, and the Desk filled again from it. The journal is told from
``journal_seq`` on; everything before that place is in the checkpoint.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from tickmesh.domain.enums import Mode
from tickmesh.ports import Bus
from tickmesh.services.epochs import BUCKET, PREFIX
from tickmesh.strategy.desk import Desk
from tickmesh.strategy.ledger import LedgerState

log = logging.getLogger(__name__)

MAX_STATE_BYTES = 256 * 1024


class Checkpoint(msgspec.Struct, kw_only=True):
    """A strategy at rest; fields are only appended."""

    name: str
    account: str = ""
    venue: str = ""
    epoch: int = 0
    journal_seq: int = 0
    mode: Mode = Mode.LIVE
    live: LedgerState = msgspec.field(default_factory=LedgerState)
    paper: LedgerState = msgspec.field(default_factory=LedgerState)
    paper_trade_id: int = 1
    plugin_state: dict[str, Any] = {}
    resource_mode: Mode = Mode.LIVE


def checkpoint_of(desk: Desk) -> bytes:
    """Take a picture of a desk; a plugin whose state is no plain data is noted by its guard and saved without."""
    state = desk.guard.state()
    checkpoint = Checkpoint(
        name=desk.name, account=desk.account, venue=desk.venue, epoch=desk.epoch, journal_seq=desk.journal_seq,
        mode=desk.mode, live=desk.live.save(), paper=desk.paper.save(), paper_trade_id=desk.paper_venue.next_trade_id,
        resource_mode=desk.plan.spec.mode,
    )  # fmt: skip
    checkpoint.paper.orders = []  # the paper venue dies with the process, and its open orders with it
    try:
        if len(msgspec.json.encode(state)) <= MAX_STATE_BYTES:
            checkpoint.plugin_state = state
        else:
            log.warning("%s: get_state gave more than %d bytes; not saved", desk.name, MAX_STATE_BYTES)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        log.warning("%s: get_state gave what is not plain data (%s); not saved", desk.name, error)
    return msgspec.json.encode(checkpoint)


def restore(desk: Desk, checkpoint: Checkpoint, now_mono_ns: int) -> None:
    """Fill a new desk; the plugin's own state last, when its positions are known."""
    desk.journal_seq = checkpoint.journal_seq
    if checkpoint.resource_mode is desk.plan.spec.mode:
        desk.mode = checkpoint.mode  # perhaps set by a command since; an edit of the resource overrules it
    desk.live.load(checkpoint.live, now_mono_ns)
    desk.paper.load(checkpoint.paper, now_mono_ns)
    desk.paper_venue.next_trade_id = checkpoint.paper_trade_id
    if checkpoint.plugin_state:
        desk.guard.call("restore", checkpoint.plugin_state)


def take_over(desk: Desk, checkpoint: Checkpoint, now_mono_ns: int) -> None:
    """Give a desk that stood by what only its predecessor knew: orders on their way, paper, plugin state, mode."""
    if checkpoint.resource_mode is desk.plan.spec.mode:
        desk.mode = checkpoint.mode
    desk.live.absorb(checkpoint.live, now_mono_ns)
    desk.paper.load(checkpoint.paper, now_mono_ns)
    desk.paper_venue.next_trade_id = checkpoint.paper_trade_id
    if checkpoint.plugin_state:
        desk.guard.call("restore", checkpoint.plugin_state)


async def read(bus: Bus, name: str) -> Checkpoint | None:
    """One strategy's checkpoint; None when there is none that can be read."""
    entry = await (await bus.kv(BUCKET)).get(PREFIX + name)
    if entry is None or not entry.value:
        return None
    try:
        return msgspec.json.decode(entry.value, type=Checkpoint)
    except msgspec.MsgspecError as error:
        log.error("checkpoint %s cannot be read (%s); its strategy starts from the journal", name, error)
        return None


async def read_all(bus: Bus) -> dict[str, Checkpoint]:
    """Every strategy's checkpoint by name; one that cannot be read is reported and the journal told from its start."""
    bucket = await bus.kv(BUCKET)
    found: dict[str, Checkpoint] = {}
    for key in await bucket.keys():
        if not key.startswith(PREFIX) or "." in key.removeprefix(PREFIX):
            continue  # not a strategy's, or a pod's that runs a shard
        entry = await bucket.get(key)
        if entry is None or not entry.value:
            continue
        try:
            found[key.removeprefix(PREFIX)] = msgspec.json.decode(entry.value, type=Checkpoint)
        except msgspec.MsgspecError as error:
            log.error("checkpoint %s cannot be read (%s); its strategy starts from the journal", key, error)
    return found


async def write(bus: Bus, name: str, picture: bytes) -> None:
    """Store a picture. Raises DependencyError; repeating is safe."""
    await (await bus.kv(BUCKET)).put(PREFIX + name, picture)


async def delete(bus: Bus, name: str) -> None:
    """Forget a strategy that is gone and holds nothing."""
    await (await bus.kv(BUCKET)).delete(PREFIX + name)
