"""The ring's file and bells: where they lie, how a writer takes the file over, how a reader maps it.

In: a data directory and a name. Out: a locked file for the writer, a mapping and a bell for a reader. A bell is a
FIFO that a sleeping reader listens to; the reader holds a lock on it, so that a dead reader's bell is free again.

The file lies in /dev/shm under a name made from the data directory, or in ``<data_dir>/rings`` where there is no
/dev/shm or no room in it. Memory-backed, because a disk's write-back would stall the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from tickmesh import hotpath
from tickmesh.hotpath.pure import ring

_SHM = Path("/dev/shm")
_FALLBACK_S = 0.005
_LOOK_NS = 100_000_000


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


def create(path: Path, size: int) -> int:
    """Open or make the file with our lock on it; another geometry gets a new file, so that old readers notice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            if not is_still(path, status) or status.st_size not in (0, size):
                if is_still(path, status):
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


def is_still(path: Path, status: os.stat_result) -> bool:
    """Whether ``path`` still leads to the file that ``status`` describes; not once another took its name."""
    try:
        now = path.stat()
    except OSError:
        return False
    return (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino)


class Attached:
    """A reader's mapping of the file, with its bell once it has slept for the first time."""

    def __init__(self, path: Path, fd: int, reader: hotpath.RingReader, mapped: mmap.mmap) -> None:
        self._path = path
        self._status = os.fstat(fd)
        os.close(fd)
        self.reader = reader
        self._map = mapped
        self._bell, self._bell_fd = 0, -2
        self._rung = asyncio.Event()
        self._look_again_ns = 0
        self._closed = False
        self.on_bell: Callable[[], object] | None = None
        """Called the moment the bell rings, before the sleeper is woken: a task switch less for the first message."""

    async def sleep(self) -> None:
        """Wait for the bell, or a moment where there is none."""
        if self._bell_fd == -2:
            self._bell, self._bell_fd = take_bell(self._path)
            if self._bell_fd >= 0:
                asyncio.get_running_loop().add_reader(self._bell_fd, self._on_bell)
        if self._bell_fd < 0:
            await asyncio.sleep(0.001)
            return
        self._rung.clear()
        self.reader.set_sleeping(self._bell, True)
        try:
            if self.reader.pending <= 0:
                async with asyncio.timeout(_FALLBACK_S):
                    await self._rung.wait()
        except TimeoutError:
            pass
        finally:
            if not self._closed:
                self.reader.set_sleeping(self._bell, False)

    def replaced(self, now_ns: int) -> bool:
        """Whether the path now leads to another file (or none): the writer made a new one. Looks now and then."""
        if now_ns < self._look_again_ns:
            return False
        self._look_again_ns = now_ns + _LOOK_NS
        return not is_still(self._path, self._status)

    def close(self) -> None:
        """Let go of file and bell."""
        self._closed = True
        if self._bell_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._bell_fd)
            self.reader.set_sleeping(self._bell, False)
            os.close(self._bell_fd)
        self.reader.release()
        with contextlib.suppress(BufferError):
            self._map.close()

    def _on_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell_fd, 4096)
        if self.on_bell is not None:
            self.on_bell()
        self._rung.set()


def attach(paths: list[Path], *, from_oldest: bool) -> Attached | None:
    """Map the ring for a reader; None when there is none."""
    found = map_reader(paths, from_oldest=from_oldest)
    return Attached(*found) if found is not None else None


def map_reader(paths: list[Path], *, from_oldest: bool) -> tuple[Path, int, hotpath.RingReader, mmap.mmap] | None:
    """The first of ``paths`` that is a ring, with its descriptor (the caller's to close), reader and mapping."""
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
            return path, fd, hotpath.RingReader(memoryview(mapped), from_oldest=from_oldest), mapped
        except ring.RingFormatError:
            os.close(fd)
    return None


def take_bell(path: Path) -> tuple[int, int]:
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
