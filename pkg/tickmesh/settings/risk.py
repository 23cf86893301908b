"""Keys of the risk service."""

from __future__ import annotations

from typing import Literal

from tickmesh.settings.key import Section, key

Critical = Literal["feed", "strategy", "execution", "account", "recorder", "gateway", "simvenue"]


class RiskSettings(Section):
    admin_port: int = key(17505, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    lease_ttl_ms: int = key(
        3000, "How long the process that judges may be silent before a standby takes over; well below max_silent_s.",
        unit="ms", ge=200, le=20_000,
    )  # fmt: skip
    check_interval_s: float = key(
        5.0, "How often critical services are asked whether they live, as the reference has it.", unit="s", gt=0
    )
    max_silent_s: float = key(
        30.0,
        "A critical service, or an account's snapshots, silent for longer halts; above any restart.",
        unit="s",
        gt=0,
    )
    first_answer_s: float = key(
        180.0,
        "The same for a critical service that was not heard since this process started: it may still be on its way up. "
        "What is less than max_silent_s counts as that.",
        unit="s",
        ge=0,
    )
    critical_services: list[Critical] = key(
        ["feed", "execution", "account"], "Services whose death halts everything; empty to leave it to others."
    )
