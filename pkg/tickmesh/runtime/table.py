"""The table of services: who there is, in which order they start, what starts after what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One service; ``after`` names what must be ready before it is started the first time."""

    name: str
    after: tuple[str, ...] = ()
    drain_rank: int = 0
    """Lower ranks are told to drain first; a rank is complete before the next one is told."""
    hot: bool = False
    """Whether it stands between a tick and its order; the others give way to it (``local.background_nice``)."""


SERVERS = ("nats", "postgres", "valkey")

SERVICES: tuple[ServiceRow, ...] = (
    ServiceRow("simvenue", drain_rank=4),
    ServiceRow("feed", ("nats", "simvenue"), drain_rank=2, hot=True),
    ServiceRow("risk", ("nats",), drain_rank=2),
    ServiceRow("account", ("nats", "feed"), drain_rank=2),
    ServiceRow("execution", ("nats", "simvenue", "feed"), drain_rank=1, hot=True),
    ServiceRow("recorder", ("nats", "postgres"), drain_rank=3),
    ServiceRow("gateway", ("nats",), drain_rank=3),
    ServiceRow("strategy", ("nats", "feed", "execution"), drain_rank=0, hot=True),
)

SERVICE_NAMES = tuple(row.name for row in SERVICES)
