"""The Strategy resource: the YAML that ``kubectl apply`` takes, checked without a cluster.

In: YAML text and the name it came under. Out: StrategyResource objects, or one ResourceError whose sentence names
file, line and field. Reads no file and loads no plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
import yaml

from tickmesh.domain.enums import Mode
from tickmesh.domain.errors import ConfigError
from tickmesh.strategy.share import Share

API_VERSION = "tickmesh.io/v1alpha1"
KIND = "Strategy"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MODULE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PATH = re.compile(r" - at `(?:key in )?\$(.*?)`$")


class ResourceError(ConfigError):
    """A strategy file is wrong; nothing of it was applied."""

    def __init__(self, file: str, line: int, field: str, text: str) -> None:
        at = f"{file}:{line}" if line else file
        super().__init__(f"{at}: {field}: {text}" if field else f"{at}: {text}")
        self.file = file
        self.line = line
        self.field = field


class OnStale(StrEnum):
    """What happens to resting orders while the book of their symbol cannot be trusted."""

    CANCEL = "Cancel"
    KEEP = "Keep"


class PluginRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Where the class is: exactly one of an entry point of group ``tickmesh.strategies``, ``package.module:Class``,
    or a single file (``path.py`` or ``path.py:Class``, relative to the resource)."""

    entry_point: str = ""
    module: str = ""
    file: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Bounds on one strategy, enforced before an intent is made. Quantities are in base currency, money in quote.

    ``max_position`` is per symbol and includes open orders. ``cool_down_ms`` is the least time between two new
    orders on one side of one symbol.
    """

    max_position: Decimal = Decimal("0.1")
    max_order_notional: Decimal = Decimal(5000)
    max_open_orders: int = 8
    cool_down_ms: int = 200
    max_orders_per_second: int = 10


class StrategySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The ``spec`` of the resource; empty ``venue``, ``account`` and ``symbols`` mean the ones of the settings.

    ``replicas``, ``image``, ``resources`` and ``placement`` are the operator's; a process that runs alone has no use
    for them.
    """

    plugin: PluginRef
    parameters: dict[str, Any] = {}
    mode: Mode = Mode.LIVE
    venue: str = ""
    account: str = ""
    symbols: tuple[str, ...] = ()
    limits: Limits = Limits()
    paused: bool = False
    on_stale: OnStale = OnStale.CANCEL
    shards: int = 1
    replicas: int = 1
    image: str = ""
    resources: dict[str, Any] = {}
    placement: dict[str, Any] = {}


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The part of Kubernetes' ObjectMeta that we read; the rest is Kubernetes' own."""

    name: str
    generation: int = 0


class StrategyResource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One Strategy. ``file`` is where it came from, for messages and relative plugin paths. ``share`` is set where
    it is run: the symbols of ``spec`` are then those of one shard."""

    metadata: Metadata
    spec: StrategySpec
    file: str = ""
    share: Share = Share()

    @property
    def name(self) -> str:
        return self.metadata.name


def parse(text: str, file: str) -> list[StrategyResource]:
    """Every Strategy in a multi-document YAML text; documents of other tickmesh kinds are passed over.

    Raises:
        ResourceError: the first mistake; nothing of the text should be applied.
    """
    found: list[StrategyResource] = []
    for node, document in _documents(text, file):
        if document is None:
            continue
        resource = _one(node, document, file)
        if resource is None:
            continue
        if any(other.name == resource.name for other in found):
            raise ResourceError(
                file, _line(node, "metadata.name"), "metadata.name", f"{resource.name} is defined twice"
            )
        found.append(resource)
    return found


def from_document(document: Any, file: str) -> StrategyResource:
    """One Strategy that is decoded already, as the operator hands it to its pods.

    Raises:
        ResourceError: the first mistake.
    """
    resource = _one(None, document, file)
    if resource is None:
        raise ResourceError(file, 0, "kind", f"must be {KIND}")
    return resource


