"""The shared-memory ring between processes of one machine: its writer, its readers, and how a reader waits.

In: ``RingWriter.publish(subject, payload)`` in the feed. Out: the same messages in order at every reader: handed to
a handler (``run``), as an async iterator (``messages``) or by busy poll (``poll``, ``poll_reader``). The writer never
waits: a reader that is too slow loses the oldest and is told how many. It is not a store; JetStream gets the same
messages beside it.

Waiting: a reader drains in batches, one loop iteration each. When the ring is empty it may spin for ``spin_us``,
then it raises its flag in the header, looks once more, and sleeps on its bell, which the writer rings only if the
flag is up: no system call per message while a reader keeps up, no busy core while nothing happens. A timer of a few
milliseconds covers a bell that was lost to a crash. Decision record 0042.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from tickmesh import hotpath
from tickmesh.bus.ring_file import Attached, attach, bell_path, create, map_reader, ring_paths
from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.hotpath.pure import ring

log = logging.getLogger(__name__)

Handle = Callable[[str, bytes], None]

INTENTS = "intents"
"""Name of the ring that carries intents from strategy to execution; market data has the default name."""

SPIN_US = 3_600_000_000
"""``spin_us`` of a reader that never sleeps."""
_ATTACH_S = 0.1
_BATCH = 256


class RingWriter:
    """Creates or takes over the ring and publishes to it; one per ring and machine.

    Raises:
        ConfigError: another process is its writer, or there is room for it nowhere.
    """

    def __init__(self, data_dir: str | Path, name: str = "md", *, slots: int = 16_384, slot_bytes: int = 1024) -> None:
        self._bells: dict[int, int] = {}
        failures: list[str] = []
        for path in ring_paths(data_dir, name):
            try:
                self._fd = create(path, ring.ring_bytes(slots, slot_bytes))
            except BlockingIOError:
                raise ConfigError(f"the ring {path} has a writer already; stop the other feed of {data_dir}") from None
            except OSError as error:
                failures.append(f"{path}: {error.strerror}")
                continue
            self.path = path
            break
        else:
            raise ConfigError(f"no room for the ring ({'; '.join(failures)}); free space or lower feed.ring_slots")
        self._map = mmap.mmap(self._fd, ring.ring_bytes(slots, slot_bytes))
        self._ring = hotpath.RingWriter(
            memoryview(self._map), slots, slot_bytes, generation=time.time_ns(), pid=os.getpid()
        )

    @property
    def written(self) -> int:
        return self._ring.written

    @property
    def room(self) -> int:
        """Bytes that subject and payload of one message may have together."""
        return self._ring.room

    def publish(self, subject: str, payload: bytes) -> None:
        """Write one message and wake the readers that sleep. Raises ValueError when it does not fit a slot."""
        self._ring.write(subject, payload)
        sleepers = self._ring.sleepers()
        if sleepers:
            self._wake(sleepers)

    def close(self) -> None:
        """Say good-bye to the readers and remove the file; they keep what they have mapped until they are done."""
        self._ring.close()
        self._wake(self._ring.sleepers())
        for bell in range(ring.MAX_BELLS):
            bell_path(self.path, bell).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let go of the ring and leave it where it is: a successor goes on with its sequence, readers stay."""
        for fd in self._bells.values():
            os.close(fd)
        self._bells.clear()
        self._ring.release()
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self._fd)

    def _wake(self, sleepers: int) -> None:
        for bell in range(ring.MAX_BELLS):
            if sleepers >> (8 * bell) & 0xFF:
                self._ring.woken(bell)
                self._ring_bell(bell)

    def _ring_bell(self, bell: int) -> None:
        try:
            fd = self._bells.get(bell)
            if fd is None:
                fd = self._bells[bell] = os.open(bell_path(self.path, bell), os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"!")
        except BlockingIOError:
            pass  # the pipe is full of rings: the reader is awake or about to be
        except OSError:
            # Its reader died (EPIPE, ENXIO) or took the FIFO away (ENOENT); the next one opens it anew.
            stale = self._bells.pop(bell, None)
            if stale is not None:
                os.close(stale)


