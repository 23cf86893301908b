"""The gateway on a bus: what is published is what REST and WebSocket show, and who may ask."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.gateway_desk import (
    Desk,
    desk,
    publish_account,
    publish_alert,
    publish_market,
    publish_order,
    publish_signal,
)

from tickmesh.console.status import table
from tickmesh.domain.enums import OrderState
from tickmesh.domain.messages import Audit, Control, decode
from tickmesh.gateway import view

TOKEN = "correct horse battery"
COMMAND = {"scope": "all", "actor": "ann", "reason": "test"}
BASE = "/api/v1/trading"
LISTS: dict[str, Any] = {
    f"{BASE}/positions": list[view.PositionView],
    f"{BASE}/balances": list[view.BalanceView],
    f"{BASE}/accounts": list[view.AccountView],
    f"{BASE}/orders": list[view.OrderView],
    f"{BASE}/orders/pending": list[view.OrderView],
    f"{BASE}/orders/pending/ids": list[str],
    f"{BASE}/fills": list[view.FillView],
    f"{BASE}/signals": list[view.SignalView],
    f"{BASE}/strategies": list[view.StrategyView],
    f"{BASE}/alerts": list[view.AlertView],
    f"{BASE}/batch/snapshot": view.Snapshot,
    "/api/v1/live": view.Live,
    "/api/v1/history": view.History,
    "/api/v1/control/halts": list[view.HaltView],
    "/api/v1/session": view.SessionView,
}


def fill_up(opened: Desk) -> None:
    for number in range(60):
        publish_market(opened.bus, number)
    publish_alert(opened.bus, "something")
    publish_signal(opened.bus)


async def get(session: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, Any]:
    async with session.get(path, **options) as response:
        return response.status, await response.json()


async def post(session: aiohttp.ClientSession, path: str, body: Any, **options: Any) -> tuple[int, Any]:
    async with session.post(path, json=body, **options) as response:
        return response.status, await response.json()


async def test_every_answer_is_what_the_openapi_document_says() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        fill_up(opened)
        _, document = await get(session, "/api/v1/openapi.json")
        plain = {path for path, methods in document["paths"].items() if "get" in methods and "{" not in path}
        record = {"/api/v1/record/fills", "/api/v1/record/order-events"}  # Postgres: test_recorder_history
        assert plain == {*LISTS, *record, "/api/v1/openapi.json", "/ws/live"}
        for path, kind in LISTS.items():
            async with session.get(path) as response:
                assert response.status == 200, path
                # The types refuse unknown and missing fields.
                answer = msgspec.json.decode(await response.read(), type=kind)
            if isinstance(answer, list) and path != "/api/v1/control/halts":
                assert answer, f"{path} has nothing to check"
        async with session.get(f"{BASE}/orders/tm-0040") as response:
            detail = msgspec.json.decode(await response.read(), type=view.OrderDetail)
        assert [step.state for step in detail.history] == ["SUBMITTED", "FILLED"]
        assert detail.stages_us["sent"] > 300


async def test_every_route_is_in_the_openapi_document() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        _, document = await get(session, "/api/v1/openapi.json")
    described = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    # The document comes from the table; the table must be what the application really routes.
    from tickmesh.bus.memory import MemoryBus
    from tickmesh.gateway.api import Api, Watch
    from tickmesh.gateway.guard import Access
    from tickmesh.gateway.record import record_routes
    from tickmesh.gateway.replica import Replica
    from tickmesh.observe.clock import SystemClock
    from tickmesh.observe.metrics import Metrics
    from tickmesh.store.history import History

    record = record_routes(History("postgresql://nobody@127.0.0.1:1/none"), SystemClock())
    api = Api(
        Replica(), MemoryBus(), SystemClock(), Metrics("x"), watch=Watch(), access=Access(), more_routes=record
    )  # fmt: skip
    routed = {
        (route.method, resource.canonical)
        for resource in api.app.router.resources()
        for route in resource
        if route.method != "HEAD"
    }
    assert routed - {("GET", "/"), ("GET", "/web/{name}")} == described
    for path, methods in document["paths"].items():
        for method in methods.values():
            assert method["summary"], path
            assert "401" in method["responses"], path


async def test_the_picture_is_rebuilt_from_the_streams_after_a_restart() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        fill_up(opened)
        await post(session, "/api/v1/control/reduce", {**COMMAND, "scope": "symbol.BTCUSDT"})
        before = {path: await get(session, path) for path in LISTS if path.startswith(BASE) and "signals" not in path}
        halts = await get(session, "/api/v1/control/halts")
        await opened.stop()
        await opened.start()
        after = {path: await get(session, path) for path in before}
        assert after == before
        assert await get(session, "/api/v1/control/halts") == halts
        assert halts[1][0]["state"] == "REDUCING"
        _, live = await get(session, "/api/v1/live")
        assert set(live["prices"]) == {"BTCUSDT", "ETHUSDT"}


async def test_what_a_broken_connection_swallowed_is_there_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tickmesh.services.gateway._CATCH_UP_S", 0.05)
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        hearing, opened.bus._subscribers = opened.bus._subscribers, []
        name = publish_order(opened.bus, 1, OrderState.SUBMITTED)
        opened.bus._subscribers = hearing
        async with asyncio.timeout(5):
            while (await get(session, f"{BASE}/orders/{name}"))[0] == 404:
                await asyncio.sleep(0.02)


async def test_the_status_table_shows_the_live_picture() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        fill_up(opened)
        _, live = await get(session, "/api/v1/live")
        text = table(live)
        assert live["prices"]["BTCUSDT"]["bid"] in text
        assert "tick to order" in text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", f"{BASE}/orders?limit=0", None, 400, "limit"),
        ("GET", f"{BASE}/orders?limit=ten", None, 400, "limit"),
        ("GET", f"{BASE}/orders?state=gone", None, 400, "SUBMITTED"),
        ("GET", f"{BASE}/orders/none", None, 404, "none"),
        ("GET", "/nothing", None, 404, "/api/v1/openapi.json"),
        ("GET", "/web/../api.py", None, 404, "openapi"),
        ("DELETE", f"{BASE}/orders", None, 405, "DELETE"),
        ("GET", "/ws/live?rate=warp", None, 400, "web, tui"),
        ("POST", "/api/v1/control/halt", {"scope": "all"}, 400, "actor"),
        ("POST", "/api/v1/control/halt", {**COMMAND, "scope": "symbol.*"}, 400, "scope"),
        ("POST", "/api/v1/control/halt", {**COMMAND, "scope": "symbol.A.B"}, 400, "scope"),
        ("POST", "/api/v1/control/halt", {**COMMAND, "extra": "x"}, 400, "extra"),
        ("POST", "/api/v1/control/halt", [1], 400, "object"),
        ("POST", "/api/v1/control/halt", {**COMMAND, "reason": "x" * 501}, 400, "500"),
        ("POST", "/api/v1/control/resume", {**COMMAND, "confirm": "guess"}, 400, "confirmation"),
        ("POST", "/api/v1/control/resume", {**COMMAND, "flatten": True}, 400, "halt only"),
        ("POST", "/api/v1/control/reduce", {**COMMAND, "flatten": True}, 400, "halt only"),
        ("POST", "/api/v1/control/halt", {**COMMAND, "flatten": "yes"}, 400, "flatten"),
    ],
)
async def test_a_refusal_is_json_with_one_sentence(method: str, path: str, body: Any, status: int, said: str) -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        async with session.request(method, path, json=body) as response:
            answer = await response.json()
            assert (response.status, set(answer)) == (status, {"error"})
        assert said in answer["error"]
        assert "\n" not in answer["error"]
        assert opened.bus.streams["CTL"] == []


async def test_one_action_stops_and_two_resume() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        assert (await post(session, "/api/v1/control/halt", COMMAND))[0] == 200
        _, halts = await get(session, "/api/v1/control/halts")
        assert [(h["scope"], h["state"], h["actor"]) for h in halts] == [("all", "HALTED", "ann")]
        status, needed = await post(session, "/api/v1/control/resume", COMMAND)
        assert status == 202
        second = {**COMMAND, "confirm": needed["confirm"]}
        # The confirmation belongs to this scope and this person.
        assert (await post(session, "/api/v1/control/resume", {**second, "scope": "symbol.X"}))[0] == 400
        assert (await post(session, "/api/v1/control/resume", {**second, "actor": "eve"}))[0] == 400
        assert [decode(Control, m.data).verb for m in opened.bus.streams["CTL"]] == ["halt"]
        assert (await post(session, "/api/v1/control/resume", second))[0] == 200
        assert (await post(session, "/api/v1/control/resume", second))[0] == 400
        assert (await get(session, "/api/v1/control/halts"))[1] == []
        assert [decode(Control, m.data).verb for m in opened.bus.streams["CTL"]] == ["halt", "resume"]
        audits = [decode(Audit, m.data) for m in opened.bus.streams["AUDIT"]]
        assert [(a.event, a.actor, a.detail["reason"]) for a in audits] == [
            ("halt", "ann", "test"), ("resume", "ann", "test"),
        ]  # fmt: skip


async def test_a_command_that_cannot_be_stored_is_not_acknowledged() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        opened.bus.connected = False
        status, answer = await post(session, "/api/v1/control/halt", COMMAND)
        assert status == 503
        assert "nothing was sent" in answer["error"]
        opened.bus.connected = True


def test_a_gateway_open_to_others_takes_commands_only_with_a_token() -> None:
    from tickmesh.gateway.guard import Access, is_loopback

    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("desk.example")
    assert not Access(token="", local=False).commands
    assert Access(token="x", local=False).commands
    assert Access(token="", local=True).commands


async def test_open_to_others_without_a_token_commands_are_refused_and_reads_answered() -> None:
    async with desk(OBSERVE__HOST="0.0.0.0") as opened, aiohttp.ClientSession(opened.url) as session:
        status, answer = await post(session, "/api/v1/control/halt", COMMAND)
        assert status == 403
        assert "TICKMESH_GATEWAY__TOKEN" in answer["error"]
        assert (await get(session, "/api/v1/live"))[0] == 200
        assert not (await get(session, "/api/v1/session"))[1]["commands"]


async def test_with_a_token_nothing_but_the_page_is_given_without_it() -> None:
    async with desk(GATEWAY__TOKEN=TOKEN) as opened, aiohttp.ClientSession(opened.url) as session:
        _, document = await get(session, "/api/v1/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
        for path, methods in document["paths"].items():
            if path == "/api/v1/session":
                continue
            for method in methods:
                async with session.request(method, path.replace("{client_order_id}", "x"), json={}) as response:
                    assert response.status == 401, path
                    assert TOKEN not in await response.text()
        for wrong in ("Bearer wrong", "Bearer ", TOKEN, f"Basic {TOKEN}"):
            assert (await get(session, "/api/v1/live", headers={"Authorization": wrong}))[0] == 401
        async with session.get("/") as response:
            assert response.status == 200


async def test_a_session_cookie_stands_for_the_token_and_cannot_be_forged_or_prolonged() -> None:
    async with desk(GATEWAY__TOKEN=TOKEN) as opened, aiohttp.ClientSession() as session:
        live = f"{opened.url}/api/v1/live"
        assert (await post(session, f"{opened.url}/api/v1/session", {"token": "wrong"}))[0] == 401
        async with session.post(f"{opened.url}/api/v1/session", json={"token": TOKEN}) as response:
            assert response.status == 200
            cookie = response.cookies["tickmesh_session"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert TOKEN not in cookie.value
        expires, _, proof = cookie.value.partition(".")
        for value, status in (
            (cookie.value, 200),
            (f"{int(expires) + 1}.{proof}", 401),
            (f"1.{proof}", 401),
            ("", 401),
        ):
            async with aiohttp.ClientSession(cookies={"tickmesh_session": value}) as other:
                assert (await get(other, live))[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "SELF"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        # A name of another site that resolves to this machine (DNS rebinding).
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
async def test_pages_of_other_sites_may_not_use_it(headers: dict[str, str], status: int) -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        sent = {k: v.replace("SELF", opened.url) for k, v in headers.items()}
        assert (await get(session, "/api/v1/live", headers=sent))[0] == status
        assert (await post(session, "/api/v1/control/halt", COMMAND, headers=sent))[0] == status
        if status == 200:
            async with session.ws_connect("/ws/live", headers=sent) as ws:
                assert json.loads((await ws.receive(5)).data)["type"] == "snapshot"
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/ws/live", headers=sent)
            assert refused.value.status == 403


async def test_an_allowed_origin_is_let_in() -> None:
    async with (
        desk(GATEWAY__ALLOWED_ORIGINS="https://desk.example") as opened,
        aiohttp.ClientSession(opened.url) as session,
    ):
        assert (await get(session, "/api/v1/live", headers={"Origin": "https://desk.example"}))[0] == 200
        assert (await get(session, "/api/v1/live", headers={"Origin": "https://desk.example.evil"}))[0] == 403


async def test_a_form_of_another_site_cannot_send_a_command() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        async with session.post("/api/v1/control/halt", data=json.dumps(COMMAND)) as response:
            assert response.status == 400
        assert opened.bus.streams["CTL"] == []


async def test_no_secret_is_in_any_answer() -> None:
    secrets = {
        "GATEWAY__TOKEN": TOKEN, "VENUE__API_KEY": "venue-key-do-not-tell", "VENUE__API_SECRET": "venue-secret-hush",
        "POSTGRES__DSN": "postgresql://ann:dsn-password@127.0.0.1/x", "REDIS__URL": "redis://:redis-password@h/0",
        "NATS__TOKEN": "nats-token-quiet",
    }  # fmt: skip
    words = (TOKEN, "do-not-tell", "hush", "dsn-password", "redis-password", "nats-token-quiet")
    async with desk(**secrets) as opened:
        fill_up(opened)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(opened.url, headers=headers) as session:
            _, document = await get(session, "/api/v1/openapi.json")
            paths = [path.replace("{client_order_id}", "tm-0040") for path in document["paths"] if path != "/ws/live"]
            for path in [*paths, "/", "/web/app.js", "/nothing"]:
                async with session.get(path) as response:
                    said = await response.text() + str(response.headers)
                    assert not any(word in said for word in words), path
            async with session.ws_connect("/ws/live") as ws:
                said = str((await ws.receive(5)).data) + str((await ws.receive(5)).data)
                assert not any(word in said for word in words)
        assert not any(word in opened.metrics.exposition().decode() for word in words)


async def test_the_page_is_cached_by_its_tag_and_runs_no_inline_script() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        for path in ("/", "/web/app.js", "/web/style.css", "/web/icon.svg"):
            async with session.get(path) as response:
                assert response.status == 200, path
                policy, tag = response.headers["Content-Security-Policy"], response.headers["ETag"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                text = await response.text()
            assert "unsafe-inline" not in policy
            assert "default-src 'none'" in policy
            assert "http:" not in text.replace("http://www.w3.org/2000/svg", ""), f"{path} asks another machine"
            async with session.get(path, headers={"If-None-Match": tag}) as response:
                assert response.status == 304
                assert await response.read() == b""


async def test_a_client_above_its_rate_is_told_to_slow_down() -> None:
    async with desk(GATEWAY__REQUESTS_PER_S="5") as opened, aiohttp.ClientSession(opened.url) as session:
        answers = [await get(session, "/api/v1/session") for _ in range(12)]
        refused = [answer for status, answer in answers if status == 429]
        assert refused
        assert "5 requests" in refused[0]["error"]


async def test_a_websocket_client_holds_the_same_as_rest_shows() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        fill_up(opened)
        async with session.ws_connect("/ws/live?rate=tui") as ws:
            snapshot = json.loads((await ws.receive(5)).data)
            assert (snapshot["type"], set(snapshot)) == ("snapshot", {"type", "epoch", "seq", "ts", "state"})
            msgspec.convert(snapshot["state"], view.State, strict=False)
            held, seq = snapshot["state"], snapshot["seq"]
            name = publish_order(opened.bus, 77, OrderState.SUBMITTED)
            publish_order(opened.bus, 35, OrderState.CANCELED)
            publish_account(opened.bus)
            async with asyncio.timeout(5):
                while name not in held["orders"] or "tm-0035" in held["orders"]:
                    update = json.loads((await ws.receive(5)).data)
                    assert (update["type"], update["previous"]) == ("update", seq)
                    assert update["epoch"] == snapshot["epoch"]
                    seq = update["seq"]
                    for section, entries in update["changed"].items():
                        held[section] = {k: v for k, v in {**held[section], **entries}.items() if v is not None}
            _, pending = await get(session, f"{BASE}/orders/pending")
            assert {o["client_order_id"]: o for o in pending} == held["orders"]
            _, positions = await get(session, f"{BASE}/positions")
            assert list(held["positions"].values()) == positions


async def test_a_second_update_carries_only_what_changed() -> None:
    async with desk() as opened, aiohttp.ClientSession(opened.url) as session:
        publish_account(opened.bus)
        async with session.ws_connect("/ws/live?rate=tui") as ws:
            await ws.receive(5)
            await asyncio.sleep(0.3)
            publish_order(opened.bus, 5, OrderState.SUBMITTED)
            async with asyncio.timeout(5):
                while True:
                    changed = json.loads((await ws.receive(5)).data)["changed"]
                    if "orders" in changed:
                        break
            assert list(changed["orders"]) == ["tm-0005"]
            assert not changed.keys() & {"positions", "accounts", "fills", "prices"}


async def test_more_clients_than_allowed_are_turned_away_and_counted() -> None:
    async with desk(GATEWAY__MAX_SOCKETS="1") as opened, aiohttp.ClientSession(opened.url) as session:
        async with session.ws_connect("/ws/live") as ws:
            await ws.receive(5)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/ws/live")
            assert refused.value.status == 503
        counters = opened.metrics.stats()["counters"]
        assert counters["websocket_closed_total{reason=full}"] == 1


async def test_a_slow_client_skips_pictures_is_closed_and_delays_nobody() -> None:
    async with desk(GATEWAY__SEND_TIMEOUT_S="0.5") as opened, aiohttp.ClientSession(opened.url) as session:
        fill_up(opened)
        slow = socket.create_connection(("127.0.0.1", opened.port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(
            f"GET /ws/live?rate=tui HTTP/1.1\r\nHost: 127.0.0.1:{opened.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        feeding = asyncio.create_task(_feed(opened))
        try:
            async with session.ws_connect("/ws/live?rate=tui") as ws, asyncio.timeout(60):
                counters = opened.metrics.stats()["counters"]
                while not counters.get("websocket_closed_total{reason=slow}"):
                    await ws.receive(5)
                    counters = opened.metrics.stats()["counters"]
        finally:
            feeding.cancel()
            slow.close()
        assert counters["websocket_frames_total"] > 3


async def _feed(opened: Desk) -> None:
    """Large pictures: alerts of a kilobyte each, all new every time."""
    number = 0
    while True:
        for _ in range(20):
            number += 1
            publish_alert(opened.bus, f"{number} " + "x" * 4000)
        await asyncio.sleep(0.02)


async def test_guessing_the_token_is_slowed_down() -> None:
    async with desk(GATEWAY__TOKEN=TOKEN) as opened, aiohttp.ClientSession(opened.url) as session:
        answers = [(await post(session, "/api/v1/session", {"token": f"guess {n}"}))[0] for n in range(8)]
        assert set(answers) == {401, 429}
        counters = opened.metrics.stats()["counters"]
        assert counters["http_answers_total{status=4xx}"] == 8
