"""Messages in, table rows out: which table, which columns, which time decides the day.

Pure. A row's ``ts`` comes from the message alone, so the same message always meets the same key. Refuses to
round: ticks and lots become exact Decimals, or None when the instrument's grid is not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import (
    AccountSnapshot,
    Alert,
    Audit,
    BookUpdate,
    FillEvent,
    MarkPrice,
    Message,
    OrderEvent,
    SignalMessage,
    Trade,
)

Row = tuple[Any, ...]
Rows = dict[str, list[Row]]
"""Rows by table name, in the order of ``COLUMNS``; the first column is ``ts``."""

FindInstrument = Callable[[str, str], Instrument | None]
"""(venue, symbol) -> its grid, None while nobody knows it."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLUMNS: dict[str, tuple[str, ...]] = {
    "market_data_snapshots": _names(
        "ts venue symbol update_id best_bid best_ask bid_qty ask_qty spread mid_price bid_ticks ask_ticks bid_lots "
        "ask_lots imbalance microprice_ticks volatility_bps stale exchange_ns receive_ns"
    ),
    "trades": _names("ts venue symbol trade_id price quantity price_ticks qty_lots taker_side exchange_ns receive_ns"),
    "signals": _names(
        "ts strategy venue symbol side strength urgency price quantity price_ticks qty_lots reason accepted "
        "intent_id correlation_id epoch seq"
    ),
    "order_events": _names(
        "ts account venue symbol order_id client_order_id intent_id strategy side type time_in_force price quantity "
        "filled price_ticks qty_lots cum_lots average_price reduce_only position_side stop_price_ticks event_type "
        "status reason venue_code external anomaly correlation_id exchange_ns receive_ns publish_ns epoch seq "
        "stream_seq"
    ),
    "fills": _names(
        "ts account venue symbol trade_id order_id client_order_id strategy side position_side price quantity "
        "price_ticks qty_lots commission commission_asset pnl is_maker correlation_id exchange_ns receive_ns "
        "publish_ns stream_seq"
    ),
    "account_snapshots": _names(
        "ts account venue equity available realized_pnl unrealized_pnl daily_pnl commission funding margin_ratio "
        "leverage_ratio drawdown fills maker_fills mismatches balances epoch seq"
    ),
    "position_snapshots": _names(
        "ts account venue symbol position_side qty_lots quantity entry_price mark_price unrealized_pnl realized_pnl "
        "leverage liquidation_price epoch seq"
    ),
    "mark_prices": _names("ts venue symbol mark_price index_price funding_rate next_funding_ns exchange_ns receive_ns"),
    "alerts": _names("ts severity kind source text fields epoch seq stream_seq"),
    "audit": _names("ts source event actor detail chain epoch seq stream_seq"),
}

SERIES = tuple(table for table in COLUMNS if table != "audit")
"""The tables that are split by day; audit is kept whole and for ever."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_NS = 1_230_768_000_000_000_000  # 2009-01-01: nothing we trade is older
_END_NS = 4_102_444_800_000_000_000  # 2100-01-01


def at(*candidates_ns: int) -> datetime:
    """The first believable time of ``candidates_ns``, cut to microseconds; 1970-01-01 when there is none.

    Bounded, so that nonsense in a stamp can ask for one odd day and never for a partition in the year 9999.
    """
    for ns in candidates_ns:
        if _FIRST_NS <= ns < _END_NS:
            return _EPOCH + timedelta(microseconds=ns // 1000)
    return _EPOCH


def book_rows(book: BookUpdate, find: FindInstrument) -> Rows:
    """Top of the book; an empty side is NULL."""
    bid_ticks, bid_lots = book.bids[0] if book.bids else (None, None)
    ask_ticks, ask_lots = book.asks[0] if book.asks else (None, None)
    grid = find(book.venue, book.symbol)
    bid, ask = _price(grid, bid_ticks), _price(grid, ask_ticks)
    spread = mid = None
    if bid is not None and ask is not None:
        spread, mid = ask - bid, (ask + bid) / 2
    row = (
        at(book.receive_ns, book.publish_ns, book.exchange_ns), book.venue, book.symbol, book.update_id,
        bid, ask, _qty(grid, bid_lots), _qty(grid, ask_lots),
        spread, mid,
        bid_ticks, ask_ticks, bid_lots, ask_lots, book.imbalance, book.microprice_ticks, book.volatility_bps,
        book.stale, book.exchange_ns, book.receive_ns,
    )  # fmt: skip
    return {"market_data_snapshots": [row]}


def trade_rows(trade: Trade, find: FindInstrument) -> Rows:
    """The venue's time decides, so that two feeds telling one trade give one row."""
    grid = find(trade.venue, trade.symbol)
    row = (
        at(trade.exchange_ns, trade.receive_ns, trade.publish_ns), trade.venue, trade.symbol, trade.trade_id,
        _price(grid, trade.price_ticks), _qty(grid, trade.qty_lots), trade.price_ticks, trade.qty_lots,
        trade.taker_side.name, trade.exchange_ns, trade.receive_ns,
    )  # fmt: skip
    return {"trades": [row]}


