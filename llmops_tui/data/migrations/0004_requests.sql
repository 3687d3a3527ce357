-- What the gateway recorded of the requests it answered, taken from its spool. No keys and no indexes, as in 0001: requests stand in the
-- order they ended, which is nearly that of `t`, so that a span of time is found by each row group's least and greatest `t`.
-- Durations are milliseconds, NULL is what is not known or does not apply.
CREATE TABLE requests (
    id VARCHAR,
    t DOUBLE,
    endpoint VARCHAR,
    version VARCHAR,
    replica VARCHAR,
    provider VARCHAR,
    key VARCHAR,
    session VARCHAR,
    path VARCHAR,
    stream BOOLEAN,
    status INTEGER,
    finish VARCHAR,
    error VARCHAR,
    prompt_tokens BIGINT,
    completion_tokens BIGINT,
    cached_tokens BIGINT,
    estimated BOOLEAN,
    queue_ms DOUBLE,
    ttft_ms DOUBLE,
    itl_ms DOUBLE,
    itl_max_ms DOUBLE,
    total_ms DOUBLE,
    attempts INTEGER,
    fallback_from VARCHAR,
    mirror BOOLEAN,
    prompt_hash VARCHAR,
    response_hash VARCHAR,
    cost DOUBLE,
    client_gone BOOLEAN,
    good BOOLEAN
);

-- Of the requests whose text was kept; redacted by the gateway, before it was written anywhere. `form` says what `prompt` is: 'messages'
-- and 'json' are JSON, 'text' is the text itself. `t` is the request's. A table of its own, because text is let go of before its request.
CREATE TABLE request_texts (
    id VARCHAR,
    t DOUBLE,
    endpoint VARCHAR,
    version VARCHAR,
    form VARCHAR,
    prompt VARCHAR,
    response VARCHAR,
    redacted INTEGER,
    bytes BIGINT
);

-- What people thought of answers. `t` is when they said so.
CREATE TABLE feedback (id VARCHAR, t DOUBLE, key VARCHAR, rating VARCHAR, comment VARCHAR, correction VARCHAR);

-- How far each file of the spool is in the tables above, changed in the same transaction as they are. A file is known by its number and by
-- how it begins (`head`): numbers could begin anew in a spool that somebody emptied.
CREATE TABLE spool_offsets (
    spool VARCHAR,
    number INTEGER,
    head VARCHAR,
    byte_offset BIGINT,
    skipping BOOLEAN,
    lines BIGINT,
    broken BIGINT,
    unknown BIGINT,
    done_at DOUBLE
);

-- What each endpoint's spec said last of how long its records are kept: an endpoint that is gone has its records kept as it wished.
CREATE TABLE request_keeping (endpoint VARCHAR, keep_days DOUBLE, keep_bytes BIGINT);
