"""Keys of the connection to NATS."""

from __future__ import annotations

from pydantic import SecretStr

from tickmesh.settings.key import Section, key


class NatsSettings(Section):
    url: str = key("nats://127.0.0.1:17422", "Where NATS listens; the local supervisor's own server by default.")
    credentials_file: str = key("", "NATS credentials file; empty means no authentication.")
    token: SecretStr = key(SecretStr(""), "Shared token; empty means none.")
    replicas: int = key(1, "Copies of each stream; 3 in a cluster, 1 on one machine.", ge=1, le=5)
    connect_timeout_s: float = key(30.0, "How long a service waits for NATS at its start.", unit="s", gt=0)
