"""The shared-memory ring between processes of one machine: files, mapping, and how a reader waits.

In: ``RingWriter.publish(subject, payload)`` in the feed. Out: ``RingReader.run(handler, stopping)`` in a
strategy, the same messages in order. The writer never waits: a reader that is too slow loses the oldest and is
told how many. It is not a store; JetStream gets the same messages beside it.

Waiting: a reader drains in batches, one loop iteration each. When the ring is empty it may spin for ``spin_us``,
then it raises its flag in the header, looks once more, and sleeps on a FIFO (its "bell") which the writer rings
only if the flag is up: no system call per message while a reader keeps up, no busy core while nothing happens.
A timer of ``_FALLBACK_S`` covers a bell that was lost to a crash. Decision record 0042.

The file lies in /dev/shm under a name made from the data directory, or in ``<data_dir>/rings`` where there is no
/dev/shm or no room in it. Memory-backed, because a disk's write-back would stall the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import logging
import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tickmesh.domain.errors import ConfigError
from tickmesh.hotpath.pure import ring

log = logging.getLogger(__name__)

Handle = Callable[[str, bytes], None]

_SHM = Path("/dev/shm")
_FALLBACK_S = 0.005
_ATTACH_S = 0.1
_BATCH = 256


def ring_paths(data_dir: str | Path, name: str) -> list[Path]:
    """Where the ring ``name`` of a data directory may be, in the order in which writer and readers look."""
    home = Path(data_dir).resolve()
    paths = [home / "rings" / f"{name}.ring"]
    if _SHM.is_dir() and os.access(_SHM, os.W_OK):
        digest = hashlib.sha256(str(home).encode()).hexdigest()[:16]
        paths.insert(0, _SHM / f"tickmesh-{digest}-{name}.ring")
    return paths


def bell_path(path: Path, bell: int) -> Path:
    return path.with_suffix(f".bell{bell}")


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
                self._fd = _create(path, ring.ring_bytes(slots, slot_bytes))
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
        self._ring = ring.RingWriter(
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
        for fd in self._bells.values():
            os.close(fd)
        self._bells.clear()
        for bell in range(ring.MAX_BELLS):
            bell_path(self.path, bell).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
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


def _create(path: Path, size: int) -> int:
    """Open or make the file with our lock on it; another geometry gets a new file, so that old readers notice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            if not _is_still(path, status) or status.st_size not in (0, size):
                if _is_still(path, status):
                    path.unlink()
                os.close(fd)
                continue
            try:
                os.posix_fallocate(fd, 0, size)  # a full /dev/shm is an error here, not a SIGBUS later
            except OSError:
                if status.st_size == 0:
                    path.unlink(missing_ok=True)
                raise
            return fd
        except OSError:
            os.close(fd)
            raise


def _is_still(path: Path, status: os.stat_result) -> bool:
    try:
        now = path.stat()
    except OSError:
        return False
    return (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino)


