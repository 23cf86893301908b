"""The client order id of an intent: the same intent always gives the same id, whoever computes it, whenever."""

from __future__ import annotations

import base64
import hashlib

PREFIX = "tm-"


def client_order_id(strategy: str, intent_id: str) -> str:
    """27 characters of ``[a-z0-9-]``, within every venue's 32 to 36; no epoch and no time goes in."""
    digest = hashlib.blake2b(f"{strategy}\x00{intent_id}".encode(), digest_size=15).digest()
    return PREFIX + base64.b32encode(digest).decode().lower()


def is_ours(client_id: str) -> bool:
    """Whether an id has the form that ``client_order_id`` makes."""
    return client_id.startswith(PREFIX) and len(client_id) == len(PREFIX) + 24
