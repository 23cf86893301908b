"""The command line: readable help, one sentence per mistake, exit codes that scripts can rely on."""

import re

import pytest
from tests.gateway_desk import free_port

from tickmesh.runtime.cli import build_parser, main, seconds
from tickmesh.settings.load import keys, load, variable


@pytest.fixture
def nobody(monkeypatch) -> None:
    """Ports on which nobody listens."""
    monkeypatch.setenv("TICKMESH_GATEWAY__PORT", str(free_port()))
    monkeypatch.setenv("TICKMESH_EXECUTION__ADMIN_PORT", str(free_port()))


def test_help_names_every_command_and_exit_code() -> None:
    text = build_parser().format_help()
    for word in ("up", "status", "halt", "reduce", "resume", "config", "bench", "exit codes", "130"):
        assert re.search(rf"\b{word}\b", text), word


@pytest.mark.parametrize(
    "command", [["status"], ["status", "--json"], ["halt", "--reason", "x"], ["reduce", "--reason", "x"], ["resume"]]
)
def test_without_a_running_system_each_command_says_so_in_one_sentence(command, nobody, capsys) -> None:
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said.startswith("tickmesh: nothing answers at http://127.0.0.1:")
    assert said.count("\n") == 1


def test_a_halt_needs_a_reason(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["halt"])
    assert ended.value.code == 2
    assert "--reason" in capsys.readouterr().err


def test_an_address_that_is_none_is_named(capsys) -> None:
    assert main(["status", "--url", "file:///etc/passwd"]) == 2
    assert "http://" in capsys.readouterr().err


def test_config_documents_every_key(capsys) -> None:
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    for path, info in keys():
        block = text.split(f"{variable(path)} = ", 1)
        assert len(block) == 2, path
        lines = block[1].splitlines()
        assert lines[1].strip() == info.description, path
        assert "default" in lines[2], path


def test_config_shows_unit_range_choices_and_what_was_changed(monkeypatch, capsys) -> None:
    monkeypatch.setenv("TICKMESH_LOCAL__DRAIN_TIMEOUT_S", "12")
    assert main(["config", "local"]) == 0
    text = capsys.readouterr().out
    assert "TICKMESH_LOCAL__DRAIN_TIMEOUT_S = 12.0" in text
    assert "default 30.0; s; above 0 to 300" in text
    assert "nats or shm" in text
    assert "TICKMESH_NATS__URL" not in text


def test_config_hides_secrets(monkeypatch, capsys) -> None:
    monkeypatch.setenv("TICKMESH_GATEWAY__TOKEN", "correct-horse-battery")
    monkeypatch.setenv("TICKMESH_POSTGRES__DSN", "postgresql://ann:staple9@127.0.0.1/x")
    monkeypatch.setenv("TICKMESH_NATS__URL", "nats://ann:staple9@127.0.0.1:4222")
    for arguments in (["config"], ["config", "--yaml"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert "horse" not in text
        assert "staple9" not in text
        assert "tickmesh-local-secret" not in text


def test_the_printed_file_is_a_configuration_file_and_changes_nothing(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setenv("TICKMESH_GATEWAY__PORT", "18000")
    assert main(["config", "--yaml"]) == 0
    file = tmp_path / "tickmesh.yaml"
    file.write_text(capsys.readouterr().out)
    assert load({"TICKMESH_CONFIG": str(file)}) == load()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TICKMESH_LOCAL__TRANSPORT", "pigeon", "nats or shm"),
        ("TICKMESH_GATEWAY__PORT", "70000", "gateway.port"),
        ("TICKMESH_GATEWAY__PORTT", "1", "TICKMESH_GATEWAY__PORT?"),
    ],
)
def test_a_wrong_key_or_value_ends_in_one_sentence_that_names_it(name, value, said, monkeypatch, capsys) -> None:
    monkeypatch.setenv(name, value)
    assert main(["config"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_word_that_no_key_contains_is_said(capsys) -> None:
    assert main(["config", "zebra"]) == 2
    assert "zebra" in capsys.readouterr().err


def test_durations_are_read_as_people_write_them() -> None:
    assert [seconds(t) for t in ("30", "30s", "5m", "1h", "250ms")] == [30, 30, 300, 3600, 0.25]
