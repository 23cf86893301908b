"""The venue's REST transport against real sockets: keep-alive, timeouts, lost answers, what is repeated."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal

import pytest
from aiohttp import web

from tickmesh.domain.errors import ConfigError
from tickmesh.observe.clock import SystemClock
from tickmesh.venues.binance_usdm.codec_trading import Outcome, VenueCallError
from tickmesh.venues.binance_usdm.http import AnswerLostError, HttpClient, NotSentError
from tickmesh.venues.binance_usdm.rest import BinanceUsdmRest

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


class RawServer:
    """Accepts sockets and plays ``script`` with (reader, writer, connection number)."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.script: Script = self.answer

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await self.read(reader):
            writer.write(OK)

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        self.requests.append(request)
        return request

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.script(reader, writer, self.connections)
        finally:
            writer.close()


@pytest.fixture
async def raw() -> AsyncIterator[tuple[RawServer, HttpClient]]:
    handler = RawServer()
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HttpClient(f"http://127.0.0.1:{port}", SystemClock(), max_connections=2, connect_timeout_s=1.0)
    yield handler, client
    await client.close()
    server.close()


async def test_one_connection_serves_many_requests_and_stamps_when_bytes_left(
    raw: tuple[RawServer, HttpClient],
) -> None:
    server, client = raw
    for _ in range(20):
        answer = await client.request(GET, timeout_s=2, idempotent=True)
        assert (answer.status, answer.body) == (200, b"{}")
        assert 0 < answer.sent_mono_ns <= answer.received_mono_ns
    assert server.connections == 1
    assert client.try_send(GET, 2) is not None


async def test_a_broken_kept_alive_connection_repeats_a_get_but_never_a_post(
    raw: tuple[RawServer, HttpClient],
) -> None:
    server, client = raw

    async def one_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.read(reader)
        writer.write(OK)
        await server.read(reader)  # the second request of a connection is taken and never answered

    server.script = one_answer
    await client.request(GET, timeout_s=2, idempotent=True)
    await client.request(GET, timeout_s=2, idempotent=True)
    assert (server.connections, len(server.requests)) == (2, 3)
    with pytest.raises(AnswerLostError):
        await client.request(POST, timeout_s=2, idempotent=False)
    assert [r[:4] for r in server.requests].count(b"POST") == 1


async def test_no_answer_is_lost_after_the_timeout_and_the_connection_is_not_used_again(
    raw: tuple[RawServer, HttpClient],
) -> None:
    server, client = raw

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.read(reader)
        if number == 1:
            await asyncio.sleep(0.3)
        writer.write(OK)
        await server.read(reader)

    server.script = slow
    with pytest.raises(AnswerLostError) as caught:
        await client.request(POST, timeout_s=0.05, idempotent=False)
    assert caught.value.timed_out
    assert (await client.request(GET, timeout_s=2, idempotent=True)).status == 200
    assert server.connections == 2