class RingReader:
    """Follows a ring across restarts of its writer; for one task or thread.

    ``lost`` counts messages that were overwritten before we read them, ``restarts`` the writer's new lives.
    ``on_lost`` is called with each new number of lost messages.
    """

    def __init__(
        self,
        data_dir: str | Path,
        name: str = "md",
        *,
        spin_us: int = 0,
        on_lost: Callable[[int], None] | None = None,
    ) -> None:
        self._paths = ring_paths(data_dir, name)
        self._spin_ns = spin_us * 1000
        self._on_lost = on_lost
        self.received = 0
        self.lost = 0
        self.restarts = 0
        self.handler_errors = 0
        self._attached: Attached | None = None
        self._seen = False
        self._idle_since_ns = 0

    @property
    def attached(self) -> bool:
        return self._attached is not None

    def poll(self) -> tuple[str, bytes] | None:
        """The next (subject, payload) without waiting; None when there is none, or no ring yet."""
        here = self._attached
        if here is None:
            if not self._attach():
                return None
            here = self._attached
            assert here is not None
        taken = here.reader.read()
        if taken is None:
            self._look_around(here)
            return None
        if taken.lost:
            self._lose(taken.lost)
        if not taken.subject:
            return None
        self.received += 1
        return taken.subject, taken.payload

    async def run(self, handler: Handle, stopping: asyncio.Event) -> None:
        """Hand every message to ``handler``, in order, until ``stopping`` is set.

        The handler runs in the event loop and must not block. One that raises is logged and counted, and its
        message skipped. While there is no ring yet, or its file was replaced, this waits and attaches again.
        """
        stop = asyncio.create_task(stopping.wait())
        try:
            while not stop.done():
                if not self._drain(handler):
                    await self._idle(stop, lambda: self._drain(handler))
                else:
                    self._idle_since_ns = 0
                    await asyncio.sleep(0)
        finally:
            stop.cancel()
            self.close()

    async def messages(self, stopping: asyncio.Event | None = None) -> AsyncIterator[tuple[str, bytes]]:
        """Every (subject, payload), for ever or until ``stopping`` is set."""
        stop = asyncio.create_task((stopping or asyncio.Event()).wait())
        in_a_row = 0
        try:
            while not stop.done():
                message = self.poll()
                if message is None:
                    await self._idle(stop)
                    in_a_row = 0
                    continue
                self._idle_since_ns = 0
                yield message
                in_a_row += 1
                if in_a_row >= _BATCH:
                    in_a_row = 0
                    await asyncio.sleep(0)
        finally:
            stop.cancel()
            self.close()

    def close(self) -> None:
        """Let go of the ring; ``poll`` would attach anew."""
        if self._attached is not None:
            self._attached.close()
            self._attached = None

    def _attach(self) -> bool:
        self._attached = attach(self._paths, from_oldest=self._seen)
        if self._attached is None:
            return False
        if self._seen:
            self.restarts += 1
        self._seen = True
        return True

    def _drain(self, handler: Handle) -> bool:
        """Handle up to a batch; whether there may be more."""
        for _ in range(_BATCH):
            message = self.poll()
            if message is None:
                return False
            try:
                handler(*message)
            except Exception:
                # One broken message or handler must not end the market data of a whole process.
                self.handler_errors += 1
                log.exception("the ring's handler failed on %s; the message is skipped", message[0])
        return True

    async def _idle(self, stop: asyncio.Task[bool], on_bell: Callable[[], object] | None = None) -> None:
        """Nothing to read: spin, or sleep on the bell; without a ring, wait a moment."""
        here = self._attached
        if here is None:
            await asyncio.wait([stop], timeout=_ATTACH_S)
            return
        now_ns = time.monotonic_ns()
        self._idle_since_ns = self._idle_since_ns or now_ns
        if now_ns - self._idle_since_ns < self._spin_ns:
            await asyncio.sleep(0)
        else:
            here.on_bell = on_bell
            await here.sleep()

    def _look_around(self, here: Attached) -> None:
        """Nothing to read: is there another writer, or another file?"""
        if here.reader.restarted():
            self.restarts += 1
        if here.replaced(time.monotonic_ns()):
            self.close()

    def _lose(self, count: int) -> None:
        self.lost += count
        log.warning("the ring's reader was too slow and lost %d messages", count)
        if self._on_lost is not None:
            self._on_lost(count)


@contextlib.contextmanager
def poll_reader(data_dir: str | Path, name: str = "md", *, timeout_s: float = 5.0) -> Iterator[hotpath.RingReader]:
    """The bare reader for a thread or process that spins; its ``read`` is a few loads when there is nothing.

    Raises:
        DependencyError: there is no ring within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while (found := map_reader(ring_paths(data_dir, name), from_oldest=False)) is None:
        if time.monotonic() > deadline:
            raise DependencyError("feed", f"there is no ring {name!r} of {data_dir}; is the feed's transport shm?")
        time.sleep(0.01)
    _, fd, reader, mapped = found
    try:
        yield reader
    finally:
        reader.release()
        with contextlib.suppress(BufferError):
            mapped.close()
        os.close(fd)
