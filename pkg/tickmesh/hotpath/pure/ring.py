"""A ring of fixed slots in shared memory: one writer, any number of readers, nobody waits for anybody.

In: (subject, payload) from the writer. Out: the same, in order, at every reader, or the number that it lost.
It works on any writable buffer and does no I/O; ``tickmesh.bus.ring`` maps the file and does the waiting.

Layout (little endian): a header of 256 bytes, then slots of a multiple of 64 bytes. Message ``n`` (from 1)
lives in slot ``n % slots``. A slot's lock is ``2n-1`` while message n is written and ``2n`` when it is
complete, so a reader that sees anything but ``2n`` before and after its copy knows what happened. The header's
``written`` is stored last; a writer that dies in between leaves a half-written slot behind that nobody was told of.

Order: between these steps stands a fence. Machines of the x86 family keep the order of stores and of loads by
themselves, so there it is nothing, except where a load must not pass a store (decision 0260). A CRC-32 of the payload
in each slot is a second opinion.
"""

from __future__ import annotations

import platform
import struct
import zlib
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from tickmesh.domain.errors import TickmeshError

MAGIC = int.from_bytes(b"tmring\x01\n", "little")
HEADER_BYTES = 256
SLOT_OVERHEAD = 24
MAX_BELLS = 8

# Words (8 bytes) of the header. What the writer changes per message has a cache line of its own.
_MAGIC, _SLOTS, _SLOT_BYTES, _GENERATION, _STATE, _PID = 0, 1, 2, 3, 4, 5
_WRITTEN = 8
_SLEEPERS = 16  # one byte per bell: 1 while its reader sleeps

_OPEN, _CLOSED = 1, 2
_HEAD = struct.Struct("<IHH")  # crc, subject bytes, payload bytes
_crc32 = zlib.crc32
_KEEPS_ORDER = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


def make_fence() -> Callable[[], object]:
    """A call that no load and no store crosses: the release of a lock, then its acquisition; for one thread."""
    lock = Lock()
    lock.acquire()
    release, acquire = lock.release, lock.acquire

    def fence() -> None:
        release()
        acquire()

    return fence


class RingFormatError(TickmeshError, ValueError):
    """The buffer is not a ring of the expected form; make a new one."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


class Taken(NamedTuple):
    """What one read found: a message, or only ``lost`` > 0 when the writer lapped the reader."""

    subject: str
    payload: bytes
    lost: int


def ring_bytes(slots: int, slot_bytes: int) -> int:
    """Size of a ring's buffer."""
    return HEADER_BYTES + slots * slot_bytes


class RingWriter:
    """The only writer of a buffer. A second life over the same buffer continues its sequence.

    Raises:
        ValueError: ``slot_bytes`` is no multiple of 64, there are fewer than two slots, or too few bytes for them.
    """

    def __init__(self, buffer: memoryview, slots: int, slot_bytes: int, *, generation: int, pid: int = 0) -> None:
        if slot_bytes % 64 or not 64 <= slot_bytes <= 65472 or slots < 2:
            raise ValueError(f"a ring of {slots} slots of {slot_bytes} bytes is not possible: use multiples of 64")
        self._bytes = buffer.cast("B") if buffer.format != "B" else buffer
        if ring_bytes(slots, slot_bytes) > len(self._bytes):
            raise ValueError("the buffer is too small for this ring")
        self._words = self._bytes[: ring_bytes(slots, slot_bytes)].cast("Q")
        self._slots = slots
        self._slot_bytes = slot_bytes
        self._room = slot_bytes - SLOT_OVERHEAD
        words = self._words
        fits = (words[_MAGIC], words[_SLOTS], words[_SLOT_BYTES]) == (MAGIC, slots, slot_bytes)
        if not fits:
            self._bytes[: ring_bytes(slots, slot_bytes)] = bytes(ring_bytes(slots, slot_bytes))
        self._written = words[_WRITTEN] if fits else 0
        words[_SLOTS], words[_SLOT_BYTES], words[_PID] = slots, slot_bytes, pid
        words[_GENERATION], words[_STATE] = generation, _OPEN
        words[_MAGIC] = MAGIC
        self._subjects: dict[str, bytes] = {}
        self._barrier = make_fence()
        self._fence = None if _KEEPS_ORDER else self._barrier

    @property
    def written(self) -> int:
        """Messages ever written to this buffer, over all generations."""
        return self._written

    @property
    def room(self) -> int:
        """Bytes that subject and payload of one message may have together."""
        return self._room

    def write(self, subject: str, payload: bytes) -> None:
        """Store a message, overwriting the oldest. Raises ValueError when it does not fit a slot."""
        name = self._subjects.get(subject)
        if name is None:
            name = self._subjects[subject] = subject.encode()
        head, size = len(name), len(payload)
        if head + size > self._room:
            raise ValueError(f"{head + size} bytes on {subject} do not fit a slot of {self._room}; make slots larger")
        number = self._written + 1
        start = HEADER_BYTES + (number % self._slots) * self._slot_bytes
        words, raw, lock = self._words, self._bytes, start >> 3
        fence = self._fence
        words[lock] = 2 * number - 1
        if fence is not None:
            fence()
        body = start + 16
        _HEAD.pack_into(raw, start + 8, _crc32(payload, number & 0xFFFFFFFF), head, size)
        raw[body : body + head] = name
        raw[body + head : body + head + size] = payload
        if fence is not None:
            fence()
        words[lock] = 2 * number
        if fence is not None:
            fence()
        words[_WRITTEN] = self._written = number

    def sleepers(self) -> int:
        """Bit pattern of readers that sleep: byte i is 1 when bell i should ring; 0 for nobody."""
        self._barrier()  # our message first, then who sleeps; the reader does the reverse
        return self._words[_SLEEPERS]

    def woken(self, bell: int) -> None:
        """Bell ``bell`` was rung (or has no reader any more)."""
        self._bytes[_SLEEPERS * 8 + bell] = 0

    def close(self) -> None:
        """Say that nothing more will come from this generation."""
        self._words[_STATE] = _CLOSED

    def release(self) -> None:
        """Let go of the buffer, so that its owner can close it."""
        self._words.release()


