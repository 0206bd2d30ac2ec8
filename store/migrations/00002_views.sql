-- +goose Up
-- Views for people. Each groups by the leading columns of its table's order, so
-- that conditions on them reach the table.

-- +goose StatementBegin
CREATE OR REPLACE VIEW jobs
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name. Empty for a command watched by sallyport run',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    run_id LowCardinality(String) COMMENT 'Identifier of the run, unique in the repository',
    run_attempt UInt32 COMMENT 'Attempt of the run, from 1',
    run_number UInt64 COMMENT 'Number of the run, counted for each workflow',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    execution_id LowCardinality(String) COMMENT 'This execution of the job, 16 hexadecimal digits',
    commit LowCardinality(String) COMMENT 'Commit, full hexadecimal',
    ref LowCardinality(String) COMMENT 'Git reference that started the run',
    ref_protected Bool COMMENT 'The runner said that the reference is protected',
    event LowCardinality(String) COMMENT 'Event that started the run, for instance push',
    actor LowCardinality(String) COMMENT 'Login of who or what started the run',
    workflow_ref LowCardinality(String) COMMENT 'File and reference of the workflow',
    runner LowCardinality(String) COMMENT 'Runner''s name',
    agent_id LowCardinality(String) COMMENT 'Agent that saw it',
    hostname LowCardinality(String) COMMENT 'Host name of the agent''s machine',
    started_at DateTime64(9, 'UTC') COMMENT 'When the first event of the job was seen',
    ended_at Nullable(DateTime64(9, 'UTC')) COMMENT 'When the job ended, NULL while it runs',
    end_reason String COMMENT 'Why the job is held to be over: worker_exited or agent_stopped. Empty while it runs'
)
AS SELECT
    repository, workflow, run_id, run_attempt, max(e.run_number) AS run_number, job, execution_id,
    max(e.commit) AS commit, max(e.ref) AS ref, max(e.ref_protected) AS ref_protected,
    max(e.event) AS event, max(e.actor) AS actor, max(e.workflow_ref) AS workflow_ref,
    max(e.runner) AS runner, max(e.agent_id) AS agent_id, max(e.hostname) AS hostname,
    min(e.time) AS started_at,
    maxOrNullIf(e.time, e.kind = 'ended') AS ended_at,
    toString(max(e.reason)) AS end_reason
FROM job_events AS e
GROUP BY repository, workflow, job, run_id, run_attempt, execution_id
COMMENT 'Jobs, one row an execution of a job';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW runs
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name. Empty for a command watched by sallyport run',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    run_id LowCardinality(String) COMMENT 'Identifier of the run, unique in the repository',
    run_attempt UInt32 COMMENT 'Attempt of the run, from 1',
    run_number UInt64 COMMENT 'Number of the run, counted for each workflow',
    commit LowCardinality(String) COMMENT 'Commit, full hexadecimal',
    ref LowCardinality(String) COMMENT 'Git reference that started the run',
    event LowCardinality(String) COMMENT 'Event that started the run, for instance push',
    actor LowCardinality(String) COMMENT 'Login of who or what started the run',
    started_at DateTime64(9, 'UTC') COMMENT 'When the first event of its first job was seen',
    ended_at Nullable(DateTime64(9, 'UTC')) COMMENT 'When its last job ended, NULL while one runs',
    jobs UInt32 COMMENT 'Jobs seen',
    findings UInt32 COMMENT 'Findings'
)
AS SELECT
    r.repository AS repository, r.workflow AS workflow, r.run_id AS run_id, r.run_attempt AS run_attempt,
    r.run_number AS run_number, r.commit AS commit, r.ref AS ref, r.event AS event, r.actor AS actor,
    r.started_at AS started_at, r.ended_at AS ended_at, toUInt32(r.jobs) AS jobs,
    toUInt32(f.findings) AS findings
