"""Store: what must survive the venue's death, in one SQLite file; changes of the exchange in, saved state out.

``save`` is called before an answer or an event leaves, so what a client has seen survives SIGKILL. One transaction per
call, in WAL mode without waiting for the disk; a checkpoint runs beside it in a thread (docs/decisions/0020). It keeps
every order and fill for ever, the exchange only the newest.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.simvenue.exchange.types import (
    AccountState,
    ExchangeState,
    FundingRecord,
    Income,
    MarketState,
    OrderRecord,
    UserTrade,
)
from tickmesh.venues.simvenue.server.keys import Credentials
from tickmesh.venues.simvenue.server.user_streams import ListenKey

CHECKPOINT_S = 2.0
ID_HEADROOM = 100_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, symbol TEXT NOT NULL, client_id TEXT NOT NULL,
    open INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS orders_by_client ON orders (account, symbol, client_id);
CREATE INDEX IF NOT EXISTS orders_open ON orders (open) WHERE open = 1;
CREATE TABLE IF NOT EXISTS trades (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, symbol TEXT NOT NULL, id INTEGER NOT NULL,
    order_id INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (symbol, id, account, order_id));
CREATE TABLE IF NOT EXISTS income (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS funding (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS markets (
    symbol TEXT PRIMARY KEY, trade_ceiling INTEGER NOT NULL, update_ceiling INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS instruments (symbol TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS listen_keys (account TEXT PRIMARY KEY, key TEXT NOT NULL, until_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS api_keys (key TEXT PRIMARY KEY, account TEXT NOT NULL, secret TEXT NOT NULL);
"""
_T = TypeVar("_T")
_encode = msgspec.msgpack.Encoder().encode


