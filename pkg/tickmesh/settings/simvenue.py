"""Keys of the simvenue service."""

from __future__ import annotations

from decimal import Decimal

from tickmesh.settings.key import Section, key


class SimvenueSettings(Section):
    admin_port: int = key(17508, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    port: int = key(17480, "Port of the simulated exchange: REST, market streams and user streams.", ge=0, le=65535)
    replay: str = key("", "Capture to replay instead of the synthetic market; empty for synthetic.")
    replay_speed: float = key(1.0, "Replay speed; 1 is the capture's own pace, 0 as fast as consumers take it.", ge=0)
    replay_hold_s: float = key(
        0.0, "How long a replay waits for POST /replay/go on the admin port before it starts by itself.", unit="s", ge=0
    )
    seed: int = key(1, "Seed of the synthetic market.")
    flow_rate: float = key(1.0, "Multiplies the synthetic market's event rate; 0 leaves books empty but ours.", ge=0)
    deposit: Decimal = key(Decimal(100_000), "What the account starts with, once.", unit="USDT", ge=0)
    weight_limit_1m: int = key(2400, "Request weight per address and minute, as at the venue.", ge=1)
    order_limit_10s: int = key(300, "Orders per account in ten seconds, as at the venue.", ge=1)
    order_limit_1m: int = key(1200, "Orders per account and minute, as at the venue.", ge=1)
    ban_after: int = key(50, "Requests refused for weight within a minute after which an address is banned.", ge=1)
    max_buffer_kb: int = key(4096, "Unsent data after which a slow connection is cut off.", unit="KiB", ge=64)
    replay_wait_s: float = key(
        10.0, "How long a replay waits for a slow connection before it cuts it off.", unit="s", gt=0, le=600
    )
