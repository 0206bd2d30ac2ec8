-- +goose Up
-- Findings of behaviours of every kind, and by what they are the same over runs.

-- +goose StatementBegin
ALTER TABLE findings
    MODIFY COLUMN behaviour Enum8('' = 0, 'egress' = 1, 'exec' = 2, 'process_access' = 3, 'pipe' = 4, 'agent' = 5, 'file' = 6, 'lookup' = 7, 'request' = 8, 'privilege' = 9, 'survivor' = 10) COMMENT 'Kind of the behaviour judged. agent: something was done to an agent; survivor: a process outlived its job',
    ADD COLUMN IF NOT EXISTS fingerprint String COMMENT 'The same for the same behaviour under the same policy in every run of the job, 32 hexadecimal digits. Empty for findings of before' AFTER id,
    ADD COLUMN IF NOT EXISTS class Enum8('' = 0, 'new_behaviour' = 1, 'threat' = 2) COMMENT 'threat: wrong whatever the baseline says; new_behaviour: only not what the job does' AFTER severity;
-- +goose StatementEnd
