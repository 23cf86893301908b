"""What risk and people decide takes effect in the execution process: limits, breakers, halts; no restart anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from decimal import Decimal
from pathlib import Path

import aiohttp
import msgspec
from desk import Desk, S, desk

from tickmesh.domain import subjects
from tickmesh.domain.enums import BreakerState, OrderState, Side, TimeInForce, Urgency
from tickmesh.domain.messages import BookUpdate, Control, MarkPrice, OrderEvent, OrderIntent, decode, encode
from tickmesh.services.breakers import BreakerRecord


class Market:
    """Plays the feed and a strategy, and hears what becomes of each order."""

    def __init__(self, d: Desk) -> None:
        self.d = d
        self.shift = Decimal(0)
        self.bid = self.ask = Decimal(0)
        self.events: dict[str, list[OrderEvent]] = {}
        self._n = 0

    async def run(self) -> None:
        instrument = self.d.instruments[S]
        await self.d.bus.subscribe("order.event.>", self._on_event)
        async with aiohttp.ClientSession(self.d.venue.url) as session:
            while True:
                async with session.get(f"/fapi/v1/depth?symbol={S}&limit=5") as got:
                    body = await got.json()
                self.bid, self.ask = Decimal(body["bids"][0][0]), Decimal(body["asks"][0][0])
                levels = {
                    side: [(instrument.to_ticks(p), instrument.to_lots(q)) for p, q in body[side]]
                    for side in ("bids", "asks")
                }
                now_ns, mono_ns = time.time_ns(), time.monotonic_ns()
                book = BookUpdate(venue="binance", symbol=S, receive_ns=now_ns, receive_mono_ns=mono_ns,
                                  publish_ns=now_ns, publish_mono_ns=mono_ns, **levels)  # fmt: skip
                self.d.bus.publish(subjects.book("binance", S), encode(book))
                mark = MarkPrice(venue="binance", symbol=S, mark_price=self.bid + self.shift, receive_ns=now_ns)
                self.d.bus.publish(subjects.mark("binance", S), encode(mark))
                await asyncio.sleep(0.1)

    def _on_event(self, _: str, payload: bytes) -> None:
        event = decode(OrderEvent, payload)
        self.events.setdefault(event.intent_id, []).append(event)

    async def order(self, *, away: int = 200, lots: int = 10, taker: bool = False) -> OrderEvent:
        """Send an intent; its newest event once the venue or the checks have answered."""
        self._n += 1
        instrument, name = self.d.instruments[S], f"i{self._n}-{time.time_ns()}"
        price = self.ask + 5 if taker else self.bid - away
        intent = OrderIntent(
            publish_ns=time.time_ns(), intent_id=name, strategy="mm", account="main", venue="binance", symbol=S,
            side=Side.BUY, price_ticks=instrument.to_ticks(price), qty_lots=lots, ttl_ns=5_000_000_000,
            time_in_force=TimeInForce.IOC if taker else TimeInForce.GTC,
            urgency=Urgency.IMMEDIATE if taker else Urgency.PASSIVE,
        )  # fmt: skip
        await self.d.bus.publish_durable(subjects.intent("main"), encode(intent), message_id=name)
        answered = {OrderState.SUBMITTED, OrderState.REJECTED, OrderState.EXPIRED, OrderState.FILLED,
                    OrderState.CANCELED}  # fmt: skip
        await self.d.until(lambda: any(e.state in answered for e in self.events.get(name, [])), 20)
        return next(e for e in self.events[name] if e.state in answered)


@contextlib.asynccontextmanager
async def trading(d: Desk, *services: str):  # type: ignore[no-untyped-def]
    market = Market(d)
    task = asyncio.create_task(market.run())
    for name in services:
        child = await d.start(name)
        assert await child.wait_ready(40), child.last_lines(20)
    await d.until(lambda: market.bid > 0)
    await asyncio.sleep(0.5)  # the first book and mark reach execution
    try:
        yield market
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_changed_limits_and_open_breakers_refuse_the_next_order(tmp_path: Path) -> None:
    async with desk(tmp_path) as d, trading(d, "execution") as market:
        assert (await market.order()).state is OrderState.SUBMITTED
        limits = await d.bus.kv("limits")
        await limits.put("default", b'{"max_order_notional": "100"}')
        await asyncio.sleep(0.5)
        refused = await market.order()
        assert refused.state is OrderState.REJECTED and "limit of one order" in refused.reason
        await limits.put("main", b'{"max_order_notional": "100000"}')  # this account may more than others
        await asyncio.sleep(0.5)
        assert (await market.order(away=201)).state is OrderState.SUBMITTED
        breakers = await d.bus.kv("breakers")
        record = BreakerRecord(name="venue-rest", owner="other", state=BreakerState.OPEN, stops="all")
        await breakers.put("state.venue-rest", msgspec.json.encode(record))
        await asyncio.sleep(0.5)
        refused = await market.order(away=202)
        assert refused.state is OrderState.REJECTED and "venue-rest is open" in refused.reason
        await breakers.put("state.venue-rest", msgspec.json.encode(record).replace(b"Open", b"Closed"))
        await asyncio.sleep(0.5)
        assert (await market.order(away=203)).state is OrderState.SUBMITTED


async def test_a_drawdown_stops_new_orders_cancels_open_ones_and_a_resume_reopens(tmp_path: Path) -> None:
    async with desk(tmp_path) as d, trading(d, "execution", "account", "risk") as market:
        bought = await market.order(taker=True, lots=500)
        assert bought.state is not OrderState.REJECTED, bought.reason
        await d.until(lambda: d.lots > 300)
        resting = await market.order(away=300)
        assert resting.state is OrderState.SUBMITTED
        price = d.snapshots[-1].positions[0].entry_price
        market.shift = -price * Decimal("0.2")  # 0.5 BTC falling by a fifth
        await d.until(lambda: any(c.verb == "halt" for c in d.controls))
        await d.until(lambda: market.events[resting.intent_id][-1].state is OrderState.CANCELED)
        assert not await d.rest.open_orders(S)
        market.shift = Decimal(0)
        await d.until(lambda: d.snapshots[-1].daily_drawdown < Decimal("0.03"))
        refused = await market.order(away=400)
        assert refused.state is OrderState.REJECTED and "halted" in refused.reason
        control = Control(verb="resume", scope="account.main", actor="ann", publish_ns=time.time_ns())
        await d.bus.publish_durable(subjects.control("resume", control.scope), encode(control), message_id="r1")
        await d.until(lambda: not d.get("risk", "/halts")["halts"])
        await asyncio.sleep(0.5)
        assert (await market.order(away=401)).state is OrderState.SUBMITTED
        assert d.snapshots[-1].mismatches == 0
