-- Two recorders that make the same day at once: the lock makes one wait, but its catalogue cache may still say that
-- the partition is absent. That it is there is what was wanted.

CREATE OR REPLACE FUNCTION series_day(series_name text, day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    part text := format('%s_p%s', series_name, to_char(day, 'YYYYMMDD'));
    lower_bound timestamptz := day::timestamp AT TIME ZONE 'UTC';
    upper_bound timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF (SELECT hypertable FROM series WHERE name = series_name) OR to_regclass(quote_ident(part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('tickmesh series'));
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, series_name);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        series_name, part, lower_bound, upper_bound);
    RETURN true;
EXCEPTION WHEN duplicate_table THEN
    RETURN false;
END $$;
