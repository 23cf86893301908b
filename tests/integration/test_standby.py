"""account and risk two by two, real processes: one works, the other takes over on SIGTERM, SIGKILL and SIGSTOP, and
nothing is ever said twice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from desk import ROOT, Desk, S, desk

from tickmesh.domain import subjects
from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import OrderEvent, encode
from tickmesh.runtime.servers import free_ports

TTL_MS = 1500
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP)


class Pod:
    """A replica with a name of its own, as a Deployment runs it; nobody starts it again."""

    def __init__(self, d: Desk, program: str, name: str) -> None:
        self.name, self.d = name, d
        (d.ports[name],) = free_ports(1)
        section = f"TICKMESH_{program.upper()}__"
        environ = {
            **d.env, "TICKMESH_OBSERVE__INSTANCE": name, f"{section}ADMIN_PORT": str(d.ports[name]),
            f"{section}LEASE_TTL_MS": str(TTL_MS), "TICKMESH_LOCAL__DATA_DIR": "/proc/none",
        }  # fmt: skip
        with (d.log_dir / f"{name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "cmd" / program)], env=environ, stdout=log, stderr=log
            )

    async def ready(self) -> None:
        await self.d.until(lambda: (self.d.get(self.name, "/readyz") or {}).get("ready"))

    @property
    def works(self) -> bool:
        return "held by us" in self.log

    @property
    def log(self) -> str:
        return (self.d.log_dir / f"{self.name}.log").read_text(errors="replace")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
async def d(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as running:
        yield running


@contextlib.contextmanager
def pods(d: Desk, program: str) -> Iterator[Iterator[Pod]]:
    started: list[Pod] = []

    def make() -> Iterator[Pod]:
        for number in itertools.count(1):
            started.append(Pod(d, program, f"{program}-{number}"))
            yield started[-1]

    try:
        yield make()
    finally:
        for pod in started:
            pod.end()


async def two(d: Desk, make: Iterator[Pod]) -> tuple[Pod, Pod]:
    """One that works and one that stands by, both ready."""
    first = next(make)
    await first.ready()
    await d.until(lambda: first.works)
    second = next(make)
    await second.ready()
    assert "standing by" in second.log and not second.works
    return first, second


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_standby_follows_the_account_on_and_every_snapshot_is_one_processes(
    d: Desk, number: signal.Signals
) -> None:
    with pods(d, "account") as make:
        first, second = await two(d, make)
        await d.until(lambda: d.snapshots)
        await d.trade("BUY", "0.1")
        await d.until(lambda: d.lots == 100)
        before = d.snapshots[-1]
        first.process.send_signal(number)
        await d.trade("BUY", "0.02")
        await d.until(lambda: d.lots == 120)
        assert second.works
        after = d.snapshots[-1]
        assert (after.day_start_equity, after.mismatches) == (before.day_start_equity, 0)
        assert after.peak_equity >= before.peak_equity and after.fills > before.fills
        if number is signal.SIGSTOP:
            first.process.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(first.process.wait, 30) != 0, "it starts over as a standby"
            assert "starting over as its standby" in first.log
        seen = len(d.snapshots)
        await d.until(lambda: len(d.snapshots) > seen + 3)
        epochs = [snapshot.epoch for snapshot in d.snapshots]
        assert epochs == sorted(epochs) and len(set(epochs)) == 2, "one speaks, then the other"
        by_epoch = [(s.epoch, s.seq) for s in d.snapshots]
        assert len(set(by_epoch)) == len(by_epoch)
        assert not d.alerts or all(a.kind == "circuit_breaker" for a in d.alerts), d.alerts


async def reject(d: Desk, first: int, last: int) -> None:
    for n in range(first, last):
        event = OrderEvent(
            account="main", venue="binance", symbol=S, client_order_id=f"r{n}", state=OrderState.REJECTED,
            venue_code=-2010, reason="no",
        )  # fmt: skip
        await d.bus.publish_durable(subjects.order_event("main", f"r{n}"), encode(event), message_id=f"r{n}")


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_standby_knows_what_is_halted_judges_on_and_halts_once(d: Desk, number: signal.Signals) -> None:
    with pods(d, "risk") as make:
        first, second = await two(d, make)
        assert d.get(second.name, "/halts") is None, "who stands by says nothing"
        await reject(d, 0, 11)
        await d.until(lambda: d.controls)
        await d.until(lambda: d.get(first.name, "/halts")["halts"])
        first.process.send_signal(number)
        await d.until(lambda: (d.get(second.name, "/halts") or {}).get("halts"))
        assert d.get(second.name, "/halts")["halts"][0]["scope"] == "account.main"
        await reject(d, 20, 31)  # the same breach again, of what is halted already
        if number is signal.SIGSTOP:
            first.process.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(first.process.wait, 30) != 0
        third = next(make)
        await third.ready()
        await d.until(lambda: "standing by" in third.log)
        assert [(c.verb, c.scope, c.arguments["kind"]) for c in d.controls] == [("halt", "account.main", "rejections")]
        assert [a.kind for a in d.alerts if a.kind != "circuit_breaker"] == ["rejections"]
