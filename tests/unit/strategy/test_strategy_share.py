"""Shards: every symbol has exactly one, appending moves none, and an order of no list is shard 0's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tickmesh.strategy.share import Share

SYMBOLS = st.lists(st.from_regex(r"[A-Z]{2,6}USDT", fullmatch=True), min_size=1, max_size=20, unique=True)


@given(SYMBOLS, st.integers(1, 8))
def test_every_symbol_has_exactly_one_shard_and_so_has_an_order_of_no_list(symbols: list[str], shards: int) -> None:
    shares = [Share(shard=i, shards=shards, everything=tuple(symbols)) for i in range(shards)]
    assert sorted(s for share in shares for s in share.symbols) == sorted(symbols)
    for symbol in [*symbols, "GONEUSDC"]:
        assert sum(share.takes(symbol) for share in shares) == 1


@given(SYMBOLS, st.integers(1, 8))
def test_an_appended_symbol_moves_no_other(symbols: list[str], shards: int) -> None:
    for shard in range(shards):
        before = Share(shard=shard, shards=shards, everything=tuple(symbols[:-1])).symbols
        assert Share(shard=shard, shards=shards, everything=tuple(symbols)).symbols[: len(before)] == before


def test_shards_do_not_meet_in_leases_checkpoints_and_reports_and_shard_0_keeps_the_name() -> None:
    keys = {Share(shard=i, shards=3, everything=("A",)).key("mm") for i in range(3)}
    assert keys == {"mm", "mm.1", "mm.2"}
