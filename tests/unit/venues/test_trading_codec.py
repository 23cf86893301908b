"""Trading answers of the venue: samples decode exactly, and each failure means what the documentation says."""

import os
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tickmesh.domain.errors import MalformedFrameError
from tickmesh.venues.binance_usdm.codec_trading import (
    AccountUpdate,
    OrderTradeUpdate,
    OtherUserEvent,
    Outcome,
    VenueBalance,
    VenueOrder,
    VenuePosition,
    classify,
    decode_user_event,
)

DATA = Path(os.environ.get("TICKMESH_DATA") or Path(__file__).resolve().parents[3] / "../shared/data")
MESSAGES = DATA / "binance-usdm/messages"
needs_samples = pytest.mark.skipif(not MESSAGES.is_dir(), reason=f"no samples at {MESSAGES}")

TABLE = [
    (400, b'{"code":-2019,"msg":"Margin is insufficient."}', None, Outcome.REJECTED, -2019, 0),
    (400, b'{"code":-5022,"msg":"Post Only order will be rejected."}', None, Outcome.REJECTED, -5022, 0),
    (400, b'{"code":-2011,"msg":"Unknown order sent."}', None, Outcome.REJECTED, -2011, 0),
    (400, b'{"code":-4116,"msg":"ClientOrderId is duplicated."}', None, Outcome.REJECTED, -4116, 0),
    (401, b'{"code":-2015,"msg":"Invalid API-key"}', None, Outcome.REJECTED, -2015, 0),
    (400, b'{"code":-1006,"msg":"UNEXPECTED_RESP"}', None, Outcome.UNKNOWN, -1006, 0),
    (400, b'{"code":-1007,"msg":"Timeout waiting for response"}', None, Outcome.UNKNOWN, -1007, 0),
    (408, b'{"code":-1007,"msg":"Timeout waiting for response"}', None, Outcome.UNKNOWN, -1007, 0),
    (408, b"", None, Outcome.UNKNOWN, 0, 0),
    (500, b"<html>oops</html>", None, Outcome.UNKNOWN, 0, 0),
    (502, b"", None, Outcome.UNKNOWN, 0, 0),
    (503, b'{"code":-1000,"msg":"Unknown error, please check your request or try again later."}', None,
     Outcome.UNKNOWN, -1000, 0),
    (503, b"Unknown error, please check your request or try again later.", None, Outcome.UNKNOWN, 0, 0),
    (503, b'{"code":-1000,"msg":"Service Unavailable."}', None, Outcome.NOT_SENT, -1000, 0),
    (503, b"Service Unavailable", None, Outcome.NOT_SENT, 0, 0),
    (503, b'{"code":-1001,"msg":"Internal error; unable to process your request. Please try again."}', None,
     Outcome.NOT_SENT, -1001, 0),
    (503, b'{"code":-1008,"msg":"Request throttled by system-level protection."}', None,
     Outcome.RATE_LIMITED, -1008, 5.0),
    (503, b"", None, Outcome.UNKNOWN, 0, 0),
    (404, b"<html>a proxy</html>", None, Outcome.UNKNOWN, 0, 0),
    (403, b"<html>WAF</html>", None, Outcome.RATE_LIMITED, 0, 5.0),
    (429, b'{"code":-1003,"msg":"Too many requests"}', "17", Outcome.RATE_LIMITED, -1003, 17.0),
    (429, b'{"code":-1003,"msg":"Too many requests"}', "soon", Outcome.RATE_LIMITED, -1003, 5.0),
    (400, b'{"code":-1015,"msg":"Too many new orders"}', None, Outcome.RATE_LIMITED, -1015, 1.0),
    (418, b'{"code":-1003,"msg":"Way too many requests; IP banned"}', None, Outcome.RATE_LIMITED, -1003, 120.0),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "retry_after", "outcome", "code", "wait_s"), TABLE)
def test_each_failed_answer_means_what_the_documentation_says(
    status: int, body: bytes, retry_after: str | None, outcome: Outcome, code: int, wait_s: float
) -> None:
    error = classify(status, body, retry_after)
    assert (error.outcome, error.code, error.retry_after_s) == (outcome, code, wait_s)
    assert error.banned == (status == 418)
    assert str(status) in str(error)


@needs_samples
def test_order_updates_of_the_documentation_decode_exactly() -> None:
    update = decode_user_event((MESSAGES / "order_update_trade.json").read_bytes())
    assert isinstance(update, OrderTradeUpdate)
    assert (update.o.c, update.o.i, update.o.t, update.o.m) == ("TEST", 8886774, 12345678, True)
    assert (update.o.L, update.o.n, update.o.rp) == (Decimal("7100.50"), Decimal("0.01000000"), Decimal("12.34"))
    new = decode_user_event((MESSAGES / "order_update_new.json").read_bytes())
    assert isinstance(new, OrderTradeUpdate)
    assert new.o.x == "NEW"


@needs_samples
def test_the_account_update_of_the_documentation_decodes_exactly() -> None:
    update = decode_user_event((MESSAGES / "account_update.json").read_bytes())
    assert isinstance(update, AccountUpdate)
    assert update.a.B[0].wb == Decimal("122624.12345678")
    assert [(p.ps, p.pa) for p in update.a.P] == [("BOTH", 0), ("LONG", 20), ("SHORT", -10)]


@needs_samples
def test_rest_samples_decode_although_numbers_come_as_text() -> None:
    order = msgspec.json.decode((MESSAGES / "order_response.json").read_bytes(), type=VenueOrder, strict=False)
    assert (order.clientOrderId, order.price, order.status) == ("testOrder123", Decimal("50000.00"), "NEW")
    position = msgspec.json.decode(
        (MESSAGES / "position_risk.json").read_bytes(), type=list[VenuePosition], strict=False
    )[0]
    assert (position.positionAmt, position.leverage) == (Decimal("0.001"), 20)
    balance = msgspec.json.decode((MESSAGES / "balance.json").read_bytes(), type=list[VenueBalance], strict=False)[0]
    assert balance.balance == Decimal("122.12345678")


def test_a_kind_without_use_is_not_an_error_but_a_broken_known_kind_is() -> None:
    assert decode_user_event(b'{"e":"TRADE_LITE","E":1,"s":"BTCUSDT"}') == OtherUserEvent("TRADE_LITE", 1)
    for frame in (b"[]", b"{", b'{"e":"ORDER_TRADE_UPDATE","E":1}', b'{"e":"ACCOUNT_UPDATE","E":"x","T":1,"a":{}}'):
        with pytest.raises(MalformedFrameError):
            decode_user_event(frame)
