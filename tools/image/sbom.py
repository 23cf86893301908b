"""Software bill of materials of the environment that runs this, as CycloneDX 1.6: every distribution and every crate.

Usage: python tools/image/sbom.py Cargo.lock > sbom.cdx.json. Only the standard library is needed.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

_TOOLS = frozenset({"pip", "setuptools"})


def python_components() -> list[dict[str, Any]]:
    """Installed distributions, by name."""
    found = {}
    for distribution in distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if name in _TOOLS:
            continue
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{distribution.version}",
            "name": name,
            "version": distribution.version,
            "purl": f"pkg:pypi/{name}@{distribution.version}",
        }
        licence = distribution.metadata.get("License-Expression")
        if licence:
            component["licenses"] = [{"expression": licence}]
        found[name] = component
    return [found[name] for name in sorted(found)]


def crates(lock: Path) -> list[dict[str, Any]]:
    """What the native half is made of, with the registry's own checksums."""
    made = []
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
        purl = f"pkg:cargo/{package['name']}@{package['version']}"
        component = {"type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"]}
        component["purl"] = purl
        if "checksum" in package:
            component["hashes"] = [{"alg": "SHA-256", "content": package["checksum"]}]
        made.append(component)
    return made


def bill(lock: Path) -> dict[str, Any]:
    """The document; the same for the same content, so that it can be compared between builds."""
    components = [*python_components(), *crates(lock)]
    main = next(c for c in components if c["name"] == "tickmesh")
    interpreter = platform.python_version()
    components.append({"type": "platform", "bom-ref": f"pkg:generic/python@{interpreter}", "name": "python",
                       "version": interpreter, "purl": f"pkg:generic/python@{interpreter}"})  # fmt: skip
    text = json.dumps(components, sort_keys=True)
    serial = hashlib.sha256(text.encode()).hexdigest()
    parts = (serial[:8], serial[8:12], "5" + serial[13:16], "8" + serial[17:20], serial[20:32])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{'-'.join(parts)}",
        "version": 1,
        "metadata": {"component": {**main, "type": "application"}},
        "components": [c for c in components if c is not main],
    }


if __name__ == "__main__":
    json.dump(bill(Path(sys.argv[1])), sys.stdout, indent=1)
