"""Keys of the gateway service."""

from __future__ import annotations

from pydantic import SecretStr

from tickmesh.settings.key import Section, key


class GatewaySettings(Section):
    admin_port: int = key(17507, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    port: int = key(17400, "Port of the API, the WebSocket and the web page.", ge=0, le=65535)
    token: SecretStr = key(SecretStr(""), "Bearer token that clients must bring; empty on a laptop.")
    requests_per_s: float = key(100.0, "Requests a second of one client, as the reference has it.", gt=0)
    max_sockets: int = key(100, "WebSocket clients at once, as the reference has it.", ge=1)
