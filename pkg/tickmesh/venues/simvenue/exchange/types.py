"""The words of the pure exchange: requests in, records and events out. Plain data, no behaviour to speak of.

Prices are ticks and quantities lots of the symbol's Instrument; money is Decimal in the quote asset;
``*_ms`` is venue time as the caller passed it in. Structs are append-only: they are also the persisted form.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from tickmesh.domain.enums import OrderType, PositionSide, Side, TimeInForce

ZERO = Decimal(0)


class Stp(StrEnum):
    """Self-trade prevention mode of the taker."""

    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"
    NONE = "NONE"


class OrderStatus(StrEnum):
    """Status of an order in the venue's words; EXPIRED_IN_MATCH is a self-trade prevented."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


OPEN = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class ExecutionType(StrEnum):
    """Why an OrderUpdate was sent; CALCULATED is a liquidation."""

    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    AMENDMENT = "AMENDMENT"
    CALCULATED = "CALCULATED"


class WorkingType(StrEnum):
    """The price that triggers a stop: last trade or mark."""

    CONTRACT_PRICE = "CONTRACT_PRICE"
    MARK_PRICE = "MARK_PRICE"


class MarginTier(msgspec.Struct, frozen=True):
    """One notional bracket: up to ``notional_cap``, at most ``max_leverage``; maintenance = ratio * notional - cum."""

    notional_cap: Decimal
    max_leverage: int
    maintenance_ratio: Decimal
    cum: Decimal = ZERO


DEFAULT_TIERS = (
    MarginTier(Decimal(300_000), 125, Decimal("0.004")),
    MarginTier(Decimal(3_000_000), 75, Decimal("0.005"), Decimal(300)),
    MarginTier(Decimal(12_000_000), 50, Decimal("0.01"), Decimal(15_300)),
    MarginTier(Decimal(100_000_000), 20, Decimal("0.025"), Decimal(195_300)),
    MarginTier(Decimal(1_000_000_000), 5, Decimal("0.1"), Decimal(7_695_300)),
)


class ExchangeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Rules of the whole exchange; rates are fractions, not percent."""

    maker_fee: Decimal = Decimal("0.0002")
    taker_fee: Decimal = Decimal("0.0005")
    default_leverage: int = 20
    tiers: tuple[MarginTier, ...] = DEFAULT_TIERS
    funding_interval_ms: int = 8 * 3_600_000
    interest_rate: Decimal = Decimal("0.0001")
    funding_cap: Decimal = Decimal("0.02")
    mark_interval_ms: int = 1_000
    default_stp: Stp = Stp.EXPIRE_TAKER
    history_limit: int = 10_000
    public_trade_limit: int = 1_000


class PlaceRequest(msgspec.Struct, kw_only=True):
    """A new order as the caller sent it; Decimals are not yet on the grid. ``callback`` orders are not offered."""

    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    position_side: PositionSide = PositionSide.BOTH
    reduce_only: bool = False
    close_position: bool = False
    client_order_id: str = ""
    working_type: WorkingType = WorkingType.CONTRACT_PRICE
    stp: Stp | None = None
    algo: bool = False
    """It came through the algo endpoints: until it triggers, the ordinary ones do not know it."""


class OrderRecord(msgspec.Struct, kw_only=True):
    """An order's full state. The exchange hands out copies: what you hold never changes."""

    order_id: int
    account_id: str
    symbol: str
    client_order_id: str
    side: Side
    type: OrderType
    orig_type: OrderType
    time_in_force: TimeInForce
    position_side: PositionSide
    price_ticks: int
    lots: int
    stop_ticks: int = 0
    filled_lots: int = 0
    quote_filled: Decimal = ZERO
    avg_price: Decimal = ZERO
    status: OrderStatus = OrderStatus.NEW
    reduce_only: bool = False
    close_position: bool = False
    working_type: WorkingType = WorkingType.CONTRACT_PRICE
    stp: Stp = Stp.EXPIRE_TAKER
    time_ms: int = 0
    update_ms: int = 0
    priority: int = 0
    triggered: bool = False
    liquidation: bool = False
    algo: bool = False

    @property
    def open_lots(self) -> int:
        return self.lots - self.filled_lots

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def is_conditional(self) -> bool:
        """True while it waits for its stop price and is not in the book."""
        return self.type not in (OrderType.LIMIT, OrderType.MARKET) and not self.triggered

    @property
    def is_hidden(self) -> bool:
        """True while only the algo endpoints know it."""
        return self.algo and not self.triggered


class UserTrade(msgspec.Struct, frozen=True, kw_only=True):
    """One account's half of a trade."""

    trade_id: int
    order_id: int
    account_id: str
    symbol: str
    side: Side
    position_side: PositionSide
    ticks: int
    lots: int
    maker: bool
    commission: Decimal
    realized_pnl: Decimal
    time_ms: int
    quote: Decimal = ZERO


