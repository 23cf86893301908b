"""The ring across processes: nothing torn, every loss reported, and kill -9 of either side survived."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tickmesh import hotpath
from tickmesh.bus.ring import RingReader, RingWriter, poll_reader
from tickmesh.bus.ring_file import ring_paths
from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.hotpath.pure import ring as pure_ring

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
    import sys, time
    from tickmesh.bus.ring import RingWriter
    writer = RingWriter(sys.argv[1], "t", slots=int(sys.argv[2]), slot_bytes=256)
    count, pause = int(sys.argv[3]), float(sys.argv[4])
    print("writing", flush=True)
    sys.stdin.readline()
    for _ in range(count):
        number = writer.written + 1
        writer.publish("n", number.to_bytes(8, "little") * (number % 20 + 1))
        if pause:
            time.sleep(pause)
    print("written", writer.written, flush=True)
    time.sleep(60)
"""

READER = """
    import asyncio, sys
    from tickmesh.bus.ring import RingReader
    async def main():
        reader = RingReader(sys.argv[1], "t")
        asyncio.get_running_loop().call_later(0.05, lambda: print("reading", flush=True))
        await reader.run(lambda subject, payload: None, asyncio.Event())
    asyncio.run(main())
"""


@contextlib.contextmanager
def python(code: str, *arguments: object, wait: bool = False, half: str = "") -> Iterator[subprocess.Popen[str]]:
    chosen = {"native": "", "pure": "1"}.get(half, os.environ.get("TICKMESH_PURE", ""))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "pkg"), "TICKMESH_PURE": chosen},
        stdin=subprocess.PIPE if wait else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


HALVES = ["pure", *(["native"] if hotpath.native is not None else [])]
pairs = pytest.mark.parametrize(("writing", "reading"), list(itertools.product(HALVES, HALVES)))
"""Writer and reader of either half: each may meet the other, and the other's past lives."""


def read_with(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hotpath, "RingReader", pure_ring.RingReader if half == "pure" else hotpath.native.RingReader)  # type: ignore[union-attr]


def number_in(payload: bytes) -> int:
    number = int.from_bytes(payload[:8], "little")
    assert payload == number.to_bytes(8, "little") * (number % 20 + 1), "torn"
    return number


@pytest.fixture(autouse=True)
def no_files_left(tmp_path: Path) -> Iterator[None]:
    yield
    for path in ring_paths(tmp_path, "t"):
        for left in path.parent.glob(path.stem + ".*"):
            left.unlink()


@pairs
async def test_a_fast_writer_and_a_reader_in_another_process_account_for_every_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writing: str, reading: str
) -> None:
    read_with(reading, monkeypatch)
    count = 60_000
    reader, numbers, stopping = RingReader(tmp_path, "t"), [], asyncio.Event()
    with python(WRITER, tmp_path, 512, count, 0, wait=True, half=writing) as writer:
        task = asyncio.create_task(reader.run(lambda _, p: numbers.append(number_in(p)), stopping))
        assert await asyncio.to_thread(said, writer) == "writing"
        async with asyncio.timeout(10):
            while not reader.attached:  # else all may be written before it looks for the first time
                await asyncio.sleep(0.001)
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
        assert await asyncio.to_thread(said, writer) == f"written {count}"
        async with asyncio.timeout(10):
            while not numbers or numbers[-1] < count:
                await asyncio.sleep(0.01)
        stopping.set()
        await task
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] + 1 == len(numbers) + reader.lost - _before_first(reader, numbers)


def _before_first(reader: RingReader, numbers: list[int]) -> int:
    """Losses that lie before the first message we received: the reader may be lapped before it reads anything."""
    holes = sum(b - a - 1 for a, b in itertools.pairwise(numbers))
    assert reader.lost >= holes
    return reader.lost - holes


async def test_a_writer_killed_in_the_middle_and_started_again_is_followed(tmp_path: Path) -> None:
    reader, numbers, stopping = RingReader(tmp_path, "t"), [], asyncio.Event()
    task = asyncio.create_task(reader.run(lambda _, p: numbers.append(number_in(p)), stopping))
    for life in range(3):
        with python(WRITER, tmp_path, 4096, 10**9, 0.0005) as writer:
            assert await asyncio.to_thread(said, writer) == "writing"
            target = (numbers[-1] if numbers else 0) + 200
            async with asyncio.timeout(20):
                while not numbers or numbers[-1] < target:
                    await asyncio.sleep(0.01)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        await asyncio.sleep(0.05)
        assert reader.restarts == life
    stopping.set()
    await task
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "a kill loses nothing that was complete"
    assert reader.lost == 0


