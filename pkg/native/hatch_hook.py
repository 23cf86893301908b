"""Hook of ``pip install .``: the wheel carries the native half where it can be built, and is pure Python elsewhere.

An editable install is left alone: there ``make native`` puts the library beside it.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeHotPath(BuildHookInterface[Any]):
    """Builds with cargo and adds the library to ``tickmesh.hotpath``; says so and goes on where it cannot."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        build = _load(Path(self.root) / "pkg" / "native" / "build.py")
        try:
            library = build.build()
        except (build.CannotBuildError, OSError) as error:
            self.app.display_warning(f"no native hot path, the pure-Python one serves: {error}")
            return
        build_data["force_include"][str(library)] = f"tickmesh/hotpath/{library.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("tickmesh_native_build", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
