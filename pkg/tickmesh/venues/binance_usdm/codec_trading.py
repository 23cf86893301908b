"""Signed REST answers and the user stream of Binance USD-M as typed values, and what a failed call means.

In: bytes. Out: structs with the venue's own field names (so that its documentation explains them), exact
decimals, and ``VenueCallError`` with an ``Outcome``. It does no I/O and decides nothing about orders.
Source: Binance "USDS-M Futures" documentation, General Info, Error Codes, Trade, Account and User Data
Streams (read 2024-12); samples in ``../shared/data/binance-usdm/messages``.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from tickmesh.domain.errors import MalformedFrameError, TickmeshError

ZERO = Decimal(0)


class VenueOrder(msgspec.Struct, kw_only=True):
    """An order as place, cancel, query, openOrders and allOrders answer it."""

    orderId: int
    symbol: str
    status: str
    clientOrderId: str
    price: Decimal = ZERO
    avgPrice: Decimal = ZERO
    origQty: Decimal = ZERO
    executedQty: Decimal = ZERO
    cumQuote: Decimal = ZERO
    timeInForce: str = "GTC"
    type: str = "LIMIT"
    origType: str = ""
    reduceOnly: bool = False
    side: str = "BUY"
    positionSide: str = "BOTH"
    stopPrice: Decimal = ZERO
    time: int = 0
    updateTime: int = 0


class VenueAlgoOrder(msgspec.Struct, kw_only=True):
    """A conditional order as algoOrder and openAlgoOrders answer it; ``actualOrderId`` is what it became."""

    algoId: int
    clientAlgoId: str
    symbol: str
    algoStatus: str
    orderType: str = "STOP_MARKET"
    side: str = "BUY"
    positionSide: str = "BOTH"
    timeInForce: str = "GTC"
    quantity: Decimal = ZERO
    triggerPrice: Decimal = ZERO
    price: Decimal = ZERO
    actualOrderId: str = ""
    closePosition: bool = False
    reduceOnly: bool = False
    createTime: int = 0
    updateTime: int = 0


class VenueTrade(msgspec.Struct, kw_only=True):
    """One of our executions as userTrades answers it; ``id`` counts up per symbol."""

    id: int
    symbol: str
    orderId: int
    side: str
    price: Decimal
    qty: Decimal
    realizedPnl: Decimal = ZERO
    commission: Decimal = ZERO
    commissionAsset: str = ""
    time: int = 0
    positionSide: str = "BOTH"
    maker: bool = False
    buyer: bool = False


class VenuePosition(msgspec.Struct, kw_only=True):
    """A position as /fapi/v3/positionRisk answers it (v2 has the same fields and more)."""

    symbol: str
    positionSide: str = "BOTH"
    positionAmt: Decimal = ZERO
    entryPrice: Decimal = ZERO
    breakEvenPrice: Decimal = ZERO
    markPrice: Decimal = ZERO
    unRealizedProfit: Decimal = ZERO
    liquidationPrice: Decimal = ZERO
    notional: Decimal = ZERO
    leverage: int = 0
    initialMargin: Decimal = ZERO
    maintMargin: Decimal = ZERO
    updateTime: int = 0


class VenueBalance(msgspec.Struct, kw_only=True):
    """A wallet as /fapi/v3/balance answers it."""

    asset: str
    balance: Decimal = ZERO
    crossWalletBalance: Decimal = ZERO
    crossUnPnl: Decimal = ZERO
    availableBalance: Decimal = ZERO
    maxWithdrawAmount: Decimal = ZERO
    updateTime: int = 0


class VenueAccount(msgspec.Struct, kw_only=True):
    """The sums of /fapi/v3/account."""

    totalInitialMargin: Decimal = ZERO
    totalMaintMargin: Decimal = ZERO
    totalWalletBalance: Decimal = ZERO
    totalUnrealizedProfit: Decimal = ZERO
    totalMarginBalance: Decimal = ZERO
    totalPositionInitialMargin: Decimal = ZERO
    totalOpenOrderInitialMargin: Decimal = ZERO
    availableBalance: Decimal = ZERO
    canTrade: bool = True


class VenueLeverage(msgspec.Struct, kw_only=True):
    """One symbol of /fapi/v1/symbolConfig."""

    symbol: str
    leverage: int = 0
    marginType: str = ""


class VenueTime(msgspec.Struct, kw_only=True):
    """The venue's clock."""

    serverTime: int


class VenuePositionMode(msgspec.Struct, kw_only=True):
    """Whether positions have sides."""

    dualSidePosition: bool


class VenueListenKey(msgspec.Struct, kw_only=True):
    """The user stream's key."""

    listenKey: str


class Income(msgspec.Struct, kw_only=True):
    """One line of /fapi/v1/income (FUNDING_FEE, COMMISSION, REALIZED_PNL, ...)."""

    symbol: str
    incomeType: str
    income: Decimal
    asset: str = ""
    time: int = 0
    tranId: int = 0


class OrderReport(msgspec.Struct, kw_only=True):
    """``o`` of ORDER_TRADE_UPDATE: one-letter names are the venue's."""

    s: str
    c: str
    S: str
    o: str
    f: str
    q: Decimal
    X: str
    x: str
    i: int
    p: Decimal = ZERO
    ap: Decimal = ZERO
    sp: Decimal = ZERO
    l: Decimal = ZERO  # noqa: E741 - the venue's name: last filled quantity
    z: Decimal = ZERO
    L: Decimal = ZERO
    N: str = ""
    n: Decimal = ZERO
    T: int = 0
    t: int = 0
    m: bool = False
    R: bool = False
    ot: str = ""
    ps: str = "BOTH"
    rp: Decimal = ZERO


