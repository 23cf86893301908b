"""Scheduling classes of supervised processes, on a real kernel."""

import asyncio
import os
import platform
import sys
from pathlib import Path

import pytest

from tickmesh.runtime.child import Child
from tickmesh.runtime.priority import shorten_slice

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="scheduling classes are Linux'")


def test_a_background_child_gives_way_with_its_whole_session_and_a_hot_one_keeps_ours(tmp_path: Path) -> None:
    async def look(**turns: int) -> tuple[int, int, str]:
        child = Child(
            "sleeper", [sys.executable, "-c", "import time; time.sleep(30)"], env={}, log_dir=tmp_path, **turns
        )
        await child.start()
        try:
            assert child.pid is not None
            group = Path(f"/proc/{child.pid}/autogroup")
            session = group.read_text().split()[-1] if group.exists() else ""
            return os.getpriority(os.PRIO_PROCESS, child.pid), os.sched_getscheduler(child.pid), session
        finally:
            await child.stop()

    own = os.getpriority(os.PRIO_PROCESS, 0)
    nice, policy, session = asyncio.run(look(nice=7))
    assert (nice, policy) == (min(19, own + 7), os.SCHED_BATCH)
    assert session in ("", str(nice))
    nice, policy, session = asyncio.run(look(slice_us=200))
    assert (nice, policy) == (own, os.SCHED_OTHER)
    assert session in ("", str(own))


def test_a_slice_that_is_not_asked_for_is_left_alone() -> None:
    assert not shorten_slice(os.getpid(), 0)
