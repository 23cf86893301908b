"""Keys of the simvenue service."""

from __future__ import annotations

from decimal import Decimal

from tickmesh.settings.key import Section, key


class SimvenueSettings(Section):
    admin_port: int = key(17508, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    port: int = key(17480, "Port of the simulated exchange: REST, market streams and user streams.", ge=0, le=65535)
    replay: str = key("", "Capture to replay instead of the synthetic market; empty for synthetic.")
    replay_speed: float = key(1.0, "Replay speed; 1 is the capture's own pace, 0 as fast as consumers take it.", ge=0)
    seed: int = key(1, "Seed of the synthetic market.")
    flow_rate: float = key(1.0, "Multiplies the synthetic market's event rate; 0 leaves books empty but ours.", ge=0)
    deposit: Decimal = key(Decimal(100_000), "What the account starts with, once.", unit="USDT", ge=0)
    max_buffer_kb: int = key(4096, "Unsent data after which a slow connection is cut off.", unit="KiB", ge=64)
    replay_wait_s: float = key(
        10.0, "How long a replay waits for a slow connection before it cuts it off.", unit="s", gt=0, le=600
    )
