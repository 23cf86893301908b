"""The Tiltfile without tilt: Starlark is Python enough to be run here with Tilt's functions noted down.

What it names must be in the rendered chart. That tilt itself accepts it is not shown.
"""

from __future__ import annotations

import os
import types
from pathlib import Path
from typing import Any

import pytest
from chart import Helm, program

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = (
    "local_resource", "docker_build", "k8s_yaml", "k8s_resource", "allow_k8s_contexts", "probe", "link", "sync",
    "http_get_action", "port_forward", "helm", "fall_back_on",
)  # fmt: skip


def follow(**config: Any) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Every call that the Tiltfile makes, in order."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def noted(name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.append((name, arguments, named))
            return (name, arguments)

        return call

    names: dict[str, Any] = {name: noted(name) for name in FUNCTIONS}
    names["config"] = types.SimpleNamespace(
        define_bool=lambda *_, **__: None, define_string=lambda *_, **__: None, parse=lambda: config
    )
    names["os"] = types.SimpleNamespace(environ=dict(os.environ))
    names["TRIGGER_MODE_MANUAL"] = "manual"
    exec(compile((ROOT / "Tiltfile").read_text(encoding="utf-8"), "Tiltfile", "exec"), names)
    return calls


def test_every_resource_it_groups_is_in_the_rendered_chart() -> None:
    found = program()
    if found is None:
        pytest.skip("no helm here: make helm builds one (needs a Go toolchain)")
    calls = follow()
    ((_, arguments, named),) = [c for c in calls if c[0] == "helm"]
    values = [v for path in named["values"] for v in ("-f", str(ROOT / path))]
    sets = [s for pair in named["set"] for s in ("--set", pair)]
    assert arguments == ("charts/tickmesh",)
    manifests = Helm(found).render(*values, *sets, name=named["name"])
    workloads = {m["metadata"]["name"] for m in manifests if m["kind"] in ("Deployment", "StatefulSet", "Job")}
    grouped = {a[0]: n for name, a, n in calls if name == "k8s_resource"}
    assert set(grouped) == workloads
    for name, options in grouped.items():
        assert options["labels"], name
        assert set(options.get("resource_deps", [])) <= workloads, name
    assert grouped["tickmesh-gateway"]["port_forwards"]


def test_live_update_copies_what_the_image_holds_to_where_it_holds_it() -> None:
    ((_, _, build),) = [c for c in follow() if c[0] == "docker_build"]
    python = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("ARG PYTHON="))
    minor = ".".join(python.removeprefix("ARG PYTHON=").split(".")[:2])
    synced = {arguments[0]: arguments[1] for kind, arguments in build["live_update"] if kind == "sync"}
    assert synced["pkg/tickmesh"] == f"/opt/tickmesh/lib/python{minor}/site-packages/tickmesh"
    for path in (*synced, *build["only"]):
        assert (ROOT / path).exists(), path


def test_there_is_a_replay_button_in_a_cluster_and_without_one() -> None:
    for config in ({"capture": "x.gz"}, {"capture": "x.gz", "local": True}):
        buttons = {a[0]: n for name, a, n in follow(**config) if name == "local_resource"}
        assert "--replay x.gz" in buttons["replay"]["cmd"]
        assert buttons["replay"]["trigger_mode"] == "manual"