@pairs
async def test_writers_killed_at_full_speed_leave_nothing_torn_and_every_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writing: str, reading: str
) -> None:
    """At full speed a kill falls into a write; the next life is the other half's, and goes on with the sequence."""
    read_with(reading, monkeypatch)
    told: list[int] = []
    reader, numbers, stopping = RingReader(tmp_path, "t", on_lost=told.append), [], asyncio.Event()
    task = asyncio.create_task(reader.run(lambda _, p: numbers.append(number_in(p)), stopping))
    others = [half for half in HALVES if half != writing] or [writing]
    for life in range(6):
        with python(WRITER, tmp_path, 512, 10**9, 0, half=others[0] if life % 2 else writing) as writer:
            assert await asyncio.to_thread(said, writer) == "writing"
            target = (numbers[-1] if numbers else 0) + 5_000 + 37 * life
            async with asyncio.timeout(30):
                while not numbers or numbers[-1] < target:
                    await asyncio.sleep(0.001)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    while (message := reader.poll()) is not None:
        numbers.append(number_in(message[1]))
    stopping.set()
    await task
    assert numbers == sorted(set(numbers)), "nothing twice, nothing out of order"
    assert reader.restarts == 5 and reader.handler_errors == 0
    assert sum(told) == reader.lost == numbers[-1] - numbers[0] + 1 - len(numbers) + _before_first(reader, numbers)


async def test_a_killed_reader_does_not_disturb_the_writer_and_its_place_is_free_again(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, "t", slots=1024, slot_bytes=256)
    try:
        for _ in range(10):  # more lives than there are bells
            with python(READER, tmp_path) as reader:
                assert await asyncio.to_thread(said, reader) == "reading"
                reader.send_signal(signal.SIGKILL)
                reader.wait()
            for _ in range(20):
                writer.publish("n", b"x")
        received: list[bytes] = []
        stopping = asyncio.Event()
        last = RingReader(tmp_path, "t")
        task = asyncio.create_task(last.run(lambda _, p: received.append(p), stopping))
        await asyncio.sleep(0.1)
        writer.publish("n", b"here")
        async with asyncio.timeout(5):
            while not received:
                await asyncio.sleep(0.005)
        assert received == [b"here"]
        stopping.set()
        await task
    finally:
        writer.close()


async def test_the_async_iterator_and_the_busy_poll_see_what_the_handler_sees(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, "t", slots=1024, slot_bytes=256)
    try:
        polled, iterated, stopping = RingReader(tmp_path, "t"), RingReader(tmp_path, "t"), asyncio.Event()
        assert polled.poll() is None
        seen: list[tuple[str, bytes]] = []

        async def iterate() -> None:
            async for message in iterated.messages(stopping):
                seen.append(message)

        task = asyncio.create_task(iterate())
        await asyncio.sleep(0.05)
        with poll_reader(tmp_path, "t") as bare:
            sent = [(f"s.{n % 2}", str(n).encode()) for n in range(700)]
            for subject, payload in sent:
                writer.publish(subject, payload)
            found = [polled.poll() for _ in sent]
            assert found == sent
            assert polled.poll() is None
            taken = [bare.read() for _ in sent]
            assert [(t.subject, t.payload) for t in taken if t is not None] == sent
        async with asyncio.timeout(5):
            while len(seen) < len(sent):
                await asyncio.sleep(0.005)
        stopping.set()
        await task
        assert seen == sent
        polled.close()
    finally:
        writer.close()


async def test_a_graceful_restart_with_another_size_is_followed(tmp_path: Path) -> None:
    received: list[bytes] = []
    stopping, reader = asyncio.Event(), RingReader(tmp_path, "t")
    task = asyncio.create_task(reader.run(lambda _, p: received.append(p), stopping))
    for slots in (64, 128):
        writer = RingWriter(tmp_path, "t", slots=slots, slot_bytes=256)
        async with asyncio.timeout(5):
            while not reader.attached:
                await asyncio.sleep(0.005)
        writer.publish("n", str(slots).encode())
        async with asyncio.timeout(5):
            while received[-1:] != [str(slots).encode()]:
                await asyncio.sleep(0.005)
        writer.close()
        async with asyncio.timeout(5):
            while reader.attached:
                await asyncio.sleep(0.005)
    stopping.set()
    await task
    assert received == [b"64", b"128"]


async def test_a_handler_that_raises_is_counted_and_the_next_message_comes(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, "t", slots=64, slot_bytes=256)
    received: list[bytes] = []

    def handle(_: str, payload: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError("broken")
        received.append(payload)

    try:
        stopping, reader = asyncio.Event(), RingReader(tmp_path, "t")
        task = asyncio.create_task(reader.run(handle, stopping))
        await asyncio.sleep(0.05)
        writer.publish("n", b"bad")
        writer.publish("n", b"good")
        async with asyncio.timeout(5):
            while not received:
                await asyncio.sleep(0.005)
        stopping.set()
        await task
        assert reader.handler_errors == 1
    finally:
        writer.close()


def test_a_second_writer_is_refused_with_a_sentence(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, "t", slots=64, slot_bytes=256)
    try:
        with pytest.raises(ConfigError, match="has a writer already; stop the other feed"):
            RingWriter(tmp_path, "t", slots=64, slot_bytes=256)
    finally:
        writer.close()
    RingWriter(tmp_path, "t", slots=64, slot_bytes=256).close()


def test_a_busy_poll_without_a_ring_says_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(DependencyError, match="is the feed's transport shm"),
        poll_reader(tmp_path, "t", timeout_s=0.1),
    ):
        pass
