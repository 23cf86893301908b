"""Keys of the supervisor on one machine."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class LocalSettings(Section):
    data_dir: str = key(".data", "Where state is kept between runs.")
    transport: str = key("nats", "What carries ticks to strategies: nats, or shm for the ring.", pattern="^(nats|shm)$")
    drain_timeout_s: float = key(30.0, "How long a service may drain before it is killed.", unit="s", gt=0, le=300)
