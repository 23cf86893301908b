"""The journal of real processes rebuilds the very state that the running execution service shows."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from order_rig import ROOT, OrderRig, order_rig

from tickmesh.domain.enums import Side, Urgency


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[OrderRig]:
    async with order_rig(tmp_path) as running:
        yield running


async def replay(journal: str, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tickmesh.runtime.cli", "replay", journal, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "pkg")},
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def state(rig: OrderRig) -> dict[str, Any]:
    """What the service shows once all of it is in the journal."""
    async with asyncio.timeout(20):
        while True:
            before = await rig.get("execution", "/state")
            await asyncio.sleep(0.3)
            after: dict[str, Any] = await rig.get("execution", "/state")
            if after == before and after["waiting"] == 0:
                return after


async def test_live_and_replayed_state_are_the_same_over_a_kill_and_from_every_form(
    rig: OrderRig, tmp_path: Path
) -> None:
    choose = random.Random(5)
    ids = []
    for number in range(60):
        urgent = choose.random() < 0.4
        side = choose.choice((Side.BUY, Side.SELL))
        ids.append(rig.send(rig.intent(side=side, urgency=Urgency.IMMEDIATE if urgent else Urgency.PASSIVE)))
        if number == 30:
            await rig.kill("execution")
            await rig.ready("execution")
        elif choose.random() < 0.3:
            rig.cancel(choose.choice(ids))
        await asyncio.sleep(0.02)
    live = await state(rig)
    assert live["orders"] > 20
    span = ("--json", "--from-seq", str(live["from_seq"]), "--until-seq", str(live["last_seq"]))
    code, out = await replay(rig.settings.nats.url, *span)
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and found["hash"] == live["hash"], (live, out[-3000:])
    assert found["positions"] == live["positions"] and found["open"] == live["open"]
    saved = str(tmp_path / "day.jsonl")
    for _ in range(20):
        # A copy of a directory that nats-server is writing to may catch it in the middle of a write; then it says so.
        code, of_directory = await replay(str(rig.home / "data"), *span, "--save", saved)
        if code == 0:
            break
        await asyncio.sleep(0.5)
    assert code == 0, of_directory
    _, of_file = await replay(saved, "--json")
    assert (
        json.loads(of_directory.splitlines()[-1])["hash"]
        == json.loads(of_file.splitlines()[-1])["hash"]
        == live["hash"]
    )
    _, stepped = await replay(saved, "--order", ids[0])
    assert ids[0] in stepped and " -> " in stepped
    lines = Path(saved).read_text().splitlines()
    Path(saved).write_text("\n".join(lines[:-1]) + "\n")
    _, shorter = await replay(saved, "--json")
    assert json.loads(shorter.splitlines()[-1])["lines"] == found["lines"] - 1
