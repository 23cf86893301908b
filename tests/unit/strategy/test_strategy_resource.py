"""The Strategy resource: what kubectl would take is taken; a mistake is one sentence with file, line and key."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.enums import Mode
from tickmesh.strategy.resource import OnStale, ResourceError, parse

GOOD = """apiVersion: tickmesh.io/v1alpha1
kind: Strategy
metadata:
  name: my-strategy
  labels: {team: a}
spec:
  plugin: {module: my.strategies:Maker}
  mode: Observation
  symbols: [BTCUSDT]
  parameters: {width: 2.5, nested: {a: [1, 2]}}
  limits:
    maxPosition: 0.25
    maxOpenOrders: 3
  onStale: Keep
status: {phase: Running}
"""


def test_every_field_arrives_and_what_is_left_out_has_its_default() -> None:
    (resource,) = parse(GOOD, "a.yaml")
    spec = resource.spec
    assert resource.name == "my-strategy" and resource.file == "a.yaml"
    assert (spec.plugin.module, spec.mode, spec.symbols) == ("my.strategies:Maker", Mode.OBSERVATION, ("BTCUSDT",))
    assert spec.parameters == {"width": 2.5, "nested": {"a": [1, 2]}}
    assert spec.limits.max_position == Decimal("0.25") and spec.limits.max_open_orders == 3
    assert spec.limits.cool_down_ms == 200 and spec.on_stale is OnStale.KEEP and not spec.paused


def test_several_documents_in_a_file_and_other_kinds_of_ours_are_fine() -> None:
    other = "apiVersion: tickmesh.io/v1alpha1\nkind: CircuitBreaker\nmetadata: {name: x}\n"
    found = parse(GOOD + "---\n" + other + "---\n" + GOOD.replace("my-strategy", "second") + "---\n", "a.yaml")
    assert [r.name for r in found] == ["my-strategy", "second"]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("maxOpenOrders: 3", "maxOpenOrders: 0", 13, "spec.limits.maxOpenOrders: must be 1 or more, found 0"),
        ("maxOpenOrders: 3", "maxOpenOrders: many", 13, "spec.limits.maxOpenOrders: expected int"),
        ("maxOpenOrders: 3", "maxOpenOrder: 3", 13, "spec.limits.maxOpenOrder: unknown field"),
        ("maxPosition: 0.25", "maxPosition: .nan", 12, "spec.limits.maxPosition"),
        ("mode: Observation", "mode: Dry", 8, "spec.mode: 'Dry' is not one of Live, Simulation, Observation"),
        ("symbols: [BTCUSDT]", "symbols: [btc-usdt]", 9, "spec.symbols[0]: 'btc-usdt' is not a symbol"),
        ("name: my-strategy", "name: My_Strategy", 4, "metadata.name: 'My_Strategy' must be lower-case"),
        ("{module: my.strategies:Maker}", "{}", 7, "spec.plugin: give exactly one of entryPoint, module and file"),
        ("my.strategies:Maker", "my.strategies", 7, "spec.plugin.module: 'my.strategies' must read"),
        ("kind: Strategy", "kind: Deployment", 0, "must be"),
        ("tickmesh.io/v1alpha1", "apps/v1", 1, "apiVersion: must be tickmesh.io/v1alpha1, found 'apps/v1'"),
        ("spec:", "specs:", 6, "specs: unknown field"),
        ("  mode: Observation\n", "  mode: Live\n  mode: Observation\n", 9, "mode: this key stands twice"),
        ("symbols: [BTCUSDT]", "symbols: [BTCUSDT", 10, "not YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_file_line_and_key(old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    if "Deployment" in new:
        assert_refused(GOOD.replace(old, new).replace("tickmesh.io/v1alpha1", "apps/v1"), 1, "apiVersion")
        return
    assert_refused(GOOD.replace(old, new), line, words)


def assert_refused(text: str, line: int, words: str) -> None:
    with pytest.raises(ResourceError) as caught:
        parse(text, "dir/a.yaml")
    said = str(caught.value)
    assert said.startswith("dir/a.yaml:") and words in said and "\n" not in said, said
    assert caught.value.line == line, said


@given(
    st.text(max_size=200) | st.builds(lambda a, n: GOOD[:n] + a + GOOD[n:], st.text(max_size=5), st.integers(0, 300))
)
def test_any_text_is_taken_or_refused_with_a_sentence(text: str) -> None:
    try:
        parse(text, "f.yaml")
    except ResourceError as error:
        assert str(error).startswith("f.yaml")
