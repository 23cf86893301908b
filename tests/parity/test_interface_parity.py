"""Both halves have the same face: classes, methods, arguments. What one lacks would be met first in production."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tickmesh import hotpath

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")

PACKAGE = Path(hotpath.__file__).resolve().parents[1]
PURE = [
    importlib.import_module(f"tickmesh.hotpath.pure.{p.stem}") for p in (PACKAGE / "hotpath" / "pure").glob("[!_]*")
]
TWINS = {name: found for name in hotpath.__all__ for found in [getattr(hotpath.native, name, None)] if callable(found)}
INSIDE = {
    "L2Book": {"bid_lots", "ask_lots", "bid_lots_below", "ask_lots_above"},
    "BookReplica": {"touch", "keep_next_trade"},
}
"""What the twins' own modules say to each other: in the native half that is Rust calling Rust."""
NATIVE_ONLY = {"Market": {"left_to_twin"}}
"""How often the native parser asked the twin; the twin has nobody to ask."""


def pure(name: str) -> Any:
    """The twin of a native class or function."""
    found = [getattr(module, name) for module in PURE if getattr(module, name, None) is not None]
    owned = [kind for kind in found if kind.__module__.startswith("tickmesh.hotpath.pure.")]
    assert owned, f"{name} has no twin"
    return owned[0]


def members(kind: type) -> set[str]:
    """Methods, properties and attributes; those that a twin sets in its constructor are read from its source."""
    names = {name for name in dir(kind) if not name.startswith("_")}
    if kind.__module__.startswith("tickmesh.hotpath.pure."):
        names |= set(re.findall(r"\bself\.([a-z]\w*)(?:: [^=]+)? = ", inspect.getsource(kind.__init__)))
    return names


def arguments(call: Any) -> list[tuple[str, Any, bool]]:
    """Name, kind and optionality of each public one. Defaults that are constants in Rust cannot be compared."""
    given = inspect.signature(call).parameters.values()
    return [(p.name, p.kind, p.default is not p.empty) for p in given if p.name != "self" and p.name[0] != "_"]


def test_every_class_of_the_native_half_is_one_that_services_get() -> None:
    native = {name for name in dir(hotpath.native) if isinstance(getattr(hotpath.native, name), type)}
    assert native - {"Taken"} == {name for name, kind in TWINS.items() if isinstance(kind, type)}
    assert len(native) >= 16


@pytest.mark.parametrize("name", TWINS)
def test_both_halves_have_the_same_methods_and_attributes(name: str) -> None:
    native, twin = TWINS[name], pure(name)
    if not isinstance(native, type):
        return
    assert members(twin) - INSIDE.get(name, set()) == members(native) - NATIVE_ONLY.get(name, set())
    for special in ("__len__", "__contains__", "__iter__", "__getitem__"):
        assert hasattr(twin, special) == hasattr(native, special), special


@pytest.mark.parametrize("name", TWINS)
def test_both_halves_take_the_same_arguments(name: str) -> None:
    native, twin = TWINS[name], pure(name)
    if not isinstance(native, type):
        assert arguments(native) == arguments(twin)
        return
    methods = [m for m in members(twin) - INSIDE.get(name, set()) if inspect.isfunction(getattr(twin, m, None))]
    for method in methods:
        assert arguments(getattr(native, method)) == arguments(getattr(twin, method)), method
    if name not in ("SymbolRisk", "AccountRisk"):  # made to be extended: they let a subclass's arguments through
        assert arguments(native) == arguments(twin)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in INSIDE.items() for name in sorted(names)])
def test_nobody_outside_calls_what_only_the_twin_has(kind: str, name: str) -> None:
    used = [
        path
        for path in PACKAGE.rglob("*.py")
        if "pure" not in path.parts and re.search(rf"\b(book|replica|_replica)\.{name}\(", path.read_text())
    ]
    assert used == [], f"{kind}.{name} is not in the native half"
    assert hasattr(pure(kind), name)
