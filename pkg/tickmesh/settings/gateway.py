"""Keys of the gateway service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class GatewaySettings(Section):
    admin_port: int = key(17507, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    port: int = key(17400, "Port of the API, the WebSocket and the web page.", ge=0, le=65535)
