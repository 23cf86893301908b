"""Keys of the connection to NATS."""

from __future__ import annotations

from typing import Annotated

from pydantic import SecretStr

from tickmesh.settings.key import Section, address, key


class NatsSettings(Section):
    url: Annotated[str, address("nats", "tls", "ws", "wss")] = key(
        "nats://127.0.0.1:17422", "Where NATS listens; the local supervisor's own server by default."
    )
    credentials_file: str = key("", "NATS credentials file; empty means no authentication.")
    token: SecretStr = key(SecretStr(""), "Shared token; empty means none.")
    replicas: int = key(1, "Copies of each stream; 3 in a cluster, 1 on one machine.", ge=1, le=5)
    connect_timeout_s: float = key(30.0, "How long a service waits for NATS at its start.", unit="s", gt=0)
    monitor_url: str = key(
        "",
        "HTTP monitoring address of the servers, where they tell how often they sync; empty when it cannot be asked.",
        pattern=r"^$|^https?://.+",
    )
    sync_check: str = key(
        "warn",
        "warn: trade Live unless the journals are known not to be durable; require: only when they are known to be; "
        "off: do not ask.",
        pattern="^(warn|require|off)$",
    )
