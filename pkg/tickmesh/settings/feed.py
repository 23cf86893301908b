"""Keys of the feed service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class FeedSettings(Section):
    admin_port: int = key(17501, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
