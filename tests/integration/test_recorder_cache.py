"""The cache with a real valkey-server that dies, hangs and returns."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from recording import child_of

from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import free_ports, local_servers
from tickmesh.settings import load
from tickmesh.store.cache import Cache, Kind


@contextlib.asynccontextmanager
async def valkey(tmp_path: Path) -> AsyncIterator[tuple[str, Child]]:
    ports = free_ports(3)
    url = f"redis://127.0.0.1:{ports[2]}/0"
    env = {
        "TICKMESH_NATS__URL": f"nats://127.0.0.1:{ports[0]}",
        "TICKMESH_POSTGRES__DSN": f"postgresql://tickmesh@127.0.0.1:{ports[1]}/tickmesh",
        "TICKMESH_REDIS__URL": url,
    }
    child = child_of(local_servers(load(env), tmp_path, only=("valkey",))[0], tmp_path)
    await child.start()
    try:
        assert await child.wait_ready(30), child.last_lines(10)
        yield url, child
    finally:
        await child.stop()


class Source:
    """Counts how often it is asked."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.asked = 0
        self.pause_s = pause_s

    async def __call__(self) -> bytes:
        self.asked += 1
        answer = b"answer %d" % self.asked
        await asyncio.sleep(self.pause_s)
        return answer


async def test_an_answer_is_shared_until_its_time_is_over_and_forgotten_on_request(tmp_path: Path) -> None:
    async with valkey(tmp_path) as (url, _):
        one, two, source = Cache(url), Cache(url), Source()
        assert await one.get_or_load(Kind.ACCOUNTS, "main", source) == b"answer 1"
        assert await two.get_or_load(Kind.ACCOUNTS, "main", source) == b"answer 1"
        assert await two.get_or_load(Kind.BALANCES, "main", source) == b"answer 2", "kinds do not mix"
        await two.forget(Kind.ACCOUNTS, "main")
        assert await one.get_or_load(Kind.ACCOUNTS, "main", source) == b"answer 3"
        assert await one.get_or_load(Kind.POSITIONS, "main", source) == b"answer 4"
        async with asyncio.timeout(10):
            while await two.get_or_load(Kind.POSITIONS, "main", source) == b"answer 4":
                await asyncio.sleep(0.1)
        assert await one.get_or_load(Kind.ACCOUNTS, "main", source) == b"answer 3"
        await asyncio.gather(one.close(), two.close())


async def test_many_who_ask_at_once_ask_the_source_once_and_an_error_is_theirs_and_not_kept(tmp_path: Path) -> None:
    async with valkey(tmp_path) as (url, _):
        cache, source = Cache(url), Source(pause_s=0.1)
        answers = await asyncio.gather(*(cache.get_or_load(Kind.ORDERS, "a", source) for _ in range(5)))
        assert set(answers) == {b"answer 1"} and source.asked == 1

        async def fails() -> bytes:
            raise LookupError("no such account")

        for _ in range(2):
            with pytest.raises(LookupError):
                await cache.get_or_load(Kind.ORDERS, "b", fails)
        assert await cache.get_or_load(Kind.ORDERS, "b", source) == b"answer 2"
        await cache.close()


async def test_a_dead_or_hanging_cache_is_a_slower_answer_and_it_is_used_again_when_it_returns(tmp_path: Path) -> None:
    async with valkey(tmp_path) as (url, child):
        cache, source = Cache(url, timeout_s=0.2), Source()
        assert await cache.get_or_load(Kind.ACCOUNTS, "a", source) == b"answer 1"
        assert child.pid is not None
        os.kill(child.pid, signal.SIGSTOP)
        try:
            for n in range(2, 22):
                assert await cache.get_or_load(Kind.ACCOUNTS, "a", source) == b"answer %d" % n
            # Twenty answers paid the timeout once or twice, not twenty times.
            assert 1 <= cache.counts.failures < 5
        finally:
            os.kill(child.pid, signal.SIGCONT)
        os.kill(child.pid, signal.SIGKILL)
        assert (await cache.get_or_load(Kind.ACCOUNTS, "b", source)).startswith(b"answer")
        assert await child.wait_ready(30)
        deadline = time.monotonic() + 20
        while cache.counts.hits == 0:
            assert time.monotonic() < deadline
            await cache.get_or_load(Kind.ACCOUNTS, "c", source)
            await asyncio.sleep(0.05)
        await cache.close()
