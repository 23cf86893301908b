"""Writer and readers of either half share one memory: what one writes the other reads, and both lose the same."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh import hotpath
from tickmesh.hotpath.pure import ring as pure

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")

SLOTS, SLOT_BYTES = 8, 192
HALVES: tuple[Any, Any] = (hotpath.native, pure)


def fields(taken: Any) -> Any:
    return taken and (taken.subject, taken.payload, taken.lost)


class Rings:
    """Two memories with the same history, each written by one half and read by both."""

    def __init__(self) -> None:
        self.memories = [memoryview(bytearray(pure.ring_bytes(SLOTS, SLOT_BYTES))) for _ in HALVES]
        self.writers = [self.write_with(half, 1) for half in HALVES]
        self.readers = [[half.RingReader(memory) for half in HALVES] for memory in self.memories]

    def write_with(self, half: Any, generation: int) -> Any:
        memory = self.memories[HALVES.index(half)]
        return half.RingWriter(memory, SLOTS, SLOT_BYTES, generation=generation, pid=7)

    def write(self, subject: str, payload: bytes) -> None:
        results = []
        for writer in self.writers:
            try:
                writer.write(subject, payload)
                results.append("")
            except ValueError as error:
                results.append(str(error))
        assert results[0] == results[1]
        assert self.writers[0].written == self.writers[1].written

    def read(self) -> Any:
        found = [reader.read() for readers in self.readers for reader in readers]
        assert all(isinstance(each, pure.Taken | hotpath.native.Taken | None) for each in found)
        taken = [fields(each) for each in found]
        assert taken.count(taken[0]) == 4, taken
        state = [(r.pending, r.lost, r.closed, r.restarted()) for readers in self.readers for r in readers]
        assert state.count(state[0]) == 4, state
        return taken[0]

    def replace_writers(self, generation: int) -> None:
        """A second life, each memory now in the hands of the other half."""
        for writer in self.writers:
            writer.release()
        kinds = reversed(HALVES)
        pairs = zip(kinds, self.memories, strict=True)
        self.writers = [k.RingWriter(m, SLOTS, SLOT_BYTES, generation=generation, pid=7) for k, m in pairs]


messages = st.tuples(st.text(min_size=1, max_size=40), st.binary(max_size=180))


@given(st.lists(st.one_of(messages, st.just(None), st.integers(2, 9)), max_size=120))
def test_all_pairs_of_halves_read_and_lose_the_same(steps: list[Any]) -> None:
    rings = Rings()
    for step in [*steps, *[None] * (SLOTS + 2)]:
        if step is None:
            rings.read()
        elif isinstance(step, int):
            rings.replace_writers(step)
        else:
            rings.write(*step)
    assert rings.read() is None


def test_the_memory_is_the_same_byte_for_byte() -> None:
    rings = Rings()
    for number in range(20):
        rings.write(f"md.{number % 3}", b"x" * 130)  # one size, so that no slot keeps a tail of an older message
    assert bytes(rings.memories[0]) == bytes(rings.memories[1])


def test_a_corrupted_slot_is_lost_at_every_reader_and_never_torn() -> None:
    for at, number in itertools.product((0, 8, 12, 14, 17, 30), range(1, 4)):
        rings = Rings()
        for n in range(1, 4):
            rings.write("s", str(n).encode() * 20)
        for memory in rings.memories:
            memory[pure.HEADER_BYTES + number * SLOT_BYTES + at] ^= 0xFF
        received = [rings.read() for _ in range(4)]
        assert any(taken and taken[2] == 1 for taken in received)


def test_sleepers_and_farewell_cross_the_halves() -> None:
    rings = Rings()
    for memory, (writer, readers) in enumerate(zip(rings.writers, rings.readers, strict=True)):
        readers[1 - memory].set_sleeping(3, True)
        assert writer.sleepers() == 1 << 24
        writer.woken(3)
        assert writer.sleepers() == 0
        writer.close()
        assert all(reader.closed for reader in readers)


def test_a_released_ring_is_refused_and_not_touched() -> None:
    rings = Rings()
    for made in (rings.writers[0], *rings.readers[0][:1]):
        made.release()
    with pytest.raises(ValueError, match="released"):
        rings.writers[0].write("s", b"")
    with pytest.raises(ValueError, match="released"):
        rings.readers[0][0].read()


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\0" * 4096, b"\xff" * 4096])
def test_what_is_no_ring_is_refused_alike(content: bytes) -> None:
    sentences = []
    for half in HALVES:
        with pytest.raises(pure.RingFormatError) as caught:
            half.RingReader(memoryview(bytearray(content)))
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]


words = st.sampled_from([0, 1, 2, 3, 8, 63, 64, 65, 128, 192, 2**16, 2**31, 2**58, 2**62]) | st.integers(0, 40)


@given(words, words, words, st.binary(max_size=600), st.integers(0, 1800), st.booleans())
def test_a_header_of_garbage_is_refused_or_read_alike(
    slots: int, slot_bytes: int, written: int, content: bytes, at: int, oldest: bool
) -> None:
    """Whatever a crash or a stranger left behind: an error or messages, the same ones, and an end."""
    answers = []
    for half in HALVES:
        raw = bytearray(pure.ring_bytes(SLOTS, SLOT_BYTES))
        raw[pure.HEADER_BYTES + at : pure.HEADER_BYTES + at + len(content)] = content
        memory = memoryview(raw)[: pure.ring_bytes(SLOTS, SLOT_BYTES)]
        struct.pack_into("<3Q", memory, 0, pure.MAGIC, slots, slot_bytes)
        struct.pack_into("<Q", memory, 64, written)
        try:
            reader = half.RingReader(memory, from_oldest=oldest)
        except pure.RingFormatError as error:
            answers.append([str(error)])
            continue
        answers.append([fields(reader.read()) for _ in range(12)] + [reader.lost, reader.pending])
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("slots", "slot_bytes"), [(9, 192), (8, 256), (2**58, 64), (2**62, 128), (2**63, 64)])
def test_a_buffer_that_is_too_small_is_refused_alike(slots: int, slot_bytes: int) -> None:
    for half in HALVES:
        memory = memoryview(bytearray(pure.ring_bytes(8, 192)))
        with pytest.raises(ValueError, match="the buffer is too small for this ring"):
            half.RingWriter(memory, slots, slot_bytes, generation=1)
        assert bytes(memory) == bytes(pure.ring_bytes(8, 192)), "and left as it was"
