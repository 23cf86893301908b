"""Two releases side by side: what one writes the other reads, because fields are only ever appended.

``message_layout.json`` is the layout of the last release. Make it anew when a version is released, never to make this
test pass.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tickmesh.domain import messages
from tickmesh.domain.enums import Severity, Side, Urgency
from tickmesh.domain.messages import Message, decode, encode

RELEASED: dict[str, list[str]] = json.loads((Path(__file__).parent / "message_layout.json").read_text())
KINDS = {
    name: kind
    for name, kind in vars(messages).items()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.array_like
    if kind.__module__ == messages.__name__ and kind is not Message
}
SAMPLE: dict[type[Any], Any] = {str: "text", int: 7, Decimal: Decimal("1.5"), float: 0.5}


def sample(kind: type[msgspec.Struct]) -> Any:
    """A message with its required fields set."""
    chosen: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.required:
            enums = {Side: Side.SELL, Urgency: Urgency.PASSIVE, Severity: Severity.WARNING}
            chosen[field.name] = enums.get(field.type, SAMPLE.get(field.type))
    return kind(**chosen)


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_fields_of_the_last_release_stand_where_they_stood(name: str) -> None:
    assert list(KINDS[name].__struct_fields__[: len(RELEASED[name])]) == RELEASED[name]


def test_the_five_common_fields_come_first() -> None:
    for name, kind in KINDS.items():
        if issubclass(kind, Message):
            assert kind.__struct_fields__[:5] == ("exchange_ns", "receive_ns", "publish_ns", "seq", "epoch"), name


@pytest.mark.parametrize("name", sorted(KINDS))
def test_an_older_reader_ignores_what_a_newer_writer_appends(name: str) -> None:
    kind = KINDS[name]
    newer = msgspec.defstruct(
        "Newer", [("added", int, 3), ("more", str, "x")], bases=(kind,), array_like=True, kw_only=True
    )
    old = sample(kind)
    new = newer(**{field: getattr(old, field) for field in kind.__struct_fields__})
    assert decode(kind, encode(new)) == old


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_newer_reader_fills_in_what_an_older_writer_did_not_know(name: str) -> None:
    kind = KINDS[name]
    newer = msgspec.defstruct("Newer", [("added", int, 3)], bases=(kind,), array_like=True, kw_only=True)
    read: Any = decode(newer, encode(sample(kind)))
    assert read.added == 3
    assert read.__struct_fields__[:-1] == kind.__struct_fields__
