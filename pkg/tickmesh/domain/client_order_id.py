"""The client order id of an intent: the same intent always gives the same id, whoever computes it, whenever."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

PREFIX = "tm-"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_SHIFTS = range(110, -10, -10)


def plain_order_id(strategy: str, intent_id: str) -> str:
    """27 characters of ``[a-z0-9-]``, within every venue's 32 to 36; no epoch and no time goes in."""
    digest = hashlib.blake2b(f"{strategy}\x00{intent_id}".encode(), digest_size=15).digest()
    number = int.from_bytes(digest, "big")
    return PREFIX + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])  # base 32 of RFC 4648, lower case


_make: Callable[[str, str], str] = plain_order_id


def make_with(make: Callable[[str, str], str]) -> None:
    """Let a faster maker of the very same ids do it (``tickmesh.hotpath`` brings its own along)."""
    global _make
    _make = make


@lru_cache(maxsize=8192)  # an order asks for it in the strategy, the checks, the ledger and the request
def client_order_id(strategy: str, intent_id: str) -> str:
    """See ``plain_order_id``."""
    return _make(strategy, intent_id)


def is_ours(client_id: str) -> bool:
    """Whether an id has the form that ``client_order_id`` makes."""
    return client_id.startswith(PREFIX) and len(client_id) == len(PREFIX) + 24
