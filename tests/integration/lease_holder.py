"""A process that contends for a lease and writes down every 2 ms that it may act; run by test_lease.py."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

from tickmesh.bus.nats import NatsBus
from tickmesh.observe.clock import SystemClock
from tickmesh.services.lease import Lease


async def main(url: str, me: str, ttl_ms: int, out: str) -> None:
    bus = await NatsBus.connect(url, name=me, connect_timeout_s=10)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    lease = Lease(bus, SystemClock(), "test.one", me, ttl_ms=ttl_ms)
    with Path(out).open("a", buffering=1) as file:  # noqa: ASYNC230 - a line is the act whose order is tested
        async with lease.running():
            print("ready", flush=True)
            while not stopping.is_set():
                if lease.valid():
                    file.write(f"{time.monotonic_ns()} {lease.epoch}\n")
                await asyncio.sleep(0.002)
    await bus.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
