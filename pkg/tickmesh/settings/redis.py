"""Keys of the connection to Redis or Valkey."""

from __future__ import annotations

from typing import Annotated

from pydantic import SecretStr

from tickmesh.settings.key import Section, address, key


class RedisSettings(Section):
    url: Annotated[SecretStr, address("redis", "rediss")] = key(
        SecretStr("redis://127.0.0.1:17479/0"), "Where the cache listens; may hold a password."
    )
    timeout_s: float = key(0.25, "Bound on one cache operation; the cache is optional, so it is short.", unit="s", gt=0)
