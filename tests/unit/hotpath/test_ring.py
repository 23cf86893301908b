"""The ring gives each reader the messages in order, whole, and says exactly how many it lost: in any interleaving."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.hotpath.pure import ring
from tickmesh.hotpath.pure.ring import HEADER_BYTES, RingFormatError, RingReader, RingWriter, ring_bytes

SLOTS, SLOT_BYTES = 8, 128


def buffer(slots: int = SLOTS, slot_bytes: int = SLOT_BYTES) -> memoryview:
    return memoryview(bytearray(ring_bytes(slots, slot_bytes)))


def writer(memory: memoryview, generation: int = 1) -> RingWriter:
    return RingWriter(memory, SLOTS, SLOT_BYTES, generation=generation)


def payload(number: int) -> bytes:
    return str(number).encode() * (number % 7 + 1)


actions = st.lists(st.one_of(st.just(-1), st.integers(0, 2)), max_size=300)


@given(actions)
def test_in_any_interleaving_a_reader_gets_each_message_whole_and_in_order_or_counts_it_as_lost(
    steps: list[int],
) -> None:
    memory = buffer()
    source = writer(memory)
    readers = [RingReader(memory) for _ in range(3)]
    accounted = [0, 0, 0]  # received or lost
    written = 0
    for step in [*steps, *(r for r in range(3) for _ in range(SLOTS + 1))]:
        if step < 0:
            written += 1
            source.write(f"s.{written % 3}", payload(written))
            continue
        taken = readers[step].read()
        if taken is None:
            assert accounted[step] == written
            continue
        accounted[step] += taken.lost
        if taken.subject:
            accounted[step] += 1
            number = accounted[step]
            assert (taken.subject, taken.payload) == (f"s.{number % 3}", payload(number))
    assert accounted == [written] * 3
    assert [r.pending for r in readers] == [0] * 3


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 3))
def test_a_writer_that_dies_anywhere_in_a_write_harms_nobody(before: int, after: int, died_at: int) -> None:
    memory = buffer()
    reader = RingReader(_started(memory))
    first = writer(memory)
    for number in range(1, before + 1):
        first.write("s", payload(number))
    _half_a_write(memory, before + 1, died_at)
    received = []
    while (taken := reader.read()) is not None:
        received += [taken.payload] if taken.subject else []
    assert received == [payload(n) for n in range(reader.lost + 1, before + 1)]
    assert reader.lost == 0 or before >= SLOTS - 1
    second = writer(memory, generation=2)
    assert reader.restarted()
    assert not reader.restarted()
    for number in range(before + 1, before + after + 1):
        second.write("s", payload(number))
        taken = reader.read()
        assert taken is not None and taken.payload == payload(number)
    assert reader.read() is None


def _started(memory: memoryview) -> memoryview:
    writer(memory)
    return memory


def _half_a_write(memory: memoryview, number: int, stores: int) -> None:
    """The first ``stores`` stores of write ``number``, as the layout in the module's head says."""
    start = HEADER_BYTES + (number % SLOTS) * SLOT_BYTES
    if stores > 0:
        struct.pack_into("<Q", memory, start, 2 * number - 1)
    if stores > 1:
        memory[start + 8 : start + 60] = b"\xaa" * 52
    if stores > 2:
        struct.pack_into("<Q", memory, start, 2 * number)  # complete, but never announced


def test_a_slot_that_is_being_overwritten_is_lost_and_never_torn() -> None:
    memory = buffer()
    source, reader = writer(memory), RingReader(memory)
    for number in range(1, 4):
        source.write("s", payload(number))
    _half_a_write(memory, 1 + SLOTS, 2)  # the writer of a lap later is in message 1's slot
    taken = reader.read()
    assert taken is not None and (taken.lost, taken.payload) == (1, payload(2))


def test_a_torn_payload_with_an_unchanged_lock_is_found_out() -> None:
    memory = buffer()
    source, reader = writer(memory), RingReader(memory)
    source.write("s", b"whole")
    memory[HEADER_BYTES + SLOT_BYTES + 18] ^= 1
    taken = reader.read()
    assert taken is not None and (taken.subject, taken.lost) == ("", 1)


