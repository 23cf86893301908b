"""Keys of the strategy service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class StrategySettings(Section):
    admin_port: int = key(17502, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
