"""Keys of logs, metrics and the admin endpoints."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class ObserveSettings(Section):
    host: str = key("127.0.0.1", "Address that admin endpoints and the gateway listen on.")
    log_level: str = key("INFO", "Lowest level that is logged.", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = key("text", "text for people, json for collectors.", pattern="^(text|json)$")