class RingReader:
    """Follows a ring across restarts of its writer.

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
        self._attached: _Attached | None = None

    @property
    def attached(self) -> bool:
        return self._attached is not None

    async def run(self, handler: Handle, stopping: asyncio.Event) -> None:
        """Hand every message to ``handler``, in order, until ``stopping`` is set.

        The handler runs in the event loop and must not block. One that raises is logged and counted, and its
        message skipped. While there is no ring yet, or its file was replaced, this waits and attaches again.
        """
        stop = asyncio.create_task(stopping.wait())
        first = True
        try:
            while not stopping.is_set():
                self._attached = _attach(self._paths, from_oldest=not first)
                if self._attached is None:
                    await asyncio.wait([stop], timeout=_ATTACH_S)
                    continue
                if not first:
                    self.restarts += 1
                first = False
                try:
                    await self._follow(self._attached, handler, stop)
                finally:
                    self._attached.close()
                    self._attached = None
        finally:
            stop.cancel()

    async def _follow(self, ring_file: _Attached, handler: Handle, stop: asyncio.Task[bool]) -> None:
        reader = ring_file.reader
        idle_since_ns = 0
        while not stop.done():
            if self._drain(reader, handler):
                idle_since_ns = 0
                await asyncio.sleep(0)
                continue
            now_ns = time.monotonic_ns()
            idle_since_ns = idle_since_ns or now_ns
            if now_ns - idle_since_ns < self._spin_ns:
                await asyncio.sleep(0)
                continue
            if ring_file.replaced(now_ns):
                return
            await ring_file.sleep()

    def _drain(self, reader: ring.RingReader, handler: Handle) -> bool:
        if reader.restarted():
            self.restarts += 1
        for _ in range(_BATCH):
            taken = reader.read()
            if taken is None:
                return False
            if taken.lost:
                self.lost += taken.lost
                log.warning("the ring's reader was too slow and lost %d messages", taken.lost)
                if self._on_lost is not None:
                    self._on_lost(taken.lost)
            if not taken.subject:
                return False
            self.received += 1
            try:
                handler(taken.subject, taken.payload)
            except Exception:
                # One broken message or handler must not end the market data of a whole process.
                self.handler_errors += 1
                log.exception("the ring's handler failed on %s; the message is skipped", taken.subject)
        return True


@contextlib.contextmanager
def poll_reader(data_dir: str | Path, name: str = "md") -> Iterator[ring.RingReader]:
    """The ring for a busy poll without an event loop: call ``read`` as often as you like; it never sleeps.

    Raises:
        ConfigError: no writer has made the ring yet.
    """
    for path in ring_paths(data_dir, name):
        try:
            with path.open("r+b") as file:
                mapped = mmap.mmap(file.fileno(), 0)
            reader = ring.RingReader(memoryview(mapped))
        except (OSError, ValueError):  # absent, empty, or still being made
            continue
        try:
            yield reader
        finally:
            reader.release()
            with contextlib.suppress(BufferError):
                mapped.close()
        return
    raise ConfigError(f"there is no ring {name} of {data_dir}; start its writer first")


class _Attached:
    """One mapping of the file with our bell."""

    def __init__(self, path: Path, fd: int, reader: ring.RingReader, mapped: mmap.mmap) -> None:
        self._path = path
        self._status = os.fstat(fd)
        self.reader = reader
        self._map = mapped
        os.close(fd)
        self._bell, self._bell_fd = _take_bell(path)
        self._rung = asyncio.Event()
        self._look_again_ns = 0
        if self._bell_fd >= 0:
            asyncio.get_running_loop().add_reader(self._bell_fd, self._on_bell)

    def _on_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell_fd, 4096)
        self._rung.set()

    async def sleep(self) -> None:
        """Wait for the bell, or a moment where there is none."""
        if self._bell_fd < 0:
            await asyncio.sleep(0.001)
            return
        self._rung.clear()
        self.reader.set_sleeping(self._bell, True)
        if self.reader.pending <= 0:
            try:
                async with asyncio.timeout(_FALLBACK_S):
                    await self._rung.wait()
            except TimeoutError:
                pass
        self.reader.set_sleeping(self._bell, False)

    def replaced(self, now_ns: int) -> bool:
        """Whether the path now leads to another file (or none): the writer made a new one."""
        if now_ns < self._look_again_ns:
            return False
        self._look_again_ns = now_ns + 100_000_000
        return not _is_still(self._path, self._status)

    def close(self) -> None:
        if self._bell_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._bell_fd)
            self.reader.set_sleeping(self._bell, False)
            os.close(self._bell_fd)
        self.reader.release()
        with contextlib.suppress(BufferError):
            self._map.close()


def _attach(paths: list[Path], *, from_oldest: bool) -> _Attached | None:
    for path in paths:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            mapped = mmap.mmap(fd, 0)
        except (OSError, ValueError):  # empty: its writer is just making it
            os.close(fd)
            continue
        try:
            reader = ring.RingReader(memoryview(mapped), from_oldest=from_oldest)
        except ring.RingFormatError:
            os.close(fd)
            continue
        return _Attached(path, fd, reader, mapped)
    return None


def _take_bell(path: Path) -> tuple[int, int]:
    """A FIFO nobody else listens to, as (number, descriptor); (0, -1) when all are taken: then we poll."""
    for bell in range(ring.MAX_BELLS):
        fifo = bell_path(path, bell)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(fifo, 0o600)
            fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EEXIST):
                continue
            return 0, -1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        return bell, fd
    return 0, -1