class Income(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the income history; types: TRANSFER, REALIZED_PNL, COMMISSION, FUNDING_FEE, INSURANCE_CLEAR."""

    income_id: int
    account_id: str
    symbol: str
    type: str
    amount: Decimal
    time_ms: int
    trade_id: int = 0


class Position(msgspec.Struct, kw_only=True):
    """A position: signed lots and the exact quote value paid for them (``cost`` carries the sign of ``lots``).

    ``isolated`` is the part of the wallet that is set aside for it, 0 in cross margin.
    """

    symbol: str
    side: PositionSide
    lots: int = 0
    cost: Decimal = ZERO
    realized: Decimal = ZERO
    update_ms: int = 0
    isolated: Decimal = ZERO


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    """A position valued at the mark price, for position risk, account info and AccountUpdate."""

    symbol: str
    side: PositionSide
    lots: int
    qty: Decimal
    entry_price: Decimal
    mark_price: Decimal
    unrealized: Decimal
    realized: Decimal
    notional: Decimal
    leverage: int
    margin_type: str
    initial_margin: Decimal
    maintenance_margin: Decimal
    open_order_margin: Decimal
    liquidation_price: Decimal
    max_notional: Decimal
    update_ms: int
    isolated_wallet: Decimal = ZERO
    isolated_margin: Decimal = ZERO


class AccountState(msgspec.Struct, kw_only=True):
    """All that must survive of an account, orders and trades apart."""

    account_id: str
    wallet: Decimal
    dual: bool = False
    leverage: dict[str, int] = {}
    margin_type: dict[str, str] = {}
    positions: list[Position] = []
    countdown: dict[str, int] = {}


class AccountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of an account in the quote asset; ``cross_*`` leave isolated positions and their margin out."""

    account_id: str
    dual: bool
    wallet: Decimal
    unrealized: Decimal
    margin_balance: Decimal
    position_margin: Decimal
    open_order_margin: Decimal
    maintenance_margin: Decimal
    available: Decimal
    positions: list[PositionView]
    cross_wallet: Decimal
    cross_unrealized: Decimal


class MarkPrice(msgspec.Struct, frozen=True, kw_only=True):
    """Mark, index and the funding rate that would be charged at ``next_funding_ms``."""

    symbol: str
    mark: Decimal
    index: Decimal
    funding_rate: Decimal
    next_funding_ms: int
    time_ms: int


class FundingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A funding that was charged."""

    symbol: str
    rate: Decimal
    mark: Decimal
    time_ms: int


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """Best levels first, as (ticks, lots)."""

    symbol: str
    update_id: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    time_ms: int


class BookChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A level has a new total (0: gone). ``update_id`` counts by one per change and symbol; Depth carries the last."""

    symbol: str
    side: Side
    ticks: int
    lots_total: int
    update_id: int
    time_ms: int


class PublicTrade(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A trade as everybody sees it; ``trade_id`` counts by one per symbol."""

    symbol: str
    trade_id: int
    ticks: int
    lots: int
    buyer_is_maker: bool
    time_ms: int


class OrderUpdate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An order changed; ``fill`` is set for TRADE and CALCULATED."""

    account_id: str
    order: OrderRecord
    execution: ExecutionType
    fill: UserTrade | None
    time_ms: int


class AccountUpdate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A wallet or positions changed; reasons: ORDER, FUNDING_FEE, DEPOSIT, INSURANCE_CLEAR, MARGIN_TRANSFER."""

    account_id: str
    reason: str
    wallet: Decimal
    balance_change: Decimal
    positions: list[PositionView]
    time_ms: int
    cross_wallet: Decimal = ZERO


class AccountConfigUpdate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Leverage of a symbol changed."""

    account_id: str
    symbol: str
    leverage: int
    time_ms: int


class MarginCall(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The account nears liquidation: maintenance exceeds four fifths of the margin balance."""

    account_id: str
    wallet: Decimal
    positions: list[PositionView]
    time_ms: int


class MarkPriceChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A new mark price was struck."""

    price: MarkPrice


Event = BookChanged | PublicTrade | OrderUpdate | AccountUpdate | AccountConfigUpdate | MarginCall | MarkPriceChanged


class MarketState(msgspec.Struct, kw_only=True):
    """What must survive of a market: counters, mark and funding; the background liquidity does not."""

    symbol: str
    update_id: int = 0
    trade_id: int = 0
    last_ticks: int = 0
    mark: Decimal = ZERO
    index: Decimal = ZERO
    next_funding_ms: int = 0
    flow_lots: int = 0


class ExchangeState(msgspec.Struct, kw_only=True):
    """All of the exchange (``to_state``), or what changed since the last ``drain_changes``.

    Store by key (account id, order id, (trade id, account, symbol, order id), income id, symbol), newest
    wins, and hand the union back to ``from_state`` after a restart.
    """

    next_order_id: int = 1
    next_income_id: int = 1
    priority: int = 0
    house: Decimal = ZERO
    now_ms: int = 0
    accounts: list[AccountState] = []
    orders: list[OrderRecord] = []
    trades: list[UserTrade] = []
    income: list[Income] = []
    markets: list[MarketState] = []
    funding: list[FundingRecord] = []
