"""A supervised process comes back when it dies, stays down on a configuration mistake, and stops when told."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tickmesh.runtime.child import Child


def child(tmp_path: Path, code: str, **options: float) -> Child:
    return Child("toy", [sys.executable, "-c", code], env=dict(os.environ), log_dir=tmp_path, **options)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    toy = child(tmp_path, "import time; time.sleep(60)")
    await toy.start()
    first = toy.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(10):
        while toy.pid in (None, first):
            await asyncio.sleep(0.02)
    assert toy.restarts == 1
    await toy.stop()
    assert toy.pid is None


async def test_a_configuration_mistake_is_not_tried_again_and_its_sentence_is_kept(tmp_path: Path) -> None:
    toy = child(tmp_path, "import sys; print('toy: the key x is wrong', file=sys.stderr); sys.exit(2)")
    await toy.start()
    async with asyncio.timeout(10):
        while not toy.broken:
            await asyncio.sleep(0.02)
    assert toy.broken == "the key x is wrong"
    assert toy.restarts == 0
    await toy.stop()


async def test_a_process_that_ignores_the_stop_signal_is_killed_after_its_time(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    toy = child(tmp_path, code, stop_timeout_s=0.3)
    await toy.start()
    async with asyncio.timeout(10):
        while "up" not in toy.last_lines():
            await asyncio.sleep(0.02)
    await toy.stop()
    assert toy.pid is None
