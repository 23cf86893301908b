"""The NATS of the laptop's chart, with the configuration as rendered, in a real nats-server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from chart import Helm, program

from tickmesh.bus import layout
from tickmesh.bus.durability import Verdict, judge
from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import DependencyError
from tickmesh.runtime.servers import free_ports
from tickmesh.runtime.servers import program as server_program


async def test_its_nats_holds_the_whole_layout_durably_and_asks_for_the_token(tmp_path: Path) -> None:
    helm = program()
    if helm is None:
        pytest.skip("no helm here: make helm builds one (needs a Go toolchain)")
    manifests = Helm(helm).render()
    (found,) = [m for m in manifests if m["metadata"]["name"] == "tickmesh-nats-server"]
    client, monitor = free_ports(2)
    text = found["data"]["nats.conf"].replace("/data", str(tmp_path / "js"))
    text = text.replace("4222", str(client)).replace("8222", str(monitor))
    config = tmp_path / "nats.conf"
    config.write_text(text)
    process = await asyncio.create_subprocess_exec(
        server_program("nats-server"), "--config", str(config), "-l", str(tmp_path / "log"),
        env={**os.environ, "TICKMESH_NATS__TOKEN": "word"},
    )  # fmt: skip
    url = f"nats://127.0.0.1:{client}"
    try:
        bus = await NatsBus.connect(url, name="test", token="word", connect_timeout_s=15)
        try:
            assert await layout.compare(bus.jetstream) == []
            durability = await judge(bus.jetstream, replicas=1, monitor_url=f"http://127.0.0.1:{monitor}")
            assert durability.verdict is Verdict.DURABLE, durability
        finally:
            await bus.close()
        with pytest.raises(DependencyError):
            await NatsBus.connect(url, name="stranger", connect_timeout_s=1)
    finally:
        process.kill()
        await process.wait()
