"""Keys of logs, metrics and the admin endpoints."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class ObserveSettings(Section):
    host: str = key("127.0.0.1", "Address that admin endpoints and the gateway listen on.")
    instance: str = key(
        "", "Who we are among our replicas, the same after a restart (in a pod its name); empty for host and process.",
        max_length=253,
    )  # fmt: skip
    log_level: str = key("INFO", "Lowest level that is logged.", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = key("text", "text for people, json for collectors.", pattern="^(text|json)$")
    peer_url: str = key(
        "",
        "Where another service's admin endpoints are, {service} for its name; empty for its port on this machine.",
        pattern=r"^$|^https?://[^{}]*\{service\}[^{}]*$",
    )
