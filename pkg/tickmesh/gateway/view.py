"""What the gateway answers with, as types: REST, WebSocket and the OpenAPI document all come from here.

Money, prices and quantities are exact and travel as decimal texts; times are ns since 1970 (wall clock),
durations microseconds. A field is only ever added. No type here has room for a key, a token or a password.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all answers; equal views are equal values, which is how updates are found."""


class ErrorView(View, frozen=True):
    """Every refusal: one sentence that says what to do."""

    error: str


class PriceView(View, frozen=True):
    """Top of one symbol's book; with depth also the ladder as (price, quantity), best first."""

    venue: str
    bid: Decimal
    ask: Decimal
    mid: Decimal
    spread: Decimal
    imbalance: float
    microprice: Decimal
    volatility_bps: float
    stale: bool
    age_ms: int
    bids: list[tuple[Decimal, Decimal]] = []
    asks: list[tuple[Decimal, Decimal]] = []


class PositionView(View, frozen=True):
    """A position; ``quantity`` is below zero when short."""

    account: str
    venue: str
    symbol: str
    position_side: str
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    leverage: int
    liquidation_price: Decimal


class BalanceView(View, frozen=True):
    """A wallet in one asset."""

    account: str
    asset: str
    wallet: Decimal
    available: Decimal


class AccountView(View, frozen=True):
    """An account's sums in quote currency; ``mismatches`` counts differences that reconciliation found."""

    account: str
    venue: str
    equity: Decimal
    available: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal
    daily_pnl: Decimal
    commission: Decimal
    funding: Decimal
    margin_ratio: Decimal
    leverage_ratio: Decimal
    drawdown: Decimal
    fills: int
    maker_fills: int
    mismatches: int
    reconciled_ns: int
    updated_ns: int


class OrderView(View, frozen=True):
    """One order; price and quantities are null until the symbol's instrument is known."""

    client_order_id: str
    venue_order_id: int
    account: str
    strategy: str
    venue: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    price: Decimal | None
    quantity: Decimal | None
    filled: Decimal | None
    average_price: Decimal
    reduce_only: bool
    state: str
    reason: str
    external: bool
    updated_ns: int


class OrderStep(View, frozen=True):
    """One state of an order's life."""

    state: str
    at_ns: int
    reason: str


class OrderDetail(View, frozen=True):
    """An order with its life and how its time was spent, in us since the tick arrived."""

    order: OrderView
    history: list[OrderStep]
    stages_us: dict[str, float]


class FillView(View, frozen=True):
    """One execution of ours; ``exchange_ns`` is the venue's time, ``at_ns`` when we recorded it."""

    account: str
    symbol: str
    trade_id: int
    client_order_id: str
    strategy: str
    side: str
    price: Decimal | None
    quantity: Decimal | None
    commission: Decimal
    commission_asset: str
    realized_pnl: Decimal
    maker: bool
    exchange_ns: int
    at_ns: int


class SignalView(View, frozen=True):
    """What a strategy wanted, and whether it was acted on."""

    strategy: str
    symbol: str
    side: str
    strength: float
    reason: str
    accepted: bool
    at_ns: int


class StrategyView(View, frozen=True):
    """What a strategy has done, from its fills; ``net_pnl`` is realized less commission, without open positions."""

    strategy: str
    open_orders: int
    fills: int
    maker_fills: int
    realized_pnl: Decimal
    commission: Decimal
    net_pnl: Decimal


class AlertView(View, frozen=True):
    """Something a person should know."""

    at_ns: int
    severity: str
    kind: str
    text: str
    source: str


class HaltView(View, frozen=True):
    """A scope that is stopped (HALTED) or may only shrink (REDUCING), by whom and why."""

    scope: str
    state: str
    reason: str
    actor: str
    at_ns: int


class PnlView(View, frozen=True):
    """Sums over all accounts; ``total`` is realized + unrealized - commission + funding."""

    realized: Decimal
    unrealized: Decimal
    commission: Decimal
    funding: Decimal
    daily: Decimal
    total: Decimal


class OrderCounts(View, frozen=True):
    """How many orders are open, and all that are known by their state."""

    open: int
    by_state: dict[str, int]


class Quantiles(View, frozen=True):
    """Of ``n`` durations, in microseconds."""

    n: int
    p50: float
    p95: float
    p99: float


class ServiceView(View, frozen=True):
    """Whether a service is ready; ``because`` names each thing that is missing, in one sentence."""

    ready: bool
    because: dict[str, str]


class Market(View, frozen=True):
    """What the feed has seen since it started."""

    events: int = 0
    gaps: int = 0


class Snapshot(View, frozen=True):
    """Everything about accounts in one answer."""

    accounts: list[AccountView]
    positions: list[PositionView]
    orders: list[OrderView]
    balances: list[BalanceView]


class Live(View, frozen=True):
    """One picture of everything."""

    ts: int
    prices: dict[str, PriceView]
    positions: list[PositionView]
    accounts: list[AccountView]
    pnl: PnlView
    orders: OrderCounts
    fills: int
    maker_fills: int
    latency_us: dict[str, Quantiles]
    services: dict[str, ServiceView]
    halts: list[HaltView]
    alerts: list[AlertView]
    market: Market


class Totals(View, frozen=True):
    """The figures that are one value each."""

    pnl: PnlView
    orders: OrderCounts
    fills: int
    maker_fills: int
    market: Market


class State(View, frozen=True):
    """What a WebSocket client holds: sections of keyed values."""

    prices: dict[str, PriceView]
    positions: dict[str, PositionView]
    accounts: dict[str, AccountView]
    orders: dict[str, OrderView]
    fills: dict[str, FillView]
    strategies: dict[str, StrategyView]
    latency_us: dict[str, Quantiles]
    services: dict[str, ServiceView]
    halts: dict[str, HaltView]
    alerts: dict[str, AlertView]
    totals: dict[str, Totals]


class SnapshotMessage(View, frozen=True, tag_field="type", tag="snapshot"):
    """The first WebSocket message; ``epoch`` (start of this life, ms) tells lives apart, ``seq`` numbers pictures."""

    epoch: int
    seq: int
    ts: int
    state: State


class History(View, frozen=True):
    """One sample a second, oldest first, of the newest fifteen minutes; null where nothing was known."""

    at_ms: list[int]
    pnl: list[float | None]
    mid: dict[str, list[float | None]]


class Command(View, frozen=True):
    """Body of a command. ``confirm`` is the second step of a resume; ``flatten`` makes a halt close positions, too."""

    scope: str
    actor: str
    reason: str = ""
    confirm: str = ""
    flatten: bool = False


class CommandDone(View, frozen=True):
    """The command is stored in the CTL stream; who must obey hears it from there."""

    verb: str
    scope: str


class ConfirmationNeeded(View, frozen=True):
    """Send the same command again with this ``confirm`` within ``within_s`` seconds."""

    confirm: str
    scope: str
    within_s: float


class Login(View, frozen=True):
    """Body of a login: the gateway's token."""

    token: str


class SessionView(View, frozen=True):
    """How this client may use the gateway."""

    authorized: bool
    commands: bool
    account: str = ""
