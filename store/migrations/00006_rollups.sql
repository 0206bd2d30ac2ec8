-- +goose Up
-- Roll-ups: egress by day, and lists of what is known to be bad.
--
-- A row of flow_events is counted once: those that Store.Insert inserts say
-- rolled_up and go through the view egress_days_feed; all others are there already
-- when this runs, and the INSERT below counts them. The row itself decides, so rows may
-- come in meanwhile. Run again, the INSERT does nothing: its token is known.

-- +goose StatementBegin
ALTER TABLE flow_events
    ADD COLUMN IF NOT EXISTS rolled_up Bool COMMENT 'The roll-up egress_days took it as it was inserted. False in rows from before there was one, and in those that ClickHouse lost and took again' AFTER outcome;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS egress_days
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name. Empty for a command watched by sallyport run and for what happened outside every job',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    day Date COMMENT 'Day in UTC',
    endpoint LowCardinality(String) COMMENT 'Domain that led to the address, or the address as text if there was no look-up',
    port UInt16 COMMENT 'Remote port',
    protocol LowCardinality(String) COMMENT 'Protocol: tcp, udp, icmp, icmpv6, sctp, or its number',
    program LowCardinality(String) COMMENT 'Base name of the program that sent',
    addresses SimpleAggregateFunction(groupUniqArrayArray, Array(IPv6)) COMMENT 'Remote addresses. IPv4 as ::ffff:a.b.c.d',
    first_seen SimpleAggregateFunction(min, DateTime64(9, 'UTC')) COMMENT 'Time of the first event',
    last_seen SimpleAggregateFunction(max, DateTime64(9, 'UTC')) COMMENT 'Time of the last event',
    connections SimpleAggregateFunction(sum, UInt64) COMMENT 'Flows that began',
    bytes_sent SimpleAggregateFunction(sum, UInt64) COMMENT 'Payload bytes sent',
    bytes_received SimpleAggregateFunction(sum, UInt64) COMMENT 'Payload bytes received',
    runs AggregateFunction(uniq, String) COMMENT 'Runs: uniqMerge(runs) is their number, exact up to some tens of thousands'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (repository, workflow, job, day, endpoint, port, protocol, program)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Roll-up of outbound flow_events by job, endpoint, program and day, as aggregation states. The view egress_by_day is for people';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS egress_days_feed TO egress_days
AS SELECT
    repository, workflow, job, toDate(time, 'UTC') AS day,
    if(domain != '', toString(domain), replaceRegexpOne(toString(destination_address), '^::ffff:([0-9.]+)$', '\\1')) AS endpoint,
    destination_port AS port, protocol, program,
    groupUniqArrayArray([destination_address]) AS addresses,
    min(time) AS first_seen, max(time) AS last_seen,
    countIf(phase = 'started') AS connections,
    sum(e.bytes_sent) AS bytes_sent, sum(e.bytes_received) AS bytes_received,
    uniqState(toString(run_id)) AS runs
FROM flow_events AS e
WHERE rolled_up AND direction = 'outbound' AND phase != 'used'
GROUP BY repository, workflow, job, day, endpoint, port, protocol, program
COMMENT 'Feeds egress_days from each insert into flow_events';
-- +goose StatementEnd

-- One thread and one order make the same blocks of the same rows, and the token is theirs.
-- +goose StatementBegin
INSERT INTO egress_days
SELECT
    repository, workflow, job, toDate(time, 'UTC') AS day,
    if(domain != '', toString(domain), replaceRegexpOne(toString(destination_address), '^::ffff:([0-9.]+)$', '\\1')) AS endpoint,
    destination_port AS port, protocol, program,
    groupUniqArrayArray([destination_address]) AS addresses,
    min(time) AS first_seen, max(time) AS last_seen,
    countIf(phase = 'started') AS connections,
    sum(e.bytes_sent) AS bytes_sent, sum(e.bytes_received) AS bytes_received,
    uniqState(toString(run_id)) AS runs
FROM flow_events AS e
WHERE NOT rolled_up AND direction = 'outbound' AND phase != 'used'
GROUP BY repository, workflow, job, day, endpoint, port, protocol, program
ORDER BY repository, workflow, job, day, endpoint, port, protocol, program
SETTINGS insert_deduplication_token = 'migration 6: egress_days', insert_deduplicate = 1, max_insert_threads = 1, max_threads = 1,
    max_block_size = 65536, min_insert_block_size_rows = 1048576, min_insert_block_size_bytes = 0, max_partitions_per_insert_block = 0;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW egress_by_day
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    day Date COMMENT 'Day in UTC',
    endpoint LowCardinality(String) COMMENT 'Domain that led to the address, or the address as text if there was no look-up',
    port UInt16 COMMENT 'Remote port',
    protocol LowCardinality(String) COMMENT 'Protocol: tcp, udp, icmp, icmpv6, sctp, or its number',
    program LowCardinality(String) COMMENT 'Base name of the program that sent',
    addresses Array(String) COMMENT 'Remote addresses as text, in order',
    first_seen DateTime64(9, 'UTC') COMMENT 'Time of the first event of the day',
    last_seen DateTime64(9, 'UTC') COMMENT 'Time of the last event of the day',
    connections UInt64 COMMENT 'Flows that began on the day',
    bytes_sent UInt64 COMMENT 'Payload bytes sent',
    bytes_received UInt64 COMMENT 'Payload bytes received',
    runs UInt64 COMMENT 'Runs, exact up to some tens of thousands. Do not add up days: a run may be in several'
)
AS SELECT
    repository, workflow, job, day, endpoint, port, protocol, program,
    arraySort(arrayMap(a -> replaceRegexpOne(toString(a), '^::ffff:([0-9.]+)$', '\\1'), groupUniqArrayArray(e.addresses))) AS addresses,
    min(e.first_seen) AS first_seen, max(e.last_seen) AS last_seen,
    sum(e.connections) AS connections, sum(e.bytes_sent) AS bytes_sent, sum(e.bytes_received) AS bytes_received,
    uniqMerge(e.runs) AS runs
