"""The journal writer against a bus that stores without saying so, fails, and has no window of deduplication."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import pytest

from tickmesh.bus.memory import MemoryBus
from tickmesh.domain.enums import OrderState
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.messages import OrderEvent, decode
from tickmesh.execution.ledger import Record
from tickmesh.services import execution_journal
from tickmesh.services.execution_journal import STREAM, JournalWriter

STEPS = (OrderState.PENDING_SUBMIT, OrderState.SUBMITTED, OrderState.CANCELED)


class LyingBus(MemoryBus):
    """Some publications are lost, some are stored and not acknowledged; a repeated message id is stored again."""

    def __init__(self, choose: random.Random) -> None:
        super().__init__()
        self._choose = choose
        self.calm = False

    async def publish_durable(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
    ) -> int:
        fate = self._choose.random()
        if fate < 0.15 and not self.calm:
            raise DependencyError("nats", "lost")
        self.publish(subject, payload)
        seq = len(self.streams[STREAM])
        await asyncio.sleep(0)
        if fate < 0.3 and not self.calm:
            raise DependencyError("nats", "stored, but who knows")
        return seq


def records(orders: int) -> list[Record]:
    made = []
    for state in STEPS:
        for order in range(orders):
            event = OrderEvent(
                account="main", venue="v", symbol="X", client_order_id=f"c{order}", state=state, intent_id=f"i{order}"
            )
            made.append(Record(f"order.event.main.c{order}", event, f"c{order}.{state}"))
    return made


@pytest.mark.parametrize("seed", range(20))
async def test_every_order_ends_as_it_should_and_no_line_is_stored_twice(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    print("seed", seed)
    monkeypatch.setattr(execution_journal, "_RETRY_S", 0.0)
    bus = LyingBus(random.Random(seed))
    told: list[tuple[str, int]] = []
    writer = JournalWriter(bus, lambda record, seq: told.append((record.message_id, seq)))
    running = asyncio.create_task(writer.run())
    wanted = records(30)
    for start in range(0, len(wanted), 25):
        writer.put(wanted[start : start + 25])
        await asyncio.sleep(0)
    assert await writer.drain(20)
    running.cancel()
    stored = [decode(OrderEvent, m.data) for m in bus.streams[STREAM]]
    lines = [(e.client_order_id, e.state) for e in stored]
    assert len(lines) == len(set(lines)), "a line is stored twice"
    assert {e.client_order_id: e.state for e in stored} == {f"c{n}": OrderState.CANCELED for n in range(30)}
    assert sorted(message_id for message_id, _ in told) == sorted(r.message_id for r in wanted)


async def test_nothing_is_written_behind_a_closed_fence_and_a_full_journal_says_so() -> None:
    bus = MemoryBus()
    writer = JournalWriter(bus, lambda record, seq: None, max_waiting=5)
    fence = [False]
    writer.may_write = lambda: fence[0]
    running = asyncio.create_task(writer.run())
    writer.put(records(2))
    assert not await writer.drain(0.1)
    assert bus.streams[STREAM] == [] and writer.full
    fence[0] = True
    assert await writer.drain(5)
    assert len(bus.streams[STREAM]) == 6 and not writer.full
    running.cancel()
