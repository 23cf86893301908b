"""Share: which symbols of a Strategy one of its shards trades; a function of the symbols' order and nothing else.

In: the whole list of symbols, the number of shards, which one we are. Out: our symbols, and whether an order of the
strategy is ours to look after. Every symbol has exactly one shard; what is on no list any more falls to shard 0.
"""

from __future__ import annotations

import msgspec


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """``shard`` from 0, of ``shards``. The default is a strategy that is not divided."""

    shard: int = 0
    shards: int = 1
    everything: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Ours, dealt out in the order of the list: a symbol that is appended moves no other."""
        return self.everything[self.shard :: self.shards]

    def takes(self, symbol: str) -> bool:
        """Whether an order on ``symbol`` is ours; of a symbol that was taken off the list it is shard 0's."""
        if self.shards == 1:
            return True
        return symbol in self.symbols or (self.shard == 0 and symbol not in self.everything)

    def key(self, name: str) -> str:
        """``name`` where the shards of a strategy must not meet: leases, checkpoints, reports."""
        return f"{name}.{self.shard}" if self.shard else name
