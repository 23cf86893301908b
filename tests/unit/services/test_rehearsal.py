"""What a rehearsal does, and what it does not."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tickmesh.domain.client_order_id import client_order_id
from tickmesh.services import rehearsal as module
from tickmesh.services.rehearsal import Rehearsal
from tickmesh.settings import Settings, load
from tickmesh.strategy.examples.market_making import MarketMaking

_RESOURCE = """
apiVersion: tickmesh.io/v1alpha1
kind: Strategy
metadata: {{name: mine}}
spec:
  plugin: {{file: {plugin}}}
  symbols: [BTCUSDT]
"""
_PLUGIN = """
from tickmesh.strategy.interface import Strategy
class Mine(Strategy):
    name = "mine"
    def __init__(self):
        raise RuntimeError("I am one of a kind")
"""


def settings_with(**environ: str) -> Settings:
    return load({f"TICKMESH_{name.upper()}": value for name, value in environ.items()})


@pytest.fixture
async def rehearsal() -> AsyncIterator[Rehearsal]:
    async with Rehearsal.open(load({})) as stage:
        yield stage


def walk(rehearsal: Rehearsal) -> bytes:
    """A walk's order; on a busy machine the kernel may hand a walk's bytes over too late for it."""
    return next(filter(None, (rehearsal.once() for _ in range(1000))))


async def test_every_walk_ends_in_the_bytes_of_a_signed_order(rehearsal: Rehearsal) -> None:
    for _ in range(200):
        request = walk(rehearsal)
        assert request.startswith(b"POST /fapi/v1/order?symbol=REHEARSALUSDT&side=BUY&type=LIMIT&")
        assert b"&signature=" in request


async def test_the_keys_of_the_account_are_not_on_the_stage() -> None:
    settings = settings_with(venue__api_key="the-real-key", venue__api_secret="the-real-secret")
    async with Rehearsal.open(settings) as rehearsal:
        first = walk(rehearsal)
    async with Rehearsal.open(load({})) as rehearsal:
        second = walk(rehearsal)
    assert b"the-real-key" not in first

    def signature(request: bytes, timestamp: bytes) -> tuple[bytes, ...]:
        return request.partition(timestamp)[0], request.partition(b" HTTP/1.1")[2]

    assert signature(first, b"&timestamp=") == signature(second, b"&timestamp=")


async def test_nothing_grows_with_the_number_of_walks(rehearsal: Rehearsal) -> None:
    for _ in range(300):
        rehearsal.once()
    await asyncio.sleep(0)  # the loop clears away the timers of answered requests
    gc.collect()
    objects, ids = len(gc.get_objects()), client_order_id.cache_info().currsize
    for _ in range(1000):
        rehearsal.once()
    await asyncio.sleep(0)
    gc.collect()
    assert len(gc.get_objects()) < objects + 200, "a walk leaves objects behind"
    assert client_order_id.cache_info().currsize == ids, "a walk crowds live orders' ids out of the cache"


async def test_the_stage_talks_to_this_process_alone_and_gives_its_sockets_back() -> None:
    process = psutil.Process()
    before = {c.fd for c in process.net_connections()}
    async with Rehearsal.open(load({})) as rehearsal:
        rehearsal.once()
        mine = [c for c in process.net_connections() if c.fd not in before and c.raddr]
        ends = {c.laddr for c in mine}
        assert mine and all(c.raddr in ends for c in mine)
    gc.collect()
    assert {c.fd for c in process.net_connections()} <= before


async def test_a_plugin_that_does_not_allow_it_is_never_made(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(_PLUGIN, encoding="utf-8")
    resource = tmp_path / "mine.yaml"
    resource.write_text(_RESOURCE.format(plugin="mine.py"), encoding="utf-8")
    async with Rehearsal.open(settings_with(strategy__resources=str(resource))) as rehearsal:
        assert walk(rehearsal).startswith(b"POST ")
        assert isinstance(rehearsal.plugin, module.Quoter)


async def test_a_plugin_that_allows_it_is_rehearsed_in_an_instance_of_its_own(rehearsal: Rehearsal) -> None:
    assert isinstance(rehearsal.plugin, MarketMaking)  # the default resource's


async def test_a_walk_that_reaches_no_venue_ends_the_rehearsal_and_nothing_else(
    rehearsal: Rehearsal, caplog: pytest.LogCaptureFixture
) -> None:
    rehearsal.plugin.on_market_data = lambda data: []  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        await rehearsal.run(1)
    assert "sends no order any more" in caplog.text
