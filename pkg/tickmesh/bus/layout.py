"""The JetStream layout, declared once: streams, their limits, and the key-value buckets.

``apply`` makes what is missing, corrects what drifted and reports it; it is safe to run from every
service at every start. Fields follow ARCHITECTURE.md section 3.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    KeyValueConfig,
    PersistMode,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, BucketNotFoundError, NotFoundError

log = logging.getLogger(__name__)

_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream. ``durable_order`` marks the journals: file, replicated, every write synced before the ack."""

    name: str
    subjects: tuple[str, ...]
    max_age_s: float
    max_bytes: int
    storage: StorageType = StorageType.FILE
    retention: RetentionPolicy = RetentionPolicy.LIMITS
    discard: DiscardPolicy = DiscardPolicy.OLD
    max_msgs_per_subject: int = -1
    duplicate_window_s: float = 120.0
    durable_order: bool = False

    def config(self, replicas: int) -> StreamConfig:
        return StreamConfig(
            name=self.name,
            subjects=list(self.subjects),
            retention=self.retention,
            discard=self.discard,
            storage=self.storage,
            max_age=self.max_age_s,
            max_bytes=self.max_bytes,
            max_msgs_per_subject=self.max_msgs_per_subject,
            num_replicas=replicas,
            duplicate_window=min(self.duplicate_window_s, self.max_age_s or self.duplicate_window_s),
            allow_direct=True,
            # Only the journals pay for an fsync per message; a replicated stream cannot be async.
            persist_mode=PersistMode.ASYNC
            if replicas == 1 and self.storage is StorageType.FILE and not self.durable_order
            else None,
        )


STREAMS: tuple[StreamSpec, ...] = (
    StreamSpec(
        "MD",
        ("md.>",),
        60.0,
        256 * _MIB,
        storage=StorageType.MEMORY,
        max_msgs_per_subject=50_000,
        duplicate_window_s=1.0,
    ),
    StreamSpec("SIGNALS", ("signal.>",), 7 * _DAY_S, 1024 * _MIB),
    StreamSpec(
        "INTENTS",
        ("order.intent.>",),
        _DAY_S,
        1024 * _MIB,
        retention=RetentionPolicy.WORK_QUEUE,
        durable_order=True,
    ),
    StreamSpec("ORDERS", ("order.event.>", "fill.>"), 90 * _DAY_S, 8192 * _MIB, durable_order=True),
    StreamSpec("ACCOUNT", ("account.>",), 7 * _DAY_S, 1024 * _MIB, max_msgs_per_subject=100_000),
    StreamSpec("COPY", ("copy.trade.>",), _DAY_S, 256 * _MIB, retention=RetentionPolicy.WORK_QUEUE),
    StreamSpec("CTL", ("ctl.>",), 28 * _DAY_S, 64 * _MIB),
    StreamSpec("ALERTS", ("alert.>",), 28 * _DAY_S, 256 * _MIB),
    StreamSpec("AUDIT", ("audit.>",), 0.0, 8192 * _MIB),
)

BUCKETS: tuple[str, ...] = ("config", "limits", "breakers", "leases", "checkpoints", "strategies", "budgets")
BUCKET_HISTORY = 8
BUCKET_TTL_S = {"budgets": 3600.0}
"""What a process knew of the venue's counters is of no use to anybody later."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One stream or bucket that is not as declared; ``fields`` is empty when it is not there at all."""

    stream: str
    fields: tuple[str, ...]
    trouble: str = ""

    def __str__(self) -> str:
        if not self.fields:
            return f"stream {self.stream} is not there"
        if self.trouble:
            return f"stream {self.stream} differs in {', '.join(self.fields)} and cannot be corrected: {self.trouble}"
        return f"stream {self.stream} had drifted in {', '.join(self.fields)}; corrected"


async def apply(js: JetStreamContext, *, replicas: int = 1, timeout_s: float = 30.0) -> list[str]:
    """Make the server hold this layout; returns one sentence per stream that had drifted.

    Several services may do this at once: a stream that appears meanwhile is not an error.
    """
    drift: list[Drift] = []
    async with asyncio.timeout(timeout_s):
        for spec in STREAMS:
            drift += await _apply_stream(js, spec.config(replicas))
        for bucket in BUCKETS:
            try:
                await js.key_value(bucket)
            except (BucketNotFoundError, NotFoundError):
                await js.create_key_value(
                    KeyValueConfig(
                        bucket=bucket, history=BUCKET_HISTORY, replicas=replicas, ttl=BUCKET_TTL_S.get(bucket)
                    )
                )
            else:
                drift += await _apply_bucket(js, bucket, replicas)
    for found in drift:
        log.warning("%s", found)
    return [str(found) for found in drift]


async def compare(js: JetStreamContext, *, replicas: int = 1, timeout_s: float = 30.0) -> list[Drift]:
    """What the server holds otherwise than declared; changes nothing."""
    drift: list[Drift] = []
    async with asyncio.timeout(timeout_s):
        for name, want in declared(replicas).items():
            try:
                fields = _different((await js.stream_info(name)).config, want)
            except NotFoundError:
                drift.append(Drift(name, ()))
                continue
            if fields:
                drift.append(Drift(name, fields, "not tried"))
    return drift


def declared(replicas: int) -> dict[str, StreamConfig]:
    """Every stream by name; a bucket is one, of which only what is ours to choose is set."""
    streams = {spec.name: spec.config(replicas) for spec in STREAMS}
    buckets = {
        f"KV_{bucket}": StreamConfig(
            max_msgs_per_subject=BUCKET_HISTORY, num_replicas=replicas, max_age=BUCKET_TTL_S.get(bucket, 0.0)
        )
        for bucket in BUCKETS
    }
    return streams | buckets


async def _apply_stream(js: JetStreamContext, want: StreamConfig) -> list[Drift]:
    assert want.name is not None
    try:
        have = (await js.stream_info(want.name)).config
    except NotFoundError:
        try:
            await js.add_stream(want)
        except APIError as error:
            if error.err_code != 10058:  # the name is taken: another service made it just now
                raise
        return []
    return await _correct(js, want.name, _different(have, want), want)


async def _apply_bucket(js: JetStreamContext, bucket: str, replicas: int) -> list[Drift]:
    name = f"KV_{bucket}"
    have = (await js.stream_info(name)).config
    want = declared(replicas)[name]
    fields = _different(have, want)
    have.num_replicas, have.max_msgs_per_subject, have.max_age = replicas, BUCKET_HISTORY, want.max_age
    return await _correct(js, name, fields, have)


async def _correct(js: JetStreamContext, name: str, fields: tuple[str, ...], want: StreamConfig) -> list[Drift]:
    if not fields:
        return []
    try:
        await js.update_stream(want)
        return [Drift(name, fields)]
    except (APIError, NatsError) as error:
        return [Drift(name, fields, str(error))]


def _different(have: StreamConfig, want: StreamConfig) -> tuple[str, ...]:
    if want.subjects is None:  # a bucket
        watched: tuple[str, ...] = ("max_msgs_per_subject", "num_replicas")
    else:
        watched = ("subjects", "retention", "discard", "storage", "max_bytes", "max_msgs_per_subject", "num_replicas")
    different = [name for name in watched if getattr(have, name) != getattr(want, name)]
    if abs((have.max_age or 0) - (want.max_age or 0)) > 1:
        different.append("max_age")
    if want.subjects is not None and have.persist_mode == PersistMode.ASYNC and want.persist_mode != PersistMode.ASYNC:
        different.append("persist_mode")
    return tuple(different)
