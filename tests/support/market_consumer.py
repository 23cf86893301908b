"""A consumer of market data that remembers everything in order, to tell whether anything was missed or came twice."""

from __future__ import annotations

import itertools

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.messages import BookUpdate, Trade, decode


class Consumer:
    """Hears everything, remembers the order."""

    def __init__(self) -> None:
        self.trades: dict[str, list[Trade]] = {}
        self.books: dict[str, list[BookUpdate]] = {}

    async def listen(self, bus: NatsBus) -> Consumer:
        await bus.subscribe("md.trade.>", self._trade)
        await bus.subscribe("md.book.>", self._book)
        return self

    def take(self, subject: str, payload: bytes) -> None:
        """A handler for what brings both, as the ring does."""
        if subject.startswith("md.trade."):
            self._trade(subject, payload)
        elif subject.startswith("md.book."):
            self._book(subject, payload)

    def _trade(self, subject: str, payload: bytes) -> None:
        self.trades.setdefault(subject, []).append(decode(Trade, payload))

    def _book(self, subject: str, payload: bytes) -> None:
        self.books.setdefault(subject, []).append(decode(BookUpdate, payload))

    def drop_late_words(self) -> int:
        """Forget what a former publisher said after its successor had spoken, as a reader of epochs does; how much.

        A process that is stopped between its fence and the system call says the rest of its batch when it goes on.
        """
        dropped = 0
        for table in (self.trades, self.books):
            for messages in table.values():
                newest, kept = 0, []
                for message in messages:
                    newest = max(newest, message.epoch)
                    if message.epoch == newest:
                        kept.append(message)
                dropped += len(messages) - len(kept)
                messages[:] = kept  # type: ignore[index]
        return dropped

    @property
    def publishers(self) -> list[int]:
        """Lives that published, in the order in which they were heard."""
        return list(dict.fromkeys(b.epoch for books in self.books.values() for b in books))

    def assert_continuous(self) -> None:
        """Every trade once and in order, no older or stale book at a change of publisher, no seq left out by one."""
        assert self.trades and self.trades.keys() == {s.replace("book", "trade") for s in self.books}
        for subject, trades in self.trades.items():
            ids = [t.trade_id for t in trades]
            assert ids == list(range(ids[0], ids[0] + len(ids))), (subject, _steps(ids))
        for subject, books in self.books.items():
            lives = [list(life) for _, life in itertools.groupby(books, key=lambda b: b.epoch)]
            for old, new in itertools.pairwise(lives):  # inside a life a book may be begun again; that is said there
                assert new[0].update_id >= old[-1].update_id, (subject, old[-1].update_id, new[0].update_id)
                assert not old[-1].stale and not new[0].stale, subject
        for messages in (*self.trades.values(), *self.books.values()):
            for _, life in itertools.groupby(messages, key=lambda m: m.epoch):
                seqs = [m.seq for m in life]
                assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def _steps(ids: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in itertools.pairwise(ids) if b != a + 1][:5]
