"""Following a bucket: all that it holds now, and every change for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tickmesh.domain.errors import DependencyError
from tickmesh.ports import Bus, KeyValue, KvEntry

log = logging.getLogger(__name__)

_RETRY_S = 0.5


async def take_all(bucket: KeyValue, on_entry: Callable[[KvEntry], object]) -> None:
    """Hand over everything that the bucket holds now. Raises DependencyError."""
    for key in await bucket.keys():
        entry = await bucket.get(key)
        if entry is not None:
            on_entry(entry)


async def follow(bus: Bus, name: str, on_entry: Callable[[KvEntry], object]) -> None:
    """Hand over every value and every change until cancelled; while the bucket is away, try again."""
    while True:
        try:
            bucket = await bus.kv(name)
            async for entry in bucket.watch():
                on_entry(entry)
        except DependencyError as error:
            log.warning("the bucket %s cannot be followed: %s; trying again", name, error)
            await asyncio.sleep(_RETRY_S)