def test_a_late_reader_starts_with_what_comes_next_or_with_the_oldest_kept() -> None:
    memory = buffer()
    source = writer(memory)
    for number in range(1, 21):
        source.write("s", payload(number))
    fresh, eager = RingReader(memory), RingReader(memory, from_oldest=True)
    oldest = eager.read()
    assert oldest is not None and oldest.payload == payload(20 - (SLOTS - 2))
    assert fresh.read() is None
    source.write("s", payload(21))
    taken = fresh.read()
    assert taken is not None and taken.payload == payload(21)


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    memory = buffer()
    source, reader = writer(memory), RingReader(memory)
    source.write("s", b"x" * (source.room - 1))
    with pytest.raises(ValueError, match="do not fit"):
        source.write("s", b"x" * source.room)
    taken = reader.read()
    assert taken is not None and len(taken.payload) == source.room - 1
    assert reader.read() is None


@pytest.mark.parametrize(("slots", "slot_bytes"), [(8, 100), (1, 128), (8, 32), (8, 65536)])
def test_impossible_geometries_are_refused(slots: int, slot_bytes: int) -> None:
    with pytest.raises(ValueError, match="64"):
        RingWriter(buffer(16, 65536), slots, slot_bytes, generation=1)


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\0" * 4096, b"\xff" * 4096])
def test_a_reader_refuses_what_is_no_ring(content: bytes) -> None:
    with pytest.raises(RingFormatError):
        RingReader(memoryview(bytearray(content)))


def test_slots_are_aligned_to_cache_lines() -> None:
    assert HEADER_BYTES % 64 == 0 and SLOT_BYTES % 64 == 0


def _stamps(memory: memoryview, number: int) -> tuple[int, bytes, int]:
    """Lock, start of the body and the header's count, as another process would see them."""
    start = HEADER_BYTES + (number % SLOTS) * SLOT_BYTES
    (lock,), (written,) = struct.unpack_from("<Q", memory, start), struct.unpack_from("<Q", memory, 64)
    return lock, bytes(memory[start + 16 : start + 22]), written


def test_a_fence_stands_between_all_stores_whose_order_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = buffer()
    seen: list[Any] = []
    monkeypatch.setattr(ring, "_KEEPS_ORDER", False)
    monkeypatch.setattr(ring, "make_fence", lambda: lambda: seen.append(_stamps(memory, source.written + 1)))
    source = writer(memory)
    source.write("s", b"older")
    for _ in range(SLOTS - 1):
        source.write("s", b"other")
    del seen[:]
    source.write("s", b"newer")
    old, new = b"solder", b"snewer"
    odd, even, before = 2 * (SLOTS + 1) - 1, 2 * (SLOTS + 1), SLOTS
    assert seen == [(odd, old, before), (odd, new, before), (even, new, before)]


@pytest.mark.parametrize("keeps_order", [True, False])
def test_flag_and_message_never_pass_each_other_on_any_machine(
    monkeypatch: pytest.MonkeyPatch, keeps_order: bool
) -> None:
    fences: list[str] = []
    monkeypatch.setattr(ring, "_KEEPS_ORDER", keeps_order)
    monkeypatch.setattr(ring, "make_fence", lambda: lambda: fences.append("fence"))
    memory = buffer()
    source, reader = writer(memory), RingReader(memory)
    source.write("s", b"one")
    del fences[:]
    assert source.sleepers() == 0 and fences == ["fence"]
    reader.set_sleeping(1, True)
    assert fences == ["fence", "fence"]


def test_a_ring_with_fences_works_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "_KEEPS_ORDER", False)
    memory = buffer()
    source, reader = writer(memory), RingReader(memory)
    for number in range(1, 100):
        source.write("s", payload(number))
        reader.set_sleeping(1, True)
        assert source.sleepers() == 1 << 8
        source.woken(1)
        taken = reader.read()
        assert taken is not None and (taken.payload, taken.lost) == (payload(number), 0)
    assert reader.read() is None
