-- What happened. `ts` comes from the message itself, so that a message recorded twice meets its own key.
-- Prices and quantities are exact numerics beside the integer ticks and lots they came from; the numerics are
-- NULL when the instrument's grid was not known at that moment. `*_ns` keep what timestamptz rounds off.

SELECT series_make('market_data_snapshots', $$
    ts timestamptz NOT NULL, venue text NOT NULL, symbol text NOT NULL, update_id bigint NOT NULL,
    best_bid numeric, best_ask numeric, bid_qty numeric, ask_qty numeric, spread numeric, mid_price numeric,
    bid_ticks bigint, ask_ticks bigint, bid_lots bigint, ask_lots bigint,
    imbalance double precision NOT NULL, microprice_ticks double precision NOT NULL,
    volatility_bps double precision NOT NULL, stale boolean NOT NULL,
    exchange_ns bigint NOT NULL, receive_ns bigint NOT NULL,
    PRIMARY KEY (ts, venue, symbol)
$$, 'venue, symbol');
CREATE INDEX ON market_data_snapshots (symbol, ts DESC);

SELECT series_make('trades', $$
    ts timestamptz NOT NULL, venue text NOT NULL, symbol text NOT NULL, trade_id bigint NOT NULL,
    price numeric, quantity numeric, price_ticks bigint NOT NULL, qty_lots bigint NOT NULL,
    taker_side text NOT NULL, exchange_ns bigint NOT NULL, receive_ns bigint NOT NULL,
    PRIMARY KEY (ts, venue, symbol, trade_id)
$$, 'venue, symbol');
CREATE INDEX ON trades (symbol, ts DESC);

SELECT series_make('signals', $$
    ts timestamptz NOT NULL, strategy text NOT NULL, venue text NOT NULL, symbol text NOT NULL,
    side text NOT NULL, strength double precision NOT NULL, urgency smallint NOT NULL,
    price numeric, quantity numeric, price_ticks bigint NOT NULL, qty_lots bigint NOT NULL,
    reason text NOT NULL, accepted boolean NOT NULL, intent_id text NOT NULL, correlation_id text NOT NULL,
    epoch bigint NOT NULL, seq bigint NOT NULL,
    PRIMARY KEY (ts, strategy, symbol, epoch, seq, intent_id)
$$, 'strategy');

SELECT series_make('order_events', $$
    ts timestamptz NOT NULL, account text NOT NULL, venue text NOT NULL, symbol text NOT NULL,
    order_id bigint NOT NULL, client_order_id text NOT NULL, intent_id text NOT NULL, strategy text NOT NULL,
    side text NOT NULL, type text NOT NULL, time_in_force text NOT NULL,
    price numeric, quantity numeric, filled numeric,
    price_ticks bigint NOT NULL, qty_lots bigint NOT NULL, cum_lots bigint NOT NULL, average_price numeric NOT NULL,
    reduce_only boolean NOT NULL, position_side text NOT NULL, stop_price_ticks bigint NOT NULL,
    event_type text NOT NULL, status text NOT NULL, reason text NOT NULL, venue_code integer NOT NULL,
    external boolean NOT NULL, anomaly boolean NOT NULL, correlation_id text NOT NULL,
    exchange_ns bigint NOT NULL, receive_ns bigint NOT NULL, publish_ns bigint NOT NULL,
    epoch bigint NOT NULL, seq bigint NOT NULL, stream_seq bigint NOT NULL,
    PRIMARY KEY (ts, account, client_order_id, epoch, seq, status)
$$, 'account, symbol');
CREATE INDEX ON order_events (client_order_id);
CREATE INDEX ON order_events (symbol, ts DESC);

SELECT series_make('fills', $$
    ts timestamptz NOT NULL, account text NOT NULL, venue text NOT NULL, symbol text NOT NULL,
    trade_id bigint NOT NULL, order_id bigint NOT NULL, client_order_id text NOT NULL, strategy text NOT NULL,
    side text NOT NULL, position_side text NOT NULL,
    price numeric, quantity numeric, price_ticks bigint NOT NULL, qty_lots bigint NOT NULL,
    commission numeric NOT NULL, commission_asset text NOT NULL, pnl numeric NOT NULL, is_maker boolean NOT NULL,
    correlation_id text NOT NULL, exchange_ns bigint NOT NULL, receive_ns bigint NOT NULL,
    publish_ns bigint NOT NULL, stream_seq bigint NOT NULL,
    PRIMARY KEY (ts, account, venue, symbol, trade_id)
$$, 'account, symbol');
CREATE INDEX ON fills (client_order_id);
CREATE INDEX ON fills (symbol, ts DESC);

-- A fill's identity has no time in it, and a split table's key must have one: so identities live here, and the
-- same fill told twice with two times (user stream, then reconciliation) is still one row of `fills`.
CREATE TABLE fill_identities (
    account text NOT NULL, venue text NOT NULL, symbol text NOT NULL, trade_id bigint NOT NULL,
    ts timestamptz NOT NULL,
    PRIMARY KEY (account, venue, symbol, trade_id)
);

SELECT series_make('account_snapshots', $$
    ts timestamptz NOT NULL, account text NOT NULL, venue text NOT NULL,
    equity numeric NOT NULL, available numeric NOT NULL, realized_pnl numeric NOT NULL,
    unrealized_pnl numeric NOT NULL, daily_pnl numeric NOT NULL, commission numeric NOT NULL,
    funding numeric NOT NULL, margin_ratio numeric NOT NULL, leverage_ratio numeric NOT NULL,
    drawdown numeric NOT NULL, fills bigint NOT NULL, maker_fills bigint NOT NULL, mismatches bigint NOT NULL,
    balances jsonb NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL,
    PRIMARY KEY (ts, account, venue, epoch, seq)
$$, 'account');

SELECT series_make('position_snapshots', $$
    ts timestamptz NOT NULL, account text NOT NULL, venue text NOT NULL, symbol text NOT NULL,
    position_side text NOT NULL, qty_lots bigint NOT NULL, quantity numeric NOT NULL,
    entry_price numeric NOT NULL, mark_price numeric NOT NULL, unrealized_pnl numeric NOT NULL,
    realized_pnl numeric NOT NULL, leverage integer NOT NULL, liquidation_price numeric NOT NULL,
    epoch bigint NOT NULL, seq bigint NOT NULL,
    PRIMARY KEY (ts, account, venue, symbol, position_side, epoch, seq)
$$, 'account, symbol');

SELECT series_make('mark_prices', $$
    ts timestamptz NOT NULL, venue text NOT NULL, symbol text NOT NULL,
    mark_price numeric NOT NULL, index_price numeric NOT NULL, funding_rate numeric NOT NULL,
    next_funding_ns bigint NOT NULL, exchange_ns bigint NOT NULL, receive_ns bigint NOT NULL,
    PRIMARY KEY (ts, venue, symbol)
$$, 'venue, symbol');

SELECT series_make('alerts', $$
    ts timestamptz NOT NULL, severity text NOT NULL, kind text NOT NULL, source text NOT NULL, text text NOT NULL,
    fields jsonb NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL, stream_seq bigint NOT NULL,
    PRIMARY KEY (ts, source, stream_seq)
$$, 'severity');

-- How far each stream is recorded, written with the rows themselves: what a stream lost before we read it shows
-- as a hole in the sequence that is never filled. `holes` is [[first, last, since_ns], ...].
CREATE TABLE recorder_progress (
    lane text PRIMARY KEY,
    high_seq bigint NOT NULL,
    holes jsonb NOT NULL,
    missed bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
