"""User streams: listen keys and what an account hears on them.

In: the exchange's events and the listenKey calls. Out: payloads on the hub, under the listen key as stream name. A key
lives an hour after it was made or prolonged. It decides nothing about accounts.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.types import (
    AccountConfigUpdate,
    AccountUpdate,
    Event,
    MarginCall,
    OrderUpdate,
    PositionView,
)
from tickmesh.venues.simvenue.server.bodies import ASSET
from tickmesh.venues.simvenue.server.clock import VenueClock
from tickmesh.venues.simvenue.server.rest import Call, Endpoint, Security, WireError
from tickmesh.venues.simvenue.server.text import money, plain, price_text, qty_text

KEY_LIFE_MS = 60 * 60 * 1000
_LETTERS = string.ascii_letters + string.digits
encode = msgspec.json.encode


class Sink(Protocol):
    """The hub as this module sees it."""

    def send(self, stream: str, data: bytes) -> None: ...


class ListenKey(msgspec.Struct):
    """One account's key and when it ends, in true venue time."""

    key: str
    account: str
    until_ms: int


class UserStreams:
    """Listen keys of all accounts, one each at a time."""

    def __init__(self, instruments: Mapping[str, Instrument], sink: Sink, clock: VenueClock) -> None:
        self._instruments, self._sink, self._clock = instruments, sink, clock
        self.keys: dict[str, ListenKey] = {}
        self.on_changed: Callable[[str, ListenKey | None], None] = lambda _account, _key: None

    def endpoints(self) -> list[Endpoint]:
        path, key = "/fapi/v1/listenKey", Security.KEY
        return [
            Endpoint("POST", path, self.open, 1, key),
            Endpoint("PUT", path, self.prolong, 1, key),
            Endpoint("DELETE", path, self.close, 1, key),
        ]

    def load(self, keys: list[ListenKey]) -> None:
        """Take over saved keys."""
        self.keys = {key.account: key for key in keys}

    # -- the key --------------------------------------------------------------------------------------

    def open(self, call: Call) -> object:
        """The account's key, made when there is none, prolonged in any case."""
        found = self.keys.get(call.account)
        key = found.key if found else "".join(secrets.choice(_LETTERS) for _ in range(64))
        self._set(call.account, ListenKey(key, call.account, call.now_ms + KEY_LIFE_MS))
        return {"listenKey": key}

    def prolong(self, call: Call) -> object:
        """Raises -1125 when there is none."""
        found = self._of(call)
        self._set(call.account, ListenKey(found.key, call.account, call.now_ms + KEY_LIFE_MS))
        return {"listenKey": found.key}

    def close(self, call: Call) -> object:
        """Raises -1125 when there is none."""
        self._of(call)
        self.expire(call.account)
        return {}

    def expire(self, account: str) -> None:
        """End an account's key and tell its listeners."""
        found = self.keys.get(account)
        if found is not None:
            now_ms = self._clock.shown_ms()
            self._sink.send(found.key, encode({"e": "listenKeyExpired", "E": now_ms, "listenKey": found.key}))
            self._set(account, None)

    def expire_all(self) -> None:
        for account in list(self.keys):
            self.expire(account)

    def tick(self, now_ms: int) -> None:
        """End what is due."""
        for key in [k for k in self.keys.values() if k.until_ms <= now_ms]:
            self.expire(key.account)

    def _of(self, call: Call) -> ListenKey:
        found = self.keys.get(call.account)
        if found is None:
            raise WireError(-1125, "This listenKey does not exist.")
        return found

    def _set(self, account: str, key: ListenKey | None) -> None:
        if key is None:
            self.keys.pop(account, None)
        else:
            self.keys[account] = key
        self.on_changed(account, key)

    # -- events ---------------------------------------------------------------------------------------

    def on_events(self, events: list[Event]) -> None:
        """Tell each account what is its own; the others' events and market data are passed over."""
        for event in events:
            if isinstance(event, OrderUpdate) and event.order.is_hidden:
                continue
            account = getattr(event, "account_id", None)
            key = self.keys.get(account) if account is not None else None
            if key is not None:
                self._sink.send(key.key, encode(self._body(event)))

    def _body(self, event: Event) -> dict[str, Any]:
        if isinstance(event, OrderUpdate):
            return self._order(event)
        if isinstance(event, AccountUpdate):
            return self._account(event)
        if isinstance(event, AccountConfigUpdate):
            return {
                **self._head("ACCOUNT_CONFIG_UPDATE", event.time_ms),
                "ac": {"s": event.symbol, "l": event.leverage},
            }
        assert isinstance(event, MarginCall)
        return {
            "e": "MARGIN_CALL",
            "E": self._clock.shown_ms(),
            "cw": money(event.wallet),
            "p": [self._called(view) for view in event.positions],
        }

    def _head(self, kind: str, time_ms: int) -> dict[str, Any]:
        return {"e": kind, "T": self._clock.shown(time_ms), "E": self._clock.shown_ms()}

    def _order(self, event: OrderUpdate) -> dict[str, Any]:
        o, fill = event.order, event.fill
        instrument = self._instruments[o.symbol]
        body = {
            "s": o.symbol,
            "c": o.client_order_id,
            "S": o.side.name,
            "o": o.type.value,
            "f": o.time_in_force.value,
            "q": qty_text(instrument, o.lots),
            "p": price_text(instrument, o.price_ticks),
            "ap": plain(o.avg_price),
            "sp": price_text(instrument, o.stop_ticks),
            "x": event.execution.value,
            "X": o.status.value,
            "i": o.order_id,
            "l": qty_text(instrument, fill.lots if fill else 0),
            "z": qty_text(instrument, o.filled_lots),
            "L": price_text(instrument, fill.ticks if fill else 0),
            "n": money(fill.commission) if fill else "0",
            "N": instrument.quote,
            "T": self._clock.shown(event.time_ms),
            "t": fill.trade_id if fill else 0,
            "b": "0",
            "a": "0",
            "m": fill.maker if fill else False,
            "R": o.reduce_only,
            "wt": o.working_type.value,
            "ot": o.orig_type.value,
            "ps": o.position_side.value,
            "cp": o.close_position,
            "rp": money(fill.realized_pnl) if fill else "0",
            "pP": False,
            "si": 0,
            "ss": 0,
            "V": o.stp.value,
            "pm": "NONE",
            "gtd": 0,
        }
        return {**self._head("ORDER_TRADE_UPDATE", event.time_ms), "o": body}

    def _account(self, event: AccountUpdate) -> dict[str, Any]:
        wallet = {
            "a": ASSET,
            "wb": money(event.wallet),
            "cw": money(event.cross_wallet),
            "bc": money(event.balance_change),
        }
        positions = [self._position(view) for view in event.positions]
        return {
            **self._head("ACCOUNT_UPDATE", event.time_ms),
            "a": {"m": event.reason, "B": [wallet], "P": positions},
        }

    def _position(self, view: PositionView) -> dict[str, Any]:
        return {
            "s": view.symbol,
            "pa": plain(view.qty),
            "ep": plain(view.entry_price),
            "bep": plain(view.entry_price),
            "cr": money(view.realized),
            "up": money(view.unrealized),
            "mt": "isolated" if view.margin_type == "ISOLATED" else "cross",
            "iw": money(view.isolated_wallet),
            "ps": view.side.value,
        }

    def _called(self, view: PositionView) -> dict[str, Any]:
        return {
            "s": view.symbol,
            "ps": view.side.value,
            "pa": plain(view.qty),
            "mt": view.margin_type,
            "iw": money(view.isolated_wallet),
            "mp": money(view.mark_price),
            "up": money(view.unrealized),
            "mm": money(view.maintenance_margin),
        }