class RingReader:
    """One reader's position. Starts at what is written next, or at the oldest message kept.

    Raises:
        RingFormatError: the buffer is not (yet) a ring.
    """

    def __init__(self, buffer: memoryview, *, from_oldest: bool = False) -> None:
        self._bytes = buffer.cast("B") if buffer.format != "B" else buffer
        if len(self._bytes) < HEADER_BYTES:
            raise RingFormatError(f"{len(self._bytes)} bytes are too few for a ring")
        header = self._bytes[:HEADER_BYTES].cast("Q")
        slots, slot_bytes, magic = header[_SLOTS], header[_SLOT_BYTES], header[_MAGIC]
        header.release()
        possible = slots >= 2 and slot_bytes >= 64 and slot_bytes % 64 == 0
        if magic != MAGIC or not possible or ring_bytes(slots, slot_bytes) > len(self._bytes):
            raise RingFormatError("this is not a ring, or one that is still being made")
        self._words = self._bytes[: ring_bytes(slots, slot_bytes)].cast("Q")
        self._slots = slots
        self._slot_bytes = slot_bytes
        self.generation = self._words[_GENERATION]
        written = self._words[_WRITTEN]
        self._next = max(1, written - slots + 2) if from_oldest else written + 1
        self.lost = 0
        self._subjects: dict[bytes, str] = {}
        self._barrier = make_fence()
        self._fence = None if _KEEPS_ORDER else self._barrier

    @property
    def pending(self) -> int:
        """Messages written and not yet read (those that were overwritten included)."""
        return self._words[_WRITTEN] - self._next + 1

    @property
    def closed(self) -> bool:
        """Whether the writer has said good-bye."""
        return self._words[_STATE] == _CLOSED

    def restarted(self) -> bool:
        """Whether another life of the writer has begun since the last call; the sequence goes on."""
        found = self._words[_GENERATION]
        changed = found != self.generation
        self.generation = found
        return changed

    def read(self) -> Taken | None:
        """The next message; None when there is none; ``lost`` counts what was overwritten before it."""
        lost = 0
        words, raw, slots, fence = self._words, self._bytes, self._slots, self._fence
        while True:
            number, written = self._next, words[_WRITTEN]
            if number > written:
                return Taken("", b"", lost) if lost else None
            if written - number >= slots - 1:
                # Lapped. Land a quarter of the ring behind the writer's oldest, or it laps us again at once.
                lost += self._skip(written - slots + 2 + slots // 4)
                continue
            start = HEADER_BYTES + (number % slots) * self._slot_bytes
            lock = start >> 3
            if fence is not None:
                fence()
            if words[lock] == 2 * number:
                if fence is not None:
                    fence()
                crc, head, size = _HEAD.unpack_from(raw, start + 8)
                body = start + 16
                if 16 + head + size <= self._slot_bytes:
                    name, payload = bytes(raw[body : body + head]), bytes(raw[body + head : body + head + size])
                    if fence is not None:
                        fence()
                    if words[lock] == 2 * number and _crc32(payload, number & 0xFFFFFFFF) == crc:
                        self._next = number + 1
                        subject = self._subjects.get(name)
                        if subject is None:
                            subject = self._subjects[name] = name.decode()
                        return Taken(subject, payload, lost)
            # The writer is in this slot already, one lap ahead.
            lost += self._skip(number + 1)

    def set_sleeping(self, bell: int, sleeping: bool) -> None:
        """Ask to be rung on ``bell`` for the next message, or not any more."""
        self._bytes[_SLEEPERS * 8 + bell] = 1 if sleeping else 0
        self._barrier()  # our flag first, then whether there is a message; the writer does the reverse

    def release(self) -> None:
        """Let go of the buffer, so that its owner can close it."""
        self._words.release()

    def _skip(self, to: int) -> int:
        to = min(to, self._words[_WRITTEN] + 1)
        skipped = max(0, to - self._next)
        self._next += skipped
        self.lost += skipped
        return skipped
