"""Ordered: in order, one at a time, never raising, bounded."""

import asyncio

from tickmesh.bus import dispatch
from tickmesh.bus.dispatch import Ordered


def make(handler, errors: list[int], drops: list[str]) -> Ordered:
    return Ordered("x", handler, lambda c, n: asyncio.create_task(c), lambda: errors.append(1), drops.append)


async def test_a_plain_handler_runs_at_once_and_its_error_is_counted() -> None:
    seen: list[bytes] = []
    errors: list[int] = []

    def handler(subject: str, reply: str, payload: bytes) -> None:
        seen.append(payload)
        if payload == b"bad":
            raise ValueError("no")

    ordered = make(handler, errors, [])
    for payload in (b"1", b"bad", b"2"):
        ordered(b"s", b"", b"", payload)
    assert seen == [b"1", b"bad", b"2"] and len(errors) == 1


async def test_coroutines_are_awaited_one_after_the_other_also_after_an_error() -> None:
    seen: list[str] = []
    errors: list[int] = []

    async def handler(subject: str, reply: str, payload: bytes) -> None:
        seen.append(f"begin {payload.decode()}")
        await asyncio.sleep(0)
        if payload == b"1":
            raise ValueError("no")
        seen.append(f"end {payload.decode()}")

    ordered = make(handler, errors, [])
    for n in range(3):
        ordered(b"s", b"", b"", b"%d" % n)
    await asyncio.sleep(0.05)
    ordered(b"s", b"", b"", b"3")
    await asyncio.sleep(0.05)
    assert seen == ["begin 0", "end 0", "begin 1", "begin 2", "end 2", "begin 3", "end 3"]
    assert len(errors) == 1


async def test_what_a_slow_handler_cannot_take_is_dropped_and_told(monkeypatch) -> None:
    monkeypatch.setattr(dispatch, "MAX_WAITING", 2)
    seen: list[bytes] = []
    drops: list[str] = []
    gate = asyncio.Event()

    async def handler(subject: str, reply: str, payload: bytes) -> None:
        await gate.wait()
        seen.append(payload)

    ordered = make(handler, [], drops)
    for n in range(5):
        ordered(b"s", b"", b"", b"%d" % n)
    gate.set()
    await asyncio.sleep(0.05)
    assert seen == [b"0", b"1", b"2"] and drops == ["x", "x"]
