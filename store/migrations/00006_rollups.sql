-- +goose Up
-- Egress by job, endpoint and day, kept as it comes in; and what is known to be bad.
--
-- The roll-up is filled in this order, each statement safe to run again: a migration that
-- is cut off begins anew with an empty table and no materialized view. Nothing may be
-- inserted into flow_events meanwhile: ingest migrates before it inserts.

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS egress_daily
(
    day Date COMMENT 'Day, in UTC',
    repository LowCardinality(String) COMMENT 'Repository, owner/name. Empty for what happened outside every job',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    destination LowCardinality(String) COMMENT 'Domain that led to the address, or the address if there was no look-up',
    destination_port UInt16 COMMENT 'Remote port',
    protocol LowCardinality(String) COMMENT 'Transport protocol, for instance tcp',
    program LowCardinality(String) COMMENT 'Base name of the executable',
    first_seen SimpleAggregateFunction(min, DateTime64(9, 'UTC')) COMMENT 'When it was first seen on that day',
    last_seen SimpleAggregateFunction(max, DateTime64(9, 'UTC')) COMMENT 'When it was last seen on that day',
    connections SimpleAggregateFunction(sum, UInt64) COMMENT 'Flows that began',
    bytes_sent SimpleAggregateFunction(sum, UInt64) COMMENT 'Payload bytes sent',
    bytes_received SimpleAggregateFunction(sum, UInt64) COMMENT 'Payload bytes received',
    runs AggregateFunction(uniq, LowCardinality(String)) COMMENT 'Runs, as a state: uniqMerge(runs)'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (repository, workflow, job, destination, destination_port, protocol, program, day)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Egress by job, endpoint, program and day, as it adds up: ask the view egress_by_day, or group by what you ask for';
-- +goose StatementEnd

-- +goose StatementBegin
DROP VIEW IF EXISTS egress_daily_fill;
-- +goose StatementEnd

-- +goose StatementBegin
TRUNCATE TABLE egress_daily;
-- +goose StatementEnd

-- +goose StatementBegin
INSERT INTO egress_daily
SELECT
    toDate(e.time) AS day, e.repository, e.workflow, e.job,
    if(e.domain != '', e.domain, replaceRegexpOne(toString(e.destination_address), '^::ffff:([0-9.]+)$', '\\1')) AS destination,
    e.destination_port, toString(e.protocol) AS protocol, e.program,
    min(e.time) AS first_seen, max(e.time) AS last_seen, countIf(e.phase = 'started') AS connections,
    sum(e.bytes_sent) AS bytes_sent, sum(e.bytes_received) AS bytes_received, uniqState(e.run_id) AS runs
FROM flow_events AS e
WHERE e.direction = 'outbound' AND e.phase != 'used'
GROUP BY day, e.repository, e.workflow, e.job, destination, e.destination_port, protocol, e.program
SETTINGS insert_deduplication_token = 'migration-00006', max_insert_block_size = 100000000, min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS egress_daily_fill TO egress_daily
AS SELECT
    toDate(e.time) AS day, e.repository AS repository, e.workflow AS workflow, e.job AS job,
    if(e.domain != '', e.domain, replaceRegexpOne(toString(e.destination_address), '^::ffff:([0-9.]+)$', '\\1')) AS destination,
    e.destination_port AS destination_port, toString(e.protocol) AS protocol, e.program AS program,
    min(e.time) AS first_seen, max(e.time) AS last_seen, countIf(e.phase = 'started') AS connections,
    sum(e.bytes_sent) AS bytes_sent, sum(e.bytes_received) AS bytes_received, uniqState(e.run_id) AS runs
FROM flow_events AS e
WHERE e.direction = 'outbound' AND e.phase != 'used'
GROUP BY day, repository, workflow, job, destination, destination_port, protocol, program;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW egress_by_day
(
    day Date COMMENT 'Day, in UTC',
    repository LowCardinality(String) COMMENT 'Repository, owner/name',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    destination LowCardinality(String) COMMENT 'Domain that led to the address, or the address if there was no look-up',
    destination_port UInt16 COMMENT 'Remote port',
    protocol LowCardinality(String) COMMENT 'Transport protocol, for instance tcp',
    program LowCardinality(String) COMMENT 'Base name of the executable',
    first_seen DateTime64(9, 'UTC') COMMENT 'When it was first seen on that day',
    last_seen DateTime64(9, 'UTC') COMMENT 'When it was last seen on that day',
    connections UInt64 COMMENT 'Flows that began',
    bytes_sent UInt64 COMMENT 'Payload bytes sent',
    bytes_received UInt64 COMMENT 'Payload bytes received',
    runs UInt64 COMMENT 'Runs, nearly exact'
)
AS SELECT
    day, repository, workflow, job, destination, destination_port, protocol, program,
    min(e.first_seen) AS first_seen, max(e.last_seen) AS last_seen, sum(e.connections) AS connections,
    sum(e.bytes_sent) AS bytes_sent, sum(e.bytes_received) AS bytes_received, uniqMerge(e.runs) AS runs
FROM egress_daily AS e
GROUP BY day, repository, workflow, job, destination, destination_port, protocol, program
COMMENT 'Egress by job, endpoint, program and day. Fast over years: made of a roll-up';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS intelligence
(
    kind Enum8('domain' = 1, 'address' = 2, 'sha256' = 3, 'action' = 4) COMMENT 'What the indicator is: a domain (with all below it), an address, a program''s digest, an action with its version',
    indicator String COMMENT 'The indicator: lower case; an IPv4 address as it is written; an action as owner/name@ref',
    source LowCardinality(String) COMMENT 'Where it comes from',
    severity LowCardinality(String) COMMENT 'low, medium, high or critical',
    reason String COMMENT 'Why it is bad',
    added DateTime('UTC') DEFAULT now() COMMENT 'When it was added. Of two entries for one indicator from one source the later counts',
    expires Nullable(DateTime('UTC')) COMMENT 'When it ceases to count. NULL if never'
)
ENGINE = ReplacingMergeTree(added)
ORDER BY (kind, indicator, source)
COMMENT 'What is known to be bad. Yours to fill; ask with FINAL';
-- +goose StatementEnd
