"""OrderRequests: a plain limit order as the bytes of its signed request, the last step before the socket.

In: an approved order's numbers. Out: the whole HTTP request: what stands before, the order's parameters as Binance
USD-M names them (documentation of 2024-12), the time, the HMAC-SHA256 of all that, what stands after. It knows limit
orders of one-way positions and nothing else, and refuses text that an address would have to quote. The specification
of the native half.
"""

from __future__ import annotations

import hashlib
import hmac
import re

_MOST_COEFFICIENT = 10**12
_MOST_DECIMALS = 18
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII).fullmatch


class OrderRequests:
    """Orders of one account; ``before`` ends where the parameters begin, ``tail`` where the time belongs."""

    __slots__ = ("_after", "_before", "_keyed", "_symbols", "_tail")

    def __init__(self, secret: bytes, before: bytes, tail: bytes, after: bytes) -> None:
        self._keyed = hmac.new(secret, digestmod=hashlib.sha256)
        self._before = before
        self._tail = tail
        self._after = after
        self._symbols: list[tuple[str, int, int, int, int]] = []

    def add(
        self, symbol: str, tick_coefficient: int, tick_decimals: int, lot_coefficient: int, lot_decimals: int
    ) -> int:
        """The number under which a symbol's orders are asked for; a step is ``coefficient * 10**-decimals``.

        Raises:
            ValueError: such a symbol, or such a step, is for somebody else to write.
        """
        _plain(symbol, "symbol")
        for coefficient, decimals in ((tick_coefficient, tick_decimals), (lot_coefficient, lot_decimals)):
            if not 0 < coefficient <= _MOST_COEFFICIENT or decimals > _MOST_DECIMALS:
                raise ValueError("a step that orders cannot be written in")
        self._symbols.append((symbol, tick_coefficient, tick_decimals, lot_coefficient, lot_decimals))
        return len(self._symbols) - 1

    def limit(
        self, number: int, buying: bool, lots: int, ticks: int, order_id: str, time_in_force: str, reduce_only: bool,
        now_ms: int,
    ) -> bytes:  # fmt: skip
        """The request of one order.

        Raises:
            IndexError: no symbol has this number.
            ValueError: lots, ticks or time are not above zero, or the texts are not plain.
        """
        if number >= len(self._symbols):
            raise IndexError("no such symbol")
        symbol, tick_coefficient, tick_decimals, lot_coefficient, lot_decimals = self._symbols[number]
        if lots <= 0 or ticks <= 0 or now_ms <= 0:
            raise ValueError("lots, ticks and the time of an order are above zero")
        _plain(order_id, "order id")
        _plain(time_in_force, "time in force")
        query = (
            f"symbol={symbol}&side={'BUY' if buying else 'SELL'}&type=LIMIT"
            f"&quantity={_decimal(lots * lot_coefficient, lot_decimals)}&newClientOrderId={order_id}"
            f"&newOrderRespType=RESULT&price={_decimal(ticks * tick_coefficient, tick_decimals)}"
            f"&timeInForce={time_in_force}{'&reduceOnly=true' if reduce_only else ''}"
        ).encode()
        signed = b"%b%b%d" % (query, self._tail, now_ms)
        keyed = self._keyed.copy()
        keyed.update(signed)
        return b"%b%b&signature=%b%b" % (self._before, signed, keyed.hexdigest().encode(), self._after)


def _decimal(value: int, decimals: int) -> str:
    if not decimals:
        return str(value)
    whole, rest = divmod(value, 10**decimals)
    return f"{whole}.{rest:0{decimals}}"


def _plain(text: str, what: str) -> None:
    if not _PLAIN(text):
        raise ValueError(f"{what} has letters that an address must quote")
