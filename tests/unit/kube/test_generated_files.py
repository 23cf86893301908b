"""Files that are generated from the code: who adds a settings key or changes a resource writes them again."""

from __future__ import annotations

from pathlib import Path

from tickmesh.kube.generate import rendered

ROOT = Path(__file__).resolve().parents[3]


def test_the_charts_schema_and_the_definitions_are_what_the_code_generates() -> None:
    for path, text in rendered().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, (
            f"{path} is stale: make crds (PYTHONPATH=pkg python -m tickmesh.kube.generate .)"
        )
