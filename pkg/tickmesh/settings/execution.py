"""Keys of the execution service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class ExecutionSettings(Section):
    admin_port: int = key(17503, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
