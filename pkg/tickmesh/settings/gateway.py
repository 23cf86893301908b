"""Keys of the gateway service."""

from __future__ import annotations

from pydantic import SecretStr

from tickmesh.settings.key import Section, key


class GatewaySettings(Section):
    admin_port: int = key(17507, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    port: int = key(17400, "Port of the API, the WebSocket and the web page.", ge=0, le=65535)
    token: SecretStr = key(
        SecretStr(""),
        "Token that clients must bring; empty on a laptop, and where others can reach it commands are then off.",
    )
    allowed_origins: list[str] = key(
        [], "Origins whose pages may use the gateway besides its own, such as https://desk.example; none by default."
    )
    requests_per_s: float = key(
        100.0, "Requests of one client, as the reference has it.", unit="requests/s", gt=0, le=100_000
    )
    max_sockets: int = key(100, "WebSocket clients at once, as the reference has it.", ge=1, le=10_000)
    send_timeout_s: float = key(
        5.0,
        "A WebSocket client that takes nothing for so long is closed; pages in the background pause for less.",
        unit="s",
        gt=0,
        le=60,
    )
