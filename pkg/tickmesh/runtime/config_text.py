"""The program documents its own configuration: ``tickmesh config``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import yaml
from pydantic import SecretStr

from tickmesh.domain.errors import ConfigError
from tickmesh.observe.logs import mask
from tickmesh.settings import Settings
from tickmesh.settings.load import keys, load, variable

_ALTERNATIVES = re.compile(r"\^\(([\w|-]+)\)\$|\^([\w-]+)\$")


def print_config(*, as_yaml: bool, only: str = "") -> None:
    """Print every key with its unit, range, default, reason and present value; secrets stay hidden.

    Raises:
        ConfigError: a key is wrong, or no key contains ``only``.
    """
    settings = load()
    if as_yaml:
        print("# Secrets are left out; set them in the environment.")
        print(yaml.safe_dump(_present(settings), sort_keys=False), end="")
        return
    found = list(_lines(settings, only))
    if not found:
        raise ConfigError(f"no configuration key contains {only!r}; `tickmesh config` lists them all")
    print("\n".join(found))


def _lines(settings: Settings, only: str) -> Iterator[str]:
    section_before = ""
    for path, info in keys():
        name = variable(path)
        if only.lower() not in name.lower() and only.lower() not in path:
            continue
        section, key = path.split(".")
        if section != section_before:
            yield f"{'' if not section_before else chr(10)}[{section}]"
            section_before = section
        value, default = getattr(getattr(settings, section), key), info.get_default(call_default_factory=True)
        unit = (info.json_schema_extra or {}).get("unit", "")
        facts = [f"default {shown(default)}" if value != default else "the default"]
        facts += [unit] if unit else []
        facts += [text for text in (_range(info), _kind(info)) if text]
        yield f"{name} = {shown(value)}\n    {info.description}\n    {'; '.join(facts)}"


def _range(info: Any) -> str:
    bounds = {name: getattr(m, name) for m in info.metadata for name in ("gt", "ge", "lt", "le") if hasattr(m, name)}
    low = f"above {bounds['gt']}" if "gt" in bounds else f"{bounds['ge']}" if "ge" in bounds else ""
    high = f"below {bounds['lt']}" if "lt" in bounds else f"{bounds['le']}" if "le" in bounds else ""
    if low and high:
        return f"{low} to {high}"
    return f"{low} or more" if "ge" in bounds else low or (f"{high} or less" if "le" in bounds else high)


def _kind(info: Any) -> str:
    for constraint in info.metadata:
        pattern = getattr(constraint, "pattern", None)
        if pattern:
            choices = _ALTERNATIVES.fullmatch(str(pattern))
            return " or ".join((choices[1] or choices[2]).split("|")) if choices else f"matches {pattern}"
    if info.annotation is bool:
        return "true or false"
    if getattr(info.annotation, "__origin__", None) is list:
        return "separated by commas"
    return "secret" if info.annotation is SecretStr else ""


def shown(value: Any) -> str:
    """A value as a person may see it."""
    if isinstance(value, SecretStr):
        return "****" if value.get_secret_value() else "(empty)"
    if isinstance(value, list):
        return mask(",".join(map(str, value))) or "(empty)"
    if isinstance(value, bool):
        return str(value).lower()
    return mask(str(value)) if value != "" else "(empty)"


def _present(settings: Settings) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for path, _ in keys():
        section, name = path.split(".")
        value = getattr(getattr(settings, section), name)
        if isinstance(value, SecretStr):
            continue
        if isinstance(value, Decimal):
            value = str(value)  # exact, and read back as such
        result.setdefault(section, {})[name] = mask(value) if isinstance(value, str) else value
    return result