class Store:
    """One open file.

    Raises:
        ConfigError: another process uses the folder, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._ceilings: dict[str, tuple[int, int]] = {}
        self._decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
        self._path = folder / "venue.sqlite"
        self._saves = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # it holds API secrets
            self._db = sqlite3.connect(self._path, isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
        except BlockingIOError:
            raise ConfigError(f"another simvenue uses {folder}; stop it or set TICKMESH_LOCAL__DATA_DIR") from None
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"cannot keep the venue's state in {folder} ({error}); make it writable") from None

    def close(self) -> None:
        """Bring everything into the main file and let go of it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        os.close(self._lock)

    # -- saving ---------------------------------------------------------------------------------------

    def save(self, changes: ExchangeState) -> None:
        """Write what changed, in one transaction; nothing when only market data did.

        Raises:
            DependencyError: it could not be written, so it must not be answered or sent.
        """
        markets = changes.markets
        if not (changes.orders or changes.accounts or changes.trades or changes.income or changes.funding):
            markets = [m for m in markets if self._outgrown(m)]
            if not markets:
                return
        try:
            with self._transaction() as db:
                self._write(db, changes, markets)
        except sqlite3.Error as error:
            raise DependencyError(
                "simvenue's state", f"{self._path} cannot be written ({error}); free the disk and start again"
            ) from error
        self._saves += 1

    def _write(self, db: sqlite3.Connection, changes: ExchangeState, markets: list[MarketState]) -> None:
        counters = msgspec.structs.replace(
            changes, accounts=[], orders=[], trades=[], income=[], markets=[], funding=[]
        )
        db.execute("INSERT OR REPLACE INTO counters VALUES (1, ?)", (_encode(counters),))
        for account in changes.accounts:
            db.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (account.account_id, _encode(account)))
        for o in changes.orders:
            row = (o.order_id, o.account_id, o.symbol, o.client_order_id, int(o.is_open), _encode(o))
            db.execute("INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?, ?)", row)
        for t in changes.trades:
            values = (t.account_id, t.symbol, t.trade_id, t.order_id, _encode(t))
            db.execute("INSERT INTO trades (account, symbol, id, order_id, body) VALUES (?, ?, ?, ?, ?)", values)
        for line in changes.income:
            db.execute("INSERT OR REPLACE INTO income VALUES (?, ?)", (line.income_id, _encode(line)))
        for funding in changes.funding:
            db.execute("INSERT INTO funding (body) VALUES (?)", (_encode(funding),))
        for m in markets:
            ceilings = self._ceilings.get(m.symbol, (0, 0))
            if self._outgrown(m):
                ceilings = self._ceilings[m.symbol] = (m.trade_id + ID_HEADROOM, m.update_id + ID_HEADROOM)
            db.execute("INSERT OR REPLACE INTO markets VALUES (?, ?, ?, ?)", (m.symbol, *ceilings, _encode(m)))

    def _outgrown(self, market: MarketState) -> bool:
        """True when ids were given out that a restart would give out again."""
        trade_ceiling, update_ceiling = self._ceilings.get(market.symbol, (0, 0))
        return market.trade_id >= trade_ceiling or market.update_id >= update_ceiling

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    async def checkpoint_for_ever(self) -> None:
        """Move the log into the main file now and then, on a connection and in a thread of its own."""
        done = 0
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            if self._saves != done:
                done = self._saves
                await asyncio.to_thread(self._checkpoint)

    def _checkpoint(self) -> None:
        db = sqlite3.connect(self._path)
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            db.close()

    # -- loading --------------------------------------------------------------------------------------

    def load(self, history: int) -> ExchangeState | None:
        """The saved state with all open orders and the newest ``history`` of the rest; None in a new file."""
        state = next(self._bodies(ExchangeState, "SELECT body FROM counters"), None)
        if state is None:
            return None
        state.accounts = list(self._bodies(AccountState, "SELECT body FROM accounts ORDER BY rowid"))
        closed = "SELECT id FROM orders WHERE open = 0 ORDER BY id DESC LIMIT ?"
        orders = f"SELECT body FROM orders WHERE open = 1 OR id IN ({closed}) ORDER BY id"
        state.orders = list(self._bodies(OrderRecord, orders, history))
        state.trades = self._newest(UserTrade, "trades", "number", history)
        state.income = self._newest(Income, "income", "id", history)
        state.funding = self._newest(FundingRecord, "funding", "number", history)
        rows = self._db.execute("SELECT symbol, trade_ceiling, update_ceiling, body FROM markets").fetchall()
        for symbol, trade_ceiling, update_ceiling, body in rows:
            market = self._decode(MarketState, body)
            market.trade_id = max(market.trade_id, trade_ceiling)
            market.update_id = max(market.update_id, update_ceiling)
            state.markets.append(market)
            self._ceilings[symbol] = (0, 0)
        return state

    def _newest(self, kind: type[_T], table: str, key: str, limit: int) -> list[_T]:
        return list(self._bodies(kind, f"SELECT body FROM {table} ORDER BY {key} DESC LIMIT ?", limit))[::-1]

    def find_order(
        self, account: str, symbol: str, order_id: int | None, client_order_id: str | None
    ) -> OrderRecord | None:
        """An order however old; the newest one when a client id was used again."""
        where, key = ("id = ?", order_id) if order_id is not None else ("client_id = ?", client_order_id)
        query = f"SELECT body FROM orders WHERE account = ? AND symbol = ? AND {where} ORDER BY id DESC LIMIT 1"
        return next(self._bodies(OrderRecord, query, account, symbol, key), None)

    def orders(self, account: str) -> list[OrderRecord]:
        """Every order of an account in id order."""
        return list(self._bodies(OrderRecord, "SELECT body FROM orders WHERE account = ? ORDER BY id", account))

    def trades(self, account: str) -> list[UserTrade]:
        """Every fill of an account in order."""
        return list(self._bodies(UserTrade, "SELECT body FROM trades WHERE account = ? ORDER BY number", account))

    def _bodies(self, kind: type[_T], query: str, *values: object) -> Iterator[_T]:
        for (body,) in self._db.execute(query, values).fetchall():
            yield self._decode(kind, body)

    def _decode(self, kind: type[_T], body: bytes) -> _T:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.msgpack.Decoder(kind)
        found: _T = decoder.decode(body)
        return found

    # -- listing, listen keys, API keys ---------------------------------------------------------------

    def reconcile_listing(self, listed: Mapping[str, Instrument]) -> dict[str, Instrument]:
        """The instruments to list: ``listed``, and saved ones that an account still has something in.

        Raises:
            ConfigError: a symbol's grid is not the one its saved orders are on.
        """
        saved = {i.symbol: i for i in self._bodies(Instrument, "SELECT body FROM instruments ORDER BY rowid")}
        used = {symbol for (symbol,) in self._db.execute("SELECT DISTINCT symbol FROM orders")}
        found = dict(listed)
        for symbol in sorted(used & saved.keys()):
            old, new = saved[symbol], found.setdefault(symbol, saved[symbol])
            if (old.tick_size, old.lot_size) != (new.tick_size, new.lot_size):
                raise ConfigError(
                    f"{self._path} holds {symbol} orders in steps of {old.tick_size} and {old.lot_size}, this run has "
                    f"{new.tick_size} and {new.lot_size}; choose another data directory"
                )
        with self._transaction() as db:
            for symbol, instrument in found.items():
                db.execute("INSERT OR REPLACE INTO instruments VALUES (?, ?)", (symbol, _encode(instrument)))
        return found

    def save_listen_key(self, account: str, key: ListenKey | None) -> None:
        if key is None:
            self._db.execute("DELETE FROM listen_keys WHERE account = ?", (account,))
        else:
            self._db.execute("INSERT OR REPLACE INTO listen_keys VALUES (?, ?, ?)", (account, key.key, key.until_ms))

    def listen_keys(self) -> list[ListenKey]:
        rows: Iterable[tuple[str, str, int]] = self._db.execute("SELECT key, account, until_ms FROM listen_keys")
        return [ListenKey(*row) for row in rows]

    def save_api_key(self, api_key: str, credentials: Credentials) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO api_keys VALUES (?, ?, ?)", (api_key, credentials.account, credentials.secret)
        )

    def api_keys(self) -> dict[str, Credentials]:
        rows = self._db.execute("SELECT key, account, secret FROM api_keys").fetchall()
        return {key: Credentials(account, secret) for key, account, secret in rows}


class _Transaction:
    """BEGIN, then COMMIT or ROLLBACK."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN")
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")