FROM
(
    SELECT
        repository, workflow, run_id, run_attempt,
        max(j.run_number) AS run_number, max(j.commit) AS commit, max(j.ref) AS ref,
        max(j.event) AS event, max(j.actor) AS actor,
        min(j.started_at) AS started_at,
        if(countIf(j.ended_at IS NULL) = 0, max(j.ended_at), NULL) AS ended_at,
        count() AS jobs
    FROM jobs AS j
    GROUP BY repository, workflow, run_id, run_attempt
) AS r
LEFT JOIN
(
    SELECT repository, workflow, run_id, run_attempt, uniqExact(id) AS findings
    FROM findings
    GROUP BY repository, workflow, run_id, run_attempt
) AS f
ON f.repository = r.repository AND f.workflow = r.workflow AND f.run_id = r.run_id AND f.run_attempt = r.run_attempt
COMMENT 'Runs, one row an attempt';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW processes
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
    process_id UInt64 COMMENT 'Identity of the process, unique on a machine until it boots',
    parent_process_id UInt64 COMMENT 'Identity of what forked it or, after an exec, of what it was before. 0 if unknown',
    pid UInt32 COMMENT 'Process identifier in the first PID namespace',
    program LowCardinality(String) COMMENT 'Base name of executable',
    parent_program LowCardinality(String) COMMENT 'Base name of the executable of parent_process_id',
    executable LowCardinality(String) COMMENT 'Path of the executable',
    arguments Array(String) COMMENT 'Arguments, redacted. Empty for a process that never started a program of its own',
    arguments_truncated Bool COMMENT 'The arguments were longer than the agent keeps',
    working_directory LowCardinality(String) COMMENT 'Working directory when the program started, if known',
    standard_input_kind String COMMENT 'What standard input was when the program started: file, pipe, socket, device or empty',
    standard_input_inode UInt64 COMMENT 'Its inode number. The two ends of one pipe share it',
    standard_output_kind String COMMENT 'What standard output was when the program started',
    standard_output_inode UInt64 COMMENT 'Its inode number',
    argument_pipe_kind String COMMENT 'What a shell''s process substitution handed over as an argument',
    argument_pipe_inode UInt64 COMMENT 'Its inode number',
    uid UInt32 COMMENT 'User it runs as',
    started_at DateTime64(9, 'UTC') COMMENT 'When it started to be what it is',
    ended_at Nullable(DateTime64(9, 'UTC')) COMMENT 'When it exited, NULL while it runs or if it went on as another program',
    exit_code UInt8 COMMENT 'Exit code, 0 while it runs',
    signal UInt8 COMMENT 'Signal that ended it, 0 if none'
)
AS SELECT
    repository, workflow, run_id, run_attempt, job, execution_id,
    max(e.step) AS step, max(e.action) AS action, agent_id, process_id,
    max(e.parent_process_id) AS parent_process_id, max(e.pid) AS pid,
    max(e.program) AS program, max(e.parent_program) AS parent_program, max(e.executable) AS executable,
    maxIf(e.arguments, e.kind = 'executed') AS arguments,
    max(e.arguments_truncated) AS arguments_truncated,
    maxIf(e.working_directory, e.kind = 'executed') AS working_directory,
    toString(max(e.standard_input_kind)) AS standard_input_kind,
    max(e.standard_input_inode) AS standard_input_inode,
    toString(max(e.standard_output_kind)) AS standard_output_kind,
    max(e.standard_output_inode) AS standard_output_inode,
    toString(max(e.argument_pipe_kind)) AS argument_pipe_kind,
    max(e.argument_pipe_inode) AS argument_pipe_inode,
    max(e.uid) AS uid,
    min(e.start_time) AS started_at,
    maxOrNullIf(e.time, e.kind = 'exited') AS ended_at,
    maxIf(e.exit_code, e.kind = 'exited') AS exit_code,
    maxIf(e.signal, e.kind = 'exited') AS signal
FROM process_events AS e
GROUP BY repository, workflow, job, run_id, run_attempt, execution_id, agent_id, process_id
HAVING countIf(e.kind != 'forked') > 0
COMMENT 'Processes, one row a program run in a process. A fork that goes on to start a program is not a row of its own, nor is one that has only forked yet';
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
    protocol String COMMENT 'tcp or udp',
    source_address String COMMENT 'Local address as text. Empty if unknown',
    source_port UInt16 COMMENT 'Local port',
    destination_address String COMMENT 'Remote address as text',
    destination_port UInt16 COMMENT 'Remote port',
    domain String COMMENT 'Domain that led to the address. Empty if there was no look-up',
    domain_source String COMMENT 'Whose look-up gave the domain: process, job or host',
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
    sum(e.bytes_sent) AS bytes_sent,
    sum(e.bytes_received) AS bytes_received,
    min(e.start_time) AS started_at,
    maxOrNullIf(e.time, e.phase = 'ended') AS ended_at,
    (toUnixTimestamp64Nano(maxOrNullIf(e.time, e.phase = 'ended')) - toUnixTimestamp64Nano(min(e.start_time))) / 1e9 AS duration_seconds,
    toString(max(e.outcome)) AS outcome
FROM flow_events AS e
GROUP BY repository, workflow, job, run_id, run_attempt, execution_id, agent_id, flow_id
COMMENT 'Egress, one row a flow: a TCP connection, or the datagrams that one socket sends to one address and port';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE VIEW steps
(
    repository LowCardinality(String) COMMENT 'Repository, owner/name',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    run_id LowCardinality(String) COMMENT 'Identifier of the run',
    run_attempt UInt32 COMMENT 'Attempt of the run, from 1',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    execution_id LowCardinality(String) COMMENT 'This execution of the job',
    step LowCardinality(String) COMMENT 'Step''s identifier as the runner names it. Empty for what the worker does between steps',
    action LowCardinality(String) COMMENT 'Action that the step uses. Empty for a run step',
    started_at DateTime64(9, 'UTC') COMMENT 'When the first event of the step was seen',
    processes UInt64 COMMENT 'Programs run',
    flows UInt64 COMMENT 'Flows begun',
    bytes_sent UInt64 COMMENT 'Payload bytes sent',
    bytes_received UInt64 COMMENT 'Payload bytes received'
)
AS SELECT
    repository, workflow, run_id, run_attempt, job, execution_id, step,
    max(e.action) AS action, min(e.time) AS started_at,
    sum(e.executed) AS processes, uniqExactIf((e.agent_id, e.flow_id), e.flow_id != 0) AS flows,
    sum(e.bytes_sent) AS bytes_sent, sum(e.bytes_received) AS bytes_received
FROM
(
    SELECT repository, workflow, run_id, run_attempt, job, execution_id, step, action, time, agent_id,
        toUInt64(kind = 'executed') AS executed, toUInt64(0) AS flow_id, toUInt64(0) AS bytes_sent, toUInt64(0) AS bytes_received
    FROM process_events
    UNION ALL
    SELECT repository, workflow, run_id, run_attempt, job, execution_id, step, action, time, agent_id,
        toUInt64(0) AS executed, flow_id, bytes_sent, bytes_received
    FROM flow_events
) AS e
GROUP BY repository, workflow, run_id, run_attempt, job, execution_id, step
COMMENT 'Steps, one row a step of an execution of a job';
-- +goose StatementEnd
