"""Keys of the account service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class AccountSettings(Section):
    admin_port: int = key(17504, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
