"""`tickmesh status`, `halt`, `reduce` and `resume` against a running gateway, as a shell would call them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.gateway_desk import Desk, desk, free_port, publish_market

from tickmesh.domain.messages import Control, decode
from tickmesh.runtime.cli import main


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    async with desk() as running:
        monkeypatch.setenv("TICKMESH_GATEWAY__PORT", str(running.port))
        publish_market(running.bus, 20)
        yield running


async def shell(*words: str) -> int:
    """The command runs in a thread: it blocks, and the gateway is in this one."""
    return await asyncio.to_thread(main, list(words))


def verbs(running: Desk) -> list[tuple[str, str]]:
    return [(c.verb, c.scope) for c in (decode(Control, m.data) for m in running.bus.streams["CTL"])]


async def test_status_as_table_and_as_json(opened: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert await shell("status") == 0
    assert "BTCUSDT" in capsys.readouterr().out
    assert await shell("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["prices"]["BTCUSDT"]["bid"].startswith("60")


async def test_halt_reduce_and_a_resume_in_two_steps(opened: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert await shell("halt", "--reason", "drill", "--actor", "ann") == 0
    assert "everything is halted" in capsys.readouterr().out
    assert await shell("reduce", "--scope", "symbol.BTCUSDT", "--reason", "drill") == 0
    assert await shell("status") == 0
    shown = capsys.readouterr().out
    assert "HALTED all by ann: drill" in shown
    assert "REDUCING symbol.BTCUSDT" in shown
    assert await shell("resume", "--actor", "ann") == 3
    word = re.search(r"--confirm (\w+)", capsys.readouterr().out)
    assert word is not None
    assert verbs(opened) == [("halt", "all"), ("reduce", "symbol.BTCUSDT")]
    assert await shell("resume", "--actor", "ann", "--confirm", word[1]) == 0
    assert verbs(opened)[-1] == ("resume", "all")
    assert await shell("status") == 0
    assert "HALTED" not in capsys.readouterr().out


async def test_a_person_at_a_terminal_types_the_word(
    opened: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers = iter(["nonsense", None])

    def type_it(prompt: str) -> str:
        asked.append(prompt)
        return next(answers) or prompt.split("Type ")[1].split()[0]

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", type_it)
    assert await shell("resume") == 3
    assert verbs(opened) == []
    assert await shell("resume") == 0
    assert verbs(opened) == [("resume", "all")]
    assert "everything will trade again" in asked[0]


async def test_a_refusal_of_the_gateway_is_its_own_sentence(opened: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert await shell("halt", "--scope", "planet.earth", "--reason", "x") == 1
    assert capsys.readouterr().err == (
        "tickmesh: scope must be all, account.NAME, strategy.NAME or symbol.NAME\n"
    )  # fmt: skip


async def test_the_token_of_the_settings_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with desk(GATEWAY__TOKEN="correct horse") as running:
        monkeypatch.setenv("TICKMESH_GATEWAY__PORT", str(running.port))
        assert await shell("halt", "--reason", "x") == 1
        said = capsys.readouterr().err
        assert "TICKMESH_GATEWAY__TOKEN" in said
        monkeypatch.setenv("TICKMESH_GATEWAY__TOKEN", "correct horse")
        assert await shell("halt", "--reason", "x") == 0
        assert verbs(running) == [("halt", "all")]


async def test_without_the_gateway_a_halt_goes_to_the_execution_service_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[str, str]] = []

    async def halt(request: web.Request) -> web.Response:
        told.append((request.query["reason"], request.query["flatten"]))
        return web.json_response({"halted": "main"})

    app = web.Application()
    app.router.add_post("/halt", halt)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    monkeypatch.setenv("TICKMESH_GATEWAY__PORT", str(free_port()))
    monkeypatch.setenv("TICKMESH_EXECUTION__ADMIN_PORT", str(port))
    try:
        assert await shell("halt", "--reason", "smoke & fire") == 0
        assert "account main is halted whatever" in capsys.readouterr().err
        assert await shell("halt", "--flatten", "--reason", "fire") == 0
        assert "halted and its positions closed" in capsys.readouterr().err
    finally:
        await runner.cleanup()
    assert told == [("smoke & fire", "false"), ("fire", "true")]
