"""Build the Settings from file and environment, or say in one sentence which key is wrong."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from tickmesh.domain.errors import ConfigError
from tickmesh.settings.root import Settings

ENV_PREFIX = "TICKMESH_"
CONFIG_FILE_VARIABLE = "TICKMESH_CONFIG"
OTHER_VARIABLES = frozenset({CONFIG_FILE_VARIABLE, "TICKMESH_PURE", "TICKMESH_DATA"})
"""Variables with our prefix that are not keys."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration.

    Raises:
        ConfigError: an unknown key or a bad value; the sentence names the key. A retry does not help.
    """
    environ = os.environ if environ is None else environ
    known = {variable(path): path for path, _ in keys()}
    values: dict[str, Any] = _read_file(environ.get(CONFIG_FILE_VARIABLE, ""))
    for name, text in environ.items():
        if not name.upper().startswith(ENV_PREFIX) or name in OTHER_VARIABLES:
            continue
        path = known.get(name.upper())
        if path is None:
            raise ConfigError(_unknown(name, known))
        section, key = path.split(".")
        values.setdefault(section, {})[key] = _parse(text, section, key)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None
    except SettingsError as error:
        raise ConfigError(str(error)) from None


def keys() -> Iterator[tuple[str, Any]]:
    """Every key as (``section.key``, pydantic FieldInfo), in declaration order."""
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        for name, info in model.model_fields.items():
            yield f"{section}.{name}", info


def variable(path: str) -> str:
    """The environment variable of ``section.key``."""
    return ENV_PREFIX + path.replace(".", "__").upper()


def _read_file(name: str) -> dict[str, Any]:
    if not name:
        return {}
    try:
        loaded = yaml.safe_load(Path(name).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {name}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict) or not all(isinstance(v, dict) for v in loaded.values()):
        raise ConfigError(
            f"the configuration file {name} must map sections to keys, as `tickmesh config --yaml` prints"
        )
    return loaded


def _parse(text: str, section: str, key: str) -> Any:
    annotation = Settings.model_fields[section].annotation
    assert annotation is not None
    kind = annotation.model_fields[key].annotation
    if getattr(kind, "__origin__", kind) in (list, dict):
        stripped = text.strip()
        if not stripped.startswith(("[", "{")):
            return [part.strip() for part in stripped.split(",") if part.strip()]
        try:
            return yaml.safe_load(stripped)
        except yaml.YAMLError:
            return text
    return text


def _unknown(name: str, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else "; `tickmesh config` lists every key"
    return f"unknown configuration key {name}{hint}"


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"][:2])
    if first["type"] == "extra_forbidden":
        return _unknown(variable(path), {variable(p): p for p, _ in keys()})
    # The value itself is left out: it may be a secret.
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    choices = re.fullmatch(r"\^\(([\w|-]+)\)\$|\^([\w-]+)\$", first.get("ctx", {}).get("pattern", ""))
    if choices:
        message = f"it must be {' or '.join((choices[1] or choices[2]).split('|'))}"
    return f"configuration key {path} ({variable(path)}) is wrong: {message}"
