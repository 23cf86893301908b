"""Limits: request weight per address, orders per account; usage headers and refusals (429, then 418) out.

Windows are those of the venue's clock: they start at whole minutes and whole ten seconds. Whoever goes on asking after
429 is banned, each time twice as long as before. It reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tickmesh.venues.simvenue.server.rest import WireError

MINUTE_MS = 60_000
TEN_S_MS = 10_000
FIRST_BAN_MS = 2 * MINUTE_MS
LONGEST_BAN_MS = 3 * 24 * 60 * MINUTE_MS
MAX_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class Quota:
    """What is allowed; ``ban_after`` refused requests within a minute lead to a ban."""

    weight_1m: int = 2400
    orders_10s: int = 300
    orders_1m: int = 1200
    ban_after: int = 50

    def listing(self) -> list[dict[str, Any]]:
        """``rateLimits`` of exchangeInfo."""
        return [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.weight_1m},
            *self.order_listing(),
        ]

    def order_listing(self) -> list[dict[str, Any]]:
        """Body of GET rateLimit/order."""
        return [
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": self.orders_1m},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": self.orders_10s},
        ]


class _Window:
    """A count that starts at zero with every window."""

    __slots__ = ("length_ms", "number", "used")

    def __init__(self, length_ms: int) -> None:
        self.length_ms, self.number, self.used = length_ms, -1, 0

    def at(self, now_ms: int) -> _Window:
        number = now_ms // self.length_ms
        if number != self.number:
            self.number, self.used = number, 0
        return self

    def left_s(self, now_ms: int) -> int:
        """Whole seconds until the next window, at least 1."""
        return max(1, -(-(self.length_ms - now_ms % self.length_ms) // 1000))


class _Address:
    __slots__ = ("banned_until_ms", "bans", "refused", "weight")

    def __init__(self) -> None:
        self.weight, self.refused = _Window(MINUTE_MS), _Window(MINUTE_MS)
        self.bans = self.banned_until_ms = 0


class Limits:
    """Counters of one venue; the least recently seen addresses are forgotten beyond ``MAX_ADDRESSES``."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._addresses: dict[str, _Address] = {}
        self._orders: dict[str, tuple[_Window, _Window]] = {}

    def charge(self, address: str, weight: int, now_ms: int, headers: dict[str, str]) -> None:
        """Count a request and note the usage in ``headers``. Raises -1003 with status 429 or 418."""
        state = self._addresses.pop(address, None) or _Address()
        self._addresses[address] = state
        if len(self._addresses) > MAX_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]
        if state.banned_until_ms > now_ms:
            raise _banned(address, state.banned_until_ms, now_ms)
        window = state.weight.at(now_ms)
        window.used += weight
        headers["X-MBX-USED-WEIGHT-1M"] = str(window.used)
        if window.used <= self.quota.weight_1m:
            return
        refused = state.refused.at(now_ms)
        refused.used += 1
        if refused.used > self.quota.ban_after:
            state.banned_until_ms = now_ms + min(LONGEST_BAN_MS, FIRST_BAN_MS << min(state.bans, 20))
            state.bans += 1
            raise _banned(address, state.banned_until_ms, now_ms)
        text = (
            f"Too many requests; current limit of IP({address}) is {self.quota.weight_1m} requests per minute. "
            "Please use the websocket for live updates to avoid polling the API."
        )
        raise WireError(-1003, text, 429, {"Retry-After": str(window.left_s(now_ms))})

    def check_orders(self, account: str, now_ms: int) -> None:
        """Raises -1015 with status 429 when the account has no order left in a window."""
        for window, limit, name in zip(
            self._windows(account, now_ms),
            (self.quota.orders_10s, self.quota.orders_1m),
            ("10 SECOND", "1 MINUTE"),
            strict=True,
        ):
            if window.used >= limit:
                text = f"Too many new orders; current limit is {limit} orders per {name}."
                raise WireError(-1015, text, 429, {"Retry-After": str(window.left_s(now_ms))})

    def count_orders(self, account: str, count: int, now_ms: int, headers: dict[str, str]) -> None:
        """Count accepted orders and note the usage in ``headers``."""
        short, long = self._windows(account, now_ms)
        short.used += count
        long.used += count
        headers["X-MBX-ORDER-COUNT-10S"], headers["X-MBX-ORDER-COUNT-1M"] = str(short.used), str(long.used)

    def _windows(self, account: str, now_ms: int) -> tuple[_Window, _Window]:
        found = self._orders.get(account)
        if found is None:
            found = self._orders[account] = (_Window(TEN_S_MS), _Window(MINUTE_MS))
        return found[0].at(now_ms), found[1].at(now_ms)


def _banned(address: str, until_ms: int, now_ms: int) -> WireError:
    text = (
        f"Way too many requests; IP({address}) banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans."
    )
    return WireError(-1003, text, 418, {"Retry-After": str(max(1, -(-(until_ms - now_ms) // 1000)))})
