"""SimBus: the Bus port over a bad connection to the simulated NATS server.

In: what one process publishes, asks and acknowledges, each after a delay or never. Out: deliveries into its callbacks.
Messages may be stored without the sender learning of it, be delivered again after minutes, and arrive late from a
buffer.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from random import Random
from typing import Any, TypeVar

from tickmesh.bus.memory import matches
from tickmesh.domain.errors import DependencyError
from tickmesh.ports.bus import DurableMessage, Handler, KvEntry
from tickmesh.runtime.simulation.nats import Durable, Line, NatsServer
from tickmesh.runtime.simulation.world import MS, Process, S, World

_T = TypeVar("_T")


class SimMessage:
    """A DurableMessage."""

    def __init__(self, bus: SimBus, durable: str, line: Line, redelivered: bool) -> None:
        self._bus = bus
        self._durable = durable
        self.subject = line.subject
        self.data = line.data
        self.headers: Mapping[str, str] = {}
        self.stream_seq = line.seq
        self.redelivered = redelivered
        self.pending = 0

    async def ack(self) -> None:
        self._answer(None)

    async def nak(self, delay_s: float = 0.0) -> None:
        self._answer(delay_s)

    async def term(self) -> None:
        self._answer(None)

    def _answer(self, delay_s: float | None) -> None:
        server, name, seq = self._bus.server, self._durable, self.stream_seq
        self._bus.send(lambda: server.settle(name, seq, delay_s))


class _Undo:
    def __init__(self, undo: Callable[[], object]) -> None:
        self._undo = undo

    async def unsubscribe(self) -> None:
        self._undo()


class SimBus:
    """The Bus port of one process. ``cut`` and ``restore`` are the network's doing."""

    def __init__(self, world: World, server: NatsServer, process: Process) -> None:
        self.world = world
        self.server = server
        self.process = process
        self.backlog_bytes = 0
        self.cut = False
        """Nothing passes in either direction; neither side is told."""
        self.heard: Callable[[str, bytes], None] = lambda _subject, _data: None
        self.first_read_ns: dict[str, int] = {}
        """When this process read a stream back for the first time."""
        self._last_up_ns = 0
        self._last_down_ns = 0
        self._buffer: list[tuple[bool, Callable[[], None]]] = []
        self._inboxes: dict[str, deque[SimMessage]] = defaultdict(deque)
        self._arrived: dict[str, asyncio.Event] = {}
        self._chance = Random(f"pulls {world.seed} {process.name} {process.life}")
        self._pulls_ns: dict[str, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        process.on_death.append(self._die)

    def _die(self) -> None:
        self.server.forget(self)
        if self.cut or self.world.random.random() < 0.5:
            self._buffer.clear()

    @property
    def reachable(self) -> bool:
        return self.process.alive and not self.cut and self.server.up

    @property
    def connected(self) -> bool:
        return self.process.alive and self.server.up

    def pulls(self, durable: str) -> int:
        """From when on this process pulls again: each consumer notices by itself that its pull was lost."""
        return self._pulls_ns.get(durable, 0)

    def restore(self) -> None:
        """The network is back: what waited in our buffer travels, or part of it was lost with the connection."""
        self.cut = False
        waiting, self._buffer = self._buffer, []
        lost = self.world.random.randrange(len(waiting) + 1) if waiting and self.world.random.random() < 0.5 else 0
        for number, (kept, action) in enumerate(waiting):
            if kept or number >= lost:
                self.send(action, kept=kept)
        now_ns = self.world.now_ns
        self._pulls_ns = {name: now_ns + self._chance.choice((0, 1, 6)) * S // 2 for name in self._inboxes}
        self.world.after(0.01, self.server.pump)

    # Towards the server, in order.

    def send(self, action: Callable[[], None], *, kept: bool = False) -> None:
        """Carry out ``action`` at the server after a delay, in order; buffered while the network is away.

        What is ``kept`` is never lost: the client repeats its subscriptions on every new connection.
        """
        if not self.process.alive:
            return
        if self.cut or not self.server.up:
            self._buffer.append((kept, action))
            return
        random = self.world.random
        delay_ns = int(random.uniform(0.05, 0.6) * MS) if random.random() < 0.98 else int(random.uniform(1, 80) * MS)
        self._last_up_ns = max(self._last_up_ns + 1, self.world.now_ns + delay_ns)

        def arrive() -> None:
            if self.cut or not self.server.up:
                self._buffer.append((kept, action))
            else:
                action()

        self.world.at(self._last_up_ns, arrive)

    # Towards the process, in order.

    def arrive(self, function: Callable[..., object], *arguments: Any) -> None:
        random = self.world.random
        delay_ns = int(random.uniform(0.05, 0.6) * MS) if random.random() < 0.98 else int(random.uniform(1, 80) * MS)
        self._last_down_ns = max(self._last_down_ns + 1, self.world.now_ns + delay_ns)

        def deliver() -> None:
            if not self.cut:
                self.process.call(function, *arguments)

        if not self.cut:
            self.world.at(self._last_down_ns, deliver)

    def deliver_core(self, handler: Handler, subject: str, data: bytes) -> None:
        if self.reachable:
            self.arrive(self._handle, handler, subject, data)

    def _handle(self, handler: Handler, subject: str, data: bytes) -> None:
        result = handler(subject, data)
        self.heard(subject, data)
        if inspect.isawaitable(result):
            self._spawn(result)

    def deliver_durable(self, name: str, line: Line, redelivered: bool) -> None:
        def take() -> None:
            self._inboxes[name].append(SimMessage(self, name, line, redelivered))
            self._arrived[name].set()

        self.arrive(take)

    # The port.

    def publish(self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        self.send(lambda: void(self.server.publish(subject, payload)))

    async def publish_durable(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
    ) -> int:  # fmt: skip
        return await self._ask(
            lambda: self.server.publish(subject, payload, message_id, self.process), timeout_s, subject
        )

    async def _ask(self, work: Callable[[], _T], timeout_s: float, what: str) -> _T:
        """A request: lost on the way there or on the way back, it times out and may have been carried out."""
        future: asyncio.Future[_T] = self.process.loop.create_future()

        def answer(result: _T) -> None:
            if not future.done():
                future.set_result(result)

        def at_server() -> None:
            result = work()
            if self.reachable:
                self.arrive(answer, result)

        self.send(at_server)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise DependencyError("nats", f"{what} was not answered within {timeout_s:g} s") from None

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> _Undo:
        entry = (subject, self, handler)
        self.send(lambda: self.server.subscribers.append(entry), kept=True)

        def remove() -> None:
            self.server.subscribers = [s for s in self.server.subscribers if s is not entry]

        return _Undo(lambda: self.send(remove))

    async def consume(
        self, stream: str, durable: str, handler: Callable[[DurableMessage], Awaitable[None]], *,
        filter_subjects: tuple[str, ...] = (), batch: int = 256, max_ack_pending: int = 10_000,
        ack_wait_s: float = 30.0,
    ) -> _Undo:  # fmt: skip
        durable = f"{stream} {durable}"  # the name is unique within its stream
        self._arrived[durable] = asyncio.Event()

        def open_consumer() -> None:
            found = self.server.durables.setdefault(durable, Durable(stream, filter_subjects, ack_wait_s))
            if self not in found.pullers and self.process.alive:
                found.pullers.append(self)
            self.server.pump()

        self.send(open_consumer, kept=True)

        async def run() -> None:
            inbox, arrived = self._inboxes[durable], self._arrived[durable]
            while True:
                while inbox:
                    message = inbox.popleft()
                    await handler(message)
                    self.heard(message.subject, message.data)
                arrived.clear()
                await arrived.wait()

        return _Undo(self._spawn(run()).cancel)

    async def consume_batches(self, *arguments: Any, **keys: Any) -> _Undo:
        raise NotImplementedError("no simulated service consumes in batches")

    async def replay(
        self, stream: str, *, filter_subject: str = ">", start_seq: int = 1, newest: int = 0
    ) -> AsyncIterator[tuple[str, bytes, int]]:
        lines = await self._ask(lambda: self._read(stream), 5.0, f"reading {stream}")
        for number, line in enumerate(lines):
            if line.seq >= start_seq and matches(filter_subject, line.subject):
                if number % 64 == 63:
                    await asyncio.sleep(0)
                yield line.subject, line.data, line.seq

    def _read(self, stream: str) -> list[Line]:
        self.first_read_ns.setdefault(stream, self.world.now_ns)
        return list(self.server.streams[stream])

    async def last(self, stream: str, subject: str) -> bytes | None:
        lines = await self._ask(lambda: list(self.server.streams[stream]), 5.0, f"reading {stream}")
        return next((line.data for line in reversed(lines) if line.subject == subject), None)

    async def last_of_each(self, stream: str, filter_subject: str) -> list[tuple[str, bytes, int]]:
        lines = await self._ask(lambda: list(self.server.streams[stream]), 5.0, f"reading {stream}")
        found = {line.subject: line for line in lines if matches(filter_subject, line.subject)}
        return [(line.subject, line.data, line.seq) for line in found.values()]

    async def request(self, subject: str, payload: bytes, *, timeout_s: float = 1.0) -> bytes:
        raise DependencyError(subject, f"nobody answers on {subject}")

    async def respond(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[bytes]], *, queue: str = ""
    ) -> _Undo:
        return _Undo(lambda: None)

    async def kv(self, bucket: str) -> SimKeyValue:
        return SimKeyValue(self, bucket)

    async def flush(self, timeout_s: float = 2.0) -> None:
        await self._ask(lambda: None, timeout_s, "flush")

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask_kv(self, work: Callable[[], _T]) -> _T:
        return await self._ask(work, 5.0, "a bucket")

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[Any]:
        async def run() -> None:
            await work

        task = self.process.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class SimKeyValue:
    """A bucket, asked over the connection."""

    def __init__(self, bus: SimBus, bucket: str) -> None:
        self._bus = bus
        self._bucket = bucket

    async def get(self, key: str) -> KvEntry | None:
        entries = self._bus.server.buckets[self._bucket]
        entry = await self._bus._ask_kv(lambda: entries.get(key))
        return entry if entry is not None and entry.value is not None else None

    async def put(self, key: str, value: bytes) -> int:
        return (
            await self._bus._ask_kv(lambda: self._bus.server.put(self._bucket, key, value, None, self._bus.process))
            or 0
        )

    async def create(self, key: str, value: bytes) -> int | None:
        return await self.update(key, value, 0)

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        return await self._bus._ask_kv(
            lambda: self._bus.server.put(self._bucket, key, value, revision, self._bus.process)
        )

    async def delete(self, key: str) -> None:
        await self._bus._ask_kv(lambda: self._bus.server.put(self._bucket, key, None))

    async def keys(self) -> list[str]:
        entries = self._bus.server.buckets[self._bucket]
        return await self._bus._ask_kv(lambda: [k for k, e in entries.items() if e.value is not None])

    async def watch(self, key: str = ">") -> AsyncIterator[KvEntry]:
        """Every current value, then every change; what a partition swallowed is told when it is over."""
        arrived, queue = asyncio.Event(), deque[KvEntry]()

        def tell(entry: KvEntry) -> None:
            queue.append(entry)
            arrived.set()

        server, bucket, bus = self._bus.server, self._bucket, self._bus

        def open_watch() -> None:
            server.watchers.append((bucket, key, bus, tell))
            for name, entry in list(server.buckets[bucket].items()):
                if matches(key, name):
                    bus.arrive(tell, entry)

        seen = 0
        self._bus.send(open_watch, kept=True)
        while True:
            while queue:
                entry = queue.popleft()
                if entry.revision > seen:
                    seen = entry.revision
                    yield entry
            arrived.clear()
            try:
                async with asyncio.timeout(6.0):
                    await arrived.wait()
            except TimeoutError:
                # As the real watch after missed heartbeats: made again, old values are told once more and skipped.
                server.watchers[:] = [w for w in server.watchers if w[3] is not tell]
                self._bus.send(open_watch, kept=True)


def void(_: object) -> None:
    """Drop a result."""
