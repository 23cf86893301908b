"""Admin routes of simvenue: the venue's own record of orders and fills, faults, and further accounts.

In: requests on the admin port. Out: JSON. It is for supervisors and tests, and no part of the venue's protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec
from aiohttp import web

from tickmesh.domain.errors import ConfigError
from tickmesh.venues.simvenue.server.keys import ApiKeys, Credentials
from tickmesh.venues.simvenue.server.rest import answer
from tickmesh.venues.simvenue.server.venue import Venue


class NewAccount(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /accounts."""

    account: str
    api_key: str
    api_secret: str
    deposit: Decimal = Decimal(100_000)


class VenueMove(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /positions: what the venue does to a position on its own. ``lots`` is for ``silently`` only."""

    account: str
    symbol: str
    how: Literal["liquidation", "adl", "silently"]
    lots: int = 0


_venue_move = msgspec.json.Decoder(VenueMove)
_new_account = msgspec.json.Decoder(NewAccount, strict=False)


class Admin:
    """Handlers over one venue."""

    def __init__(self, venue: Venue, api_keys: ApiKeys, start_replay: Callable[[], None]) -> None:
        self._venue, self._api_keys, self._start_replay = venue, api_keys, start_replay

    async def start_replay(self, _: web.Request) -> web.StreamResponse:
        """POST /replay/go: everybody is there; start the replay that holds."""
        self._start_replay()
        return answer({"started": True}, {})

    async def record(self, request: web.Request) -> web.StreamResponse:
        """GET /record?account=NAME: every order and fill that an account ever had here."""
        account = request.query.get("account", "")
        if account not in self._venue.exchange.ledgers:
            return answer({"error": f"no account {account!r}"}, {}, 404)
        bodies, orders = self._venue.bodies, self._venue.store.orders(account)
        names = {o.order_id: o.client_order_id for o in orders}
        fills: list[dict[str, Any]] = [
            {**bodies.user_trade(t), "clientOrderId": names.get(t.order_id, "")}
            for t in self._venue.store.trades(account)
        ]
        return answer({"account": account, "orders": [bodies.order(o) for o in orders], "fills": fills}, {})

    async def move_position(self, request: web.Request) -> web.StreamResponse:
        """POST /positions: liquidate, deleverage, or change one silently."""
        exchange, now_ms = self._venue.exchange, self._venue.clock.now_ms()
        try:
            wanted = _venue_move.decode(await request.read())
        except msgspec.MsgspecError as error:
            return answer({"error": str(error)}, {}, 400)
        if wanted.account not in exchange.ledgers or wanted.symbol not in exchange.markets:
            return answer({"error": f"no account {wanted.account!r} or no symbol {wanted.symbol!r}"}, {}, 404)
        if wanted.how == "silently":
            exchange.move_position(wanted.account, wanted.symbol, wanted.lots, now_ms)
        else:
            prefix = "autoclose-" if wanted.how == "liquidation" else "adl_autoclose-"
            exchange.close_by_venue(wanted.account, wanted.symbol, now_ms, prefix=prefix)
        self._venue.commit()
        return answer({"account": wanted.account, "symbol": wanted.symbol}, {})

    async def faults(self, _: web.Request) -> web.StreamResponse:
        """GET /faults: what is on, with its hits."""
        return answer({"faults": self._venue.faults.listing()}, {})

    async def add_fault(self, request: web.Request) -> web.StreamResponse:
        """POST /faults: switch one on; answers it with its id."""
        try:
            return answer(self._venue.faults.add(await request.read()), {})
        except ConfigError as error:
            return answer({"error": str(error)}, {}, 400)

    async def remove_faults(self, request: web.Request) -> web.StreamResponse:
        """DELETE /faults[?id=N]: switch one or all off."""
        wanted = request.query.get("id", "")
        if wanted and not wanted.isdigit():
            return answer({"error": f"id must be a number, found {wanted!r}"}, {}, 400)
        return answer({"removed": self._venue.faults.remove(int(wanted) if wanted else None)}, {})

    async def add_account(self, request: web.Request) -> web.StreamResponse:
        """POST /accounts: open an account with a key and a deposit; it is kept over restarts."""
        try:
            wanted = _new_account.decode(await request.read())
        except msgspec.MsgspecError as error:
            return answer({"error": str(error)}, {}, 400)
        credentials = Credentials(wanted.account, wanted.api_secret)
        self._api_keys.add(wanted.api_key, credentials)
        self._venue.store.save_api_key(wanted.api_key, credentials)
        self._venue.exchange.add_account(wanted.account, wanted.deposit, self._venue.clock.now_ms())
        self._venue.commit()
        return answer({"account": wanted.account}, {})
