-- +goose Up
-- Columns that take less with ZSTD than with ClickHouse's own choice: `make bench-storage`
-- prints what each takes. Rows that are there already change when they are merged.

-- +goose StatementBegin
ALTER TABLE process_events
    MODIFY COLUMN executable CODEC(ZSTD(1)),
    MODIFY COLUMN program CODEC(ZSTD(1)),
    MODIFY COLUMN parent_program CODEC(ZSTD(1)),
    MODIFY COLUMN working_directory CODEC(ZSTD(1));
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE flow_events
    MODIFY COLUMN executable CODEC(ZSTD(1)),
    MODIFY COLUMN program CODEC(ZSTD(1)),
    MODIFY COLUMN parent_program CODEC(ZSTD(1)),
    MODIFY COLUMN source_address CODEC(ZSTD(1)),
    MODIFY COLUMN destination_address CODEC(ZSTD(1)),
    MODIFY COLUMN domain CODEC(ZSTD(1)),
    MODIFY COLUMN phase CODEC(ZSTD(1));
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE dns
    MODIFY COLUMN executable CODEC(ZSTD(1)),
    MODIFY COLUMN program CODEC(ZSTD(1)),
    MODIFY COLUMN parent_program CODEC(ZSTD(1)),
    MODIFY COLUMN name CODEC(ZSTD(1)),
    MODIFY COLUMN addresses CODEC(ZSTD(1)),
    MODIFY COLUMN server_address CODEC(ZSTD(1));
-- +goose StatementEnd
