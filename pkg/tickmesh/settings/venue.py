"""Keys of the venue: where it is and which symbols and account we use there."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr

from tickmesh.settings.key import Section, address, key


def _each_once(symbols: list[str]) -> list[str]:
    if not symbols:
        raise ValueError("name at least one symbol, for example BTCUSDT")
    for symbol in symbols:
        if not re.fullmatch(r"[A-Z0-9_]{1,40}", symbol):
            raise ValueError(f"{symbol[:40]!r} is no symbol; write it as the venue does, for example BTCUSDT")
    return list(dict.fromkeys(symbols))


class VenueSettings(Section):
    name: str = key("binance", "Name of the venue in subjects and messages.")
    protocol: str = key("binance_usdm", "Which venue package speaks to it.", pattern="^binance_usdm$")
    rest_url: Annotated[str, address("http", "https")] = key(
        "http://127.0.0.1:17480", "REST base URL; simvenue by default."
    )
    stream_url: Annotated[str, address("ws", "wss")] = key(
        "ws://127.0.0.1:17480", "Base URL of the market and user streams."
    )
    api_key: SecretStr = key(SecretStr("tickmesh-local-key"), "API key; simvenue accepts this one.")
    api_secret: SecretStr = key(SecretStr("tickmesh-local-secret"), "API secret; simvenue accepts this one.")
    symbols: Annotated[list[str], AfterValidator(_each_once)] = key(
        ["BTCUSDT", "ETHUSDT"], "Symbols to follow, as the venue spells them (comma separated, or a JSON list)."
    )
    account: str = key("main", "Our name for the venue account.", pattern="^[A-Za-z0-9_-]+$")
    recv_window_ms: int = key(5000, "How old a signed request may be at the venue.", unit="ms", ge=1, le=60000)
    egress: str = key(
        "default", "Name of the address that requests leave through; processes with the same one share its weight.",
        pattern="^[A-Za-z0-9_-]+$",
    )  # fmt: skip
