-- +goose Up
-- What a client says first: server names in TLS and QUIC. Protocols other than TCP and UDP.
-- What comes in, and what listens.

-- +goose StatementBegin
ALTER TABLE flow_events
    ADD COLUMN IF NOT EXISTS direction Enum8('outbound' = 1, 'inbound' = 2, 'listening' = 3) COMMENT 'Who began it: this machine, another one (TCP, not through loopback), or nobody: a TCP socket that listens until it is closed' AFTER flow_id,
    MODIFY COLUMN phase Enum8('' = 0, 'started' = 1, 'active' = 2, 'ended' = 3, 'identified' = 4) COMMENT 'Where in its life the flow is. identified: its first bytes said what it is',
    MODIFY COLUMN protocol LowCardinality(String) COMMENT 'Protocol: tcp, udp, icmp, icmpv6, sctp, or its number. tcp is also what a raw socket sends as TCP',
    ADD COLUMN IF NOT EXISTS server_name LowCardinality(String) COMMENT 'Server name that the client itself gave in TLS or QUIC. Only where phase is identified, like the two columns below' AFTER domain_source,
    ADD COLUMN IF NOT EXISTS application Enum8('' = 0, 'tls' = 1, 'quic' = 2, 'dns_over_tls' = 3, 'dns_over_https' = 4, 'dns_over_quic' = 5) COMMENT 'What the first bytes are' AFTER server_name,
    ADD COLUMN IF NOT EXISTS encrypted_hello Bool COMMENT 'The client encrypted the true server name (ECH): server_name is the outer one' AFTER application;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW egress
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    run_id LowCardinality(String) COMMENT 'Identifier of the run',
    run_attempt UInt32 COMMENT 'Attempt of the run, from 1',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    execution_id LowCardinality(String) COMMENT 'This execution of the job',
    step LowCardinality(String) COMMENT 'Step''s identifier as the runner names it',
    action LowCardinality(String) COMMENT 'Action that the step uses. Empty for a run step',
    agent_id LowCardinality(String) COMMENT 'Agent that saw it',
    flow_id UInt64 COMMENT 'Unique on the agent''s machine until it boots',
    process_id UInt64 COMMENT 'Identity of the process that sends',
    program LowCardinality(String) COMMENT 'Base name of its executable',
    parent_program LowCardinality(String) COMMENT 'Base name of its parent''s executable',
    executable LowCardinality(String) COMMENT 'Path of its executable',
    protocol String COMMENT 'tcp, udp, icmp, icmpv6, sctp, or the number of another',
    source_address String COMMENT 'Local address as text. Empty if unknown',
    source_port UInt16 COMMENT 'Local port',
    destination_address String COMMENT 'Remote address as text',
    destination_port UInt16 COMMENT 'Remote port',
    domain String COMMENT 'Domain that led to the address. Empty if there was no look-up',
    domain_source String COMMENT 'Whose look-up gave the domain: process, job or host',
    server_name String COMMENT 'Server name that the client itself gave in TLS or QUIC. Empty if it gave none, or if it was encrypted',
    application String COMMENT 'What the first bytes are: tls, quic, dns_over_tls, dns_over_https, dns_over_quic. Empty if not known',
    encrypted_hello Bool COMMENT 'The client encrypted the true server name (ECH): server_name is the outer one',
    bytes_sent UInt64 COMMENT 'Payload bytes sent so far',
    bytes_received UInt64 COMMENT 'Payload bytes received so far',
    started_at DateTime64(9, 'UTC') COMMENT 'When it started',
    ended_at Nullable(DateTime64(9, 'UTC')) COMMENT 'When it ended, NULL while it goes on',
    duration_seconds Nullable(Float64) COMMENT 'From its start to its end, NULL while it goes on',
    outcome String COMMENT 'How it ended: closed, refused, timed_out, reset or unreachable. Empty while it goes on or if not known'
)
AS SELECT
    repository, workflow, run_id, run_attempt, job, execution_id,
    max(e.step) AS step, max(e.action) AS action, agent_id, flow_id,
    max(e.process_id) AS process_id, max(e.program) AS program, max(e.parent_program) AS parent_program,
    max(e.executable) AS executable,
    toString(max(e.protocol)) AS protocol,
    if(max(e.source_address) = toIPv6('::'), '', replaceRegexpOne(toString(max(e.source_address)), '^::ffff:([0-9.]+)$', '\\1')) AS source_address,
    max(e.source_port) AS source_port,
    replaceRegexpOne(toString(max(e.destination_address)), '^::ffff:([0-9.]+)$', '\\1') AS destination_address,
    max(e.destination_port) AS destination_port,
    argMaxIf(e.domain, e.time, e.domain != '') AS domain,
    toString(argMaxIf(e.domain_source, e.time, e.domain != '')) AS domain_source,
    max(e.server_name) AS server_name,
    toString(max(e.application)) AS application,
    max(e.encrypted_hello) AS encrypted_hello,
    sum(e.bytes_sent) AS bytes_sent,
    sum(e.bytes_received) AS bytes_received,
    min(e.start_time) AS started_at,
    maxOrNullIf(e.time, e.phase = 'ended') AS ended_at,
    (toUnixTimestamp64Nano(maxOrNullIf(e.time, e.phase = 'ended')) - toUnixTimestamp64Nano(min(e.start_time))) / 1e9 AS duration_seconds,
    toString(max(e.outcome)) AS outcome
FROM flow_events AS e
WHERE e.direction = 'outbound'
GROUP BY repository, workflow, job, run_id, run_attempt, execution_id, agent_id, flow_id
COMMENT 'Egress, one row a flow: a TCP connection, or the datagrams that one socket sends to one address and port';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW listeners
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    run_id LowCardinality(String) COMMENT 'Identifier of the run',
    run_attempt UInt32 COMMENT 'Attempt of the run, from 1',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    execution_id LowCardinality(String) COMMENT 'This execution of the job',
    step LowCardinality(String) COMMENT 'Step''s identifier as the runner names it',
    agent_id LowCardinality(String) COMMENT 'Agent that saw it',
    process_id UInt64 COMMENT 'Identity of the process that listens',
    program LowCardinality(String) COMMENT 'Base name of its executable',
    address String COMMENT 'Local address as text: :: and 0.0.0.0 are all of the machine''s',
    port UInt16 COMMENT 'Local port',
    started_at DateTime64(9, 'UTC') COMMENT 'When it began to listen',
    ended_at Nullable(DateTime64(9, 'UTC')) COMMENT 'When it was closed, NULL while it goes on',
    connections UInt64 COMMENT 'Connections that came in from other machines to this port while the same process listened'
)
AS SELECT
    repository, workflow, run_id, run_attempt, job, execution_id,
    max(e.step) AS step, agent_id, process_id, max(e.program) AS program,
    replaceRegexpOne(toString(maxIf(e.source_address, e.direction = 'listening')), '^::ffff:([0-9.]+)$', '\\1') AS address,
    source_port AS port,
    minIf(e.start_time, e.direction = 'listening') AS started_at,
    maxOrNullIf(e.time, e.direction = 'listening' AND e.phase = 'ended') AS ended_at,
    countIf(e.direction = 'inbound' AND e.phase = 'started') AS connections
FROM flow_events AS e
WHERE e.direction != 'outbound'
GROUP BY repository, workflow, job, run_id, run_attempt, execution_id, agent_id, process_id, source_port
HAVING countIf(e.direction = 'listening') > 0
COMMENT 'TCP sockets that listen, one row a process and port, with how many came';
-- +goose StatementEnd