class OrderTradeUpdate(msgspec.Struct, tag_field="e", tag="ORDER_TRADE_UPDATE"):
    """User stream: one order changed, or one of its executions."""

    E: int
    T: int
    o: OrderReport


class AccountBalance(msgspec.Struct):
    """One wallet within an ACCOUNT_UPDATE."""

    a: str
    wb: Decimal
    cw: Decimal = ZERO
    bc: Decimal = ZERO


class AccountPosition(msgspec.Struct):
    """One position within an ACCOUNT_UPDATE."""

    s: str
    pa: Decimal
    ep: Decimal
    up: Decimal = ZERO
    cr: Decimal = ZERO
    ps: str = "BOTH"
    mt: str = "cross"


class AccountChange(msgspec.Struct):
    """What an ACCOUNT_UPDATE says changed, and why."""

    m: str
    B: list[AccountBalance] = msgspec.field(default_factory=list)
    P: list[AccountPosition] = msgspec.field(default_factory=list)


class AccountUpdate(msgspec.Struct, tag_field="e", tag="ACCOUNT_UPDATE"):
    """User stream: balances and positions changed."""

    E: int
    T: int
    a: AccountChange


class ListenKeyExpired(msgspec.Struct, tag_field="e", tag="listenKeyExpired"):
    """User stream: it ends here; another listen key is needed."""

    E: int


class OtherUserEvent(msgspec.Struct):
    """A kind that we have no use for (MARGIN_CALL, ACCOUNT_CONFIG_UPDATE, TRADE_LITE, ...)."""

    e: str
    E: int = 0


UserEvent = OrderTradeUpdate | AccountUpdate | ListenKeyExpired | OtherUserEvent

_user_event: msgspec.json.Decoder[Any] = msgspec.json.Decoder(OrderTradeUpdate | AccountUpdate | ListenKeyExpired)
_other_event = msgspec.json.Decoder(OtherUserEvent)
_KNOWN_EVENTS = frozenset({"ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "listenKeyExpired"})


def decode_user_event(frame: bytes | str) -> UserEvent:
    """Decode one frame of the user stream.

    Raises:
        MalformedFrameError: not such a frame; skip it, reconciliation brings what it said.
    """
    try:
        event: UserEvent = _user_event.decode(frame)
    except msgspec.MsgspecError as error:
        try:
            other = _other_event.decode(frame)
        except msgspec.MsgspecError:
            raise MalformedFrameError("user stream frame", str(error)) from None
        if other.e in _KNOWN_EVENTS:
            raise MalformedFrameError(other.e, str(error)) from None
        return other
    return event


NOT_FOUND = -2013
"""The venue's code for an order that it does not know."""


class Outcome(StrEnum):
    """What a failed call means for the thing that it asked for."""

    REJECTED = "rejected"
    """The venue understood and said no; ``code`` says why. Nothing changed."""
    UNKNOWN = "unknown"
    """It may or may not have been done: ask."""
    NOT_SENT = "not sent"
    """Certainly not done: nothing left us, or the venue says that it failed before it acted."""
    RATE_LIMITED = "rate limited"
    """Refused unseen for being too fast; certainly not done. Honour ``retry_after_s``."""


class VenueCallError(TickmeshError):
    """A REST call that did not succeed."""

    def __init__(
        self, outcome: Outcome, message: str, *, code: int = 0, status: int = 0, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def banned(self) -> bool:
        """HTTP 418: this address must stop all REST until ``retry_after_s`` has passed."""
        return self.status == 418


_UNKNOWN_CODES = frozenset({-1000, -1006, -1007})
_LIMIT_CODES = frozenset({-1003, -1008, -1015})
_DEFAULT_BAN_S = 120.0
_DEFAULT_LIMIT_S = 5.0
_ORDER_LIMIT_S = 1.0


class _ErrorBody(msgspec.Struct):
    code: int
    msg: str = ""


_error_body = msgspec.json.Decoder(_ErrorBody)


def classify(status: int, body: bytes, retry_after: str | None = None) -> VenueCallError:
    """What an answer that is not 2xx means.

    A 503 is decided by its body: "Unknown error" is UNKNOWN, "Service Unavailable" and "Internal error" are
    failures by the venue's own documentation. Whatever proves nothing is UNKNOWN.
    """
    code, text = 0, body[:200].decode("utf-8", "replace")
    try:
        parsed = _error_body.decode(body)
        code, text = parsed.code, parsed.msg
    except msgspec.MsgspecError:
        pass  # not the venue's JSON (a proxy, a load balancer): the status alone decides
    wait_s = _seconds(retry_after)
    message = f"the venue answered {status} {code or ''} {text}".replace("  ", " ").strip()

    def error(outcome: Outcome, retry_after_s: float = 0.0) -> VenueCallError:
        return VenueCallError(outcome, message, code=code, status=status, retry_after_s=retry_after_s)

    if status == 418:
        return error(Outcome.RATE_LIMITED, wait_s or _DEFAULT_BAN_S)
    if status in (403, 429) or code in _LIMIT_CODES:
        return error(Outcome.RATE_LIMITED, wait_s or (_ORDER_LIMIT_S if code == -1015 else _DEFAULT_LIMIT_S))
    if status == 503 and _is_declared_failure(text):
        return error(Outcome.NOT_SENT, wait_s)
    if status == 408 or status >= 500 or code in _UNKNOWN_CODES or code == 0:
        return error(Outcome.UNKNOWN, wait_s)
    return error(Outcome.REJECTED)


def _is_declared_failure(text: str) -> bool:
    lowered = text.lower()
    return "unknown error" not in lowered and ("service unavailable" in lowered or "internal error" in lowered)


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after)) if retry_after else 0.0
    except ValueError:
        return 0.0
