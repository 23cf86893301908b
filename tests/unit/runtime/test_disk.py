"""A disk without room is refused in one sentence that says what to do, before anything starts."""

from pathlib import Path

import pytest

from tickmesh.runtime.cli import main


def test_too_little_room_for_the_state_ends_the_start_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TICKMESH_LOCAL__MIN_FREE_MB", str(10**9))
    assert main(["up", "--data-dir", str(tmp_path), "--free-ports"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "is full" in shown.err
    assert "free space there, or choose another directory with --data-dir" in shown.err
    assert len(shown.err.strip().splitlines()) == 1


def test_a_replay_speed_without_a_replay_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--replay-speed", "5", "--for", "1s"]) == 2
    assert "--replay-speed needs --replay FILE" in capsys.readouterr().err
