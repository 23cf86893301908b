"""The simulated NATS server: streams, durable consumers and buckets, which survive it; connections do not.

In: what connections (``simulation.bus``) publish, ask and acknowledge. Out: deliveries, at least once for durable
consumers, at most once for core subscribers. It keeps what JetStream promises and not more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from tickmesh.bus.memory import matches
from tickmesh.domain.lease import LeaseRecord
from tickmesh.ports.bus import Handler, KvEntry
from tickmesh.runtime.simulation.world import Process, S, World

if TYPE_CHECKING:
    from tickmesh.runtime.simulation.bus import SimBus

STREAMS = {
    "MD": ("md.>",), "INTENTS": ("order.intent.>",), "ORDERS": ("order.event.>", "fill.>"), "ACCOUNT": ("account.>",),
    "CTL": ("ctl.>",), "ALERTS": ("alert.>",),
}  # fmt: skip
_DUPLICATE_WINDOW_NS = 120 * S


@dataclass(slots=True)
class Line:
    """One stored message."""

    subject: str
    data: bytes
    seq: int
    time_ns: int
    by: list[Process] = field(default_factory=list)
    """Who said it, those included whose message was a duplicate."""


@dataclass(slots=True)
class Durable:
    """A durable consumer: how far it has got, and what waits for an answer until when."""

    stream: str
    filters: tuple[str, ...]
    ack_wait_s: float
    next_seq: int = 1
    waiting: dict[int, int] = field(default_factory=dict)
    deliveries: dict[int, int] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    pullers: list[SimBus] = field(default_factory=list)


class NatsServer:
    """Streams survive a restart of the server (file, synced); connections do not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = True
        self.streams: dict[str, list[Line]] = {name: [] for name in STREAMS}
        self.subscribers: list[tuple[str, SimBus, Handler]] = []
        self.durables: dict[str, Durable] = {}
        self.buckets: dict[str, dict[str, KvEntry]] = defaultdict(dict)
        self.revisions: dict[str, int] = defaultdict(int)
        self.watchers: list[tuple[str, str, SimBus, Callable[[KvEntry], None]]] = []
        self.lease_writer: Process | None = None
        """Who wrote the lease last: the one writer there may be."""
        self.writer_since_ns = 0
        """When it became that, or took it anew after it had lapsed."""
        self._lease_epoch = 0
        self.on_stored: Callable[[str, Line], None] = lambda _stream, _line: None
        self._message_ids: dict[str, tuple[int, int]] = {}
        self._last_seq: dict[str, int] = dict.fromkeys(STREAMS, 0)

    # Streams.

    def publish(self, subject: str, data: bytes, message_id: str = "", by: Process | None = None) -> int:
        """Capture and fan out; returns the stream sequence, 0 when no stream captures the subject."""
        seen = self._message_ids.get(message_id) if message_id else None
        if seen is not None and self.world.now_ns - seen[1] < _DUPLICATE_WINDOW_NS:
            for line in self.streams["ORDERS"]:
                if line.seq == seen[0] and by is not None:
                    line.by.append(by)
            return seen[0]
        seq = 0
        for stream, patterns in STREAMS.items():
            if any(matches(p, subject) for p in patterns):
                lines = self.streams[stream]
                seq = self._last_seq[stream] = self._last_seq[stream] + 1
                line = Line(subject, data, seq, self.world.now_ns, [by] if by is not None else [])
                lines.append(line)
                if stream == "MD" and len(lines) > 400:
                    del lines[:200]
                self.on_stored(stream, line)
        if message_id:
            self._message_ids[message_id] = (seq, self.world.now_ns)
        for pattern, bus, handler in list(self.subscribers):
            if matches(pattern, subject):
                bus.deliver_core(handler, subject, data)
        self.pump()
        return seq

    def pump(self) -> None:
        """Hand what is due to pullers: new lines, and lines whose answer did not come in time."""
        for name, durable in self.durables.items():
            now = self.world.now_ns
            pullers = [bus for bus in durable.pullers if bus.reachable and bus.pulls(name) <= now]
            if not pullers:
                continue
            for line in self.streams[durable.stream][:]:
                if line.seq in durable.settled or durable.waiting.get(line.seq, 0) > now:
                    continue
                if line.seq not in durable.waiting and line.seq < durable.next_seq:
                    continue
                if durable.filters and not any(matches(f, line.subject) for f in durable.filters):
                    continue
                durable.next_seq = max(durable.next_seq, line.seq + 1)
                durable.waiting[line.seq] = now + int(durable.ack_wait_s * S)
                durable.deliveries[line.seq] = durable.deliveries.get(line.seq, 0) + 1
                bus = pullers[0] if len(pullers) == 1 else self.world.random.choice(pullers)
                bus.deliver_durable(name, line, durable.deliveries[line.seq] > 1)

    def settle(self, name: str, seq: int, delay_s: float | None) -> None:
        """An answer: None settles for good, else again after ``delay_s``."""
        durable = self.durables.get(name)
        if durable is None:
            return
        if delay_s is not None:
            if seq not in durable.settled:
                durable.waiting[seq] = self.world.now_ns + int(delay_s * S)
            return
        durable.waiting.pop(seq, None)
        durable.settled.add(seq)
        if durable.stream == "INTENTS":
            lines = self.streams["INTENTS"]
            lines[:] = [line for line in lines if line.seq != seq]

    # Buckets.

    def put(
        self, bucket: str, key: str, value: bytes | None, revision: int | None = None, by: Process | None = None
    ) -> int | None:
        """Store; with ``revision`` only if it is the key's latest (0: absent)."""
        entries = self.buckets[bucket]
        known = entries.get(key)
        if revision is not None:
            latest = known.revision if known is not None and known.value is not None else 0
            if latest != revision:
                return None
        self.revisions[bucket] += 1
        if bucket == "leases" and value is not None:
            epoch = msgspec.json.decode(value, type=LeaseRecord).epoch
            if by is not self.lease_writer or epoch != self._lease_epoch:
                self.lease_writer, self.writer_since_ns, self._lease_epoch = by, self.world.now_ns, epoch
        entry = entries[key] = KvEntry(bucket, key, value, self.revisions[bucket])
        for watched, pattern, bus, tell in list(self.watchers):
            if watched == bucket and matches(pattern, key):
                bus.arrive(tell, entry)
        return entry.revision

    def forget(self, bus: SimBus) -> None:
        """A connection is gone."""
        self.subscribers = [s for s in self.subscribers if s[1] is not bus]
        self.watchers = [w for w in self.watchers if w[2] is not bus]
        for durable in self.durables.values():
            if bus in durable.pullers:
                durable.pullers.remove(bus)
