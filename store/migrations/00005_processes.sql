-- +goose Up
-- More of each process, privileges, digests of programs, HTTP requests, and how agents end.

-- +goose StatementBegin
ALTER TABLE process_events
    ADD COLUMN IF NOT EXISTS gid UInt32 COMMENT 'Group it runs as. This and the columns below: only where kind is executed' AFTER argument_pipe_inode,
    ADD COLUMN IF NOT EXISTS effective_uid UInt32 COMMENT 'Effective user: another than uid in a setuid program' AFTER gid,
    ADD COLUMN IF NOT EXISTS capabilities UInt64 COMMENT 'Effective capabilities, one bit for each number of capabilities(7): bitTest(capabilities, 21) is CAP_SYS_ADMIN' CODEC(ZSTD(1)) AFTER effective_uid,
    ADD COLUMN IF NOT EXISTS script LowCardinality(String) COMMENT 'Script whose first line names the executable. Empty if none' AFTER capabilities,
    ADD COLUMN IF NOT EXISTS executable_deleted Bool COMMENT 'No folder had the executable''s file any more' AFTER script,
    ADD COLUMN IF NOT EXISTS executable_in_memory Bool COMMENT 'Besides, the file was on no disk: memfd_create and the like' AFTER executable_deleted,
    ADD COLUMN IF NOT EXISTS executable_inode UInt64 COMMENT 'Inode number of the executable''s file' CODEC(ZSTD(1)) AFTER executable_in_memory,
    ADD COLUMN IF NOT EXISTS executable_device UInt32 COMMENT 'Device of its file system: major << 20 | minor' CODEC(ZSTD(1)) AFTER executable_inode,
    ADD COLUMN IF NOT EXISTS executable_sha256 LowCardinality(String) COMMENT 'SHA-256 of its content, if it was known then; the table executables has all' AFTER executable_device,
    ADD COLUMN IF NOT EXISTS container_id LowCardinality(String) COMMENT 'Container that it runs in, 64 hexadecimal digits. Empty outside of containers' AFTER executable_sha256,
    ADD COLUMN IF NOT EXISTS container_image LowCardinality(String) COMMENT 'Image of the container, as it was asked for. Empty if not known' AFTER container_id,
    ADD COLUMN IF NOT EXISTS container_name LowCardinality(String) COMMENT 'Name of the container. Empty if not known' AFTER container_image,
    ADD COLUMN IF NOT EXISTS pod LowCardinality(String) COMMENT 'Kubernetes pod that the container belongs to. Empty outside of Kubernetes' AFTER container_name,
    ADD COLUMN IF NOT EXISTS pod_namespace LowCardinality(String) COMMENT 'Namespace of the pod' AFTER pod;
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE flow_events
    MODIFY COLUMN domain_source Enum8('' = 0, 'process' = 1, 'job' = 2, 'host' = 3, 'container' = 4) COMMENT 'Whose look-up gave the domain: the very process, a process of its container, of its job, or some process on the machine',
    MODIFY COLUMN phase Enum8('' = 0, 'started' = 1, 'active' = 2, 'ended' = 3, 'identified' = 4, 'used' = 5) COMMENT 'Where in its life the flow is. identified: its first bytes said what it is. used: another process than began it, the row''s, sent on it';
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE job_events
    MODIFY COLUMN reason Enum8('' = 0, 'worker_exited' = 1, 'agent_stopped' = 2, 'hook' = 3) COMMENT 'Why the job is held to be over, if kind is ended: its worker exited, the agent stopped, or the runner''s hook said so',
    ADD COLUMN IF NOT EXISTS survivors Array(UInt64) COMMENT 'Identities of the job''s processes that still ran when it ended' AFTER reason;
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE findings
    MODIFY COLUMN behaviour Enum8('' = 0, 'egress' = 1, 'exec' = 2, 'process_access' = 3, 'pipe' = 4, 'agent' = 5) COMMENT 'Kind of the behaviour judged. agent: something was done to an agent';
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE agent_status
    ADD COLUMN IF NOT EXISTS previous_end Enum8('' = 0, 'stopped' = 1, 'replaced' = 2, 'killed' = 3, 'machine_down' = 4) COMMENT 'How the agent before this one ended: in order, by handing over to this one, by neither, or with the machine. Only in an agent''s first row, like the four columns below' AFTER stopping,
    ADD COLUMN IF NOT EXISTS previous_seen DateTime64(9, 'UTC') COMMENT 'Last sign of life of the agent before' AFTER previous_end,
    ADD COLUMN IF NOT EXISTS found_processes UInt32 COMMENT 'Processes that ran when the agent began to watch' AFTER previous_seen,
    ADD COLUMN IF NOT EXISTS found_connections UInt32 COMMENT 'TCP connections and listening sockets that were open then' AFTER found_processes,
    ADD COLUMN IF NOT EXISTS damage Array(String) COMMENT 'What was done to the agent''s hold on the kernel. Anything here means that not all is seen any more' AFTER found_connections,
    ADD COLUMN IF NOT EXISTS longest_pause_nano UInt64 COMMENT 'Longest pause since the row before, in nanoseconds, in which the agent did not run' AFTER damage;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS privileges
