"""Keys of the recorder service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class RecorderSettings(Section):
    admin_port: int = key(17506, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    book_sample_ms: int = key(
        1000,
        "The newest book and mark price of each symbol are recorded this often; all of them would cost a core. "
        "Trades are never sampled.",
        unit="ms",
        ge=10,
        le=60_000,
    )
    batch: int = key(1000, "Most messages in one transaction.", ge=1, le=10_000)
    max_wait_ms: int = key(
        500, "How long a batch may fill; longer means fewer, larger transactions.", unit="ms", ge=0, le=5000
    )
    retry_max_s: float = key(5.0, "Longest pause between attempts while Postgres is away.", unit="s", gt=0, le=60)
    drain_s: float = key(8.0, "How long a stop may spend on recording what is left.", unit="s", gt=0, le=300)
    days_ahead: int = key(3, "Partitions made before they are needed.", unit="days", ge=1, le=31)
    keep_market_data_days: int = key(
        90, "How long books, trades and signals are kept; 0 is for ever. Minute bars always stay.", unit="days", ge=0
    )
    keep_account_days: int = key(
        365, "How long account and position snapshots and alerts are kept; 0 is for ever.", unit="days", ge=0
    )
    keep_order_days: int = key(0, "How long order events and fills are kept; 0 is for ever.", unit="days", ge=0)
