"""Replica: messages in, views out. Bounded, pure, and the same whatever order or how often events arrive.

Market data is kept as bytes per subject and decoded only when somebody looks: at 10,000 messages a second
a person still sees a few pictures a second.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from tickmesh.domain.enums import OrderState, RiskState
from tickmesh.domain.instrument import Instrument
from tickmesh.domain.messages import (
    AccountSnapshot,
    Alert,
    BookUpdate,
    Control,
    FillEvent,
    OrderEvent,
    SignalMessage,
    decode,
)
from tickmesh.gateway import shape
from tickmesh.gateway.latency import Stages
from tickmesh.gateway.view import (
    AccountView,
    AlertView,
    BalanceView,
    FillView,
    HaltView,
    OrderCounts,
    OrderView,
    PnlView,
    PositionView,
    PriceView,
    SignalView,
    StrategyView,
)

_MAX_ORDERS = 20_000
_MAX_FILL_IDS = 100_000
_MAX_RECENT = 500
_MAX_HISTORY = 64
_MAX_STRATEGIES = 1_000
_MAX_CONTROLS = 10_000
_HALTS = {"halt": RiskState.HALTED, "reduce": RiskState.REDUCING}
"""Strongest first."""


class _Done(msgspec.Struct):
    """Sums over a strategy's fills."""

    fills: int = 0
    maker_fills: int = 0
    realized_pnl: Decimal = Decimal(0)
    commission: Decimal = Decimal(0)

    def add(self, fill: FillEvent) -> None:
        self.fills += 1
        self.maker_fills += fill.maker
        self.realized_pnl += fill.realized_pnl
        self.commission += fill.commission


