"""Keys of the risk service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class RiskSettings(Section):
    admin_port: int = key(17505, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