def signal_rows(signal: SignalMessage, find: FindInstrument) -> Rows:
    """Any signal, taken or not; ``intent_id`` is empty when it led to no order."""
    grid = find(signal.venue, signal.symbol)
    row = (
        at(signal.publish_ns, signal.receive_ns, signal.exchange_ns), signal.strategy, signal.venue, signal.symbol,
        signal.side.name, signal.strength, int(signal.urgency), _price(grid, signal.price_ticks),
        _qty(grid, signal.qty_lots), signal.price_ticks, signal.qty_lots, _text(signal.reason), signal.accepted,
        signal.intent_id, signal.correlation_id, signal.epoch, signal.seq,
    )  # fmt: skip
    return {"signals": [row]}


def order_rows(event: OrderEvent, find: FindInstrument, stream_seq: int) -> Rows:
    """``event_type`` names the step, ``PREVIOUS->STATE``, or ANOMALY."""
    grid = find(event.venue, event.symbol)
    step = "ANOMALY" if event.anomaly else f"{event.previous_state.value}->{event.state.value}"
    row = (
        at(event.publish_ns, event.receive_ns, event.exchange_ns), event.account, event.venue, event.symbol,
        event.venue_order_id, event.client_order_id, event.intent_id, event.strategy, event.side.name,
        event.order_type.value, event.time_in_force.value, _price(grid, event.price_ticks),
        _qty(grid, event.qty_lots), _qty(grid, event.cum_lots), event.price_ticks, event.qty_lots, event.cum_lots,
        event.average_price, event.reduce_only, event.position_side.value, event.stop_price_ticks, step,
        event.state.value, _text(event.reason), event.venue_code, event.external, event.anomaly,
        event.correlation_id, event.exchange_ns, event.receive_ns, event.publish_ns, event.epoch, event.seq,
        stream_seq,
    )  # fmt: skip
    return {"order_events": [row]}


def fill_rows(fill: FillEvent, find: FindInstrument, stream_seq: int) -> Rows:
    """One execution; the venue's time decides."""
    grid = find(fill.venue, fill.symbol)
    row = (
        at(fill.exchange_ns, fill.receive_ns, fill.publish_ns), fill.account, fill.venue, fill.symbol, fill.trade_id,
        fill.venue_order_id, fill.client_order_id, fill.strategy, fill.side.name, fill.position_side.value,
        _price(grid, fill.price_ticks), _qty(grid, fill.qty_lots), fill.price_ticks, fill.qty_lots, fill.commission,
        fill.commission_asset, fill.realized_pnl, fill.maker, fill.correlation_id, fill.exchange_ns,
        fill.receive_ns, fill.publish_ns, stream_seq,
    )  # fmt: skip
    return {"fills": [row]}


