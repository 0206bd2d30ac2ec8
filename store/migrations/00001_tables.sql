-- +goose Up
-- One row an event. The comments are the documentation: docs/tables.md is made of them.

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS process_events
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
    kind Enum8('forked' = 1, 'executed' = 2, 'exited' = 3) COMMENT 'What happened: forked (runs its parent''s program), executed (started to run its program), exited',
    start_time DateTime64(9, 'UTC') COMMENT 'When the process started to be what it is' CODEC(Delta, ZSTD(1)),
    arguments Array(String) COMMENT 'Arguments, redacted (docs/redaction.md). Only where kind is executed' CODEC(ZSTD(1)),
    arguments_truncated Bool COMMENT 'The arguments were longer than the agent keeps',
    working_directory LowCardinality(String) COMMENT 'Working directory when the program started, if known. Only where kind is executed',
    standard_input_kind Enum8('' = 0, 'file' = 1, 'pipe' = 2, 'socket' = 3, 'device' = 4) COMMENT 'What standard input was when the program started. Only where kind is executed, like the five columns below',
    standard_input_inode UInt64 COMMENT 'Its inode number. The two ends of one pipe share it' CODEC(T64, ZSTD(1)),
    standard_output_kind Enum8('' = 0, 'file' = 1, 'pipe' = 2, 'socket' = 3, 'device' = 4) COMMENT 'What standard output was when the program started',
    standard_output_inode UInt64 COMMENT 'Its inode number' CODEC(T64, ZSTD(1)),
    argument_pipe_kind Enum8('' = 0, 'file' = 1, 'pipe' = 2, 'socket' = 3, 'device' = 4) COMMENT 'What a shell''s process substitution handed over as an argument',
    argument_pipe_inode UInt64 COMMENT 'Its inode number' CODEC(T64, ZSTD(1)),
    exit_code UInt8 COMMENT 'Exit code. Only where kind is exited',
    signal UInt8 COMMENT 'Signal that ended it, 0 if none. Only where kind is exited',
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX process_id_bloom process_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Processes that came into being, started a program or ended: one row an event. See the view processes for one row a process';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS flow_events
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
    flow_id UInt64 COMMENT 'Unique on the agent''s machine until it boots' CODEC(Delta, ZSTD(1)),
    phase Enum8('' = 0, 'started' = 1, 'active' = 2, 'ended' = 3) COMMENT 'Where in its life the flow is',
    protocol Enum8('' = 0, 'tcp' = 6, 'udp' = 17) COMMENT 'Transport protocol',
    source_address IPv6 COMMENT 'Local address. IPv4 as ::ffff:a.b.c.d, :: if unknown',
    source_port UInt16 COMMENT 'Local port',
    destination_address IPv6 COMMENT 'Remote address. IPv4 as ::ffff:a.b.c.d',
    destination_port UInt16 COMMENT 'Remote port',
    domain LowCardinality(String) COMMENT 'Domain that led to the address. Empty if there was no look-up',
    domain_source Enum8('' = 0, 'process' = 1, 'job' = 2, 'host' = 3) COMMENT 'Whose look-up gave the domain: the very process, its job, some process on the machine',
    bytes_sent UInt64 COMMENT 'Payload bytes sent since the flow''s last row' CODEC(T64, ZSTD(1)),
    bytes_received UInt64 COMMENT 'Payload bytes received since the flow''s last row' CODEC(T64, ZSTD(1)),
    start_time DateTime64(9, 'UTC') COMMENT 'When the flow started' CODEC(Delta, ZSTD(1)),
    outcome Enum8('' = 0, 'closed' = 1, 'refused' = 2, 'timed_out' = 3, 'reset' = 4, 'unreachable' = 5) COMMENT 'How the flow ended. Empty while it has not',
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX domain_bloom domain TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX destination_bloom destination_address TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Egress as it happened: TCP connections and UDP flows, one row for the beginning, each minute and the end of each. Bytes are what passed since the row before, so that sums are right. See the view egress for one row a flow';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS dns
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
    name String COMMENT 'Name asked for, lower case, without a trailing dot' CODEC(ZSTD(1)),
    type LowCardinality(String) COMMENT 'Type asked for, for instance A',
    response_code LowCardinality(String) COMMENT 'Response code, for instance NOERROR. Empty if unanswered',
    addresses Array(IPv6) COMMENT 'Addresses that the name led to. IPv4 as ::ffff:a.b.c.d',
    canonical_names Array(String) COMMENT 'Canonical names on the way, in order',
    server_address IPv6 COMMENT 'Address of the server asked',
    server_port UInt16 COMMENT 'Port of the server asked',
    duration_nano UInt64 COMMENT 'Nanoseconds from question to answer, 0 if unanswered' CODEC(T64, ZSTD(1)),
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX name_bloom name TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'DNS questions with their answers, one row an exchange';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS process_accesses
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
    kind Enum8('' = 0, 'proc_mem' = 1, 'proc_maps' = 2, 'proc_environ' = 3, 'ptrace' = 4, 'vm_read' = 5, 'vm_write' = 6) COMMENT 'How: by /proc/PID/mem, maps or environ, by ptrace, by process_vm_readv or process_vm_writev',
    target_process_id UInt64 COMMENT 'Identity of the process reached into, 0 if it could not be identified',
    target_pid UInt32 COMMENT 'Its process identifier',
    target_executable LowCardinality(String) COMMENT 'Path of its executable',
    target_program LowCardinality(String) COMMENT 'Base name of its executable',
    target_is_worker Bool COMMENT 'It is the worker process of a runner, which holds the job''s secrets',
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Processes that reached into other processes, one row each time';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS job_events
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
    run_number UInt64 COMMENT 'Number of the run, counted for each workflow',
    workflow_ref LowCardinality(String) COMMENT 'File and reference of the workflow, owner/name/.github/workflows/x.yml@ref',
    ref_protected Bool COMMENT 'The runner said that the reference is protected',
    process_id UInt64 COMMENT 'Identity of the process: unique on a machine until it boots, ordered by time, new at each fork and each exec. 0 if unknown' CODEC(Delta, ZSTD(1)),
    parent_process_id UInt64 COMMENT 'Identity of what forked it or, after an exec, of what it was before. 0 if unknown' CODEC(Delta, ZSTD(1)),
    pid UInt32 COMMENT 'Process identifier in the first PID namespace. Reused by the kernel: join on process_id' CODEC(Delta, ZSTD(1)),
    executable LowCardinality(String) COMMENT 'Path of the executable as the kernel resolved it',
    program LowCardinality(String) COMMENT 'Base name of executable',
    parent_program LowCardinality(String) COMMENT 'Base name of the executable of parent_process_id. Empty if unknown',
    uid UInt32 COMMENT 'User it runs as',
    kind Enum8('started' = 1, 'ended' = 2) COMMENT 'What happened to the job',
    reason Enum8('' = 0, 'worker_exited' = 1, 'agent_stopped' = 2) COMMENT 'Why the job is held to be over. Only where kind is ended',
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Jobs that started and ended, one row each. See the view jobs for one row a job';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS agent_status
(
    agent_id LowCardinality(String) COMMENT 'Agent that saw it. With epoch and sequence it identifies the event for ever',
    epoch UInt64 COMMENT 'When that agent process started, Unix time in nanoseconds' CODEC(DoubleDelta, ZSTD(1)),
    sequence UInt64 COMMENT 'Number of the event within the epoch, from 1, without gaps' CODEC(Delta, ZSTD(1)),
    time DateTime64(9, 'UTC') COMMENT 'When it happened. A time more than 35 days before or a day after its arrival on the stream (a clock that jumped) is replaced by the time of arrival' CODEC(Delta, ZSTD(1)),
    hostname LowCardinality(String) COMMENT 'Host name of the agent''s machine',
    version LowCardinality(String) COMMENT 'Version of the agent',
    kernel LowCardinality(String) COMMENT 'Kernel release it runs on',
    events_seen UInt64 COMMENT 'Events read from the kernel',
    events_lost Map(LowCardinality(String), UInt64) COMMENT 'Events that the kernel side could not hand over, by kind',
    batches_waiting UInt64 COMMENT 'Batches waiting on disk or in memory for the network',
    stopping Bool COMMENT 'True in the last row of an agent that stops in order'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (agent_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What agents say of themselves every ten seconds. Counts are totals of the epoch';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS findings
(
    id String COMMENT 'Identity of the finding, 32 hexadecimal digits: a hash of execution, policy and behaviour',
    time DateTime64(9, 'UTC') COMMENT 'When the behaviour was first seen. Replaced by the time of arrival where it is more than 35 days before or a day after it',
    agent_id LowCardinality(String) COMMENT 'Agent that saw it',
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
    policy LowCardinality(String) COMMENT 'Identity of the policy',
    title LowCardinality(String) COMMENT 'Title of the policy',
    severity Enum8('' = 0, 'low' = 1, 'medium' = 2, 'high' = 3, 'critical' = 4) COMMENT 'How soon somebody should look. Ordered: severity >= ''high'' works',
    technique LowCardinality(String) COMMENT 'MITRE ATT&CK technique, for instance T1003.007',
    message String COMMENT 'One sentence that says what happened',
    behaviour Enum8('' = 0, 'egress' = 1, 'exec' = 2, 'process_access' = 3, 'pipe' = 4) COMMENT 'Kind of the behaviour judged',
    program LowCardinality(String) COMMENT 'Base name of the program that does it',
    target String COMMENT 'Whom or what it concerns: domain or address, or the target''s or reader''s program',
    domain String COMMENT 'Egress only: the domain, empty for a bare address',
    address String COMMENT 'Egress only: remote address of the first flow',
    port UInt16 COMMENT 'Egress only: remote port',
    protocol LowCardinality(String) COMMENT 'Egress only: tcp or udp',
    address_scope LowCardinality(String) COMMENT 'Egress only: loopback, link-local, private, metadata or public',
    access LowCardinality(String) COMMENT 'Process access only: proc-mem, proc-maps, proc-environ, ptrace, vm-read or vm-write',
    target_is_worker Bool COMMENT 'Process access only: the target is the worker process of a runner',
    process_id UInt64 COMMENT 'Identity of the process that did it first, 0 if unknown',
    executable LowCardinality(String) COMMENT 'Its executable',
    arguments Array(String) COMMENT 'Its arguments, redacted',
    ancestors Array(String) COMMENT 'Base names of the executables of its ancestors, parent first',
    baseline_stable Bool COMMENT 'The job''s baseline was stable',
    baseline_known Bool COMMENT 'The job''s baseline holds this behaviour',
    baseline_runs UInt32 COMMENT 'Clean runs that the baseline had learned from',
    finding String COMMENT 'The whole finding: sallyport.v1.Finding in protobuf''s JSON form, with the names of the proto file' CODEC(ZSTD(1)),
    INDEX id_bloom id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, time, id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Behaviours that a policy holds to be wrong, one row a finding';
-- +goose StatementEnd