async def test_every_request_has_its_own_time_however_long_the_one_before_it_had(
    raw: tuple[RawServer, HttpClient],
) -> None:
    server, client = raw
    late = asyncio.Event()

    async def obeys(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while request := await server.read(reader):
            if b"/late" in request:
                await asyncio.sleep(0.6)  # past the deadline of the request before
            elif b"/never" in request:
                await late.wait()
            writer.write(OK)

    server.script = obeys
    assert (await client.request(POST, timeout_s=0.3, idempotent=False)).status == 200
    slow = POST.replace(b"POST /", b"POST /late")
    assert (await client.request(slow, timeout_s=30, idempotent=False)).status == 200
    never = POST.replace(b"POST /", b"POST /never")
    async with asyncio.timeout(20):  # the timer of the one before is armed for longer
        with pytest.raises(AnswerLostError, match=r"within 0\.2 s"):
            await client.request(never, timeout_s=0.2, idempotent=False)
    assert server.connections == 1
    late.set()
    assert (await client.request(POST, timeout_s=2, idempotent=False)).status == 200
    assert server.connections == 2


async def test_garbage_a_cut_answer_and_a_chunked_one(raw: tuple[RawServer, HttpClient]) -> None:
    server, client = raw
    answers = [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    ]

    async def each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.read(reader)
        writer.write(answers[number - 1])
        await writer.drain()

    server.script = each
    for _ in range(2):
        with pytest.raises(AnswerLostError):
            await client.request(POST, timeout_s=2, idempotent=False)
    assert (await client.request(POST, timeout_s=2, idempotent=False)).body == b"abcdef"


async def test_requests_over_the_pool_wait_for_their_turn_and_all_are_answered(
    raw: tuple[RawServer, HttpClient],
) -> None:
    server, client = raw
    answers = await asyncio.gather(*(client.request(GET, timeout_s=2, idempotent=True) for _ in range(50)))
    assert [a.status for a in answers] == [200] * 50
    assert server.connections == 2


async def test_nobody_listening_is_not_sent_and_a_wrong_url_is_a_configuration_error() -> None:
    client = HttpClient("http://127.0.0.1:1", SystemClock(), connect_timeout_s=0.5)
    with pytest.raises(NotSentError):
        await client.request(POST, timeout_s=1, idempotent=False)
    with pytest.raises(ConfigError):
        HttpClient("ftp://venue", SystemClock())


@pytest.fixture
async def venue() -> AsyncIterator[tuple[BinanceUsdmRest, list[web.Request]]]:
    """An HTTP server that checks the signature as the venue does."""
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        if request.path == "/fapi/v1/time":
            return web.json_response({"serverTime": SystemClock.wall_ns() // 1_000_000 + 5000})
        query, _, signature = request.rel_url.raw_query_string.rpartition("&signature=")
        wanted = hmac.new(b"secret", query.encode(), hashlib.sha256).hexdigest()
        if signature != wanted or request.headers["X-MBX-APIKEY"] != "key":
            return web.json_response({"code": -1022, "msg": "Signature for this request is not valid."}, status=400)
        headers = {"X-MBX-USED-WEIGHT-1M": "7", "X-MBX-ORDER-COUNT-10S": "3", "X-MBX-ORDER-COUNT-1M": "4"}
        if request.path == "/fapi/v3/positionRisk":
            return web.json_response([{"symbol": "BTCUSDT", "positionAmt": "-0.010", "markPrice": "6"}])
        if request.path == "/fapi/v1/openOrders":
            return web.json_response({"orders": "not a list"})
        if request.path == "/fapi/v1/userTrades":
            return web.json_response([])
        return web.json_response(
            {"orderId": 9, "symbol": "BTCUSDT", "status": "NEW", "clientOrderId": request.query["newClientOrderId"]},
            headers=headers,
        )

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    rest = BinanceUsdmRest(f"http://127.0.0.1:{port}", "key", "secret", 5000, SystemClock())
    yield rest, seen
    await rest.close()
    await runner.cleanup()


async def test_signed_calls_are_accepted_and_decoded_and_headers_read(
    venue: tuple[BinanceUsdmRest, list[web.Request]],
) -> None:
    rest, seen = venue
    order = await rest.place({"symbol": "BTCUSDT", "price": Decimal("1E+2"), "newClientOrderId": "tm-a b&c"})
    assert order.clientOrderId == "tm-a b&c"
    assert seen[-1].query["price"] == "100"
    assert (rest.usage.weight_1m, rest.usage.orders_10s, rest.usage.orders_1m) == (7, 3, 4)
    assert (await rest.positions())[0].positionAmt == Decimal("-0.010")
    assert await rest.user_trades("BTCUSDT", from_id=5) == []
    assert seen[-1].query["fromId"] == "5"


async def test_the_measured_clock_offset_goes_into_timestamps(
    venue: tuple[BinanceUsdmRest, list[web.Request]],
) -> None:
    rest, seen = venue
    offset_ms = await rest.sync_time()
    assert abs(offset_ms - 5000) < 1000
    await rest.positions()
    assert abs(int(seen[-1].query["timestamp"]) - SystemClock.wall_ns() // 1_000_000 - offset_ms) < 1000


async def test_a_wrong_secret_is_a_rejection_and_a_wrong_shape_is_unknown(
    venue: tuple[BinanceUsdmRest, list[web.Request]],
) -> None:
    rest, _ = venue
    wrong = BinanceUsdmRest(f"http://127.0.0.1:{rest.http.port}", "key", "other", 5000, SystemClock())
    with pytest.raises(VenueCallError) as caught:
        await wrong.positions()
    assert (caught.value.outcome, caught.value.code) == (Outcome.REJECTED, -1022)
    await wrong.close()
    with pytest.raises(VenueCallError) as caught:
        await rest.open_orders("X")
    assert caught.value.outcome is Outcome.UNKNOWN
