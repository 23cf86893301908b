"""A watch that stalls without an error: connections stay open, nothing comes any more."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

import pytest
from world import World, eventually, strategy


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
