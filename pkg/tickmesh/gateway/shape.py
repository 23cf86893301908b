"""From messages to views: ticks and lots become exact decimals here, and only what a person may see goes over."""

from __future__ import annotations

from decimal import Decimal

from tickmesh.domain.enums import RiskState
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import (
    AccountSnapshot,
    Alert,
    BalanceState,
    BookUpdate,
    Control,
    FillEvent,
    OrderEvent,
    PositionState,
    SignalMessage,
)
from tickmesh.gateway.view import (
    AccountView,
    AlertView,
    BalanceView,
    FillView,
    HaltView,
    OrderView,
    PositionView,
    PriceView,
    SignalView,
)


def price(update: BookUpdate, instrument: Instrument, now_ns: int, depth: int) -> PriceView:
    """One symbol's price; both sides must have a level."""
    bid, ask = instrument.price(update.bids[0][0]), instrument.price(update.asks[0][0])
    return PriceView(
        venue=update.venue,
        bid=bid,
        ask=ask,
        mid=(bid + ask) / 2,
        spread=ask - bid,
        imbalance=round(update.imbalance, 4),
        # A float feature: four digits below the tick are all that it can mean.
        microprice=Decimal(round(update.microprice_ticks * 10_000)) / 10_000 * instrument.tick_size,
        volatility_bps=round(update.volatility_bps, 4),
        stale=update.stale,
        age_ms=max(0, (now_ns - update.publish_ns) // 1_000_000),
        bids=[(instrument.price(t), instrument.qty(q)) for t, q in update.bids[:depth]],
        asks=[(instrument.price(t), instrument.qty(q)) for t, q in update.asks[:depth]],
    )


def order(event: OrderEvent, instrument: Instrument | None) -> OrderView:
    """An order as its newest event tells it; prices and quantities are None while its grid is not known."""
    return OrderView(
        client_order_id=event.client_order_id,
        venue_order_id=event.venue_order_id,
        account=event.account,
        strategy=event.strategy,
        venue=event.venue,
        symbol=event.symbol,
        side=event.side.name,
        type=event.order_type.value,
        time_in_force=event.time_in_force.value,
        price=instrument.price(event.price_ticks) if instrument else None,
        quantity=instrument.qty(event.qty_lots) if instrument else None,
        filled=instrument.qty(event.cum_lots) if instrument else None,
        average_price=event.average_price,
        reduce_only=event.reduce_only,
        state=event.state.value,
        reason=event.reason,
        external=event.external,
        updated_ns=event.publish_ns,
    )


def fill(event: FillEvent, instrument: Instrument | None) -> FillView:
    """One execution; price and quantity are None while its grid is not known."""
    return FillView(
        account=event.account,
        symbol=event.symbol,
        trade_id=event.trade_id,
        client_order_id=event.client_order_id,
        strategy=event.strategy,
        side=event.side.name,
        price=instrument.price(event.price_ticks) if instrument else None,
        quantity=instrument.qty(event.qty_lots) if instrument else None,
        commission=event.commission,
        commission_asset=event.commission_asset,
        realized_pnl=event.realized_pnl,
        maker=event.maker,
        exchange_ns=event.exchange_ns,
        at_ns=event.publish_ns or event.exchange_ns,
    )


def position(account: str, state: PositionState) -> PositionView:
    """One position of ``account``."""
    return PositionView(
        account=account,
        venue=state.venue,
        symbol=state.symbol,
        position_side=state.position_side.value,
        quantity=state.quantity,
        entry_price=state.entry_price,
        mark_price=state.mark_price,
        unrealized_pnl=state.unrealized_pnl,
        realized_pnl=state.realized_pnl,
        leverage=state.leverage,
        liquidation_price=state.liquidation_price,
    )


def balance(account: str, state: BalanceState) -> BalanceView:
    return BalanceView(account=account, asset=state.asset, wallet=state.wallet, available=state.available)


def account(snapshot: AccountSnapshot) -> AccountView:
    """One account as its newest snapshot tells it."""
    return AccountView(
        account=snapshot.account,
        venue=snapshot.venue,
        equity=snapshot.equity,
        available=snapshot.available,
        realized_pnl=snapshot.realized_pnl,
        unrealized_pnl=snapshot.unrealized_pnl,
        daily_pnl=snapshot.daily_pnl,
        commission=snapshot.commission,
        funding=snapshot.funding,
        margin_ratio=snapshot.margin_ratio,
        leverage_ratio=snapshot.leverage_ratio,
        drawdown=snapshot.drawdown,
        fills=snapshot.fills,
        maker_fills=snapshot.maker_fills,
        mismatches=snapshot.mismatches,
        reconciled_ns=snapshot.reconciled_ns,
        updated_ns=snapshot.publish_ns,
    )


def signal(message: SignalMessage) -> SignalView:
    """One signal, with whether the desk took it."""
    return SignalView(
        strategy=message.strategy,
        symbol=message.symbol,
        side=message.side.name,
        strength=message.strength,
        reason=message.reason,
        accepted=message.accepted,
        at_ns=message.publish_ns,
    )


def alert(message: Alert) -> AlertView:
    """One alert."""
    return AlertView(
        at_ns=message.publish_ns,
        severity=message.severity.value,
        kind=message.kind,
        text=message.text,
        source=message.source,
    )


def halt(control: Control, state: RiskState) -> HaltView:
    """The halt, or its end, of one scope."""
    return HaltView(
        scope=control.scope, state=state.value, reason=control.reason, actor=control.actor, at_ns=control.publish_ns
    )
