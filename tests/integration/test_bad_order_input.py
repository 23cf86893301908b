"""What the venue says and cannot be true, to the real execution service: recorded with its content, told, harmless.

The frames are put into the real user stream of a running service, between simvenue's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cut_proxy import CutProxy
from order_rig import SYMBOL, OrderRig

from tickmesh.domain.enums import OrderState, Urgency
from tickmesh.domain.messages import Alert, OrderEvent, decode
from tickmesh.runtime.child import Child

S = OrderState


class OddRig(OrderRig):
    """The order path, its user stream over a line into which we may speak."""

    def __init__(self, home: Path, reconcile_s: float) -> None:
        super().__init__(home, execution__reconcile_s=reconcile_s)
        self.line = CutProxy(int(self.environ["TICKMESH_SIMVENUE__PORT"]))
        self.alerts: list[Alert] = []

    async def start(self) -> None:
        await self.line.start()
        await super().start()
        await self.bus.subscribe("alert.>", lambda _, payload: self.alerts.append(decode(Alert, payload)))
        await self.bus.flush()

    def _service(self, program: str, name: str = "", environ: dict[str, str] | None = None) -> Child:
        mine = {} if program != "execution" else {"TICKMESH_VENUE__STREAM_URL": f"ws://127.0.0.1:{self.line.port}"}
        return super()._service(program, name, {**mine, **(environ or {})})

    async def odd(self, frame: bytes) -> tuple[OrderEvent, Alert]:
        """Say it; the journal's line and the alert that came of it."""
        seen, told = len(self.events), len(self.alerts)
        assert self.line.say(frame) == 1
        with contextlib.suppress(TimeoutError):
            await self._seen(seen, told)
        lines = [e for e in self.events[seen:] if e.anomaly]
        alerts = [a for a in self.alerts[told:] if a.kind == "anomaly"]
        assert lines and alerts, (frame, lines, alerts, self.log())
        stored = [decode(OrderEvent, p) async for s, p, _ in self.bus.replay("ORDERS") if s.startswith("order.event")]
        assert lines[0] in stored, "it is in the journal, not only on the wire"
        return lines[0], alerts[0]

    async def _seen(self, seen: int, told: int) -> None:
        async with asyncio.timeout(10):
            while not any(e.anomaly for e in self.events[seen:]) or not any(
                a.kind == "anomaly" for a in self.alerts[told:]
            ):
                await asyncio.sleep(0.01)

    async def picture(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.get("execution", "/state")
        return {key: found[key] for key in found if "seq" not in key and key not in ("waiting", "taken_ns")}


@pytest.fixture
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[OddRig]:
    running = OddRig(tmp_path, getattr(request, "param", 600.0))
    try:
        await running.start()
        yield running
    finally:
        await running.stop()
        await running.line.stop()


def update(client_id: str, **changes: object) -> bytes:
    """ORDER_TRADE_UPDATE of a resting order of 3 lots, changed."""
    now_ms = time.time_ns() // 1_000_000
    order: dict[str, object] = {
        "s": SYMBOL, "c": client_id, "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "0.003", "p": "100", "X": "NEW",
        "x": "NEW", "i": 987_654_321, "T": now_ms, **changes,
    }  # fmt: skip
    return json.dumps({"e": "ORDER_TRADE_UPDATE", "E": now_ms, "T": now_ms, "o": order}).encode()


async def test_what_cannot_be_is_recorded_with_its_content_and_told_and_changes_nothing(rig: OddRig) -> None:
    resting = rig.send(rig.intent(behind_ticks=300))
    await rig.until(resting, S.SUBMITTED)
    await rig.until(rig.send(rig.intent(urgency=Urgency.IMMEDIATE)), S.FILLED, S.EXPIRED)
    await asyncio.sleep(0.5)
    venue_id = next(o["orderId"] for o in (await rig.record())["orders"] if o["clientOrderId"] == resting)
    before = await rig.picture()
    fill = {"x": "TRADE", "X": "PARTIALLY_FILLED", "t": 777_001, "L": "60000", "i": venue_id}
    future_ms = time.time_ns() // 1_000_000 + 86_400_000
    for frame, content in (
        (update(resting, l="-0.001", z="0.001", **fill), "trade 777001 of -1 lots"),
        (update(resting, l="0.001", z="-0.001", **fill), "a negative quantity"),
        (update(resting, i=venue_id, X="CANCELED", x="CANCELED", T=future_ms), str(future_ms)),
        (update(resting, X="CANCELED", x="CANCELED"), "987654321"),
        (update(resting, i=venue_id, X="CONFUSED"), "CONFUSED"),
        (update(resting, i=venue_id, q="0.0000001"), "1E-7"),
        (update(resting, i="seven"), "seven"),
        (b'{"e":"ORDER_TRADE_UPDATE","o":[1,2]}', "[1,2]"),
        (b"<html>502</html>", "<html>"),
    ):
        line, alert = await rig.odd(frame)
        assert content in line.reason, line
        assert alert.source == "execution"
        assert await rig.picture() == before, frame
    assert rig.state(resting) is S.SUBMITTED
    assert not [f for f in rig.fills if f.qty_lots <= 0 or f.trade_id == 777_001]
    assert (await rig.get("execution", "/stats"))["counters"]["anomalies_total"] >= 8
    await rig.until(rig.send(rig.intent(behind_ticks=200)), S.SUBMITTED)
    await rig.settle()


async def test_of_a_flood_of_nonsense_every_piece_is_counted_and_few_are_written(rig: OddRig) -> None:
    async def counted() -> int:
        return int((await rig.get("execution", "/stats"))["counters"]["anomalies_total"])

    before, pieces = await counted(), 200
    for number in range(pieces):
        assert rig.line.say(update("flood", i=f"piece {number}")) == 1
    async with asyncio.timeout(30):
        while await counted() < before + pieces:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)  # housekeeping has written its figures again meanwhile
    assert await counted() == before + pieces, "each one once"
    assert len([e for e in rig.events if e.anomaly]) < pieces / 2
    await rig.until(rig.send(rig.intent(behind_ticks=200)), S.SUBMITTED)


