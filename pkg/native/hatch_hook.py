"""Hook of ``pip install .``: the wheel carries the native half where it can be built, and is pure Python elsewhere.

A pure one carries the reason instead, which ``tickmesh version`` tells. An editable install is left alone: there
``make native`` puts the library beside it.
"""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeHotPath(BuildHookInterface[Any]):
    """Builds with cargo and adds the library to ``tickmesh.hotpath``; says so and goes on where it cannot."""

    _notes: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        build = _load(Path(self.root) / "pkg" / "native" / "build.py")
        try:
            library = build.build()
        except (build.CannotBuildError, OSError) as error:
            self.app.display_warning(f"no native hot path, the pure-Python one serves: {error}")
            self._notes = Path(tempfile.mkdtemp())
            note = self._notes / f"{build.NAME}_absent.txt"
            note.write_text(f"it could not be built when tickmesh was installed: {error}\n", encoding="utf-8")
            build_data["force_include"][str(note)] = f"tickmesh/hotpath/{note.name}"
            return
        build_data["force_include"][str(library)] = f"tickmesh/hotpath/{library.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._notes is not None:
            shutil.rmtree(self._notes, ignore_errors=True)


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("tickmesh_native_build", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
