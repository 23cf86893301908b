"""helm for tests: which one, how a chart is rendered, and what is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml
from apiserver import ApiServer

from tickmesh.kube import desired

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "tickmesh"
Manifest = dict[str, Any]

VALUES = {
    "default": [],
    "production": ["-f", str(CHART / "values-production.yaml")],
    "autoscaled": ["-f", str(CHART / "values-production.yaml"), "--set", "recorder.autoscaling.enabled=true"],
    "credentials": ["--set", "nats.credentialsSecret=desk-creds,nats.credentialsKey=trader.creds"],
    "shared-memory": ["-f", str(CHART / "values-production.yaml"), "-f", str(CHART / "values-shared-memory.yaml")],
}
"""What the chart is rendered with in the tests, by name."""


def program() -> str | None:
    """Path of helm, or None."""
    named = os.environ.get("HELM") or shutil.which("helm")
    if named:
        return named
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tickmesh"
    found = sorted(cache.glob("helm-*/helm"), key=lambda p: p.stat().st_mtime)
    return str(found[-1]) if found else None


@dataclass(slots=True)
class Helm:
    """helm against one API server, or against none."""

    program: str
    api: ApiServer | None = None

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Look at ``returncode`` yourself."""
        where = [f"--kubeconfig={self.api.kubeconfig}"] if self.api is not None else []
        # The linked charts beside this one are named in a line each; nothing else of a good run is on stderr.
        return subprocess.run(
            [self.program, *arguments, *where], capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def ok(self, *arguments: str, timeout_s: float = 120) -> str:
        """Run, and fail with helm's own words."""
        done = self.run(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"helm {' '.join(arguments)}:\n{done.stderr}"
        return done.stdout

    def render(self, *values: str, name: str = "tickmesh", namespace: str = "trading") -> list[Manifest]:
        """Every manifest of the chart."""
        text = self.ok("template", name, str(CHART), "-n", namespace, *values)
        return [document for document in yaml.safe_load_all(text) if document]


def examples(manifests: list[Manifest]) -> list[Manifest]:
    """What the operator of a rendered release makes of the example strategies, one of them on the ring if there is one.

    The installation is the one that the chart hands to the operator.
    """
    (told,) = (m["data"]["installation.json"] for m in manifests if "installation.json" in m.get("data", {}))
    installation = msgspec.json.decode(told, type=desired.Installation)
    ring = any("hostPath" in str(pod) for _, pod in pod_specs(manifests))
    found: list[Manifest] = []
    for path in sorted((ROOT / "k8s" / "examples").glob("*.yaml")):
        for strategy in yaml.safe_load_all(path.read_text()):
            if strategy["kind"] == "Strategy":
                strategy["metadata"]["uid"] = str(uuid.uuid5(uuid.NAMESPACE_URL, path.name))
                if ring and path.stem == "momentum":
                    strategy["spec"]["placement"] = {"sharedMemory": True}
                found += desired.objects(strategy, installation)
    return found


def pod_specs(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """(name, pod template) of everything that becomes a pod."""
    found = []
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            found.append((name, manifest))
        elif manifest["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet"):
            found.append((name, manifest["spec"]["template"]))
    return found