(
    agent_id LowCardinality(String) COMMENT 'Agent that saw it. With epoch and sequence it identifies the event for ever',
    epoch UInt64 COMMENT 'When that agent process started, Unix time in nanoseconds' CODEC(DoubleDelta, ZSTD(1)),
    sequence UInt64 COMMENT 'Number of the event within the epoch, from 1, without gaps' CODEC(Delta, ZSTD(1)),
    time DateTime64(9, 'UTC') COMMENT 'When it happened. A time more than 35 days before or a day after its arrival on the stream (a clock that jumped) is replaced by the time of arrival' CODEC(Delta, ZSTD(1)),
    hostname LowCardinality(String) COMMENT 'Host name of the agent''s machine',
    repository LowCardinality(String) COMMENT 'Repository, owner/name. Empty for a command watched by sallyport run and for what happened outside every job',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    run_id LowCardinality(String) COMMENT 'Identifier of the run, unique in the repository',
    run_attempt UInt32 COMMENT 'Attempt of the run, from 1',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    execution_id LowCardinality(String) COMMENT 'This execution of the job, 16 hexadecimal digits: the same for all its steps, another for each job of a matrix and each attempt. Empty outside every job',
    step LowCardinality(String) COMMENT 'Step''s identifier as the runner names it. Empty for what the worker does between steps',
    action LowCardinality(String) COMMENT 'Action that the step uses, owner/name@ref. Empty for a run step',
    commit LowCardinality(String) COMMENT 'Commit, full hexadecimal',
    ref LowCardinality(String) COMMENT 'Git reference that started the run, for instance refs/heads/main',
    event LowCardinality(String) COMMENT 'Event that started the run, for instance push',
    actor LowCardinality(String) COMMENT 'Login of who or what started the run',
    runner LowCardinality(String) COMMENT 'Runner''s name',
    process_id UInt64 COMMENT 'Identity of the process: unique on a machine until it boots, ordered by time, new at each fork and each exec. 0 if unknown' CODEC(Delta, ZSTD(1)),
    parent_process_id UInt64 COMMENT 'Identity of what forked it or, after an exec, of what it was before. 0 if unknown' CODEC(Delta, ZSTD(1)),
    pid UInt32 COMMENT 'Process identifier in the first PID namespace. Reused by the kernel: join on process_id' CODEC(Delta, ZSTD(1)),
    executable LowCardinality(String) COMMENT 'Path of the executable as the kernel resolved it',
    program LowCardinality(String) COMMENT 'Base name of executable',
    parent_program LowCardinality(String) COMMENT 'Base name of the executable of parent_process_id. Empty if unknown',
    uid UInt32 COMMENT 'User it runs as',
    kind Enum8('' = 0, 'gained' = 1, 'namespaces' = 2, 'module' = 3, 'bpf' = 4, 'signal' = 5, 'packets' = 6) COMMENT 'What it did: gained capabilities or root, entered other namespaces than its parent''s, loaded a kernel module or an eBPF program, sent a signal to the agent, sent frames by a packet or XDP socket',
    capabilities Array(LowCardinality(String)) COMMENT 'Capabilities that it gained, by name',
    effective_uid_before UInt32 COMMENT 'Effective user before, of gained',
    effective_uid UInt32 COMMENT 'Effective user after, of gained',
    namespaces Array(LowCardinality(String)) COMMENT 'Kinds of namespaces, as in /proc/PID/ns',
    signal UInt8 COMMENT 'Number of the signal',
    object LowCardinality(String) COMMENT 'Name of the module, or type and name of the eBPF program. Empty if not known',
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Privileges that processes gained, or used on the kernel or on the agent';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS executables
(
    agent_id LowCardinality(String) COMMENT 'Agent that saw it. With epoch and sequence it identifies the event for ever',
    epoch UInt64 COMMENT 'When that agent process started, Unix time in nanoseconds' CODEC(DoubleDelta, ZSTD(1)),
    sequence UInt64 COMMENT 'Number of the event within the epoch, from 1, without gaps' CODEC(Delta, ZSTD(1)),
    time DateTime64(9, 'UTC') COMMENT 'When it happened. A time more than 35 days before or a day after its arrival on the stream (a clock that jumped) is replaced by the time of arrival' CODEC(Delta, ZSTD(1)),
    hostname LowCardinality(String) COMMENT 'Host name of the agent''s machine',
    repository LowCardinality(String) COMMENT 'Repository, owner/name. Empty for a command watched by sallyport run and for what happened outside every job',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    run_id LowCardinality(String) COMMENT 'Identifier of the run, unique in the repository',
    run_attempt UInt32 COMMENT 'Attempt of the run, from 1',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    execution_id LowCardinality(String) COMMENT 'This execution of the job, 16 hexadecimal digits: the same for all its steps, another for each job of a matrix and each attempt. Empty outside every job',
    step LowCardinality(String) COMMENT 'Step''s identifier as the runner names it. Empty for what the worker does between steps',
    action LowCardinality(String) COMMENT 'Action that the step uses, owner/name@ref. Empty for a run step',
    commit LowCardinality(String) COMMENT 'Commit, full hexadecimal',
    ref LowCardinality(String) COMMENT 'Git reference that started the run, for instance refs/heads/main',
    event LowCardinality(String) COMMENT 'Event that started the run, for instance push',
    actor LowCardinality(String) COMMENT 'Login of who or what started the run',
    runner LowCardinality(String) COMMENT 'Runner''s name',
    process_id UInt64 COMMENT 'Identity of the process: unique on a machine until it boots, ordered by time, new at each fork and each exec. 0 if unknown' CODEC(Delta, ZSTD(1)),
    parent_process_id UInt64 COMMENT 'Identity of what forked it or, after an exec, of what it was before. 0 if unknown' CODEC(Delta, ZSTD(1)),
    pid UInt32 COMMENT 'Process identifier in the first PID namespace. Reused by the kernel: join on process_id' CODEC(Delta, ZSTD(1)),
    executable LowCardinality(String) COMMENT 'Path of the executable as the kernel resolved it',
    program LowCardinality(String) COMMENT 'Base name of executable',
    parent_program LowCardinality(String) COMMENT 'Base name of the executable of parent_process_id. Empty if unknown',
    uid UInt32 COMMENT 'User it runs as',
    path LowCardinality(String) COMMENT 'Path as the kernel resolved it',
    inode UInt64 COMMENT 'Inode number' CODEC(ZSTD(1)),
    device UInt32 COMMENT 'Device of its file system: major << 20 | minor' CODEC(ZSTD(1)),
    size UInt64 COMMENT 'Size in bytes' CODEC(T64, ZSTD(1)),
    sha256 LowCardinality(String) COMMENT 'SHA-256 of the content, 64 hexadecimal digits',
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Digests of the programs that jobs ran: one row for each file and version on a machine, by the process that ran it first';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS http_requests
(
    agent_id LowCardinality(String) COMMENT 'Agent that saw it. With epoch and sequence it identifies the event for ever',
    epoch UInt64 COMMENT 'When that agent process started, Unix time in nanoseconds' CODEC(DoubleDelta, ZSTD(1)),
    sequence UInt64 COMMENT 'Number of the event within the epoch, from 1, without gaps' CODEC(Delta, ZSTD(1)),
    time DateTime64(9, 'UTC') COMMENT 'When it happened. A time more than 35 days before or a day after its arrival on the stream (a clock that jumped) is replaced by the time of arrival' CODEC(Delta, ZSTD(1)),
    hostname LowCardinality(String) COMMENT 'Host name of the agent''s machine',
    repository LowCardinality(String) COMMENT 'Repository, owner/name. Empty for a command watched by sallyport run and for what happened outside every job',
    workflow LowCardinality(String) COMMENT 'Workflow''s name',
    run_id LowCardinality(String) COMMENT 'Identifier of the run, unique in the repository',
    run_attempt UInt32 COMMENT 'Attempt of the run, from 1',
    job LowCardinality(String) COMMENT 'Job''s key in the workflow file',
    execution_id LowCardinality(String) COMMENT 'This execution of the job, 16 hexadecimal digits: the same for all its steps, another for each job of a matrix and each attempt. Empty outside every job',
    step LowCardinality(String) COMMENT 'Step''s identifier as the runner names it. Empty for what the worker does between steps',
    action LowCardinality(String) COMMENT 'Action that the step uses, owner/name@ref. Empty for a run step',
    commit LowCardinality(String) COMMENT 'Commit, full hexadecimal',
    ref LowCardinality(String) COMMENT 'Git reference that started the run, for instance refs/heads/main',
    event LowCardinality(String) COMMENT 'Event that started the run, for instance push',
    actor LowCardinality(String) COMMENT 'Login of who or what started the run',
    runner LowCardinality(String) COMMENT 'Runner''s name',
    process_id UInt64 COMMENT 'Identity of the process: unique on a machine until it boots, ordered by time, new at each fork and each exec. 0 if unknown' CODEC(Delta, ZSTD(1)),
    parent_process_id UInt64 COMMENT 'Identity of what forked it or, after an exec, of what it was before. 0 if unknown' CODEC(Delta, ZSTD(1)),
    pid UInt32 COMMENT 'Process identifier in the first PID namespace. Reused by the kernel: join on process_id' CODEC(Delta, ZSTD(1)),
    executable LowCardinality(String) COMMENT 'Path of the executable as the kernel resolved it',
    program LowCardinality(String) COMMENT 'Base name of executable',
    parent_program LowCardinality(String) COMMENT 'Base name of the executable of parent_process_id. Empty if unknown',
    uid UInt32 COMMENT 'User it runs as',
    method LowCardinality(String) COMMENT 'Method, in capitals',
    host LowCardinality(String) COMMENT 'Host, lower case, without a port',
    path String COMMENT 'Path without the query, redacted' CODEC(ZSTD(1)),
    version LowCardinality(String) COMMENT 'Version of HTTP: 1.1 or 2',
    library Enum8('' = 0, 'openssl' = 1, 'gnutls' = 2, 'node' = 3, 'go' = 4) COMMENT 'What the process encrypted with',
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Heads of HTTP requests that processes sent through TLS, to the hosts that the agent was told to look at';
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
    signal UInt8 COMMENT 'Signal that ended it, 0 if none',
    effective_uid UInt32 COMMENT 'Effective user: another than uid in a setuid program',
    capabilities UInt64 COMMENT 'Effective capabilities, one bit for each number of capabilities(7)',
    script LowCardinality(String) COMMENT 'Script whose first line names the executable. Empty if none',
    executable_deleted Bool COMMENT 'No folder had the executable''s file any more',
    executable_in_memory Bool COMMENT 'Besides, the file was on no disk',
    executable_sha256 LowCardinality(String) COMMENT 'SHA-256 of its content, if it was known when it started; the table executables has all',
    container_id LowCardinality(String) COMMENT 'Container that it runs in. Empty outside of containers',
    container_image LowCardinality(String) COMMENT 'Image of the container. Empty if not known'
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
    maxIf(e.signal, e.kind = 'exited') AS signal,
    max(e.effective_uid) AS effective_uid,
    max(e.capabilities) AS capabilities,
    max(e.script) AS script,
    max(e.executable_deleted) AS executable_deleted,
    max(e.executable_in_memory) AS executable_in_memory,
    max(e.executable_sha256) AS executable_sha256,
    max(e.container_id) AS container_id,
    max(e.container_image) AS container_image
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
    process_id UInt64 COMMENT 'Identity of the process that began it. Who else sent on it is in flow_events (phase used)',
    program LowCardinality(String) COMMENT 'Base name of its executable',
    parent_program LowCardinality(String) COMMENT 'Base name of its parent''s executable',
    executable LowCardinality(String) COMMENT 'Path of its executable',
    protocol String COMMENT 'tcp, udp, icmp, icmpv6, sctp, or the number of another',
    source_address String COMMENT 'Local address as text. Empty if unknown',
    source_port UInt16 COMMENT 'Local port',
    destination_address String COMMENT 'Remote address as text',
    destination_port UInt16 COMMENT 'Remote port',
    domain String COMMENT 'Domain that led to the address. Empty if there was no look-up',
    domain_source String COMMENT 'Whose look-up gave the domain: process, container, job or host',
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
WHERE e.direction = 'outbound' AND e.phase != 'used'
GROUP BY repository, workflow, job, run_id, run_attempt, execution_id, agent_id, flow_id
COMMENT 'Egress, one row a flow: a TCP connection, or the datagrams that one socket sends to one address and port';
-- +goose StatementEnd
