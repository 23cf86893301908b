-- What people decide: few rows, changed rarely, kept for ever.

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TABLE strategies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    type text NOT NULL,
    config jsonb NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER strategies_touch BEFORE UPDATE ON strategies FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

CREATE TABLE trading_pairs (
    venue text NOT NULL,
    symbol text NOT NULL,
    is_enabled boolean NOT NULL DEFAULT true,
    tick_size numeric NOT NULL CHECK (tick_size > 0),
    lot_size numeric NOT NULL CHECK (lot_size > 0),
    min_notional numeric,
    price_precision integer NOT NULL,
    quantity_precision integer NOT NULL,
    maker_fee_bps numeric,
    taker_fee_bps numeric,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (venue, symbol)
);
CREATE TRIGGER trading_pairs_touch BEFORE UPDATE ON trading_pairs FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- symbol NULL is the limit for everything; NULLS NOT DISTINCT keeps it from being there twice.
CREATE TABLE risk_limits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text,
    symbol text,
    max_position_size numeric CHECK (max_position_size >= 0),
    max_leverage numeric CHECK (max_leverage > 0),
    max_daily_drawdown_pct numeric CHECK (max_daily_drawdown_pct BETWEEN 0 AND 100),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (account, symbol)
);

CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    role text NOT NULL DEFAULT 'viewer' CHECK (role IN ('viewer', 'trader', 'admin')),
    settings jsonb NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER users_touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

CREATE TABLE alert_rules (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    condition jsonb NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    channels text[] NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER alert_rules_touch BEFORE UPDATE ON alert_rules FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- Append only: who did what. `chain` is the hash over the previous record.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ts timestamptz NOT NULL,
    source text NOT NULL,
    event text NOT NULL,
    actor text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    chain text NOT NULL DEFAULT '',
    epoch bigint NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0,
    stream_seq bigint NOT NULL DEFAULT 0,
    UNIQUE (ts, source, stream_seq)
);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit table is append only';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
