"""Bodies: the exchange's records in, the venue's JSON shapes out, for REST answers.

Field names and number formats follow Binance's USD-M documentation. It holds no state but the listing and the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tickmesh.domain.enums import Side
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.types import AccountInfo, Income, OrderRecord, PositionView, UserTrade
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.text import money, plain, price_text, qty_text

ASSET = "USDT"


class Bodies:
    """Makes bodies for one venue."""

    def __init__(self, instruments: Mapping[str, Instrument], clock: VenueClock) -> None:
        self._instruments, self._clock = instruments, clock

    def order(self, o: OrderRecord, *, acknowledged: bool = False) -> dict[str, Any]:
        """An order; ``acknowledged`` shows it as it was on arrival (newOrderRespType ACK)."""
        instrument = self._instruments[o.symbol]
        filled = 0 if acknowledged else o.filled_lots
        return {
            "orderId": o.order_id,
            "symbol": o.symbol,
            "status": "NEW" if acknowledged else o.status.value,
            "clientOrderId": o.client_order_id,
            "price": price_text(instrument, o.price_ticks),
            "avgPrice": plain(o.avg_price) if filled else "0.00",
            "origQty": qty_text(instrument, o.lots),
            "executedQty": qty_text(instrument, filled),
            "cumQty": qty_text(instrument, filled),
            "cumQuote": plain(o.quote_filled) if filled else "0",
            "timeInForce": o.time_in_force.value,
            "type": o.orig_type.value if acknowledged else o.type.value,
            "reduceOnly": o.reduce_only,
            "closePosition": o.close_position,
            "side": o.side.name,
            "positionSide": o.position_side.value,
            "stopPrice": price_text(instrument, o.stop_ticks),
            "workingType": o.working_type.value,
            "priceProtect": False,
            "origType": o.orig_type.value,
            "priceMatch": "NONE",
            "selfTradePreventionMode": o.stp.value,
            "goodTillDate": 0,
            "time": self._clock.shown(o.time_ms),
            "updateTime": self._clock.shown(o.update_ms),
        }

    def user_trade(self, t: UserTrade) -> dict[str, Any]:
        instrument = self._instruments[t.symbol]
        return {
            "symbol": t.symbol,
            "id": t.trade_id,
            "orderId": t.order_id,
            "side": t.side.name,
            "price": price_text(instrument, t.ticks),
            "qty": qty_text(instrument, t.lots),
            "realizedPnl": money(t.realized_pnl),
            "marginAsset": instrument.quote,
            "quoteQty": plain(t.quote),
            "commission": money(t.commission),
            "commissionAsset": instrument.quote,
            "time": self._clock.shown(t.time_ms),
            "positionSide": t.position_side.value,
            "buyer": t.side is Side.BUY,
            "maker": t.maker,
        }

    def income(self, line: Income) -> dict[str, Any]:
        return {
            "symbol": line.symbol,
            "incomeType": line.type,
            "income": money(line.amount),
            "asset": ASSET,
            "info": str(line.trade_id) if line.trade_id else line.type,
            "time": self._clock.shown(line.time_ms),
            "tranId": line.income_id,
            "tradeId": str(line.trade_id) if line.trade_id else "",
        }

    def position_risk(self, p: PositionView, *, version: int) -> dict[str, Any]:
        """GET positionRisk, version 2 or 3."""
        isolated = p.margin_type == "ISOLATED"
        body = {
            "symbol": p.symbol,
            "positionSide": p.side.value,
            "positionAmt": plain(p.qty),
            "entryPrice": plain(p.entry_price),
            "breakEvenPrice": plain(p.entry_price),
            "markPrice": money(p.mark_price),
            "unRealizedProfit": money(p.unrealized),
            "liquidationPrice": plain(p.liquidation_price),
            "isolatedMargin": money(p.isolated_margin),
            "notional": money(p.notional),
            "isolatedWallet": money(p.isolated_wallet),
            "updateTime": self._clock.shown(p.update_ms),
            "adl": 0,
        }
        if version == 2:
            extra = {
                "leverage": str(p.leverage),
                "maxNotionalValue": plain(p.max_notional),
                "marginType": "isolated" if isolated else "cross",
                "isAutoAddMargin": "false",
                "isolated": isolated,
            }
            return {**body, **extra}
        return {
            **body,
            "marginAsset": self._instruments[p.symbol].quote,
            "initialMargin": money(p.initial_margin + p.open_order_margin),
            "maintMargin": money(p.maintenance_margin),
            "positionInitialMargin": money(p.initial_margin),
            "openOrderInitialMargin": money(p.open_order_margin),
            "bidNotional": "0",
            "askNotional": "0",
        }

    def balance(self, info: AccountInfo) -> list[dict[str, Any]]:
        free = money(info.available)
        return [
            {
                "accountAlias": info.account_id,
                "asset": ASSET,
                "balance": money(info.wallet),
                "crossWalletBalance": money(info.cross_wallet),
                "crossUnPnl": money(info.cross_unrealized),
                "availableBalance": free,
                "maxWithdrawAmount": free,
                "marginAvailable": True,
                "updateTime": self._clock.shown(max((p.update_ms for p in info.positions), default=0)),
            }
        ]

    def account(self, info: AccountInfo, *, version: int, busy: set[str]) -> dict[str, Any]:
        """GET account; version 3 lists only symbols with a position or in ``busy`` (with open orders)."""
        initial = info.position_margin + info.open_order_margin
        sums = {
            "totalInitialMargin": money(initial),
            "totalMaintMargin": money(info.maintenance_margin),
            "totalWalletBalance": money(info.wallet),
            "totalUnrealizedProfit": money(info.unrealized),
            "totalMarginBalance": money(info.margin_balance),
            "totalPositionInitialMargin": money(info.position_margin),
            "totalOpenOrderInitialMargin": money(info.open_order_margin),
            "totalCrossWalletBalance": money(info.cross_wallet),
            "totalCrossUnPnl": money(info.cross_unrealized),
            "availableBalance": money(info.available),
            "maxWithdrawAmount": money(info.available),
        }
        update_ms = self._clock.shown(max((p.update_ms for p in info.positions), default=0))
        asset = {
            "asset": ASSET,
            "walletBalance": money(info.wallet),
            "unrealizedProfit": money(info.unrealized),
            "marginBalance": money(info.margin_balance),
            "maintMargin": money(info.maintenance_margin),
            "initialMargin": money(initial),
            "positionInitialMargin": money(info.position_margin),
            "openOrderInitialMargin": money(info.open_order_margin),
            "crossWalletBalance": money(info.cross_wallet),
            "crossUnPnl": money(info.cross_unrealized),
            "availableBalance": money(info.available),
            "maxWithdrawAmount": money(info.available),
            "marginAvailable": True,
            "updateTime": update_ms,
        }
        if version == 3:
            shown = [self._position_v3(p) for p in info.positions if p.lots or p.symbol in busy]
            return {**sums, "assets": [asset], "positions": shown}
        flags = {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }
        return {**flags, **sums, "assets": [asset], "positions": [self._position_v2(p) for p in info.positions]}

    def _position_v2(self, p: PositionView) -> dict[str, Any]:
        return {
            **self._position(p),
            "positionInitialMargin": money(p.initial_margin),
            "openOrderInitialMargin": money(p.open_order_margin),
            "leverage": str(p.leverage),
            "isolated": p.margin_type == "ISOLATED",
            "entryPrice": plain(p.entry_price),
            "breakEvenPrice": plain(p.entry_price),
            "maxNotional": plain(p.max_notional),
            "bidNotional": "0",
            "askNotional": "0",
        }

    def _position_v3(self, p: PositionView) -> dict[str, Any]:
        return {**self._position(p), "isolatedMargin": money(p.isolated_margin)}

    def _position(self, p: PositionView) -> dict[str, Any]:
        return {
            "symbol": p.symbol,
            "positionSide": p.side.value,
            "positionAmt": plain(p.qty),
            "unrealizedProfit": money(p.unrealized),
            "notional": money(p.notional),
            "isolatedWallet": money(p.isolated_wallet),
            "initialMargin": money(p.initial_margin + p.open_order_margin),
            "maintMargin": money(p.maintenance_margin),
            "updateTime": self._clock.shown(p.update_ms),
        }


def rate(value: Decimal) -> str:
    """A fee rate as the venue prints it."""
    return f"{value:.6f}"