def _documents(text: str, file: str) -> Iterator[tuple[yaml.Node | None, Any]]:
    try:
        loader = yaml.SafeLoader(text)
        try:
            while loader.check_node():
                node = loader.get_node()
                _refuse_duplicates(node, file)
                yield node, loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(error.problem or error.context or "it cannot be read").split())
        raise ResourceError(file, mark.line + 1 if mark else 0, "", f"not YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise ResourceError(file, 0, "", f"not YAML: {' '.join(str(error).split())}") from None


def _refuse_duplicates(node: yaml.Node | None, file: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise ResourceError(file, key.start_mark.line + 1, name, "this key stands twice in one mapping")
            seen.add(name)
            _refuse_duplicates(value, file)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, file)


def _one(node: yaml.Node | None, document: Any, file: str) -> StrategyResource | None:
    def fail(field: str, text: str) -> ResourceError:
        return ResourceError(file, _line(node, field), field, text)

    if not isinstance(document, dict):
        raise fail("", f"a Strategy resource is a mapping with apiVersion, kind, metadata and spec, found {document!r}")
    api_version, kind = document.get("apiVersion"), document.get("kind")
    if isinstance(api_version, str) and api_version.startswith("tickmesh.io/") and kind not in (None, KIND):
        return None
    if api_version != API_VERSION:
        raise fail("apiVersion", f"must be {API_VERSION}, found {api_version!r}")
    if kind != KIND:
        raise fail("kind", f"must be {KIND}, found {kind!r}")
    for key in document:
        if key not in ("apiVersion", "kind", "metadata", "spec", "status"):
            raise fail(str(key), "unknown field; a resource has apiVersion, kind, metadata and spec")
    try:
        resource = msgspec.convert(
            {"metadata": document.get("metadata"), "spec": document.get("spec"), "file": file},
            StrategyResource,
            strict=True,
        )
    except msgspec.ValidationError as error:
        field, text = _readable(str(error))
        raise fail(field, text) from None
    for field, text in _mistakes(resource):
        raise fail(field, text)
    return resource


def _readable(message: str) -> tuple[str, str]:
    """msgspec's ``... - at `$.spec.x[...]` `` as (field, sentence)."""
    match = _PATH.search(message)
    field = match[1].lstrip(".") if match else ""
    text = message[: match.start()] if match else message
    unknown = re.match(r"Object contains unknown field `(.*)`", text)
    if unknown:
        return f"{field}.{unknown[1]}".lstrip("."), "unknown field"
    missing = re.match(r"Object missing required field `(.*)`", text)
    if missing:
        return f"{field}.{missing[1]}".lstrip("."), "is missing"
    if text.startswith("Invalid enum value"):
        allowed = ", ".join(Mode) if field.endswith("mode") else ", ".join(OnStale)
        return field, f"{text.split('value ')[-1].strip('`')} is not one of {allowed}"
    return field, f"{text[:1].lower()}{text[1:]}".replace("`", "")


def _mistakes(resource: StrategyResource) -> Iterator[tuple[str, str]]:
    spec, limits = resource.spec, resource.spec.limits
    if not _NAME.fullmatch(resource.name):
        yield "metadata.name", f"{resource.name!r} must be lower-case letters, digits and dashes, at most 63"
    plugin = spec.plugin
    if sum(map(bool, (plugin.entry_point, plugin.module, plugin.file))) != 1:
        yield "spec.plugin", "give exactly one of entryPoint, module and file"
    if plugin.module and not _MODULE.fullmatch(plugin.module):
        yield "spec.plugin.module", f"{plugin.module!r} must read package.module:Class"
    if plugin.file and ".py" not in plugin.file:
        yield "spec.plugin.file", f"{plugin.file!r} must be a .py file, with :Class behind it if it holds several"
    for i, symbol in enumerate(spec.symbols):
        if not symbol or not symbol.isalnum() or symbol != symbol.upper():
            yield f"spec.symbols[{i}]", f"{symbol!r} is not a symbol such as BTCUSDT"
    if spec.shards < 1 or (spec.symbols and spec.shards > len(spec.symbols)):
        yield "spec.shards", f"must be from 1 to the number of symbols, found {spec.shards}"
    for name, value, least in (
        ("maxPosition", limits.max_position, Decimal(0)),
        ("maxOrderNotional", limits.max_order_notional, Decimal(0)),
        ("maxOpenOrders", limits.max_open_orders, 1),
        ("coolDownMs", limits.cool_down_ms, 0),
        ("maxOrdersPerSecond", limits.max_orders_per_second, 1),
    ):
        if isinstance(value, Decimal) and not value.is_finite():
            yield f"spec.limits.{name}", f"must be a finite number, found {value}"
        elif value < least:
            yield f"spec.limits.{name}", f"must be {least} or more, found {value}"


def _line(node: yaml.Node | None, field: str) -> int:
    """Line (from 1) of a dotted path in a document, or of the nearest parent that is there."""
    if node is None:
        return 0
    line: int = node.start_mark.line + 1
    for part in re.findall(r"[^.\[\]]+", field):
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            return line
    return line
