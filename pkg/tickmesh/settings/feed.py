"""Keys of the feed service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class FeedSettings(Section):
    admin_port: int = key(17501, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    group: str = key(
        "main", "Feeds of one venue and group follow the same symbols; one of them publishes, the others are hot.",
        pattern="^[A-Za-z0-9_-]+$",
    )  # fmt: skip
    lease_ttl_ms: int = key(
        1500, "How long the publishing feed may be silent before a hot one takes over.", unit="ms", ge=200, le=60_000
    )
    depth_stream: str = key(
        "depth@0ms", "Depth stream of each symbol; 0ms is the fastest.", pattern="^depth(@(0|100|250|500)ms)?$"
    )
    trade_stream: str = key(
        "trade", "Trade stream of each symbol: every trade, or aggTrade.", pattern="^(trade|aggTrade)$"
    )
    mark_stream: str = key("markPrice@1s", "Mark price stream of each symbol.", pattern="^markPrice(@1s)?$")
    snapshot_limit: int = key(1000, "Levels per side asked for in a depth snapshot; the venue's most.", ge=5, le=1000)
    snapshot_interval_s: float = key(
        0.25, "Least time between two snapshots of a symbol; each costs 20 of 2400 weight a minute.", unit="s", gt=0
    )
    snapshot_weight_per_min: int = key(
        1200, "Request weight that snapshots may use; half of the venue's 2400, the rest is for orders.", ge=40
    )
    listing_interval_s: float = key(
        3600.0, "Pace at which the venue's listing is looked at for changes.", unit="s", gt=0
    )
    rest_timeout_s: float = key(5.0, "How long a public REST request may take.", unit="s", gt=0, le=60)
    book_depth: int = key(10, "Levels per side in a published book update.", ge=1, le=50)
    stale_after_s: float = key(3.0, "Silence of a symbol after which its book is stale.", unit="s", gt=0)
    ping_interval_s: float = key(5.0, "Silence of the connection after which it is pinged.", unit="s", gt=0)
    ping_timeout_s: float = key(5.0, "How long a pong may take before the connection counts as dead.", unit="s", gt=0)
    reconnect_first_s: float = key(0.1, "Wait before the first reconnect, which mostly succeeds.", unit="s", ge=0)
    reconnect_base_s: float = key(1.0, "Wait before the second; doubles each time.", unit="s", gt=0)
    reconnect_max_s: float = key(60.0, "Longest wait between reconnects.", unit="s", gt=0)
    batch_frames: int = key(256, "Frames handled before other tasks get a turn.", ge=1, le=100_000)
    queue_frames: int = key(
        8192, "Frames that may wait; beyond that the socket is not read, and the venue slows down.", ge=16
    )
    queue_trades: int = key(
        100_000, "Trades that may wait while the bus is away; then the oldest go, counted and alerted.", ge=1
    )
    connection_max_age_s: float = key(
        84_600.0, "Age at which a connection is replaced without a gap; the venue cuts it off at 24 h.", unit="s", gt=0
    )
    drain_s: float = key(5.0, "How long what waits for the bus may take to leave at the end.", unit="s", ge=0, le=30)
    ring_slots: int = key(16_384, "Messages that the shared-memory ring holds.", ge=64, le=1 << 20)
    ring_slot_bytes: int = key(
        1024, "Bytes of a ring slot, a multiple of 64; must hold a book update.", unit="bytes", ge=256, le=65_472
    )
    flow_half_life_ms: int = key(1000, "Half-life of the order-flow imbalance.", unit="ms", ge=1)
    volatility_interval_ms: int = key(1000, "Pace at which returns are taken for the volatility.", unit="ms", ge=1)
    volatility_half_life_s: float = key(60.0, "Half-life of the volatility.", unit="s", gt=0)
