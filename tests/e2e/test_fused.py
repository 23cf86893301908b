"""Feed, strategy and execution in one process, which rehearses: the same promises, also when it is killed."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tickmesh import hotpath

sys.path.insert(0, str(Path(__file__).parent))
from harness import Run, assert_sound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("TICKMESH_LOCAL__REHEARSE_MS", "2")
    one = Run(tmp_path / "data", "--fused", "--for", "25s")
    yield one
    if one.process.poll() is None:
        one.kill_all()


def test_killing_the_fused_process_again_and_again_loses_and_doubles_nothing(run: Run) -> None:
    run.wait_for("dashboard:")
    assert not {"feed", "strategy", "execution"} & run.children().keys()
    for _ in range(3):
        time.sleep(4)
        run.children()["hot"].kill()
    summary = run.summary()
    assert run.halves()["hot"] == {hotpath.HALF}
    assert_sound(summary)
    assert summary["restarts"] == {"hot": 3}
    assert summary["fills"] > 0
    assert summary["latency_us"]["tick_to_order"]["n"] > 0


def test_killing_nats_under_the_fused_process_loses_and_doubles_nothing(run: Run) -> None:
    run.wait_for("dashboard:")
    time.sleep(6)
    run.children()["nats"].kill()
    summary = run.summary()
    assert_sound(summary)
    assert summary["restarts"] == {"nats": 1}
