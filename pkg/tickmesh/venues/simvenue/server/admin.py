"""Admin routes of simvenue: the venue's own record of orders and fills.

In: requests on the admin port. Out: JSON. It is for supervisors and tests, and no part of the venue's protocol.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tickmesh.venues.simvenue.server.rest import answer
from tickmesh.venues.simvenue.server.venue import Venue


class Admin:
    """Handlers over one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def record(self, request: web.Request) -> web.StreamResponse:
        """GET /record?account=NAME: every order and fill of an account."""
        account = request.query.get("account", "")
        exchange, bodies = self._venue.exchange, self._venue.bodies
        if account not in exchange.ledgers:
            return answer({"error": f"no account {account!r}"}, {}, 404)
        orders = [o for o in exchange.orders.values() if o.account_id == account]
        names = {o.order_id: o.client_order_id for o in orders}
        fills: list[dict[str, Any]] = [
            {**bodies.user_trade(t), "clientOrderId": names.get(t.order_id, "")}
            for t in exchange.trades
            if t.account_id == account
        ]
        return answer({"account": account, "orders": [bodies.order(o) for o in orders], "fills": fills}, {})
