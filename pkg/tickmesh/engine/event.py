"""What goes into the engine and what comes out: one union each. Every input carries both clocks; nothing else is time.

``now_ns`` is the wall clock, ``now_mono_ns`` CLOCK_MONOTONIC, of the machine that received the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.messages import BookUpdate, Control, MarkPrice, Message, OrderIntent, Trade
from tickmesh.execution.ledger import Record, TradeFact, VenueFact


@dataclass(frozen=True, slots=True)
class Sent:
    """The bytes of an approved order were handed to the venue's socket."""

    approved: ApprovedOrder


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Sent, and nobody knows what became of it: a timeout, a broken connection, a 5xx."""

    client_order_id: str
    reason: str
    code: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The venue's certain no, or ours: it is not at the venue and never was."""

    client_order_id: str
    reason: str
    code: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes; nothing else happened."""


What = (
    BookUpdate | Trade | MarkPrice | OrderIntent | Control | VenueFact | TradeFact | Sent | Unanswered | Refused | Tick
)


class Event(NamedTuple):
    """One input."""

    now_ns: int
    now_mono_ns: int
    what: What


@dataclass(frozen=True, slots=True)
class Submit:
    """Send this to the venue, then say ``Sent``."""

    approved: ApprovedOrder


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the venue to end this order, until it has ended."""

    symbol: str
    client_order_id: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the venue about an order by its id, and which trades it had: its state is not certain."""

    symbol: str
    client_order_id: str


@dataclass(frozen=True, slots=True)
class Store:
    """Put this line into the journal, in this order."""

    record: Record


@dataclass(frozen=True, slots=True)
class Publish:
    """A message of a strategy that is for the record: signals and alerts."""

    strategy: str
    message: Message


Action = Submit | Cancel | Ask | Store | Publish
