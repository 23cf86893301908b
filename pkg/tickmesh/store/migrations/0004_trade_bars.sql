-- Minute bars of trades, kept for ever. With TimescaleDB a continuous aggregate; without it a table that a trigger
-- adds new trades to, in the transaction that brings them, so a trade is in its bar exactly once. The numbers of
-- the first and last trade make the sum independent of the order in which trades arrive. The view `trade_bars`
-- reads either.

DO $do$
BEGIN
    IF (SELECT hypertable FROM series WHERE name = 'trades') THEN
        EXECUTE $sql$
            CREATE MATERIALIZED VIEW trade_bars_1m WITH (timescaledb.continuous) AS
            SELECT time_bucket('1 minute', ts) AS ts, venue, symbol,
                first(price_ticks, trade_id) AS open_ticks, max(price_ticks) AS high_ticks,
                min(price_ticks) AS low_ticks, last(price_ticks, trade_id) AS close_ticks,
                sum(qty_lots)::bigint AS lots, sum(price * quantity) AS notional, count(*) AS trades
            FROM trades GROUP BY 1, 2, 3 WITH NO DATA
        $sql$;
        PERFORM add_continuous_aggregate_policy('trade_bars_1m', start_offset => interval '3 hours',
            end_offset => interval '1 minute', schedule_interval => interval '1 minute');
    ELSE
        CREATE TABLE trade_bars_1m (
            ts timestamptz NOT NULL, venue text NOT NULL, symbol text NOT NULL,
            open_ticks bigint NOT NULL, high_ticks bigint NOT NULL, low_ticks bigint NOT NULL,
            close_ticks bigint NOT NULL, lots bigint NOT NULL, notional numeric, trades bigint NOT NULL,
            first_trade_id bigint NOT NULL, last_trade_id bigint NOT NULL,
            PRIMARY KEY (symbol, venue, ts)
        );
        CREATE FUNCTION trade_bars_add() RETURNS trigger LANGUAGE plpgsql AS $f$
        BEGIN
            INSERT INTO trade_bars_1m AS bar
            SELECT date_bin('1 minute', ts, 'epoch'), venue, symbol,
                (array_agg(price_ticks ORDER BY trade_id))[1], max(price_ticks), min(price_ticks),
                (array_agg(price_ticks ORDER BY trade_id DESC))[1],
                sum(qty_lots), sum(price * quantity), count(*), min(trade_id), max(trade_id)
            FROM fresh GROUP BY 1, 2, 3
            ORDER BY 3, 2, 1  -- one order for everybody: no ring of waiting writers
            ON CONFLICT (symbol, venue, ts) DO UPDATE SET
                open_ticks = CASE WHEN excluded.first_trade_id < bar.first_trade_id
                    THEN excluded.open_ticks ELSE bar.open_ticks END,
                close_ticks = CASE WHEN excluded.last_trade_id > bar.last_trade_id
                    THEN excluded.close_ticks ELSE bar.close_ticks END,
                high_ticks = greatest(bar.high_ticks, excluded.high_ticks),
                low_ticks = least(bar.low_ticks, excluded.low_ticks),
                lots = bar.lots + excluded.lots,
                notional = bar.notional + excluded.notional,
                trades = bar.trades + excluded.trades,
                first_trade_id = least(bar.first_trade_id, excluded.first_trade_id),
                last_trade_id = greatest(bar.last_trade_id, excluded.last_trade_id);
            RETURN NULL;
        END $f$;
        CREATE TRIGGER trades_into_bars AFTER INSERT ON trades REFERENCING NEW TABLE AS fresh
            FOR EACH STATEMENT EXECUTE FUNCTION trade_bars_add();
    END IF;
END $do$;

CREATE VIEW trade_bars AS
SELECT ts, venue, symbol, open_ticks, high_ticks, low_ticks, close_ticks, lots, notional, trades FROM trade_bars_1m;
