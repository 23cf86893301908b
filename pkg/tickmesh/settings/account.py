"""Keys of the account service."""

from __future__ import annotations

from decimal import Decimal

from tickmesh.settings.key import Section, key


class AccountSettings(Section):
    admin_port: int = key(17504, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    lease_ttl_ms: int = key(
        3000, "How long the process that follows the account may be silent before a standby takes over.",
        unit="ms", ge=200, le=60_000,
    )  # fmt: skip
    reconcile_interval_s: float = key(
        5.0, "How often the venue is asked for positions and balances; 5 s as the design has it.", unit="s", gt=0
    )
    snapshot_interval_s: float = key(1.0, "How often a snapshot is published when nothing happens.", unit="s", gt=0)
    snapshot_gap_ms: int = key(
        50, "Least time between two snapshots; a burst of fills becomes one.", unit="ms", ge=1, le=1000
    )
    quote: str = key("USDT", "Currency that the account is measured in.", pattern="^[A-Z0-9]+$")
    wallet_tolerance: Decimal = key(
        Decimal("0.01"), "Difference of a wallet that is rounding and no mismatch.", unit="quote", ge=0
    )
    max_price_age_s: float = key(
        10.0, "A mark price older than this gives way to the middle of the book.", unit="s", gt=0
    )
    default_maintenance_rate: Decimal = key(
        Decimal("0.01"), "Maintenance margin per notional until the venue has told it; above most brackets.", gt=0, le=1
    )
    terms_interval_s: float = key(
        60.0, "How often leverage and funding are read; they change rarely and cost more weight.", unit="s", gt=0
    )
    weight_share: float = key(
        0.6, "Share of execution.weight_per_min past which reconciliation waits, so that orders have the rest.",
        gt=0, le=1,
    )  # fmt: skip
