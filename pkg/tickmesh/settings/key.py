"""How a key is declared: a default that says why, a unit, a range."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


class Section(BaseModel):
    """A group of keys; an unknown key is an error, a value is checked when it is assigned."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, frozen=False)


def address(*schemes: str) -> AfterValidator:
    """A check that a key is ``scheme://host[:port]/...``; a secret one stays secret."""

    def check(value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        for part in text.split(","):
            try:
                found = urlsplit(part.strip())
                good = found.scheme in schemes and bool(found.hostname) and found.port != 0
            except ValueError:
                good = False
            if not good:
                raise ValueError(f"it must read {schemes[0]}://host:port, with a port from 1 to 65535")
        return value

    return AfterValidator(check)


def key(default: Any, why: str, *, unit: str = "", **bounds: Any) -> Any:
    """Declare a key. ``why`` is one sentence: what it does and why this default. ``bounds`` are pydantic's."""
    return Field(default=default, description=why, json_schema_extra={"unit": unit}, **bounds)
