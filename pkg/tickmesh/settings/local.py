"""Keys of the supervisor on one machine."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class LocalSettings(Section):
    data_dir: str = key(".data", "Where state is kept between runs.")
    transport: str = key("nats", "What carries ticks to strategies: nats, or shm for the ring.", pattern="^(nats|shm)$")
    drain_timeout_s: float = key(30.0, "How long a service may drain before it is killed.", unit="s", gt=0, le=300)
    background_nice: int = key(
        10,
        "How far what is not between a tick and its order (venue, databases, risk, account, recorder, gateway) gives "
        "way to what is: nice steps, with SCHED_BATCH; 0 treats all alike.",
        ge=0,
        le=19,
    )
    hot_slice_us: int = key(
        100,
        "Turn that processes between a tick and its order ask the scheduler for (Linux 6.12): short turns come at "
        "once; 0 leaves the system's own.",
        unit="us",
        ge=0,
        le=100_000,
    )
    fused: bool = key(
        False,
        "Run feed, strategy and execution in one process: the shortest way from tick to order, one core, one fate.",
    )
    spin: bool = key(
        False,
        "Let processes between a tick and its order never sleep: each takes a whole core, so have more cores than such "
        "processes (fused: one, else three).",
    )
    rehearse_ms: int = key(
        0,
        "With fused: how often the way from a tick to its order is walked on made-up data, without effect, so that its "
        "code is still warm when an order is due; 0 never. It takes about 0.2 ms of the core each time.",
        unit="ms",
        ge=0,
        le=1000,
    )
