"""Keys of the execution service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class ExecutionSettings(Section):
    admin_port: int = key(17503, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    request_timeout_s: float = key(
        5.0, "How long the venue may take to answer; past it an order is UNKNOWN and asked for.", unit="s", gt=0, le=60
    )
    connections: int = key(16, "Most HTTP connections to the venue; each carries one request at a time.", ge=2, le=256)
    warm_connections: int = key(4, "Connections kept open and idle, so that an order never waits for one.", ge=1)
    max_in_flight: int = key(256, "Most orders without an answer; further ones are refused.", ge=1)
    reconcile_s: float = key(
        5.0, "How often orders, fills and positions are compared with the venue.", unit="s", ge=0.5
    )
    unknown_queries: int = key(
        3, "How many spaced 'not found' answers it takes before an order counts as absent.", ge=2
    )
    unknown_spacing_s: float = key(
        1.0, "First wait between two questions for an UNKNOWN order; doubles up to 8 times it.", unit="s", gt=0
    )
    mismatch_halt: int = key(3, "Corrections of one position in a row after which the account halts.", ge=1)
    deadman_s: float = key(
        30.0, "The venue cancels our orders when it does not hear from us for so long; 0 switches it off.",
        unit="s", ge=0, le=3600,
    )  # fmt: skip
    weight_per_min: int = key(2400, "Request weight that the venue allows this address a minute.", ge=10)
    orders_per_10s: int = key(300, "Orders that the venue allows this account in 10 s.", ge=1)
    orders_per_min: int = key(1200, "Orders that the venue allows this account a minute.", ge=1)
    cancel_reserve: float = key(0.25, "Share of the request weight that only cancels may use.", ge=0.0, le=0.9)
    keepalive_s: float = key(1500.0, "How often the user stream's key is prolonged; it lives 60 min.", unit="s", gt=0)
    stream_grace_s: float = key(
        5.0, "How long the user stream may be down before new orders are refused.", unit="s", ge=0
    )
    stream_backoff_s: float = key(1.0, "First wait before the user stream reconnects; doubles to 60 s.", unit="s", gt=0)
    state_dir: str = key("", "Where the halt latch is kept; empty means <local.data_dir>/execution.")
    drain: str = key(
        "cancel", "What a stop does with open orders: cancel them, or hand_over, which leaves them to a successor; if "
        "none comes the dead-man switch cancels them.",
        pattern="^(cancel|hand_over)$",
    )  # fmt: skip
    drain_s: float = key(10.0, "How long a drain waits for cancels to be confirmed.", unit="s", gt=0, le=60)
    lease_ttl_ms: int = key(
        3000, "How long the writer of an account may be silent before another machine takes over.",
        unit="ms", ge=200, le=60_000,
    )  # fmt: skip
    journal_horizon_s: float = key(
        3600.0, "How much of the journal a start reads beyond open orders; older intents are ignored.",
        unit="s", ge=1,
    )  # fmt: skip
