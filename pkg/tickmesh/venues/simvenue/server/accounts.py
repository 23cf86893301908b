"""Account endpoints: balances, positions, leverage, modes, income, rates and brackets.

In: a signed Call. Out: calls on the exchange and bodies. Multi-assets mode is not offered and says so.
"""

from __future__ import annotations

from typing import Any

from tickmesh.domain.enums import PositionSide
from tickmesh.venues.simvenue.exchange.errors import VenueError
from tickmesh.venues.simvenue.server.bodies import rate
from tickmesh.venues.simvenue.server.limits import Quota
from tickmesh.venues.simvenue.server.rest import Call, Endpoint, Security, WireError, missing
from tickmesh.venues.simvenue.server.text import plain
from tickmesh.venues.simvenue.server.trading import word
from tickmesh.venues.simvenue.server.venue import Venue

_DONE = {"code": 200, "msg": "success"}
_MARGIN_TYPES = {"ISOLATED": "ISOLATED", "CROSSED": "CROSSED", "CROSS": "CROSSED"}


class Accounts:
    """Handlers over one venue."""

    def __init__(self, venue: Venue, quota: Quota) -> None:
        self._venue, self._exchange, self._bodies, self._quota = venue, venue.exchange, venue.bodies, quota

    def endpoints(self) -> list[Endpoint]:
        """Rows: method, path, handler, weight."""
        rows: list[tuple[str, str, Any, int]] = [
            ("GET", "/fapi/v2/account", lambda call: self.account(call, 2), 5),
            ("GET", "/fapi/v3/account", lambda call: self.account(call, 3), 5),
            ("GET", "/fapi/v2/balance", self.balance, 5),
            ("GET", "/fapi/v3/balance", self.balance, 5),
            ("GET", "/fapi/v2/positionRisk", lambda call: self.position_risk(call, 2), 5),
            ("GET", "/fapi/v3/positionRisk", lambda call: self.position_risk(call, 3), 5),
            ("POST", "/fapi/v1/leverage", self.set_leverage, 1),
            ("POST", "/fapi/v1/marginType", self.set_margin_type, 1),
            ("POST", "/fapi/v1/positionMargin", self.change_margin, 1),
            ("GET", "/fapi/v1/positionSide/dual", self.position_mode, 30),
            ("POST", "/fapi/v1/positionSide/dual", self.set_position_mode, 1),
            ("GET", "/fapi/v1/multiAssetsMargin", self.multi_assets, 30),
            ("POST", "/fapi/v1/multiAssetsMargin", self.set_multi_assets, 1),
            ("GET", "/fapi/v1/income", self.income, 30),
            ("GET", "/fapi/v1/commissionRate", self.commission_rate, 20),
            ("GET", "/fapi/v1/leverageBracket", self.brackets, 1),
            ("GET", "/fapi/v1/rateLimit/order", self.order_limits, 1),
            ("GET", "/fapi/v1/adlQuantile", self.adl_quantile, 5),
            ("GET", "/fapi/v1/symbolConfig", self.symbol_config, 5),
            ("GET", "/fapi/v1/accountConfig", self.account_config, 5),
            ("GET", "/fapi/v1/apiTradingStatus", self.trading_status, 1),
            ("GET", "/fapi/v1/feeBurn", lambda _: {"feeBurn": False}, 30),
        ]
        return [Endpoint(method, path, handler, weight, Security.SIGNED) for method, path, handler, weight in rows]

    def account(self, call: Call, version: int) -> object:
        busy = {order.symbol for order in self._exchange.open_orders(call.account)}
        return self._bodies.account(self._exchange.account_info(call.account), version=version, busy=busy)

    def balance(self, call: Call) -> object:
        return self._bodies.balance(self._exchange.account_info(call.account))

    def position_risk(self, call: Call, version: int) -> object:
        """Version 3 leaves out symbols with neither position nor open order."""
        views = self._exchange.position_risk(call.account, call.optional_symbol())
        if version == 3:
            busy = {order.symbol for order in self._exchange.open_orders(call.account)}
            views = [p for p in views if p.lots or p.symbol in busy]
        return [self._bodies.position_risk(p, version=version) for p in views]

    def set_leverage(self, call: Call) -> object:
        symbol, leverage = call.symbol(), call.integer("leverage")
        if leverage is None:
            raise missing("leverage")
        most = self._exchange.set_leverage(call.account, symbol, leverage, call.now_ms)
        return {"symbol": symbol, "leverage": leverage, "maxNotionalValue": plain(most)}

    def set_margin_type(self, call: Call) -> object:
        kind = _MARGIN_TYPES.get(call.text("marginType").upper())
        if kind is None:
            raise WireError(-1130, "Data sent for parameter 'marginType' is not valid.")
        self._exchange.set_margin_type(call.account, call.symbol(), kind, call.now_ms)
        return _DONE

    def change_margin(self, call: Call) -> object:
        """``type`` 1 adds, 2 takes away."""
        kind, amount, symbol = call.integer("type"), call.mandatory_decimal("amount"), call.symbol()
        if kind not in (1, 2):
            raise WireError(-1130, "Data sent for parameter 'type' is not valid.")
        if amount <= 0:
            raise VenueError(-4055)
        side = word(call, "positionSide", PositionSide, PositionSide.BOTH)
        change = amount if kind == 1 else -amount
        self._exchange.change_position_margin(call.account, symbol, side, change, call.now_ms)
        return {"amount": plain(amount), "code": 200, "msg": "Successfully modify position margin.", "type": kind}

    def position_mode(self, call: Call) -> object:
        return {"dualSidePosition": self._exchange.position_mode(call.account)}

    def set_position_mode(self, call: Call) -> object:
        call.text("dualSidePosition")
        self._exchange.set_position_mode(call.account, call.flag("dualSidePosition"), call.now_ms)
        return _DONE

    def multi_assets(self, _: Call) -> object:
        return {"multiAssetsMargin": False}

    def set_multi_assets(self, call: Call) -> object:
        """One asset is all there is: off is "no need to change", on is refused."""
        call.text("multiAssetsMargin")
        raise VenueError(-4170 if call.flag("multiAssetsMargin") else -4171)

    def income(self, call: Call) -> object:
        window = call.window()
        lines = self._exchange.income(
            call.account,
            call.optional_symbol(),
            call.params.get("incomeType") or None,
            call.limit(100, 1000),
            window.start_ms,
            window.end_ms,
        )
        return [self._bodies.income(line) for line in lines]

    def commission_rate(self, call: Call) -> object:
        symbol, config = call.symbol(), self._exchange.config
        self._exchange.market_of(symbol)
        return {
            "symbol": symbol,
            "makerCommissionRate": rate(config.maker_fee),
            "takerCommissionRate": rate(config.taker_fee),
        }

    def brackets(self, call: Call) -> object:
        rows = []
        floor = 0
        for number, tier in enumerate(self._exchange.config.tiers, 1):
            cap = int(tier.notional_cap)
            rows.append(
                {
                    "bracket": number,
                    "initialLeverage": tier.max_leverage,
                    "notionalCap": cap,
                    "notionalFloor": floor,
                    "maintMarginRatio": float(tier.maintenance_ratio),
                    "cum": float(tier.cum),
                }
            )
            floor = cap
        symbol = call.optional_symbol()
        if symbol is not None:
            self._exchange.market_of(symbol)
            return [{"symbol": symbol, "brackets": rows}]
        return [{"symbol": name, "brackets": rows} for name in self._venue.instruments]

    def order_limits(self, _: Call) -> object:
        return self._quota.order_listing()

    def adl_quantile(self, call: Call) -> object:
        """Nobody is ever deleveraged here: quantile 0 throughout."""
        views = self._exchange.position_risk(call.account, call.optional_symbol())
        found: dict[str, dict[str, int]] = {}
        for view in views:
            found.setdefault(view.symbol, {})[view.side.value] = 0
        return [{"symbol": symbol, "adlQuantile": sides} for symbol, sides in found.items()]

    def symbol_config(self, call: Call) -> object:
        symbol = call.optional_symbol()
        symbols = list(self._venue.instruments) if symbol is None else [symbol]
        views = [self._exchange.position_risk(call.account, name)[0] for name in symbols]
        return [
            {
                "symbol": view.symbol,
                "marginType": view.margin_type,
                "isAutoAddMargin": False,
                "leverage": view.leverage,
                "maxNotionalValue": plain(view.max_notional),
            }
            for view in views
        ]

    def account_config(self, call: Call) -> object:
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": self._exchange.position_mode(call.account),
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def trading_status(self, call: Call) -> object:
        return {"indicators": {}, "updateTime": call.shown_ms}
