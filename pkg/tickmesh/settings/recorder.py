"""Keys of the recorder service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class RecorderSettings(Section):
    admin_port: int = key(17506, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
