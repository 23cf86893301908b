"""The table of services: who there is, in which order they start, what starts after what."""

from __future__ import annotations

from dataclasses import dataclass, replace


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


FUSED = "hot"
"""Name of the process that holds the hot services when ``local.fused`` is set."""


def hot_services() -> tuple[str, ...]:
    """The services between a tick and its order, in the order in which they are told to drain."""
    return tuple(row.name for row in sorted(SERVICES, key=lambda row: row.drain_rank) if row.hot)


def rows(*, fused: bool) -> tuple[ServiceRow, ...]:
    """One row per process: the services, or with ``fused`` the hot ones as one, which drains first."""
    if not fused:
        return SERVICES
    hot = hot_services()
    cold = [row for row in SERVICES if not row.hot]
    after = {name for row in SERVICES if row.hot for name in row.after} - set(hot)
    one = ServiceRow(FUSED, tuple(sorted(after)), drain_rank=0, hot=True)
    return (
        *(replace(row, after=tuple(FUSED if name in hot else name for name in row.after)) for row in cold),
        one,
    )
