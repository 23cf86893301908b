"""The floor: every desk of a process. One event goes to all desks that follow its symbol, their wishes are
aggregated together, and each desk then acts on its own.

In: market data, order events, fills, timer ticks, commands. Out: (desk, message) pairs for the shell to publish.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tickmesh.domain import subjects
from tickmesh.domain.enums import Mode, Side
from tickmesh.domain.messages import BookUpdate, Control, FillEvent, Message, OrderEvent, Trade
from tickmesh.strategy.aggregation import Proposal, aggregate
from tickmesh.strategy.desk import Desk
from tickmesh.strategy.drafts import Moment

MAX_ORDERS_PER_EVENT = 16


class Outgoing(NamedTuple):
    """A message and the desk it is of."""

    desk: Desk
    message: Message


class Floor:
    """Desks by name; a neighbour's failure is not seen by the others."""

    def __init__(self) -> None:
        self.desks: dict[str, Desk] = {}
        self._following: dict[tuple[str, str], list[Desk]] = {}

    def put(self, desk: Desk) -> None:
        """Add a desk, or note that its symbols changed."""
        self.desks[desk.name] = desk
        self._index()

    def remove(self, name: str) -> None:
        """Forget a desk; its orders should be gone."""
        self.desks.pop(name, None)
        self._index()

    def symbols(self) -> set[tuple[str, str]]:
        """Every (venue, symbol) that somebody follows."""
        return set(self._following)

    def market_data(self) -> set[str]:
        """Subjects of the books that somebody follows and of the trades that somebody hears."""
        wanted = {subjects.book(*key) for key in self._following}
        heard = [key for key, desks in self._following.items() if any(desk.hears_trades for desk in desks)]
        return wanted | {subjects.trade(*key) for key in heard}

    def hears_trades(self) -> bool:
        """Whether anybody does something with public trades."""
        return any([desk.hears_trades for desk in self.desks.values()])  # noqa: C419 - a generator costs more

    def on_market_data(self, data: BookUpdate | Trade, now: Moment) -> Iterator[Outgoing]:
        """One book or trade, to everybody who follows its symbol.

        Lazy, so that an intent can leave before the next one is made; the caller goes through to the end.
        """
        desks = self._following.get((data.venue, data.symbol))
        if desks is None:
            return
        proposals: list[Proposal] = []
        for desk in desks:
            proposals += desk.propose(data, now)
        if proposals:
            for proposal in aggregate(proposals, limit=MAX_ORDERS_PER_EVENT).kept:
                desk = self.desks[proposal.strategy]
                desk.act(proposal.signal, now)
                for message in desk.take_intents():
                    yield Outgoing(desk, message)
        yield from _collect(desks)

    def on_order_event(self, event: OrderEvent, now: Moment, seq: int = 0) -> list[Outgoing]:
        """An order event, live (``seq`` 0) or from the journal."""
        desk = self.desks.get(event.strategy)
        if desk is None or event.account != desk.account or (seq and seq <= desk.journal_seq):
            return []
        desk.on_order_event(event, now)
        return _collect([desk])

    def on_fill(self, fill: FillEvent, now: Moment, seq: int = 0) -> list[Outgoing]:
        """A fill, live (``seq`` 0) or from the journal."""
        desk = self.desks.get(fill.strategy)
        if desk is None or fill.account != desk.account or (seq and seq <= desk.journal_seq):
            return []
        desk.on_fill(fill, now)
        return _collect([desk])

    def on_timer(self, now: Moment) -> list[Outgoing]:
        """Let every desk do what is due."""
        for desk in self.desks.values():
            desk.on_timer(now)
        return _collect(list(self.desks.values()))

    def on_control(self, control: Control, now: Moment) -> list[Outgoing]:
        """halt, resume and mode for ``all``, ``account.<name>`` or ``strategy.<name>``; others are not for us."""
        for desk in self.desks.values():
            if control.scope not in ("all", f"account.{desk.account}", f"strategy.{desk.name}"):
                continue
            if control.verb == "halt":
                desk.halted.add(control.scope)
            elif control.verb == "resume":
                desk.halted.discard(control.scope)
            elif control.verb == "mode" and control.arguments.get("mode") in set(Mode):
                desk.mode = Mode(control.arguments["mode"])
                desk.show_positions()
        return self.on_timer(now)

    def crosses(self, desk: Desk, symbol: str, side: Side, price_ticks: int) -> bool:
        """Whether an order would meet a working order of the same account, of whichever strategy."""
        for other in self.desks.values():
            if other.account != desk.account or other.venue != desk.venue:
                continue
            if other is not desk and Mode.SIMULATION in (other.mode, desk.mode):
                continue
            for order in other.ledger.orders.values():
                opposite = order.symbol == symbol and order.side is not side and not order.state.terminal
                if opposite and int(side) * (price_ticks - order.price_ticks) >= 0:
                    return True
        return False

    def _index(self) -> None:
        self._following = {}
        for desk in self.desks.values():
            for symbol in desk.plan.spec.symbols:
                self._following.setdefault((desk.venue, symbol), []).append(desk)


def _collect(desks: list[Desk]) -> list[Outgoing]:
    return [Outgoing(desk, message) for desk in desks for message in desk.take()]
