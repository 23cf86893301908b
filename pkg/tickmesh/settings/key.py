"""How a key is declared: a default that says why, a unit, a range."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A group of keys; an unknown key is an error, a value is checked when it is assigned."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, frozen=False)


def key(default: Any, why: str, *, unit: str = "", **bounds: Any) -> Any:
    """Declare a key. ``why`` is one sentence: what it does and why this default. ``bounds`` are pydantic's."""
    return Field(default=default, description=why, json_schema_extra={"unit": unit}, **bounds)