FROM egress_days AS e
GROUP BY repository, workflow, job, day, endpoint, port, protocol, program
COMMENT 'Egress, one row a job, endpoint, program and day. Fast over years: it reads the roll-up egress_days';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW credential_reads_by_day
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    day Date COMMENT 'Day in UTC',
    rule LowCardinality(String) COMMENT 'Rule of docs/files.md that the files match',
    program LowCardinality(String) COMMENT 'Base name of the program that read',
    first_seen DateTime64(9, 'UTC') COMMENT 'First read of the day',
    last_seen DateTime64(9, 'UTC') COMMENT 'Last read of the day',
    reads UInt64 COMMENT 'Reads',
    runs UInt64 COMMENT 'Runs'
)
AS SELECT
    repository, workflow, job, toDate(e.time, 'UTC') AS day, rule, program,
    min(e.time) AS first_seen, max(e.time) AS last_seen, sum(e.times) AS reads, uniqExact(e.run_id) AS runs
FROM file_accesses AS e
WHERE e.category = 'credential' AND e.operation = 'read'
GROUP BY repository, workflow, job, day, rule, program
COMMENT 'Reads of credential files, one row a job, rule, program and day';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW findings_by_day
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    day Date COMMENT 'Day in UTC',
    policy LowCardinality(String) COMMENT 'Identity of the policy',
    severity String COMMENT 'The highest severity: low, medium, high or critical',
    findings UInt64 COMMENT 'Findings',
    runs UInt64 COMMENT 'Runs'
)
AS SELECT
    repository, workflow, job, toDate(e.time, 'UTC') AS day, policy,
    toString(max(e.severity)) AS severity, uniqExact(e.id) AS findings, uniqExact(e.run_id) AS runs
FROM findings AS e
GROUP BY repository, workflow, job, day, policy
COMMENT 'Findings, one row a job, policy and day';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS intelligence
(
    kind Enum8('domain' = 1, 'address' = 2) COMMENT 'What the indicator is. A domain stands for its subdomains, too',
    indicator String COMMENT 'Domain in lower case without a trailing dot, or address as text',
    source LowCardinality(String) COMMENT 'Who says so',
    severity Enum8('' = 0, 'low' = 1, 'medium' = 2, 'high' = 3, 'critical' = 4) COMMENT 'How bad it is',
    reason String COMMENT 'Why it is on the list',
    added DateTime('UTC') DEFAULT now() COMMENT 'When it was put on the list. The last row of an indicator and source is the one that holds',
    expires Nullable(DateTime('UTC')) COMMENT 'When it ceases to hold, NULL for never'
)
ENGINE = ReplacingMergeTree(added)
ORDER BY (kind, indicator, source)
COMMENT 'Lists of domains and addresses that are known to be bad. Nothing fills it but you';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW intelligence_matches
(
    kind String COMMENT 'What the indicator is: domain or address',
    indicator String COMMENT 'Domain or address of the list',
    source LowCardinality(String) COMMENT 'Who says so',
    severity String COMMENT 'How bad it is: low, medium, high, critical or empty',
    reason String COMMENT 'Why it is on the list',
    repository LowCardinality(String) COMMENT 'Repository, owner/name',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    endpoint LowCardinality(String) COMMENT 'Domain or address that the job spoke to',
    program LowCardinality(String) COMMENT 'Base name of the program that did',
    first_seen DateTime64(9, 'UTC') COMMENT 'When it did first',
    last_seen DateTime64(9, 'UTC') COMMENT 'When it did last',
    connections UInt64 COMMENT 'Flows that began',
    bytes_sent UInt64 COMMENT 'Payload bytes sent'
)
AS SELECT
    toString(i.kind) AS kind, i.indicator AS indicator, i.source AS source, toString(i.severity) AS severity, i.reason AS reason,
    e.repository AS repository, e.workflow AS workflow, e.job AS job, e.endpoint AS endpoint, e.program AS program,
    min(e.first) AS first_seen, max(e.last) AS last_seen, sum(e.begun) AS connections, sum(e.sent) AS bytes_sent
FROM
(
    SELECT repository, workflow, job, endpoint, program, first_seen AS first, last_seen AS last, connections AS begun, bytes_sent AS sent,
        arrayJoin(arrayDistinct(arrayConcat(
            arrayMap(n -> arrayStringConcat(arraySlice(splitByChar('.', toString(endpoint)), n), '.'), range(1, length(splitByChar('.', toString(endpoint))) + 1)),
            addresses))) AS candidate
    FROM egress_by_day
) AS e
INNER JOIN
(
    SELECT kind, indicator, source, severity, reason FROM intelligence FINAL WHERE expires IS NULL OR expires > now()
) AS i
ON i.indicator = e.candidate
GROUP BY kind, indicator, source, severity, reason, repository, workflow, job, endpoint, program
COMMENT 'Who ever spoke to what the table intelligence lists';
-- +goose StatementEnd
