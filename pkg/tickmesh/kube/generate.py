"""Write the CRDs and the chart's schema to the folders that ship them: ``python -m tickmesh.kube.generate [ROOT]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from tickmesh.kube import chart_schema
from tickmesh.kube.crds import all_definitions

_HEADER = "# Generated from pkg/tickmesh/kube/crds.py by `make crds`; change it there.\n"


def rendered() -> dict[str, str]:
    """Every generated file as text, by its path under the root."""
    files = {}
    for name, definition in all_definitions().items():
        body = _HEADER + yaml.safe_dump(definition, sort_keys=False, width=120)
        files[f"k8s/crds/{name}"] = body
        files[f"charts/tickmesh-crds/templates/{name}"] = _as_template(body)
    files["charts/tickmesh/values.schema.json"] = json.dumps(chart_schema.schema(), indent=2) + "\n"
    return files


def _as_template(body: str) -> str:
    """The CRD as a Helm template: kept when the release is removed, unless ``keep`` is false."""
    head, tail = body.split("metadata:\n", 1)
    keep = "  {{- if .Values.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
    return f"{head}metadata:\n{keep}{tail}"


def main(root: Path) -> None:
    """Write every generated file below ``root``."""
    for path, body in rendered().items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(body, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
