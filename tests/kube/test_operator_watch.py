"""A watch that stalls without an error: connections stay open, nothing comes any more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from world import World, account, eventually, strategy

from tickmesh.bus.nats import NatsBus
from tickmesh.kube.desired import Installation
from tickmesh.observe.clock import SystemClock
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics
from tickmesh.services.operator import operator as module
from tickmesh.services.operator.cluster import Cluster
from tickmesh.settings.operator import OperatorSettings


class Freezer:
    """A TCP proxy; ``freeze`` makes every open connection silent for ever, new ones work."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._frozen: list[threading.Event] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        for event in self._frozen:
            event.set()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                server = socket.create_connection(self._target, 5)
            except OSError:
                return
            server.settimeout(None)
            frozen = threading.Event()
            self._frozen.append(frozen)
            self.connections += 1
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink, frozen), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, frozen: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if frozen.is_set():
                    continue  # swallowed: the other side hears nothing, and no end either
                sink.sendall(data)
            if not frozen.is_set():
                sink.shutdown(socket.SHUT_WR)


@pytest.mark.timeout(240)
def test_a_watch_that_goes_silent_is_given_up_and_nothing_is_missed(world: World) -> None:
    if not world.api.processes:
        pytest.skip("KUBECONFIG names a cluster; the proxy needs the address of a local API server")
    address = urlsplit(world.api.url)
    assert address.hostname
    assert address.port
    freezer = Freezer((address.hostname, address.port))
    kubeconfig = world.home / "kubeconfig"
    kubeconfig.write_text(world.api.kubeconfig.read_text().replace(world.api.url, f"https://127.0.0.1:{freezer.port}"))
    process = world.operator(
        KUBECONFIG=str(kubeconfig),
        TICKMESH_OPERATOR__WATCH_SERVER_TIMEOUT_S="8",
        TICKMESH_OPERATOR__WATCH_CLIENT_TIMEOUT_S="10",
    )
    world.apply(strategy("before"))
    eventually(lambda: world.get("deployment", "strategy-before"), what="the first Deployment")
    before = freezer.connections
    freezer.freeze()
    world.apply(strategy("silent"))
    eventually(lambda: world.get("deployment", "strategy-silent"), 90, "what came while the watch was silent")
    assert freezer.connections > before
    assert process.poll() is None
    freezer.close()


@contextlib.asynccontextmanager
async def blind(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[module.Operator]:
    """An operator in this process that sees only what the test shows it."""
    monkeypatch.setenv("KUBECONFIG", str(world.api.kubeconfig))
    bus = await NatsBus.connect(f"nats://127.0.0.1:{world.nats_port}", name="operator")
    cluster = Cluster.connect(world.namespace)
    try:
        yield module.Operator(
            cluster, bus, SystemClock(), Metrics("operator"), Health(), OperatorSettings(lease_ttl_ms=3000),
            Installation(image="tickmesh:1", namespace=world.namespace), "me",
        )  # fmt: skip
    finally:
        await cluster.close()
        await bus.close()


async def test_a_resource_that_no_watch_brings_ends_the_operator(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AUDIT_S", 0.2)
    await asyncio.to_thread(world.apply, strategy("unseen"))
    async with blind(world, monkeypatch) as operator:
        with pytest.raises(ExceptionGroup) as ended:
            async with asyncio.timeout(30):
                await operator.run()
        assert ended.group_contains(module.BlindWatchError, match="Strategy unseen")


async def test_nothing_is_judged_before_every_watch_has_brought_what_was_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account's watch is later than the Strategy's: that must not degrade, nor refuse, what trades it."""
    live = strategy("live", mode="Live", account="main")
    await asyncio.to_thread(world.apply, account(), live)
    async with blind(world, monkeypatch) as operator:
        found = await asyncio.to_thread(world.get, "strategy", "live")
        assert found is not None
        operator.saw("Strategy", None, found)
        assert (await operator.admit(live, None)).errors == []
        strange = strategy("strange", mode="Live", account="nobody")
        assert "there are: main" in (await operator.admit(strange, None)).errors[0]
        work = asyncio.create_task(operator.run())
        try:
            async with asyncio.timeout(30):
                while not operator.election.valid():
                    await asyncio.sleep(0.1)
            await asyncio.sleep(2)
            assert await asyncio.to_thread(world.status, "strategy", "live") == {}, "judged without its account"
            made = await asyncio.to_thread(world.get, "tradingaccount", "main")
            assert made is not None
            operator.saw("TradingAccount", None, made)
            await asyncio.to_thread(eventually, lambda: world.status("strategy", "live"), 20.0, "a status")
            assert world.condition("live", "Degraded") == "False"
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