@pytest.mark.parametrize("rig", [1.0], indirect=True)
async def test_an_event_of_an_order_that_nobody_knows_is_told_and_the_venue_decides(rig: OddRig) -> None:
    line, alert = await rig.odd(update("by-hand-1"))
    assert "did not know" in line.reason and "by-hand-1" in alert.text
    adopted = await rig.until("by-hand-1", S.SUBMITTED)
    assert adopted.external, "it may trade, so it counts until the venue is asked"
    gone = await rig.until("by-hand-1", S.REJECTED, S.EXPIRED, S.CANCELED, timeout_s=20)
    assert gone.external
    await rig.until(rig.send(rig.intent(behind_ticks=200)), S.SUBMITTED)


async def test_an_answer_of_the_wrong_shape_makes_unknown_and_the_truth_is_asked_for(rig: OddRig) -> None:
    for shape in ({"status": 200, "code": 7, "msg": "what?"}, {"status": 502, "code": 0, "msg": "<html>"}):
        what = {"kind": "error", "count": 1, "processed": True, "method": "POST", "path": "/fapi/v1/order", **shape}
        assert "id" in await rig.post("simvenue", "/faults", what)
        assert "id" in await rig.post("simvenue", "/faults", {"kind": "drop", "target": "stream", "stream": "user",
                                                              "for_s": 1})  # fmt: skip
        client_id = rig.send(rig.intent(behind_ticks=300))
        unknown = await rig.until(client_id, S.UNKNOWN, S.SUBMITTED)
        first = next(e for e in rig.events if e.client_order_id == client_id and e.state is S.UNKNOWN)
        assert str(shape["msg"]) in first.reason and unknown
        await rig.until(client_id, S.SUBMITTED)
        assert [a for a in rig.alerts if a.kind == "order-unknown" and client_id in a.text]
        rig.cancel(client_id)
        await rig.until(client_id, S.CANCELED)


@pytest.mark.parametrize("rig", [0.5], indirect=True)
async def test_a_list_of_the_wrong_shape_is_recorded_and_told_and_positions_stay(rig: OddRig) -> None:
    await rig.until(rig.send(rig.intent(urgency=Urgency.IMMEDIATE)), S.FILLED, S.EXPIRED)
    await rig.settle()
    before, seen, told = await rig.picture(), len(rig.events), len(rig.alerts)
    for path in ("/fapi/v3/positionRisk", "/fapi/v1/openOrders"):
        what = {
            "kind": "error",
            "count": 1,
            "method": "GET",
            "path": path,
            "status": 200,
            "code": 7,
            "msg": f"odd {path}",
        }
        assert "id" in await rig.post("simvenue", "/faults", what)
        async with asyncio.timeout(30):
            while not any(e.anomaly and f"odd {path}" in e.reason for e in rig.events[seen:]) or not any(
                a.kind == "anomaly" and f"odd {path}" in a.text for a in rig.alerts[told:]
            ):
                await asyncio.sleep(0.01)
    assert await rig.picture() == before
    await rig.until(rig.send(rig.intent(behind_ticks=200)), S.SUBMITTED)
    await rig.settle()
