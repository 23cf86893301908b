-- Time series: tables split by day of `ts` (UTC). With the TimescaleDB extension they are hypertables with
-- compression; without it, native partitions that `series_day` makes ahead of need. Both look alike from outside.

CREATE TABLE series (
    name text PRIMARY KEY,
    hypertable boolean NOT NULL
);

-- Whether the extension could be switched on here. A server may list it and still not have it loaded.
CREATE FUNCTION series_timescale() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RETURN true;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') THEN
        RETURN false;
    END IF;
    CREATE EXTENSION timescaledb;
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'timescaledb is listed but cannot be used (%); native partitions instead', SQLERRM;
    RETURN false;
END $$;

CREATE FUNCTION series_make(series_name text, columns text, segment_by text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    timescale boolean := series_timescale();
BEGIN
    IF timescale THEN
        EXECUTE format('CREATE TABLE %I (%s)', series_name, columns);
        PERFORM create_hypertable(series_name::regclass, 'ts', chunk_time_interval => interval '1 day');
        EXECUTE format(
            'ALTER TABLE %I SET (timescaledb.compress, timescaledb.compress_segmentby = %L, '
            'timescaledb.compress_orderby = ''ts'')', series_name, segment_by);
        PERFORM add_compression_policy(series_name::regclass, interval '7 days');
    ELSE
        EXECUTE format('CREATE TABLE %I (%s) PARTITION BY RANGE (ts)', series_name, columns);
    END IF;
    INSERT INTO series VALUES (series_name, timescale);
END $$;

-- Make sure that rows of `day` have a place; true when a partition was made. ATTACH takes a lock that lets
-- writers through, and the advisory lock keeps two recorders from making the same day.
CREATE FUNCTION series_day(series_name text, day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    part text := format('%s_p%s', series_name, to_char(day, 'YYYYMMDD'));
    lower_bound timestamptz := day::timestamp AT TIME ZONE 'UTC';
    upper_bound timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF (SELECT hypertable FROM series WHERE name = series_name) OR to_regclass(quote_ident(part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('tickmesh series'));
    IF to_regclass(quote_ident(part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, series_name);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        series_name, part, lower_bound, upper_bound);
    RETURN true;
END $$;

-- Drop whole days that ended more than `days` ago; returns how many went.
CREATE FUNCTION series_keep(series_name text, days integer, today date) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    part text;
    gone integer := 0;
BEGIN
    IF (SELECT hypertable FROM series WHERE name = series_name) THEN
        EXECUTE 'SELECT count(*) FROM drop_chunks($1::regclass, older_than => $2)'
            INTO gone USING series_name, ((today - days)::timestamp AT TIME ZONE 'UTC');
        RETURN gone;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('tickmesh series'));
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = series_name::regclass AND c.relname ~ '_p[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - days
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        gone := gone + 1;
    END LOOP;
    RETURN gone;
END $$;
