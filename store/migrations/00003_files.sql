-- +goose Up
-- Files that matter: what processes of jobs did to them.

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS file_accesses
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
    operation Enum8('' = 0, 'read' = 1, 'written' = 2, 'entered' = 3, 'left' = 4) COMMENT 'What was done: read (or mapped), written (content, size or attributes), entered its folder (made, linked or moved there, perhaps over another), left it (removed or moved away)',
    path String COMMENT 'Path of the file. In a container, the one that the machine sees' CODEC(ZSTD(1)),
    file String MATERIALIZED substring(path, length(path) - position(reverse(path), '/') + 2) COMMENT 'Last name of path',
    rule LowCardinality(String) COMMENT 'Why the file matters: a rule of docs/files.md',
    category LowCardinality(String) COMMENT 'Kind of file: credential, runner, persistence, steering (later steps depend on it), source (checked out by git)',
    times UInt64 COMMENT 'How often since the row before of this process, file and operation' CODEC(T64, ZSTD(1)),
    INDEX run_id_bloom run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (repository, workflow, job, run_id, run_attempt, execution_id, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What processes did to files that matter: one row the first time for each process, file and operation, and one when the process ended if it did it again';
-- +goose StatementEnd
