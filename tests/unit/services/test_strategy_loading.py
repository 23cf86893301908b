"""Finding plugins and following resource files."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from tickmesh.domain.errors import ConfigError
from tickmesh.services.strategy_files import ResourceFiles
from tickmesh.services.strategy_plugin import BUILT_IN, fingerprint, load_plugin
from tickmesh.strategy.resource import Metadata, PluginRef, StrategyResource, StrategySpec

CODE = """
from tickmesh.strategy.interface import Strategy

class Mine(Strategy):
    answer = {answer}
"""
YAML = """
apiVersion: tickmesh.io/v1alpha1
kind: Strategy
metadata: {{name: {name}}}
spec: {{plugin: {{entryPoint: momentum}}}}
"""


def resource(folder: Path, **plugin: str) -> StrategyResource:
    return StrategyResource(
        metadata=Metadata(name="s"), spec=StrategySpec(plugin=PluginRef(**plugin)), file=str(folder / "s.yaml")
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_example_is_found_by_its_entry_point(name: str, tmp_path: Path) -> None:
    assert load_plugin(resource(tmp_path, entry_point=name)).make().name == name


def test_a_module_path_names_package_and_class(tmp_path: Path) -> None:
    ref = "tickmesh.strategy.examples.momentum:Momentum"
    assert load_plugin(resource(tmp_path, module=ref)).make().name == "momentum"


def test_a_single_file_beside_the_resource_is_read_anew_at_once_when_it_was_edited(tmp_path: Path) -> None:
    own = resource(tmp_path, file="mine.py")
    for answer in (1, 2, 3):
        (tmp_path / "mine.py").write_text(CODE.format(answer=answer))
        before = fingerprint(own)
        loaded = load_plugin(own)
        assert loaded.cls.answer == answer  # type: ignore[attr-defined]
        assert loaded.fingerprint == before


def test_an_edited_module_is_loaded_anew_and_a_broken_one_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "hot_module.py"
    own = resource(tmp_path, module="hot_module:Mine")
    path.write_text(CODE.format(answer=1))
    assert load_plugin(own).cls.answer == 1  # type: ignore[attr-defined]
    path.write_text(CODE.format(answer=2))
    assert load_plugin(own).cls.answer == 2  # type: ignore[attr-defined]
    path.write_text("nonsense(")
    with pytest.raises(ConfigError):
        load_plugin(own)
    assert sys.modules["hot_module"].Mine.answer == 2
    del sys.modules["hot_module"]


@pytest.mark.parametrize(
    ("plugin", "code", "words"),
    [
        ({"entry_point": "momentun"}, "", "spec.plugin.entryPoint: no package offers 'momentun'; there are arbitrage"),
        ({"module": "no.such:Thing"}, "", "spec.plugin.module: importing no.such:Thing raised ModuleNotFoundError"),
        ({"module": "decimal:Decimal"}, "", "spec.plugin.module: decimal:Decimal is not a class derived from"),
        ({"file": "gone.py"}, "", "spec.plugin.file: cannot read"),
        ({"file": "mine.py"}, "x = 1", "must define one Strategy class"),
        ({"file": "mine.py"}, CODE.format(answer=1) + "class Other(Strategy): pass", "found Mine, Other"),
        ({"file": "mine.py:Gone"}, CODE.format(answer=1), "defines no Strategy class Gone"),
        ({"file": "mine.py"}, "raise RuntimeError('at import')", "raised RuntimeError (at import) at mine.py:1"),
        ({"file": "mine.py"}, "import sys; sys.exit(1)", "raised SystemExit"),
        ({"file": "mine.py"}, "def broken(:", "raised SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_sentence(
    tmp_path: Path, plugin: dict[str, str], code: str, words: str
) -> None:
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(ConfigError) as caught:
        load_plugin(resource(tmp_path, **plugin))
    said = str(caught.value)
    assert words in said and "s.yaml: s:" in said and "\n" not in said, said


def test_an_edit_counts_when_two_looks_in_a_row_saw_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(YAML.format(name="one"))
    files = ResourceFiles(str(path))
    first = files.look()
    assert first is not None and list(first.resources) == ["one"]
    assert files.look() is None
    path.write_text("")  # an editor truncates ...
    assert files.look() is None
    path.write_text(YAML.format(name="two"))  # ... and writes
    assert files.look() is None
    second = files.look()
    assert second is not None and list(second.resources) == ["two"]


def test_a_broken_file_of_a_directory_keeps_what_it_held_and_a_deleted_one_does_not(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(YAML.format(name=name))
    (tmp_path / "notes.txt").write_text("not ours")
    files = ResourceFiles(str(tmp_path))
    files.look()
    (tmp_path / "one.yaml").write_text("spec: [")
    (tmp_path / "two.yaml").unlink()
    files.look()
    seen = files.look()
    assert seen is not None
    assert list(seen.resources) == ["one"]
    assert len(seen.mistakes) == 1 and "one.yaml:1: not YAML" in seen.mistakes[0]


def test_a_name_that_two_files_claim_is_a_mistake_and_the_first_file_has_it(tmp_path: Path) -> None:
    for file in ("a", "b"):
        (tmp_path / f"{file}.yaml").write_text(YAML.format(name="same"))
    seen = ResourceFiles(str(tmp_path)).look()
    assert seen is not None
    assert seen.resources["same"].file.endswith("a.yaml")
    assert "b.yaml: metadata.name: same is defined in" in seen.mistakes[0]


def test_a_path_that_is_not_there_is_one_sentence_and_the_built_in_example_needs_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no strategy file or directory"):
        ResourceFiles(str(tmp_path / "gone")).look()
    seen = ResourceFiles("").look()
    assert seen is not None and list(seen.resources) == ["market-making"]


def test_a_checkpoint_survives_its_encoding() -> None:
    from tickmesh.services.strategy_checkpoint import Checkpoint

    checkpoint = Checkpoint(name="s", epoch=5, plugin_state={"a": [1, 2.5, "x"]})
    again = msgspec.json.decode(msgspec.json.encode(checkpoint), type=Checkpoint)
    assert again == checkpoint
    assert msgspec.json.decode(b'{"name":"s"}', type=Checkpoint) == Checkpoint(name="s")
