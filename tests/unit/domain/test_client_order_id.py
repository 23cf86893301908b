"""The id of an order is what every release before wrote to the journal and to the venue."""

from __future__ import annotations

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.client_order_id import client_order_id, is_ours

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(words, words)
def test_an_id_is_the_base32_of_the_hash_of_strategy_and_intent(strategy: str, intent_id: str) -> None:
    digest = hashlib.blake2b(f"{strategy}\x00{intent_id}".encode(), digest_size=15).digest()
    found = client_order_id(strategy, intent_id)
    assert found == "tm-" + base64.b32encode(digest).decode().lower()
    assert is_ours(found)


def test_ids_stay_what_they_were() -> None:
    assert client_order_id("mm", "x") == "tm-ww4jm75zla4cr4uq7ojx4zpk"
    assert client_order_id("mm", "1") == "tm-fc2krujay65v54brjtndel35"
