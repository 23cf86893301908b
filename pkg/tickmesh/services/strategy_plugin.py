"""Finding the class of a plugin: entry point, ``package.module:Class``, or a single ``.py`` file.

In: a PluginRef and the folder of its resource. Out: a LoadedPlugin with a new instance and a fingerprint that
changes when its code does. A plugin that cannot be loaded is a ConfigError that names resource and reason.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tickmesh.domain.errors import ConfigError
from tickmesh.strategy.guard import describe
from tickmesh.strategy.interface import Strategy
from tickmesh.strategy.resource import PluginRef, StrategyResource

GROUP = "tickmesh.strategies"
_EXAMPLES = "tickmesh.strategy.examples"
BUILT_IN = {
    "arbitrage": f"{_EXAMPLES}.arbitrage:Arbitrage",
    "market-making": f"{_EXAMPLES}.market_making:MarketMaking",
    "mean-reversion": f"{_EXAMPLES}.mean_reversion:MeanReversion",
    "momentum": f"{_EXAMPLES}.momentum:Momentum",
    "scalping": f"{_EXAMPLES}.scalping:Scalping",
}
"""The examples by name, so that a checkout that is not installed has them too."""


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A class, ready to be made, and what its code looked like."""

    cls: type[Strategy]
    fingerprint: str

    def make(self) -> Strategy:
        """A new instance."""
        return self.cls()


def load_plugin(resource: StrategyResource) -> LoadedPlugin:
    """Load the plugin of ``resource``; a file, or a module whose file changed, is read anew.

    Raises:
        ConfigError: there is no such plugin, or it cannot be imported; the sentence names file and key.
    """
    ref = resource.spec.plugin
    try:
        if ref.file:
            return _from_file(resource, ref.file)
        key, target = ("module", ref.module) if ref.module else ("entryPoint", _entry_point(resource, ref))
        return _from_module(resource, key, target)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        what = ref.file or ref.module or ref.entry_point
        raise _wrong(resource, _key(ref), f"importing {what} {describe(error)}") from None


def fingerprint(resource: StrategyResource) -> str:
    """What the plugin's file looks like now, without loading it; empty when it cannot be told."""
    ref = resource.spec.plugin
    try:
        if ref.file:
            return _digest(_path(resource, ref.file)[0].read_bytes())
        target = ref.module or BUILT_IN.get(ref.entry_point, "")
        module = sys.modules.get(target.partition(":")[0])
        source = getattr(module, "__file__", None)
        return _digest(Path(source).read_bytes()) if source else ""
    except OSError:
        return ""


def _from_file(resource: StrategyResource, spec: str) -> LoadedPlugin:
    path, wanted = _path(resource, spec)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise _wrong(resource, "file", f"cannot read {path}: {error.strerror}") from None
    # Compiled from what was read, not through the import system: its cache goes by mtime and would miss quick edits.
    name = f"tickmesh_plugin_{_digest(str(path).encode())}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    previous = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException:
        if previous is not None:
            sys.modules[name] = previous
        else:
            del sys.modules[name]
        raise
    found = {k: v for k, v in vars(module).items() if _is_plugin(v) and v.__module__ == name}
    if wanted:
        if wanted not in found:
            raise _wrong(resource, "file", f"{path} defines no Strategy class {wanted}")
        return LoadedPlugin(found[wanted], _digest(source))
    if len(found) != 1:
        said = "none" if not found else ", ".join(sorted(found))
        raise _wrong(
            resource, "file", f"{path} must define one Strategy class, or write {path.name}:Class; found {said}"
        )
    return LoadedPlugin(next(iter(found.values())), _digest(source))


def _from_module(resource: StrategyResource, key: str, target: str) -> LoadedPlugin:
    module_name, _, class_name = target.partition(":")
    loaded = sys.modules.get(module_name)
    before = getattr(loaded, "__tickmesh_digest__", None)
    module = importlib.import_module(module_name)
    source = getattr(module, "__file__", None)
    digest = _digest(Path(source).read_bytes()) if source else ""
    if before is not None and before != digest:
        module = _fresh(module, Path(str(source)))
    module.__dict__["__tickmesh_digest__"] = digest
    cls = getattr(module, class_name, None)
    if cls is None or not _is_plugin(cls):
        raise _wrong(resource, key, f"{target} is not a class derived from tickmesh.strategy.interface.Strategy")
    return LoadedPlugin(cls, digest)


def _fresh(module: types.ModuleType, source: Path) -> types.ModuleType:
    """Run an edited module's code in a new module; the old one stays when it fails."""
    new = types.ModuleType(module.__name__)
    new.__dict__.update({k: v for k, v in vars(module).items() if k.startswith("__")})
    exec(compile(source.read_bytes(), str(source), "exec"), new.__dict__)
    sys.modules[module.__name__] = new
    return new


def _entry_point(resource: StrategyResource, ref: PluginRef) -> str:
    for point in importlib.metadata.entry_points(group=GROUP, name=ref.entry_point):
        return point.value
    if ref.entry_point in BUILT_IN:
        return BUILT_IN[ref.entry_point]
    known = sorted({*BUILT_IN, *(p.name for p in importlib.metadata.entry_points(group=GROUP))})
    raise _wrong(resource, "entryPoint", f"no package offers {ref.entry_point!r}; there are {', '.join(known)}")


def _path(resource: StrategyResource, spec: str) -> tuple[Path, str]:
    name, _, wanted = spec.partition(".py")
    path = Path(f"{name}.py")
    return path if path.is_absolute() else Path(resource.file).parent / path, wanted.lstrip(":")


def _is_plugin(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Strategy) and found is not Strategy


def _key(ref: PluginRef) -> str:
    return "file" if ref.file else "module" if ref.module else "entryPoint"


def _wrong(resource: StrategyResource, key: str, text: str) -> ConfigError:
    return ConfigError(f"{resource.file}: {resource.name}: spec.plugin.{key}: {text}")


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()