def account_rows(snapshot: AccountSnapshot) -> Rows:
    """One account row and one row for each position."""
    ts = at(snapshot.publish_ns, snapshot.receive_ns, snapshot.exchange_ns)
    balances = json.dumps(
        [{"asset": b.asset, "wallet": str(b.wallet), "available": str(b.available)} for b in snapshot.balances]
    )
    account = (
        ts, snapshot.account, snapshot.venue, snapshot.equity, snapshot.available, snapshot.realized_pnl,
        snapshot.unrealized_pnl, snapshot.daily_pnl, snapshot.commission, snapshot.funding, snapshot.margin_ratio,
        snapshot.leverage_ratio, snapshot.drawdown, snapshot.fills, snapshot.maker_fills, snapshot.mismatches,
        balances, snapshot.epoch, snapshot.seq,
    )  # fmt: skip
    positions: list[Row] = [
        (
            ts, snapshot.account, p.venue, p.symbol, p.position_side.value, p.qty_lots, p.quantity, p.entry_price,
            p.mark_price, p.unrealized_pnl, p.realized_pnl, p.leverage, p.liquidation_price, snapshot.epoch,
            snapshot.seq,
        )
        for p in snapshot.positions
    ]  # fmt: skip
    return {"account_snapshots": [account], "position_snapshots": positions}


def mark_rows(mark: MarkPrice) -> Rows:
    """One mark price with its funding."""
    row = (
        at(mark.exchange_ns, mark.receive_ns, mark.publish_ns), mark.venue, mark.symbol, mark.mark_price,
        mark.index_price, mark.funding_rate, mark.next_funding_ns, mark.exchange_ns, mark.receive_ns,
    )  # fmt: skip
    return {"mark_prices": [row]}


def alert_rows(alert: Alert, stream_seq: int) -> Rows:
    """One alert; its fields as JSON."""
    row = (
        at(alert.publish_ns, alert.receive_ns, alert.exchange_ns), alert.severity.value, alert.kind, alert.source,
        _text(alert.text), _json(alert.fields), alert.epoch, alert.seq, stream_seq,
    )  # fmt: skip
    return {"alerts": [row]}


def audit_rows(audit: Audit, stream_seq: int) -> Rows:
    """One link of the audit chain; its detail as JSON."""
    row = (
        at(audit.publish_ns, audit.receive_ns, audit.exchange_ns), audit.source, audit.event, audit.actor,
        _json(audit.detail), audit.chain, audit.epoch, audit.seq, stream_seq,
    )  # fmt: skip
    return {"audit": [row]}


def rows_of(message: Message, find: FindInstrument, stream_seq: int = 0) -> Rows:
    """Rows of any message that is recorded.

    Raises:
        TypeError: nothing records this kind; a bug of the caller.
    """
    match message:
        case BookUpdate():
            return book_rows(message, find)
        case Trade():
            return trade_rows(message, find)
        case SignalMessage():
            return signal_rows(message, find)
        case OrderEvent():
            return order_rows(message, find, stream_seq)
        case FillEvent():
            return fill_rows(message, find, stream_seq)
        case AccountSnapshot():
            return account_rows(message)
        case MarkPrice():
            return mark_rows(message)
        case Alert():
            return alert_rows(message, stream_seq)
        case Audit():
            return audit_rows(message, stream_seq)
    raise TypeError(f"{type(message).__name__} is not recorded")


def merge(parts: list[Rows]) -> Rows:
    """All rows of ``parts`` by table, in order."""
    merged: Rows = {}
    for part in parts:
        for table, rows in part.items():
            if rows:
                merged.setdefault(table, []).extend(rows)
    return merged


def _price(grid: Instrument | None, ticks: int | None) -> Decimal | None:
    return None if grid is None or ticks is None else grid.price(ticks)


def _qty(grid: Instrument | None, lots: int | None) -> Decimal | None:
    return None if grid is None or lots is None else grid.qty(lots)


def _json(fields: dict[str, str]) -> str:
    return json.dumps({_text(k): _text(v) for k, v in fields.items()})


def _text(text: str) -> str:
    """Postgres text cannot hold NUL; losing an order event over one would be worse."""
    return text.replace("\x00", "\ufffd")
