"""Ids of an order: equal in both halves, and the process uses the half that it runs on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh import hotpath
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.hotpath.pure import ids

pytestmark = pytest.mark.skipif(hotpath.native is None, reason=f"no native half: {hotpath.WHY_PURE}")
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(words, words)
def test_order_ids_are_equal(strategy: str, intent_id: str) -> None:
    assert hotpath.native is not None
    made = hotpath.native.order_id(strategy, intent_id)
    assert made == ids.order_id(strategy, intent_id) == client_order_id(strategy, intent_id)


@given(words)
def test_trace_contexts_are_equal(correlation_id: str) -> None:
    assert hotpath.native is not None
    assert hotpath.native.trace_parent(correlation_id) == ids.trace_parent(correlation_id)


@pytest.mark.parametrize("half", ["native", "pure"])
def test_half_a_surrogate_has_no_id_in_either_half(half: str) -> None:
    made_by = hotpath.native if half == "native" else ids
    assert made_by is not None
    with pytest.raises(UnicodeEncodeError):
        made_by.order_id("a", "\ud800")
    with pytest.raises(UnicodeEncodeError):
        made_by.trace_parent("\ud800")


def test_the_native_half_makes_the_ids_of_a_process_that_runs_on_it() -> None:
    from tickmesh.domain import client_order_id as module

    assert hotpath.native is not None
    assert module._make is hotpath.native.order_id
