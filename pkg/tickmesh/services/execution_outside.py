"""Outside: what execution touches besides the bus and the clock, in one place, so that the simulation can stand in.

The transport to the venue, its user stream's connection, and what is done to this process once it is ready.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import connect

from tickmesh.venues.binance_usdm.http import HttpClient


def calm_collector() -> None:
    """Keep the cyclic collector off the order path: what lives for ever is not looked at again, the rest seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)


@dataclass(frozen=True, slots=True)
class Outside:
    """``transport`` makes an HttpClient, ``connect`` opens a WebSocket, ``settle`` is called once at readiness."""

    transport: Callable[..., HttpClient] = HttpClient
    connect: Callable[..., Any] = connect
    settle: Callable[[], None] = calm_collector


OUTSIDE = Outside()
