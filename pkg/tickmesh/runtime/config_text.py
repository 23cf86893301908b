"""The program documents its own configuration: ``tickmesh config``."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import SecretStr

from tickmesh.settings import Settings
from tickmesh.settings.load import keys, load, variable


def print_config(*, as_yaml: bool) -> None:
    """Print every key with its present value; secrets stay hidden."""
    settings = load()
    if as_yaml:
        print(yaml.safe_dump(_present(settings), sort_keys=False), end="")
        return
    for path, info in keys():
        section, name = path.split(".")
        value = getattr(getattr(settings, section), name)
        extra = info.json_schema_extra or {}
        unit = f" {extra['unit']}" if extra.get("unit") else ""
        bounds = ", ".join(_bound(m) for m in info.metadata if _bound(m))
        print(f"{variable(path)} = {_shown(value)}{unit}{f'   [{bounds}]' if bounds else ''}\n    {info.description}")


def _bound(constraint: Any) -> str:
    for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="), ("pattern", "matches")):
        bound = getattr(constraint, name, None)
        if bound is not None:
            return f"{sign} {bound}"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "****" if value.get_secret_value() else "(empty)"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if value != "" else "(empty)"


def _present(settings: Settings) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for path, _ in keys():
        section, name = path.split(".")
        value = getattr(getattr(settings, section), name)
        if not isinstance(value, SecretStr):
            result.setdefault(section, {})[name] = value
    return result
