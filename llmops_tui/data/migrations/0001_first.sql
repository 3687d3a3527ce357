-- No primary keys and no indexes on purpose: DuckDB's known write-ahead-log replay faults are in those (duckdb #19712, #22044),
-- and the one writer keeps what they would keep. Times in points and samples are milliseconds: whole numbers pack to 1-3 bytes.

CREATE TABLE meta (key VARCHAR, value VARCHAR);

CREATE TABLE runs (
    run_key INTEGER,
    id VARCHAR,
    kind VARCHAR,
    name VARCHAR,
    state VARCHAR,
    reason VARCHAR,
    attempt INTEGER,
    priority INTEGER,
    owner VARCHAR,
    tags VARCHAR[],
    submitted_at DOUBLE,
    started_at DOUBLE,
    ended_at DOUBLE,
    exit_code INTEGER,
    gpus VARCHAR[],
    spec VARCHAR
);

CREATE TABLE metrics (metric_key INTEGER, name VARCHAR);

-- What running jobs write, in the order it came; small, because it moves to points_settled.
CREATE TABLE points_live (run_key INTEGER, metric_key INTEGER, attempt SMALLINT, step BIGINT, t_ms BIGINT, value DOUBLE);

-- The same rows once moved: clustered by run, metric and step, so that a curve is read without its neighbours.
CREATE TABLE points_settled (run_key INTEGER, metric_key INTEGER, attempt SMALLINT, step BIGINT, t_ms BIGINT, value DOUBLE);

CREATE VIEW points AS SELECT * FROM points_settled UNION ALL SELECT * FROM points_live;

CREATE VIEW metrics_long AS
    SELECT r.id AS run, m.name AS metric, p.step AS step, p.t_ms / 1000.0 AS t, p.value AS value, p.attempt AS attempt
    FROM points p JOIN runs r USING (run_key) JOIN metrics m USING (metric_key);

-- line_end is the byte offset after the line in events.jsonl: the cursor a reader goes on from.
CREATE TABLE run_events (run_key INTEGER, line_end BIGINT, attempt SMALLINT, t DOUBLE, type VARCHAR, body VARCHAR);

CREATE TABLE engine_events (seq BIGINT, t DOUBLE, type VARCHAR, run VARCHAR, data VARCHAR);

CREATE TABLE sample_series (series_key INTEGER, name VARCHAR);

CREATE TABLE samples (t_ms BIGINT, series_key INTEGER, value FLOAT);

-- How far each events.jsonl is in the tables above, changed in the same transaction as they are.
CREATE TABLE ingest_offsets (
    run_key INTEGER,
    byte_offset BIGINT,
    lines BIGINT,
    broken BIGINT,
    skipping BOOLEAN,
    latest VARCHAR,
    progress VARCHAR
);
