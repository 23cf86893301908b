"""Ticks and intents over the shared-memory rings: whoever writes or reads one may be killed."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import Run, assert_sound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    one = Run(tmp_path / "data", "--transport", "shm", "--for", "25s")
    yield one
    if one.process.poll() is None:
        one.kill_all()


def test_killing_each_side_of_the_rings_loses_and_doubles_nothing(run: Run) -> None:
    run.wait_for("dashboard:")
    for victim in ("strategy", "execution", "feed"):
        time.sleep(5)
        run.children()[victim].kill()
    summary = run.summary()
    assert_sound(summary)
    assert summary["restarts"] == {"strategy": 1, "execution": 1, "feed": 1}
    assert summary["fills"] > 0