class Replica:
    """Everything the gateway can show; one instance per process."""

    def __init__(self) -> None:
        self.instruments: dict[tuple[str, str], Instrument] = {}
        self.accounts: dict[str, AccountSnapshot] = {}
        self.orders: OrderedDict[str, OrderEvent] = OrderedDict()
        self.open_orders: dict[str, OrderEvent] = {}
        self.history: dict[str, list[OrderEvent]] = {}
        self.fills: deque[FillEvent] = deque(maxlen=_MAX_RECENT)
        self.fill_count = 0
        self.maker_count = 0
        self.stages = Stages()
        self.decode_errors = 0
        self._done: dict[str, _Done] = {}
        self._by_state: Counter[OrderState] = Counter()
        self._signals: deque[SignalMessage] = deque(maxlen=_MAX_RECENT)
        self._alerts: OrderedDict[tuple[int, str, str], Alert] = OrderedDict()
        self._controls: OrderedDict[tuple[str, str], Control] = OrderedDict()
        self._books: dict[str, bytes] = {}
        self._fill_ids: OrderedDict[tuple[str, str, int], None] = OrderedDict()
        self._takers: dict[str, Callable[[bytes], None]] = {
            "order": lambda payload: self._on_order(decode(OrderEvent, payload)),
            "fill": lambda payload: self._on_fill(decode(FillEvent, payload)),
            "account": lambda payload: self._on_account(decode(AccountSnapshot, payload)),
            "ctl": lambda payload: self._on_control(decode(Control, payload)),
            "alert": lambda payload: self._on_alert(decode(Alert, payload)),
            "signal": lambda payload: self._signals.append(decode(SignalMessage, payload)),
        }

    def on_message(self, subject: str, payload: bytes) -> None:
        """Take one message; what cannot be decoded is counted and skipped."""
        if subject.startswith("md.book."):
            self._books[subject] = payload
            return
        take = self._takers.get(subject.partition(".")[0])
        if take is None or subject.startswith("order.intent."):
            return
        try:
            take(payload)
        except msgspec.MsgspecError:
            self.decode_errors += 1

    def _on_order(self, event: OrderEvent) -> None:
        client_order_id = event.client_order_id
        known = self.orders.get(client_order_id)
        events = self.history.setdefault(client_order_id, [])
        if any(e.seq == event.seq and e.epoch == event.epoch and e.state is event.state for e in events):
            return
        if len(events) < _MAX_HISTORY:
            events.append(event)
        self.stages.add(client_order_id, event.stamps)
        if event.anomaly or (known is not None and not event.outweighs(known)):
            return
        if known is not None:
            self._by_state[known.state] -= 1
        self._by_state[event.state] += 1
        self.orders[client_order_id] = event
        self.orders.move_to_end(client_order_id)
        if event.state.terminal:
            self.open_orders.pop(client_order_id, None)
        else:
            self.open_orders[client_order_id] = event
        if len(self.orders) > _MAX_ORDERS:
            self._forget_one()

    def _forget_one(self) -> None:
        """Drop the order that changed longest ago; an open one stays, however old."""
        for client_order_id in self.orders:
            if client_order_id not in self.open_orders:
                del self.orders[client_order_id]
                self.history.pop(client_order_id, None)
                return

    def _on_fill(self, fill: FillEvent) -> None:
        key = (fill.account, fill.symbol, fill.trade_id)
        if key in self._fill_ids:
            return
        self._fill_ids[key] = None
        if len(self._fill_ids) > _MAX_FILL_IDS:
            self._fill_ids.popitem(last=False)
        self.fill_count += 1
        self.maker_count += fill.maker
        done = self._done.get(fill.strategy)
        if done is None and len(self._done) < _MAX_STRATEGIES:
            done = self._done[fill.strategy] = _Done()
        if done is not None:
            done.add(fill)
        self.fills.append(fill)

    def _on_account(self, snapshot: AccountSnapshot) -> None:
        known = self.accounts.get(snapshot.account)
        if known is None or snapshot.publish_ns >= known.publish_ns:
            self.accounts[snapshot.account] = snapshot

    def _on_control(self, control: Control) -> None:
        if control.verb not in (*_HALTS, "resume"):
            return
        key = (control.scope, control.verb)
        known = self._controls.get(key)
        if known is None or control.publish_ns >= known.publish_ns:
            self._controls[key] = control
            if len(self._controls) > _MAX_CONTROLS:
                self._controls.popitem(last=False)

    def _on_alert(self, alert: Alert) -> None:
        self._alerts[alert.publish_ns, alert.kind, alert.text] = alert
        if len(self._alerts) > _MAX_RECENT:
            self._alerts.popitem(last=False)

    # Views: plain values with exact decimals, ready for JSON.

    def prices(self, now_ns: int, depth: int = 0) -> dict[str, PriceView]:
        """Per symbol: touch, middle, spread, age; with ``depth`` also the ladder. Empty books are left out."""
        view: dict[str, PriceView] = {}
        for subject, payload in list(self._books.items()):
            try:
                update = decode(BookUpdate, payload)
            except msgspec.MsgspecError:
                self.decode_errors += 1
                del self._books[subject]
                continue
            instrument = self.instruments.get((update.venue, update.symbol))
            if instrument is not None and update.bids and update.asks:
                view[update.symbol] = shape.price(update, instrument, now_ns, depth)
        return dict(sorted(view.items()))

    def order_view(self, event: OrderEvent) -> OrderView:
        """One order with prices and quantities as decimals."""
        return shape.order(event, self.instruments.get((event.venue, event.symbol)))

    def fill_views(self, limit: int = _MAX_RECENT) -> list[FillView]:
        """Newest first."""
        newest = list(self.fills)[-limit:]
        return [shape.fill(f, self.instruments.get((f.venue, f.symbol))) for f in reversed(newest)]

    def signals(self) -> list[SignalView]:
        """Newest first."""
        return [shape.signal(message) for message in reversed(self._signals)]

    def strategies(self) -> list[StrategyView]:
        """By name; a strategy is known once it has an order open or a fill."""
        open_by = Counter(event.strategy for event in self.open_orders.values())
        return [self._strategy(name, open_by[name]) for name in sorted(self._done.keys() | open_by.keys())]

    def _strategy(self, name: str, open_orders: int) -> StrategyView:
        done = self._done.get(name, _Done())
        return StrategyView(
            strategy=name or "external",
            open_orders=open_orders,
            fills=done.fills,
            maker_fills=done.maker_fills,
            realized_pnl=done.realized_pnl,
            commission=done.commission,
            net_pnl=done.realized_pnl - done.commission,
        )

    def alerts(self, limit: int = _MAX_RECENT) -> list[AlertView]:
        """Newest first."""
        return [shape.alert(a) for a in sorted(self._alerts.values(), key=lambda a: -a.publish_ns)[:limit]]

    def halts(self) -> list[HaltView]:
        """Scopes that are not free to trade: halt outranks reduce, and only a later resume of it or of all lifts."""
        never = 0
        resumed = {scope: c.publish_ns for (scope, verb), c in self._controls.items() if verb == "resume"}
        latched: dict[str, HaltView] = {}
        for verb, state in _HALTS.items():
            for (scope, found), control in self._controls.items():
                lifted_ns = max(resumed.get(scope, never), resumed.get("all", never))
                if found == verb and control.publish_ns > lifted_ns:
                    latched.setdefault(scope, shape.halt(control, state))
        return [latched[scope] for scope in sorted(latched)]

    def select_orders(
        self,
        *,
        accounts: Iterable[str] = (),
        symbol: str = "",
        state: str = "",
        open_only: bool = False,
        limit: int = 200,
    ) -> list[OrderView]:
        """Newest first."""
        wanted = set(accounts)
        chosen: list[OrderView] = []
        for event in reversed(self.open_orders.values() if open_only else self.orders.values()):
            if len(chosen) >= limit:
                break
            if (
                (not wanted or event.account in wanted)
                and (not symbol or event.symbol == symbol)
                and (not state or event.state == state)
            ):
                chosen.append(self.order_view(event))
        return chosen

    def positions(self, accounts: Iterable[str] = ()) -> list[PositionView]:
        return [shape.position(s.account, position) for s in self._selected(accounts) for position in s.positions]

    def balances(self, accounts: Iterable[str] = ()) -> list[BalanceView]:
        return [shape.balance(s.account, balance) for s in self._selected(accounts) for balance in s.balances]

    def account_views(self, accounts: Iterable[str] = ()) -> list[AccountView]:
        return [shape.account(snapshot) for snapshot in self._selected(accounts)]

    def _selected(self, accounts: Iterable[str]) -> list[AccountSnapshot]:
        wanted = set(accounts)
        return [s for name, s in sorted(self.accounts.items()) if not wanted or name in wanted]

    def pnl(self) -> PnlView:
        """Sums over all accounts, in quote currency."""
        snapshots = self.accounts.values()
        realized = sum((s.realized_pnl for s in snapshots), Decimal(0))
        unrealized = sum((s.unrealized_pnl for s in snapshots), Decimal(0))
        commission = sum((s.commission for s in snapshots), Decimal(0))
        funding = sum((s.funding for s in snapshots), Decimal(0))
        return PnlView(
            realized=realized,
            unrealized=unrealized,
            commission=commission,
            funding=funding,
            daily=sum((s.daily_pnl for s in snapshots), Decimal(0)),
            total=realized + unrealized - commission + funding,
        )

    def order_counts(self) -> OrderCounts:
        """Over every order since the journal's beginning, also those that are no longer listed."""
        return OrderCounts(
            open=len(self.open_orders), by_state={s.value: n for s, n in sorted(self._by_state.items()) if n}
        )
