"""docs/api.md is true: each example is of its type, and each route is in it."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from tests.gateway_desk import record_routes_without_postgres

from tickmesh.bus.memory import MemoryBus
from tickmesh.gateway import view
from tickmesh.gateway.api import Api, Watch
from tickmesh.gateway.control import parse
from tickmesh.gateway.guard import Access
from tickmesh.gateway.replica import Replica
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.metrics import Metrics

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
TYPED = re.findall(r"<!-- type: (\S+) -->\n```json\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("name", "example"), TYPED, ids=[name for name, _ in TYPED])
def test_each_example_is_of_its_type(name: str, example: str) -> None:
    match = re.fullmatch(r"list\[(\w+)\]", name)
    kind = list[getattr(view, match[1])] if match else getattr(view, name)
    # Types refuse unknown fields and fields that are missing.
    assert msgspec.json.decode(example, type=kind)
    if name == "Command":
        parse("halt", example.encode())


def test_every_example_says_what_it_is() -> None:
    assert TEXT.count("```json") == len(TYPED) + TEXT.count("<!-- update -->")
    assert len(TYPED) > 15


def test_the_update_example_has_the_fields_that_are_sent() -> None:
    update = json.loads(re.findall(r"<!-- update -->\n```json\n(.*?)```", TEXT, re.DOTALL)[0])
    assert set(update) == {"type", "epoch", "seq", "previous", "ts", "changed"}
    sections = {field.name for field in msgspec.structs.fields(view.State)}
    assert set(update["changed"]) <= sections


def test_every_route_is_described() -> None:
    api = Api(
        Replica(),
        MemoryBus(),
        SystemClock(),
        Metrics("x"),
        watch=Watch(),
        access=Access(),
        more_routes=record_routes_without_postgres(),
    )
    for route in api.routes:
        assert f"{route.method} {route.path}" in TEXT, route.path
