"""Benchmarks of one process on an order's way: pre-trade judgement, messages to bytes and back, the ring.

In: nothing but sizes; the orders are made here, of the shape that the system sends. Out: results in microseconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from tickmesh import hotpath
from tickmesh.domain.approval import ApprovedOrder
from tickmesh.domain.client_order_id import client_order_id
from tickmesh.domain.enums import OrderState, Side
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import BookUpdate, OrderEvent, OrderIntent, Stamps, Trade
from tickmesh.hotpath.pure import pretrade as pure_pretrade
from tickmesh.hotpath.pure import ring as pure_ring
from tickmesh.risk.limits import Limits
from tickmesh.risk.pretrade import PreTrade
from tickmesh.risk.view import RiskView
from tickmesh.runtime.bench.frames import Frames
from tickmesh.runtime.bench.market import AbsentError
from tickmesh.runtime.bench.result import Result, from_ns

_ORDERS = 20_000
_NOW_NS, _MONO_NS = 1_700_000_000_000_000_000, 50_000_000_000
_STAMPS = Stamps(
    tick_receive_mono_ns=_MONO_NS, feed_publish_mono_ns=_MONO_NS + 1, strategy_receive_mono_ns=_MONO_NS + 2,
    intent_publish_mono_ns=_MONO_NS + 3,
)  # fmt: skip

Run = Callable[[Frames], Result]


def _intent(number: int) -> OrderIntent:
    return OrderIntent(
        intent_id=f"mm-{number:012d}", strategy="market_maker", account="main", venue="binance", symbol="BTCUSDT",
        side=Side.BUY if number % 2 else Side.SELL, price_ticks=599_990 if number % 2 else 600_010, qty_lots=10,
        publish_ns=_NOW_NS, receive_ns=_NOW_NS, seq=number, epoch=7, correlation_id=f"c-{number:012d}",
        stamps=_STAMPS,
    )  # fmt: skip


def _desk(kernel: Any) -> tuple[PreTrade, RiskView]:
    bitcoin = Instrument(
        venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.10"),
        lot_size=Decimal("0.001"), min_qty=Decimal("0.001"), max_qty=Decimal(1000), min_notional=Decimal(100),
        percent_price_up=Decimal("1.05"), percent_price_down=Decimal("0.95"),
    )  # fmt: skip
    instruments = {"BTCUSDT": bitcoin}
    view = RiskView("main", instruments)
    view.on_book("BTCUSDT", 599_999, 600_000, _MONO_NS)
    view.on_mark("BTCUSDT", Decimal(60_000), _MONO_NS)
    view.on_balances(Decimal(100_000), Decimal(100_000))
    view.set_leverage("BTCUSDT", 10)
    limits = Limits(max_messages_per_s=1_000_000, max_messages_per_min=1_000_000, throttle_orders=1_000_000)
    return PreTrade(instruments, limits, kernel=kernel), view


def desk_and_intents(count: int) -> tuple[PreTrade, RiskView, list[bytes]]:
    """The desk with the kernel that is in use, its view, and so many encoded intents that pass."""
    half: Any = hotpath.native if hotpath.native is not None else pure_pretrade
    desk, view = _desk(half.PreTradeKernel)
    return desk, view, [msgspec.msgpack.encode(_intent(number)) for number in range(count)]


def decode_intent(raw: bytes) -> OrderIntent:
    """As the execution service decodes it."""
    return _DECODER.decode(raw)


_DECODER = msgspec.msgpack.Decoder(OrderIntent)


def pretrade(name: str) -> Run:
    """All pre-trade checks of an order that passes, with its reservation; ``checks`` is without a kernel.

    The call is the one that the execution service makes, and as there the order's id is known: ``IntentDesk.known`` has
    asked for it (``order_id`` says what that takes).
    """

    def run(_: Frames) -> Result:
        if name == "native" and hotpath.native is None:
            raise AbsentError(f"the native half is not in use: {hotpath.WHY_PURE}")
        if name == "pure" and hotpath.native is not None:
            return _in_a_pure_process("pretrade_pure")  # the account's state belongs to the half that is in use
        desk, view = _desk(None if name == "checks" else hotpath.PreTradeKernel)
        clock, durations = time.perf_counter_ns, []
        for number in range(_ORDERS):
            intent = _intent(number)
            client_order_id(intent.strategy, intent.intent_id)
            began = clock()
            answer = desk.approve(intent, view, _NOW_NS, _MONO_NS + number)
            durations.append(clock() - began)
            if not isinstance(answer, ApprovedOrder):
                raise RuntimeError(f"the order should have passed: {answer.reason}")
            view.release(answer.client_order_id)
        if desk.quick != (0 if name == "checks" else _ORDERS):
            raise RuntimeError("another path was measured than the one that is named")
        how = "the checks one by one" if name == "checks" else f"{name} half"
        return from_ns(f"pretrade_{name}", durations[_ORDERS // 10 :], f"approve an order and reserve for it, {how}")

    return run


def _in_a_pure_process(name: str) -> Result:
    command = [sys.executable, "-m", "tickmesh.runtime.cli", "bench", "--json", "--only", name]
    done = subprocess.run(command, env={**os.environ, "TICKMESH_PURE": "1"}, capture_output=True, check=True)
    return Result(**json.loads(done.stdout.splitlines()[-1])["results"][0])


def order_id(_: Frames) -> Result:
    """The client order id of an intent that nobody has asked for yet."""
    clock, durations = time.perf_counter_ns, []
    for number in range(_ORDERS):
        began = clock()
        client_order_id("order_id", f"bench-{number:012d}")
        durations.append(clock() - began)
    return from_ns("order_id", durations[_ORDERS // 10 :], "the client order id of an intent, asked for the first time")


def _event(number: int) -> OrderEvent:
    intent = _intent(number)
    return OrderEvent(
        account="main", venue="binance", symbol="BTCUSDT", intent_id=intent.intent_id, strategy=intent.strategy,
        client_order_id=client_order_id(intent.strategy, intent.intent_id), venue_order_id=8_389_765_000_000 + number,
        side=intent.side, price_ticks=intent.price_ticks, qty_lots=10, previous_state=OrderState.PENDING_SUBMIT,
        state=OrderState.SUBMITTED, correlation_id=intent.correlation_id, stamps=_STAMPS,
    )  # fmt: skip


def _book(number: int) -> BookUpdate:
    return BookUpdate(
        venue="binance", symbol="BTCUSDT", update_id=number, publish_ns=_NOW_NS, seq=number, epoch=7,
        bids=[(599_999 - level, 10 + level) for level in range(20)],
        asks=[(600_000 + level, 10 + level) for level in range(20)],
        imbalance=0.25, microprice_ticks=599_999.4, receive_mono_ns=_MONO_NS, publish_mono_ns=_MONO_NS,
    )  # fmt: skip


def _trade(number: int) -> Trade:
    return Trade(
        venue="binance", symbol="BTCUSDT", trade_id=number, price_ticks=599_999, qty_lots=3, taker_side=Side.BUY,
        publish_ns=_NOW_NS, receive_mono_ns=_MONO_NS, publish_mono_ns=_MONO_NS,
    )  # fmt: skip


def _codec(name: str, make: Callable[[int], Any], what: str, *, decode: bool) -> Run:
    def run(_: Frames) -> Result:
        encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(type(make(0)))
        messages = [make(number) for number in range(2_000)]
        bodies = [encoder.encode(message) for message in messages]
        step: Callable[[Any], Any] = decoder.decode if decode else encoder.encode
        clock, durations = time.perf_counter_ns, []
        for _round in range(10):
            for item in bodies if decode else messages:
                began = clock()
                step(item)
                durations.append(clock() - began)
        size = sum(map(len, bodies)) // len(bodies)
        return from_ns(name, durations[2_000:], f"{what}, msgspec, {size} bytes")

    return run


def _floor(name: str, message: Any, what: str) -> Run:
    """The objects of a message alone, without any bytes to read: no codec that makes them can be faster."""

    def run(_: Frames) -> Result:
        kind = type(message)
        given = {field: getattr(message, field) for field in kind.__struct_fields__}
        sides = [(side, [list(level) for level in given[side]]) for side in ("bids", "asks") if side in given]
        clock, durations = time.perf_counter_ns, []
        for _round in range(_ORDERS):
            began = clock()
            for side, levels in sides:
                given[side] = list(map(tuple, levels))
            kind(**given)
            durations.append(clock() - began)
        return from_ns(name, durations[2_000:], f"the {what} object alone, from values at hand")

    return run


CODECS: dict[str, Run] = {
    "codec_intent_encode": _codec("codec_intent_encode", _intent, "OrderIntent to bytes", decode=False),
    "codec_intent_decode": _codec("codec_intent_decode", _intent, "bytes to OrderIntent", decode=True),
    "codec_intent_floor": _floor("codec_intent_floor", _intent(1), "OrderIntent"),
    "codec_event_encode": _codec("codec_event_encode", _event, "OrderEvent to bytes", decode=False),
    "codec_event_decode": _codec("codec_event_decode", _event, "bytes to OrderEvent", decode=True),
    "codec_book_decode": _codec("codec_book_decode", _book, "bytes to BookUpdate of 2 x 20 levels", decode=True),
    "codec_book_floor": _floor("codec_book_floor", _book(1), "BookUpdate"),
    "codec_trade_decode": _codec("codec_trade_decode", _trade, "bytes to Trade", decode=True),
}


def ring(name: str) -> Run:
    """A write and a read of 300 bytes in one process: the ring's own cost, without a hop."""

    def run(_: Frames) -> Result:
        if name == "native" and hotpath.native is None:
            raise AbsentError(f"the native half is not in use: {hotpath.WHY_PURE}")
        kind: Any = hotpath.native if name == "native" else pure_ring
        slots, slot_bytes = 1024, 512
        memory = memoryview(bytearray(pure_ring.ring_bytes(slots, slot_bytes)))
        writer = kind.RingWriter(memory, slots, slot_bytes, generation=1)
        reader = kind.RingReader(memory)
        payload, clock, durations = b"x" * 300, time.perf_counter_ns, []
        for _round in range(_ORDERS):
            began = clock()
            writer.write("md.book.binance.BTCUSDT", payload)
            taken = reader.read()
            durations.append(clock() - began)
            if taken is None or len(taken.payload) != 300:
                raise RuntimeError("the ring lost a message in one thread")
        return from_ns(f"ring_{name}", durations[2_000:], f"write and read 300 bytes of a ring in one process, {name}")

    return run
